"""Actors: one fresh instance for each invocation, within its limits, whatever the guest does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from guests import COMPUTE, HUNGRY, LARGE_FROM_THE_START, WRITER, caller
from tests_support import MakeActor, call

from actors import Actor, Engine, EngineConfig, Instance, Limits
from actors.adapters import ADAPTERS
from actors.callbacks import CALLERS
from actors.guest import Guest
from actors.host_api import serves
from actors.traps import last_words
from lattice import Busy, DeadlineExceeded, EntityId, Invocation, LimitExceeded, Trap, UnknownFunction

WORKER = "test:compute/worker"


@serves("test:host/console")
class Console:
    @staticmethod
    def write(guest: Guest, text: str) -> None:
        guest.stderr.write(text.encode() + b"\n")


def in_moment(seconds: float = 0.05) -> float:
    return time.monotonic() + seconds


async def test_a_function_is_found_by_interface_without_version_or_in_the_world(actor_of: MakeActor) -> None:
    actor = await actor_of(COMPUTE)
    assert await actor.handle(call("work", 10, interface=WORKER)) == 10
    assert await actor.handle(call("divide", 7, 2)) == 3


async def test_an_unknown_function_is_named_with_those_there_are(actor_of: MakeActor) -> None:
    actor = await actor_of(COMPUTE)
    with pytest.raises(
        UnknownFunction, match="does not export test:compute/worker#wrok; it exports .*worker@1.2.3#work"
    ):
        await actor.handle(call("wrok", interface=WORKER))


async def test_every_invocation_starts_from_nothing(actor_of: MakeActor) -> None:
    actor = await actor_of(COMPUTE)
    assert [await actor.handle(call("grow", 1)) for _ in range(3)] == [1, 1, 1]


# -- traps


async def test_a_trap_says_what_happened_and_where(actor_of: MakeActor) -> None:
    actor = await actor_of(COMPUTE)
    with pytest.raises(Trap, match='"subject" trapped in trap: wasm trap: wasm `unreachable`') as caught:
        await actor.handle(call("trap"))
    assert any("m!" in frame for frame in caught.value.details["backtrace"])
    with pytest.raises(Trap, match="integer divide by zero"):
        await actor.handle(call("divide", 1, 0))
    assert await actor.handle(call("divide", 4, 2)) == 2


async def test_recursion_without_end_is_a_trap_that_says_so(actor_of: MakeActor) -> None:
    actor = await actor_of(COMPUTE)
    with pytest.raises(Trap, match="recursed too deeply: it ran out of its 512 KiB of stack in recurse") as caught:
        await actor.handle(call("recurse"))
    assert len(caught.value.details["backtrace"]) <= 20


async def test_a_trap_carries_the_last_lines_the_guest_wrote(actor_of: MakeActor) -> None:
    lines: list[tuple[str, str]] = []
    actor = await actor_of(WRITER, on_line=lambda _, stream, line: lines.append((stream, line)))
    with pytest.raises(Trap) as caught:
        await actor.handle(call("panic"))
    assert caught.value.details["output"] == "thread main panicked\n"
    assert lines == [("stderr", "thread main panicked")]


def test_the_reason_is_what_the_guests_own_runtime_printed() -> None:
    python = 'Traceback (most recent call last):\n  File "/0/app.py", line 4, in handle\nKeyError: "x"\n\nthread 1\n'
    rust = "thread 'main' (1) panicked at src/lib.rs:12:5:\nindex out of bounds\nnote: run with\n"
    thrown = "sold out\nStack:\n  buy@guest.js:13:11\n  handle@guest.js:19:48\n\nRedirecting call to abort()\n"
    assert last_words(python) == 'KeyError: "x"'
    assert last_words(rust) == "index out of bounds (at src/lib.rs:12:5)"
    assert last_words(python + rust) == 'KeyError: "x"'
    assert last_words(thrown) == "sold out (at buy@guest.js:13:11)"
    assert last_words("nothing to see") == ""


# -- memory


async def test_a_guest_that_is_refused_memory_and_dies_of_it_hit_its_limit(actor_of: MakeActor) -> None:
    actor = await actor_of(HUNGRY, limits=Limits(memory=1024 * 1024))
    await actor.handle(call("eat", 10))
    with pytest.raises(LimitExceeded, match="ran out of memory in eat: its limit is 1 MiB") as caught:
        await actor.handle(call("eat", 100))
    assert caught.value.details["limit"] == "memory"
    assert caught.value.details["amount"] == 1024 * 1024


async def test_a_guest_that_lives_with_less_memory_goes_on(actor_of: MakeActor) -> None:
    actor = await actor_of(COMPUTE, limits=Limits(memory=1024 * 1024))
    assert await actor.handle(call("grow", 100)) == -1
    assert await actor.handle(call("grow", 15)) == 1


async def test_a_component_that_begins_above_the_limit_is_told_so(actor_of: MakeActor) -> None:
    actor = await actor_of(LARGE_FROM_THE_START, limits=Limits(memory=1024 * 1024))
    with pytest.raises(LimitExceeded, match="its limit is 1 MiB"):
        await actor.handle(call("run"))


def test_limits_are_above_zero() -> None:
    with pytest.raises(ValueError, match="the limit memory must be more than 0"):
        Limits(memory=0)


# -- time


async def test_a_spinning_guest_is_stopped_at_its_deadline(actor_of: MakeActor) -> None:
    actor = await actor_of(COMPUTE)
    begun = time.monotonic()
    with pytest.raises(DeadlineExceeded, match='"subject" did not finish spin in time'):
        await actor.handle(call("spin", deadline=in_moment()))
    assert time.monotonic() - begun < 2
    assert not actor.running


async def test_the_execution_limit_is_a_deadline_of_its_own(actor_of: MakeActor) -> None:
    actor = await actor_of(COMPUTE, limits=Limits(execution=0.05))
    with pytest.raises(DeadlineExceeded):
        await actor.handle(call("spin"))


async def test_neighbours_answer_while_others_spin(actor_of: MakeActor) -> None:
    actor = await actor_of(COMPUTE)
    spinning = [asyncio.create_task(actor.handle(call("spin"))) for _ in range(5)]
    for _ in range(100):
        assert await actor.handle(call("work", 10, interface=WORKER)) == 10
        await asyncio.sleep(0)
    assert not any(task.done() for task in spinning)
    for task in spinning:
        task.cancel()
    ended = await asyncio.gather(*spinning, return_exceptions=True)
    assert all(isinstance(end, asyncio.CancelledError) for end in ended)


async def test_a_guest_that_computes_for_long_comes_to_its_end(actor_of: MakeActor) -> None:
    actor = await actor_of(COMPUTE)
    turns = 300_000_000  # well beyond the ticks it gets on the loop, so most of it runs in a worker thread
    assert await actor.handle(call("work", turns, interface=WORKER)) == turns


@serves("test:host/mixed")
class Mixed:
    loops: ClassVar[set[Any]] = set()
    turns: ClassVar[int] = 0

    @staticmethod
    def plain(guest: Guest) -> int:
        Mixed.loops.add(asyncio.get_running_loop())
        return 1

    @staticmethod
    async def waits(guest: Guest) -> int:
        Mixed.loops.add(asyncio.get_running_loop())
        async with asyncio.timeout(5):
            await asyncio.sleep(0)
        return 2

    @staticmethod
    def fails(guest: Guest) -> int:
        raise ValueError("not today")


def busy_caller(function: str) -> str:
    """Like `caller`, but it computes long enough before the call to be in a worker thread by then."""
    return caller("test:host/mixed", function, result="u32").replace(
        '(func (export "run") (result i32) (local $i i32)',
        """(func (export "run") (result i32) (local $i i32) (local $n i32)
      (loop $busy
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br_if $busy (i32.lt_u (local.get $n) (i32.const 100000000))))""",
    )


async def test_what_a_guest_calls_from_a_worker_thread_runs_on_the_event_loop(actor_of: MakeActor) -> None:
    Mixed.loops.clear()
    for function, expected in (("plain", 1), ("waits", 2)):
        actor = await actor_of(busy_caller(function))
        assert await actor.handle(call("run")) == expected
    assert Mixed.loops == {asyncio.get_running_loop()}
    actor = await actor_of(busy_caller("fails"))
    with pytest.raises(Trap, match="test:host/mixed#fails: ValueError: not today"):
        await actor.handle(call("run"))


async def test_an_engine_closes_while_a_guest_in_a_worker_thread_needs_the_loop(tmp_path: Path) -> None:
    engine = Engine(EngineConfig(pool=0, cache=tmp_path))
    source = busy_caller("plain").replace("(i32.const 1)) (then (call $f)", "(i32.const 1000000)) (then (call $f)")
    assert "1000000))" in source
    actor = Actor(EntityId("subject"), await engine.load(source.encode()))
    task = asyncio.create_task(actor.handle(call("run")))
    Mixed.loops.clear()
    while not Mixed.loops:
        await asyncio.sleep(0)
    engine.close()  # holds up the event loop, as a caller may who does not know better
    with pytest.raises((Trap, RuntimeError, asyncio.CancelledError)):
        await task
    assert not actor.running


async def test_a_call_whose_time_is_over_already_is_not_begun(actor_of: MakeActor) -> None:
    actor = await actor_of(COMPUTE)
    with pytest.raises(DeadlineExceeded, match="no time left"):
        await actor.handle(call("divide", 1, 1, deadline=time.monotonic() - 1))


# -- how many at a time


@serves("test:host/door")
class Door:
    inside: ClassVar[int] = 0
    most: ClassVar[int] = 0
    gate: ClassVar[asyncio.Event]

    @staticmethod
    async def enter(guest: Guest) -> int:
        Door.inside += 1
        Door.most = max(Door.most, Door.inside)
        await Door.gate.wait()
        Door.inside -= 1
        return 1


@pytest.fixture(autouse=True)
async def door() -> type[Door]:
    Door.inside = Door.most = 0
    Door.gate = asyncio.Event()
    return Door


ENTER = caller("test:host/door", "enter", result="u32")


async def until_inside(count: int) -> None:
    while Door.inside < count:
        await asyncio.sleep(0)


async def test_no_more_run_at_a_time_than_allowed_and_the_rest_wait(actor_of: MakeActor) -> None:
    actor = await actor_of(ENTER, limits=Limits(concurrent=3))
    calls = [asyncio.create_task(actor.handle(call("run"))) for _ in range(10)]
    await until_inside(3)
    assert len(CALLERS) == 3
    Door.gate.set()
    assert await asyncio.gather(*calls) == [1] * 10
    assert Door.most == 3


async def test_a_full_line_is_busy_and_a_deadline_ends_the_wait(actor_of: MakeActor) -> None:
    actor = await actor_of(ENTER, limits=Limits(concurrent=1, queue=1))
    first = asyncio.create_task(actor.handle(call("run")))
    await until_inside(1)
    second = asyncio.create_task(actor.handle(call("run", deadline=in_moment())))
    await asyncio.sleep(0)
    with pytest.raises(Busy):
        await actor.handle(call("run"))
    with pytest.raises(DeadlineExceeded, match="waiting for a free instance"):
        await second
    Door.gate.set()
    assert await first == 1


async def test_draining_waits_for_the_calls_in_flight(actor_of: MakeActor) -> None:
    actor = await actor_of(ENTER, limits=Limits(concurrent=1))
    calls = [asyncio.create_task(actor.handle(call("run"))) for _ in range(2)]
    await until_inside(1)
    drained = asyncio.create_task(actor.drain())
    await asyncio.sleep(0)
    assert not drained.done()
    Door.gate.set()
    await drained
    assert not actor.running
    assert await asyncio.gather(*calls) == [1, 1]
    await actor.drain()


async def test_a_cancelled_call_gives_its_place_back(actor_of: MakeActor) -> None:
    actor = await actor_of(ENTER, limits=Limits(concurrent=1))
    for _ in range(3):
        task = asyncio.create_task(actor.handle(call("run")))
        await until_inside(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        Door.inside = 0
        assert actor.permits.free == 1
        assert not actor.running


@pytest.fixture
def small_pool(tmp_path: Path) -> Iterator[Engine]:
    engine = Engine(EngineConfig(pool=2, cache=tmp_path))
    if not engine.pooled:
        pytest.skip("this machine does not give the address space for a pool")
    yield engine
    engine.close()


async def test_calls_that_find_the_pool_full_run_outside_of_it(small_pool: Engine) -> None:
    actor = Actor(EntityId("subject"), await small_pool.load(ENTER.encode()))
    for _ in range(2):
        Door.gate.clear()
        Door.inside = 0
        calls = [asyncio.create_task(actor.handle(call("run"))) for _ in range(7)]
        await until_inside(7)
        pooled = sum(instance.linker is actor.linker for instance in actor.running)
        assert (pooled, len(actor.running)) == (2, 7)
        Door.gate.set()
        assert await asyncio.gather(*calls) == [1] * 7
    assert await actor.handle(call("run")) == 1


async def test_what_fits_neither_in_the_pool_nor_beside_it_is_busy(tmp_path: Path) -> None:
    for pool in (0, 1):
        engine = Engine(EngineConfig(pool=pool, on_demand=2, cache=tmp_path))
        actor = Actor(EntityId("subject"), await engine.load(ENTER.encode()))
        Door.gate.clear()
        Door.inside = 0
        room = 2 + (1 if engine.pooled else 0)
        calls = [asyncio.create_task(actor.handle(call("run"))) for _ in range(room)]
        await until_inside(room)
        with pytest.raises(Busy, match="2 guests run in this process already"):
            await actor.handle(call("run"))
        Door.gate.set()
        assert await asyncio.gather(*calls) == [1] * room
        assert await actor.handle(call("run")) == 1
        engine.close()


async def test_a_spinning_guest_outside_of_the_pool_is_preempted_as_well(small_pool: Engine) -> None:
    enter = Actor(EntityId("subject"), await small_pool.load(ENTER.encode()))
    calls = [asyncio.create_task(enter.handle(call("run"))) for _ in range(2)]
    await until_inside(2)
    spinner = Actor(EntityId("spinner"), await small_pool.load(COMPUTE.encode()))
    with pytest.raises(DeadlineExceeded):
        await spinner.handle(call("spin", deadline=in_moment()))
    Door.gate.set()
    await asyncio.gather(*calls)


# -- adapters


@serves("test:host/reply")
class Reply:
    @staticmethod
    def set(guest: Guest) -> int:
        guest.links["answer"].set_result("early")  # type: ignore[attr-defined]
        return 0


REPLIES = (
    caller("test:host/door", "enter", result="u32")
    .replace(
        '(alias export $far "enter" (func $f))',
        """(alias export $far "enter" (func $f))
  (import "test:host/reply" (instance $reply (export "set" (func (result u32)))))
  (alias export $reply "set" (func $set))
  (core func $set-core (canon lower (func $set)))""",
    )
    .replace(
        '(import "far" "f" (func $f (result i32)))',
        """(import "far" "f" (func $f (result i32)))
    (import "far" "set" (func $set (result i32)))""",
    )
    .replace('(export "f" (func $f-core))', '(export "f" (func $f-core)) (export "set" (func $set-core))')
    .replace("(local $i i32)", "(local $i i32) (drop (call $set))")
)


@pytest.fixture
def adapter(monkeypatch: pytest.MonkeyPatch) -> None:
    async def early(instance: Instance, _: Invocation) -> Any:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        instance.guest.links["answer"] = answer  # type: ignore[assignment]
        return await instance.call_until(answer)

    monkeypatch.setitem(ADAPTERS, "#run", early)


async def test_an_adapter_answers_while_the_guest_goes_on(actor_of: MakeActor, adapter: None) -> None:
    actor = await actor_of(REPLIES, limits=Limits(concurrent=1))
    assert await actor.handle(call("run")) == "early"
    assert len(actor.running) == 1
    assert actor.permits.free == 0
    drained = asyncio.create_task(actor.drain())
    await until_inside(1)
    assert not drained.done()
    Door.gate.set()
    await drained
    assert actor.permits.free == 1


async def test_a_guest_that_goes_on_too_long_after_its_answer_is_stopped(actor_of: MakeActor, adapter: None) -> None:
    actor = await actor_of(REPLIES, limits=Limits(execution=0.05))
    assert await actor.handle(call("run")) == "early"
    await actor.drain()
    assert not Door.gate.is_set()


async def test_a_guest_that_ends_without_an_answer_trapped(actor_of: MakeActor, adapter: None) -> None:
    Door.gate.set()
    actor = await actor_of(ENTER)
    with pytest.raises(Trap, match='"subject" ended without an answer to run'):
        await actor.handle(call("run"))
    actor = await actor_of(caller("test:host/door", "no-such", result="u32"))
    with pytest.raises(Trap, match="test:host/door#no-such is not implemented"):
        await actor.handle(call("run"))


async def test_cancelling_before_the_answer_stops_the_guest(actor_of: MakeActor, adapter: None) -> None:
    actor = await actor_of(ENTER)
    task = asyncio.create_task(actor.handle(call("run")))
    await until_inside(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await actor.drain()


async def test_cancelling_as_the_call_begins_leaves_nothing_behind(actor_of: MakeActor, adapter: None) -> None:
    actor = await actor_of(ENTER)
    for turns in range(6):
        task = asyncio.create_task(actor.handle(call("run")))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await actor.drain()
    assert actor.permits.free == actor.permits.size
