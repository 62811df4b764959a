"""Values between Python and a guest: what goes in comes out, and what does not fit is refused with its path."""

from __future__ import annotations

import math
from typing import Any

import pytest
from guests import echo
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests_support import MakeActor, call

from actors import Actor, Engine
from actors.codec import Misfit
from lattice import BadValue, EntityId, Function, Invocation, Trap, WitError

PERSON = {
    "color": '(enum "red" "green")',
    "person": '(record (field "name" string) (field "age" u8) (field "likes" (option $color)))',
}
SHAPE = {
    "shape": '(variant (case "circle" f64) (case "nothing") (case "box" (tuple u32 u32)) (case "maybe" (option u8)))'
}
RIGHTS = {"rights": '(flags "read" "write" "own-it")'}

SAME = [
    ("bool", {}, [True, False]),
    ("s8", {}, [-128, 0, 127]),
    ("s16", {}, [-(2**15), 2**15 - 1]),
    ("u16", {}, [0, 2**16 - 1]),
    ("s32", {}, [-(2**31), 2**31 - 1]),
    ("u32", {}, [0, 2**32 - 1]),
    ("s64", {}, [-(2**63), 2**63 - 1]),
    ("u64", {}, [0, 2**64 - 1]),
    ("f32", {}, [0.5, -1.0, math.inf]),
    ("f64", {}, [0.1, -math.inf, 5e-324]),
    ("char", {}, ["a", "é", "😀", "\0"]),
    ("string", {}, ["", "plain", "Grüße 😀", "nul\0inside"]),
    ("(list u8)", {}, [b"", b"\0\xff", bytes(range(256)) * 40]),
    ("(list (list string))", {}, [[], [["a"], [], ["b", "c"]]]),
    ("(list (list u8))", {}, [[b"a", b""], []]),
    ("(tuple u8 string (tuple bool))", {}, [(1, "a", (True,))]),
    ("$person", PERSON, [{"name": "Ada", "age": 36, "likes": "green"}, {"name": "", "age": 0, "likes": None}]),
    ("$color", PERSON, ["red", "green"]),
    ("$shape", SHAPE, ["nothing", {"circle": 1.5}, {"box": (3, 4)}, {"maybe": None}, {"maybe": 7}]),
    ("$rights", RIGHTS, [[], ["read"], ["read", "write", "own-it"]]),
    ("(option string)", {}, [None, "", "x"]),
    ("(option (option u8))", {}, [None, [None], [3]]),
    ("(option (option (option u8)))", {}, [None, [None], [[None]], [[3]]]),
    ("(result u8 (error string))", {}, [{"ok": 1}, {"err": "no"}]),
    ("(result (error u8))", {}, [{"ok": None}, {"err": 1}]),
    ("(result)", {}, [{"ok": None}, {"err": None}]),
]


async def far(invocation: Invocation) -> Any:
    """The far side of the link: it answers with its first argument."""
    return invocation.args[0]


@pytest.mark.parametrize(("kind", "definitions", "values"), SAME, ids=[kind for kind, _, _ in SAME])
async def test_every_type_survives_the_way_through_guest_and_host(
    actor_of: MakeActor, kind: str, definitions: dict[str, str], values: list[Any]
) -> None:
    actor = await actor_of(echo(kind, definitions), imports=far)
    assert await actor.handle(call("echo", values)) == values
    assert await actor.handle(call("through", values)) == values


async def test_a_list_of_u8_is_bytes_at_any_length(actor_of: MakeActor) -> None:
    actor = await actor_of(echo("u8"), imports=far)
    for size in (0, 1, 4095, 4096, 4097, 300_000):
        data = bytes(i * 7 % 256 for i in range(size))
        assert await actor.handle(call("through", data)) == data
    assert await actor.handle(call("echo", bytearray(b"ab"))) == b"ab"
    assert await actor.handle(call("echo", memoryview(b"abcd")[::2])) == b"ac"
    assert await actor.handle(call("echo", [1, 2])) == b"\1\2"


