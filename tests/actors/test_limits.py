"""What one invocation may use: a breach ends it alone, with an error that names the limit and its amount."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from guests import COMPUTE, caller
from tests_support import MakeActor, call

from actors import Actor, Engine, EngineConfig, Limits
from actors.guest import Buffered, Guest, Output
from actors.host_api import Resource, serves
from lattice import BadInput, BadValue, Busy, ByteStream, DeadlineExceeded, EntityId, Invocation, LimitExceeded


def component(core: str, *, instances: int = 1, body: str = "") -> str:
    """A component whose `run` does `body`, in the first of several instances of one core module."""
    made = "\n".join(f"(core instance $i{n} (instantiate $m))" for n in range(instances))
    return f"""(component
      (core module $m {core} (func (export "run") {body}))
      {made}
      (func (export "run") (canon lift (core func $i0 "run"))))"""


BREACHES = [
    ("core_instances", 2, component("", instances=3), "needed more than its limit of 2 core instances in run"),
    ("memories", 2, component("(memory 1)", instances=3), "needed more than its limit of 2 memories in run"),
    ("tables", 2, component("(table 1 funcref)", instances=3), "needed more than its limit of 2 tables in run"),
    ("table_elements", 10, component("(table 11 funcref)"), "needed more than its limit of 10 elements in a table"),
    ("memory", 65536, component("(memory 2)"), "its limit is 64 KiB"),
]


@pytest.mark.parametrize(("limit", "amount", "wat", "sentence"), BREACHES, ids=[b[0] for b in BREACHES])
async def test_what_a_component_is_made_of_is_limited(
    actor_of: MakeActor, limit: str, amount: int, wat: str, sentence: str
) -> None:
    actor = await actor_of(wat, limits=Limits(**{limit: amount}))  # type: ignore[arg-type]
    with pytest.raises(LimitExceeded) as caught:
        await actor.handle(call("run"))
    assert sentence in caught.value.message
    assert (caught.value.details["limit"], caught.value.details["amount"]) == (limit, amount)
    roomy = await actor_of(wat)
    await roomy.handle(call("run"))


async def test_a_table_does_not_grow_beyond_its_limit(actor_of: MakeActor) -> None:
    body = "(if (i32.ne (table.grow (ref.null func) (i32.const 10)) (i32.const {})) (then unreachable))"
    for elements, answer in ((15, 1), (9, -1)):
        wat = component("(table 1 funcref)", body=body.format(answer))
        await (await actor_of(wat, limits=Limits(table_elements=elements))).handle(call("run"))


async def test_the_stack_is_limited(actor_of: MakeActor, wat_engine: Engine) -> None:
    actor = await actor_of(COMPUTE)
    with pytest.raises(LimitExceeded, match="recursed too deeply: it ran out of its 512 KiB of stack in recurse") as e:
        await actor.handle(call("recurse"))
    assert (e.value.details["limit"], e.value.details["amount"]) == ("stack", wat_engine.config.stack)
    assert await actor.handle(call("divide", 4, 2)) == 2


async def test_the_time_is_limited(actor_of: MakeActor) -> None:
    actor = await actor_of(COMPUTE, limits=Limits(execution=0.02))
    with pytest.raises(DeadlineExceeded, match="did not finish spin within its limit of 0.02 s") as caught:
        await actor.handle(call("spin"))
    assert (caught.value.details["limit"], caught.value.details["amount"]) == ("execution", 0.02)


# -- fuel


@pytest.fixture
def fueled(tmp_path: Path) -> Iterator[Engine]:
    engine = Engine(EngineConfig(pool=0, cache=tmp_path, fuel=True))
    yield engine
    engine.close()


async def test_instructions_are_counted_where_the_engine_does_so(fueled: Engine) -> None:
    actor = Actor(EntityId("subject"), await fueled.load(COMPUTE.encode()), limits=Limits(fuel=10_000))
    assert await actor.handle(call("work", 100, interface="test:compute/worker")) == 100
    with pytest.raises(LimitExceeded, match="needed more than its limit of 10000 units of fuel in spin") as caught:
        await actor.handle(call("spin"))
    assert (caught.value.details["limit"], caught.value.details["amount"]) == ("fuel", 10_000)


async def test_without_a_limit_of_fuel_such_an_engine_lets_guests_run(fueled: Engine) -> None:
    actor = Actor(EntityId("subject"), await fueled.load(COMPUTE.encode()))
    assert await actor.handle(call("work", 10_000_000, interface="test:compute/worker")) == 10_000_000


async def test_a_limit_of_fuel_that_nobody_would_count_is_refused(actor_of: MakeActor) -> None:
    with pytest.raises(BadInput, match="a limit of fuel, which this engine does not count") as caught:
        await actor_of(COMPUTE, limits=Limits(fuel=1000))
    assert caught.value.findings[0].code == "TRL-LIM-001"


# -- how many


async def test_calls_beyond_those_allowed_and_in_line_are_busy(actor_of: MakeActor) -> None:
    gate = asyncio.Event()

    async def imports(_: Invocation) -> Any:
        await gate.wait()
        return 1

    wat = caller("acme:shop/prices", "current", result="u32")
    actor = await actor_of(wat, imports=imports, limits=Limits(concurrent=1, queue=0))
    first = asyncio.create_task(actor.handle(call("run")))
    while not actor.running:
        await asyncio.sleep(0)
    with pytest.raises(Busy) as caught:
        await actor.handle(call("run"))
    assert (caught.value.details["limit"], caught.value.details["amount"]) == ("concurrent", 1)
    gate.set()
    assert await first == 1


# -- the host's side


class Ticket(Resource, interface="test:host/tickets", name="ticket"):
    pass


@serves("test:host/tickets", Ticket)
class Tickets:
    @staticmethod
    def issue(guest: Guest) -> Ticket:
        return Ticket()

    @staticmethod
    async def issue_later(guest: Guest) -> Ticket:
        await asyncio.sleep(0)
        return Ticket()


def tickets(function: str) -> str:
    """`run(n)` holds n tickets at a time; `one-by-one(n)` lets go of each before it asks for the next."""
    return f"""(component
  (import "test:host/tickets" (instance $tickets
    (export "ticket" (type $ticket (sub resource)))
    (export "{function}" (func (result (own $ticket))))))
  (alias export $tickets "ticket" (type $ticket))
  (core func $issue (canon lower (func $tickets "{function}")))
  (core func $drop (canon resource.drop $ticket))
  (core module $m
    (import "h" "issue" (func $issue (result i32)))
    (import "h" "drop" (func $drop (param i32)))
    (func (export "run") (param i32)
      (loop $l
        (drop (call $issue))
        (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))
    (func (export "one-by-one") (param i32)
      (loop $l
        (call $drop (call $issue))
        (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))))
  (core instance $i (instantiate $m (with "h" (instance (export "issue" (func $issue)) (export "drop" (func $drop))))))
  (func (export "run") (param "n" u32) (canon lift (core func $i "run")))
  (func (export "one-by-one") (param "n" u32) (canon lift (core func $i "one-by-one"))))"""


@pytest.mark.parametrize("function", ["issue", "issue-later"])
async def test_handles_to_the_hosts_resources_are_limited(actor_of: MakeActor, function: str) -> None:
    actor = await actor_of(tickets(function), limits=Limits(handles=50))
    await actor.handle(call("run", 50))
    await actor.handle(call("one-by-one", 500))
    with pytest.raises(LimitExceeded, match='"subject" held more than 50 resources of the host at a time') as caught:
        await actor.handle(call("run", 51))
    assert (caught.value.details["limit"], caught.value.details["amount"]) == ("handles", 50)
    await actor.handle(call("run", 50))


def test_bytes_in_all_streams_of_a_guest_are_limited_together() -> None:
    guest = Guest(EntityId("subject"), limits=Limits(buffered=100))
    one, other = (ByteStream(1000, guest.kept(Buffered)) for _ in range(2))
    one.write_now(b"x" * 60)
    other.write_now(b"x" * 40)
    with pytest.raises(LimitExceeded, match="wrote more than 100 bytes into streams that nobody read") as caught:
        other.write_now(b"x")
    assert (caught.value.details["limit"], caught.value.details["amount"]) == ("buffered", 100)
    assert one.read_now(50) == b"x" * 50
    other.write_now(b"x" * 50)
    other.close()
    one.write_now(b"x" * 90)
    with pytest.raises(LimitExceeded):
        one.write_now(b"x")


def test_what_a_guest_prints_is_limited() -> None:
    lines: list[str] = []
    output = Output("stderr", lambda _, __, line: lines.append(line), None, EntityId("subject"), 10)
    output.write(b"12345\n")
    with pytest.raises(LimitExceeded, match='"subject" printed more than 10 bytes to stderr') as caught:
        output.write(b"67890")
    assert (caught.value.details["limit"], caught.value.details["amount"]) == ("output", 10)
    assert lines == ["12345"]


LARGE_LIST = """(component
  (import "acme:data/sink" (instance $far (export "take" (func (param "x" (list u8)) (result u32)))))
  (alias export $far "take" (func $take))
  (core module $libc (memory (export "memory") 1000))
  (core instance $libc (instantiate $libc))
  (alias core export $libc "memory" (core memory $memory))
  (core func $take-core (canon lower (func $take) (memory $memory)))
  (core module $m
    (import "far" "take" (func $take (param i32 i32) (result i32)))
    (func (export "run") (param i32) (result i32) (call $take (i32.const 0) (local.get 0))))
  (core instance $i (instantiate $m (with "far" (instance (export "take" (func $take-core))))))
  (func (export "run") (param "n" u32) (result u32) (canon lift (core func $i "run"))))"""


async def test_values_that_would_fill_the_hosts_memory_are_not_copied(actor_of: MakeActor) -> None:
    async def imports(invocation: Invocation) -> Any:
        return len(invocation.args[0])  # type: ignore[arg-type]

    actor = await actor_of(LARGE_LIST, imports=imports)
    assert await actor.handle(call("run", 1024**2)) == 1024**2
    with pytest.raises(LimitExceeded, match="passed values of more than 128 MiB at once") as caught:
        await actor.handle(call("run", 60 * 1024**2))
    assert caught.value.details["limit"] == "copied"


async def test_a_component_too_large_for_the_pool_runs_outside_of_it(tmp_path: Path) -> None:
    wat = component("(memory 2000) (table 200000 funcref)").encode()
    for _ in range(2):  # compiled, then from the cache
        engine = Engine(EngineConfig(pool=4, pool_memory=64 * 1024**2, cache=tmp_path))
        if not engine.pooled:
            pytest.skip("this machine does not give the address space for a pool")
        actor = Actor(EntityId("subject"), await engine.load(wat))
        await actor.handle(call("run"))
        assert not actor.component.engine.pooled
        small = Actor(EntityId("subject"), await engine.load(COMPUTE.encode()))
        assert small.component.engine.pooled
        with pytest.raises(BadValue):
            await small.handle(call("divide", "a", 2))
        engine.close()


@pytest.mark.parametrize("name", ["memory", "execution", "handles", "buffered", "output", "fuel"])
def test_a_limit_of_nothing_is_none(name: str) -> None:
    with pytest.raises(ValueError, match=f"the limit {name} must be more than 0, not 0"):
        Limits(**{name: 0})  # type: ignore[arg-type]
