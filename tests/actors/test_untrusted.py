"""Components that nobody should trust: each is refused with a sentence, or runs within its limits. Nothing else."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from guests import COMPUTE, STREAMING
from tests_support import MakeActor, call
from wasmtime import wat2wasm

from actors import Actor, Engine, Limits
from lattice import BadInput, DeadlineExceeded, EntityId, LimitExceeded, Trap


async def refused(engine: Engine, source: str | bytes) -> BadInput:
    """What loading and linking it raises, which is one finding that begins with one sentence."""
    data = source.encode() if isinstance(source, str) else source
    with pytest.raises(BadInput) as caught:
        Actor(EntityId("subject"), await engine.load(data))
    (finding,) = caught.value.findings
    assert "\n" not in finding.message
    assert finding.fix
    return caught.value


WASM = bytes(wat2wasm(COMPUTE))
HEADER = WASM[:8]


@pytest.mark.parametrize("length", [0, 1, 4, 7, 9, 50, len(WASM) // 2, len(WASM) - 1])
async def test_truncated_components_are_refused(wat_engine: Engine, length: int) -> None:
    assert (await refused(wat_engine, WASM[:length])).findings[0].code == "TRL-IMG-002"


async def test_a_section_that_claims_to_be_gigantic_is_refused(wat_engine: Engine) -> None:
    await refused(wat_engine, HEADER + b"\x01\xff\xff\xff\xff\x0f")
    await refused(wat_engine, HEADER + b"\x03\x80\x80\x80\x80\x08" + b"x" * 1000)


BEYOND = {
    "error contexts": '(component (import "a:b/c" (instance (export "f" (func (result error-context))))))',
    "futures": '(component (import "f" (func $f (result (future u8)))) (export "g" (func $f)))',
    "streams inside of types": '(component (import "f" (func (param "x" (option (list (stream u8)))))))',
    "stream types that nobody uses": """(component
        (import "a:b/c" (instance (type $s (stream u8)) (export "s" (type (eq $s))))))""",
    "async functions": '(component (import "f" (func async)))',
    "streams": STREAMING,
}


@pytest.mark.parametrize("kind", BEYOND)
async def test_what_would_abort_the_process_is_refused(wat_engine: Engine, kind: str) -> None:
    assert (await refused(wat_engine, BEYOND[kind])).findings[0].code == "TRL-IMG-004"


ODD = {
    "a core module, m": '(component (import "m" (core module)))',
    "a component, a:b/c/n": '(component (import "a:b/c" (instance (export "n" (component)))))',
    "a core module, a:b/c/n": '(component (import "a:b/c" (instance (export "n" (core module)))))',
    "an instance inside an interface, a:b/c/n": '(component (import "a:b/c" (instance (export "n" (instance)))))',
}


@pytest.mark.parametrize("what", ODD)
async def test_imports_that_are_no_interfaces_are_named(wat_engine: Engine, what: str) -> None:
    error = await refused(wat_engine, ODD[what])
    assert error.findings[0].code == "TRL-IMG-011"
    assert f"imports {what}" in str(error)


@pytest.mark.parametrize(
    "name", ["wasi:io/streams@7.0.0", "wasi:http/handler@0.3.0", "wasi:clocks/wall-clock@0.20.0", "wasi:cli/exit@1.2.0"]
)
async def test_versions_that_are_not_served_are_refused(wat_engine: Engine, name: str) -> None:
    error = await refused(wat_engine, f'(component (import "{name}" (instance (export "f" (func)))))')
    assert f"imports {name}; this host serves version 0.2.x of it" in str(error)
    assert error.findings[0].code == "TRL-LNK-008"
    assert ("that is WASI 0.3, which is not served yet" in str(error)) == ("@0.3." in name)


async def test_types_that_double_with_every_level_are_refused_quickly(wat_engine: Engine) -> None:
    levels = "".join(f"(type $t{i + 1} (tuple $t{i} $t{i}))" for i in range(16))
    begun = time.monotonic()
    error = await refused(wat_engine, f'(component (type $t0 (list u8)) {levels} (import "f" (func (param "x" $t16))))')
    assert "has types of more than 50000 parts" in str(error)
    assert time.monotonic() - begun < 5


STARTING = """(component
  (core module $m {core} (func $start {body}) (start $start) (func (export "run")))
  (core instance $i (instantiate $m))
  (func (export "run") (canon lift (core func $i "run"))))"""


async def test_a_start_function_that_loops_is_preempted_and_ended(actor_of: MakeActor) -> None:
    actor = await actor_of(
        STARTING.format(core="", body="(loop $l (br $l))"), limits=Limits(execution=0.1, concurrent=5)
    )
    turns = 0

    async def neighbour() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    beside = asyncio.create_task(neighbour())
    ended = await asyncio.gather(*[actor.handle(call("run")) for _ in range(3)], return_exceptions=True)
    beside.cancel()
    assert [type(error) for error in ended] == [DeadlineExceeded] * 3
    assert turns > 3
    assert not actor.running


async def test_a_start_function_that_traps_or_recurses_is_an_error_of_that_call(actor_of: MakeActor) -> None:
    with pytest.raises(Trap, match="unreachable"):
        await (await actor_of(STARTING.format(core="", body="unreachable"))).handle(call("run"))
    with pytest.raises(LimitExceeded, match="recursed too deeply"):
        await (await actor_of(STARTING.format(core="", body="(call $start)"))).handle(call("run"))


BEYOND_MEMORY = """(component
  (core module $m (memory (export "memory") 1)
    (func (export "text") (result i32)
      (i32.store (i32.const 0) (i32.const {at}))
      (i32.store (i32.const 4) (i32.const {size}))
      (i32.const {result}))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const {realloc}))
    (func (export "take") (param i32 i32)))
  (core instance $i (instantiate $m))
  (alias core export $i "memory" (core memory $memory))
  (alias core export $i "realloc" (core func $realloc))
  (func (export "text") (result string) (canon lift (core func $i "text") (memory $memory)))
  (func (export "take") (param "x" string)
    (canon lift (core func $i "take") (memory $memory) (realloc (core func $realloc)))))"""


@pytest.mark.parametrize(
    ("fields", "function"),
    [
        ({"at": 65530, "size": 100}, "text"),
        ({"at": -1, "size": 1}, "text"),
        ({"at": 0, "size": -1}, "text"),
        ({"result": -4}, "text"),
        ({"result": 3}, "text"),
        ({"at": 8, "size": 4}, "not-utf8"),
        ({"realloc": 65535}, "take"),
        ({"realloc": -1}, "take"),
    ],
)
async def test_pointers_that_lie_are_traps(actor_of: MakeActor, fields: dict[str, int], function: str) -> None:
    wat = BEYOND_MEMORY.format(**{"at": 0, "size": 0, "result": 0, "realloc": 0} | fields)
    if function == "not-utf8":
        wat = wat.replace(
            '(memory (export "memory") 1)', '(memory (export "memory") 1) (data (i32.const 8) "\\ff\\fe\\00\\80")'
        )
    actor = await actor_of(wat)
    arguments: tuple[Any, ...] = ("some text",) if function == "take" else ()
    with pytest.raises(Trap):
        await actor.handle(call("take" if function == "take" else "text", *arguments))