async def test_forms_that_people_and_the_wire_use_are_understood(actor_of: MakeActor) -> None:
    people = await actor_of(echo("$person", PERSON))
    assert await people.handle(call("echo", [{"name": "Ada", "age": 1}])) == [{"name": "Ada", "age": 1, "likes": None}]
    pairs = await actor_of(echo("(tuple u8 u8)"))
    assert await pairs.handle(call("echo", [[1, 2]])) == [(1, 2)]
    rights = await actor_of(echo("$rights", RIGHTS))
    assert await rights.handle(call("echo", [{"own-it", "read"}])) == [["read", "own-it"]]
    numbers = await actor_of(echo("f64"))
    assert await numbers.handle(call("echo", (1, 2))) == [1.0, 2.0]


async def test_not_a_number_stays_not_a_number(actor_of: MakeActor) -> None:
    actor = await actor_of(echo("f64"))
    (answer,) = await actor.handle(call("echo", [math.nan]))
    assert math.isnan(answer)


WRONG = [
    ("u8", {}, [1, 300], "x[1]: 300 does not fit u8"),
    ("u16", {}, [1, 2**16], "x[1]: 65536 does not fit u16"),
    ("u8", {}, 7, "x: 7 (int) is not a list<u8>"),
    ("s8", {}, [-129], "x[0]: -129 does not fit s8"),
    ("u64", {}, [2**64], "does not fit u64"),
    ("u64", {}, [-1], "x[0]: -1 does not fit u64"),
    ("s64", {}, [2**63], "does not fit s64"),
    ("u32", {}, [True], "x[0]: True (bool) is not a u32"),
    ("u32", {}, [1.0], "x[0]: 1.0 (float) is not a u32"),
    ("bool", {}, [1], "x[0]: 1 (int) is not a bool"),
    ("f64", {}, ["1"], "x[0]: '1' (str) is not a f64"),
    ("char", {}, ["ab"], "x[0]: 'ab' (str) is not a char"),
    ("char", {}, ["\ud800"], "is not a char"),
    ("string", {}, [b"a"], "x[0]: b'a' (bytes) is not a string"),
    ("string", {}, ["\ud800"], "half a surrogate pair"),
    ("string", {}, "abc", "x: 'abc' (str) is not a list<string>"),
    ("(tuple u8 u8)", {}, [(1, 2, 3)], "x[0]: (1, 2, 3) has 3 values; tuple<u8, u8> has 2"),
    ("$person", PERSON, [{"name": "a", "age": 300}], "x[0].age: 300 does not fit u8"),
    ("$person", PERSON, [{"age": 3}], "x[0].name: this field is missing"),
    ("$person", PERSON, [{"name": "a", "age": 1, "agee": 2}], "x[0]: no field agee; the record has name, age, likes"),
    ("$person", PERSON, [{"name": "a", "age": 1, "likes": "blue"}], "x[0].likes: 'blue' is not one of red, green"),
    ("$shape", SHAPE, ["square"], "x[0]: no case 'square'; there are circle, nothing, box, maybe"),
    ("$shape", SHAPE, ["circle"], 'x[0]: case circle needs a payload: {"circle": ...}'),
    ("$shape", SHAPE, [{"nothing": 1}], "x[0]: case nothing has no payload, but 1 was given"),
    ("$shape", SHAPE, [{"box": (1, -1)}], "x[0].box[1]: -1 does not fit u32"),
    ("$shape", SHAPE, [{"circle": 1.0, "nothing": None}], "is not a variant"),
    ("$rights", RIGHTS, [["fly"]], "x[0]: no flag 'fly'; there are read, write, own-it"),
    ("$rights", RIGHTS, ["read"], "x[0]: 'read' (str) is not a flags"),
    ("$rights", RIGHTS, [[set()]], "x[0]: no flag set(); there are read, write, own-it"),
    ("(option (option u8))", {}, [3], "give None or [inner]"),
    ("(result u8)", {}, [{"ok": "a"}], "x[0].ok: 'a' (str) is not a u8"),
    ("(result u8)", {}, [3], "x[0]: 3 is not a result"),
]


