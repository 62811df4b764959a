"""Values of randomly drawn WIT types, through real components: whatever fits survives, whatever does not is named."""

from __future__ import annotations

import math
from typing import Any

import pytest
from guests import PADDING, echo, echo_beside
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tests_support import MakeActor, call
from wit_types import Nothing, same, spoiled, values, wat, wit_types

from actors import Actor, Engine
from actors.types import Enum, Flags, List, Option, Primitive, Record, Result, Tuple, Type, Variant
from lattice import BadInput, BadValue, EntityId, Invocation

BESIDE = tuple(range(PADDING))

drawn = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


async def far(invocation: Invocation) -> Any:
    """The far side of the link answers with its arguments: one as it is, several as a tuple."""
    return invocation.args[0] if len(invocation.args) == 1 else invocation.args


async def actor_for(engine: Engine, text: str) -> Actor:
    return Actor(EntityId("subject"), await engine.load(text.encode()), imports=far)


@drawn
@given(kind=wit_types, data=st.data())
async def test_a_list_of_any_type_survives(wat_engine: Engine, kind: Type, data: st.DataObject) -> None:
    actor = await actor_for(wat_engine, echo(*wat(kind)))
    sent = data.draw(values(List(kind)))
    for function in ("echo", "through"):
        assert same(await actor.handle(call(function, sent)), sent)


@drawn
@given(kind=wit_types, data=st.data())
async def test_any_type_survives_beside_many_parameters(wat_engine: Engine, kind: Type, data: st.DataObject) -> None:
    actor = await actor_for(wat_engine, echo_beside(*wat(kind)))
    for sent in data.draw(st.lists(values(kind), min_size=1, max_size=3)):
        for function in ("echo", "through"):
            assert same(await actor.handle(call(function, sent, *BESIDE)), (sent, *BESIDE))


@drawn
@given(kind=wit_types, data=st.data())
async def test_what_does_not_fit_is_refused_with_the_path_to_it(
    wat_engine: Engine, kind: Type, data: st.DataObject
) -> None:
    actor = await actor_for(wat_engine, echo_beside(*wat(kind)))
    path, bad = data.draw(st.sampled_from(spoiled(kind, data.draw(values(kind)))))
    with pytest.raises(BadValue) as caught:
        await actor.handle(call("echo", bad, *BESIDE))
    assert caught.value.message.startswith(f"echo: x{path}: ")
    assert isinstance(caught.value.__cause__, ValueError)


def nested(depth: int, wrap: Any, innermost: Type) -> Type:
    kind = innermost
    for _ in range(depth):
        kind = wrap(kind)
    return kind


DEEP: dict[str, tuple[Type, Any]] = {
    "lists": (nested(60, List, Primitive("u32")), nested(60, lambda v: [v], 7)),
    "options": (nested(60, Option, Primitive("u32")), nested(59, lambda v: [v], 7)),
    "results": (nested(40, lambda t: Result(None, t), Primitive("s8")), nested(40, lambda v: {"err": v}, -1)),
    "tuples": (nested(60, lambda t: Tuple((t,)), Primitive("char")), nested(60, lambda v: (v,), "x")),
}


@pytest.mark.parametrize("shape", DEEP)
async def test_deeply_nested_types_survive(wat_engine: Engine, shape: str) -> None:
    kind, value = DEEP[shape]
    actor = await actor_for(wat_engine, echo_beside(*wat(kind)))
    for function in ("echo", "through"):
        assert await actor.handle(call(function, value, *BESIDE)) == (value, *BESIDE)


CORNERS: list[tuple[Type, list[Any]]] = [
    (Result(None, None), [{"ok": None}, {"err": None}]),
    (Result(None, Primitive("string")), [{"ok": None}, {"err": "no"}]),
    (Result(Primitive("string"), None), [{"ok": ""}, {"err": None}]),
    (Option(Option(Option(Primitive("bool")))), [None, [None], [[None]], [[False]]]),
    (Option(Result(None, None)), [None, {"ok": None}, {"err": None}]),
    (Option(List(Option(Primitive("u8")))), [None, [], [None, 0]]),
    (Flags(tuple(f"f{i}" for i in range(32))), [[], ["f31"], [f"f{i}" for i in range(32)]]),
    (Enum(tuple(f"c{i}" for i in range(5_000))), ["c0", "c255", "c256", "c4999"]),
    (Primitive("f32"), [math.inf, -math.inf, -0.0, 2**-149, 3.4028234663852886e38]),
    (Primitive("f64"), [math.inf, -math.inf, -0.0, 5e-324, 1.7976931348623157e308, math.nan]),
    (Primitive("char"), ["\0", "\ud7ff", "\ue000", "\U0010ffff"]),
    (Primitive("string"), ["", "\0", "\ufeff", "\U0010ffff" * 1000]),
    (Variant((("a", Primitive("f32")), ("b", Primitive("u64")), ("c", None))), [{"a": 0.5}, {"b": 2**64 - 1}, "c"]),
    (Record(tuple((f"n{i}", Primitive("u8")) for i in range(200))), [{f"n{i}": i for i in range(200)}]),
    (Tuple((Primitive("u8"), Primitive("u64"), Primitive("bool"))), [(255, 2**64 - 1, True)]),
]


@pytest.mark.parametrize(("kind", "corners"), CORNERS, ids=range(len(CORNERS)))
async def test_corners_survive(wat_engine: Engine, kind: Type, corners: list[Any]) -> None:
    actor = await actor_for(wat_engine, echo_beside(*wat(kind)))
    for value in corners:
        assert same((await actor.handle(call("through", value, *BESIDE)))[0], value)


async def test_more_than_32_flags_are_no_valid_type(wat_engine: Engine) -> None:
    with pytest.raises(BadInput, match="cannot have more than 32 flags"):
        await actor_for(wat_engine, echo(*wat(Flags(tuple(f"f{i}" for i in range(33))))))


async def test_what_does_not_fit_far_down_is_named(actor_of: MakeActor) -> None:
    kind = Record((("a", List(Tuple((Primitive("u8"), Option(Result(None, Primitive("char"))))))),))
    actor = await actor_of(echo_beside(*wat(kind)))
    with pytest.raises(BadValue, match=r"^echo: x\.a\[1\]\[1\]\.err: 'long' \(str\) is not a char$"):
        await actor.handle(call("echo", {"a": [(1, None), (2, {"err": "long"})]}, *BESIDE))
    with pytest.raises(BadValue, match=r"^echo: p16: 256 does not fit u8$"):
        await actor.handle(call("echo", {"a": []}, *BESIDE[:-1], 256))


@given(st.data())
def test_a_spoiled_value_is_never_the_value(data: st.DataObject) -> None:
    """The generator of misfits is itself in order."""
    kind = data.draw(wit_types)
    value = data.draw(values(kind))
    assume(not isinstance(value, Nothing))
    assert all(not same(bad, value) for _, bad in spoiled(kind, value))