@pytest.mark.parametrize(("kind", "definitions", "value", "sentence"), WRONG, ids=[w[3] for w in WRONG])
async def test_a_value_that_does_not_fit_is_refused_with_its_path(
    actor_of: MakeActor, kind: str, definitions: dict[str, str], value: Any, sentence: str
) -> None:
    actor = await actor_of(echo(kind, definitions))
    with pytest.raises(BadValue) as caught:
        await actor.handle(call("echo", value))
    assert sentence in caught.value.message
    assert caught.value.message.startswith("echo: x")
    assert isinstance(caught.value, ValueError)


async def test_the_wrong_number_of_arguments_is_refused(actor_of: MakeActor) -> None:
    actor = await actor_of(echo("u8"))
    with pytest.raises(BadValue, match=r"echo takes 1 arguments \(x\), got 2"):
        await actor.handle(call("echo", b"", b""))


async def test_an_ill_typed_answer_of_a_link_traps_and_says_where(actor_of: MakeActor) -> None:
    async def wrong(_: Invocation) -> Any:
        return [1, "two"]

    actor = await actor_of(echo("u32"), imports=wrong)
    with pytest.raises(Trap, match=r"test:echo/far#echo: .*\[1\]: 'two' \(str\) is not a u32"):
        await actor.handle(call("through", [1]))


def test_a_misfit_reads_as_path_and_reason() -> None:
    assert str(Misfit("300 does not fit u8").under(".age").under("[3]").under(".items").under("args")) == (
        "args.items[3].age: 300 does not fit u8"
    )


people = st.fixed_dictionaries(
    {"name": st.text(), "age": st.integers(0, 255), "likes": st.sampled_from([None, "red", "green"])}
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(people))
async def test_any_list_of_records_survives(wat_engine: Engine, values: list[dict[str, Any]]) -> None:
    component = await wat_engine.load(echo("$person", PERSON).encode())
    actor = Actor(EntityId("subject"), component, imports=far)
    assert await actor.handle(call("through", values)) == values


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(st.text()))
async def test_any_text_survives(wat_engine: Engine, values: list[str]) -> None:
    component = await wat_engine.load(echo("string").encode())
    actor = Actor(EntityId("subject"), component, imports=far)
    assert await actor.handle(call("through", values)) == values


ANSWERS = """(component
  (core module $m
    (memory (export "memory") 1)
    (data (i32.const 0) "\\00\\00\\00\\00\\07\\00\\00\\00\\01\\00\\00\\00\\63\\00\\00\\00")
    (func (export "good") (result i32) (i32.const 0))
    (func (export "bad") (result i32) (i32.const 8))
    (func (export "plain") (result i32) (i32.const 1)))
  (core instance $i (instantiate $m))
  (alias core export $i "memory" (core memory $memory))
  (func (export "good") (result (result u32 (error u32))) (canon lift (core func $i "good") (memory $memory)))
  (func (export "bad") (result (result u32 (error u32))) (canon lift (core func $i "bad") (memory $memory)))
  (func (export "plain") (result (result)) (canon lift (core func $i "plain"))))"""


async def test_the_result_of_a_function_is_returned_or_raised(actor_of: MakeActor) -> None:
    actor = await actor_of(ANSWERS)
    assert await actor.handle(call("good")) == 7
    with pytest.raises(WitError) as caught:
        await actor.handle(call("bad"))
    assert caught.value.payload == 99
    with pytest.raises(WitError) as caught:
        await actor.handle(call("plain"))
    assert caught.value.payload is None


def test_function_names_of_the_world_have_no_interface() -> None:
    assert Function("", "echo").key == "#echo"
