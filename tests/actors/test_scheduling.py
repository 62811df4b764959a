"""Many guests in one process: they wait for nothing but their answer, and go without a trace when nobody wants it."""

from __future__ import annotations

import asyncio
import random
import threading
from pathlib import Path
from typing import Any, ClassVar

import pytest
from guests import caller
from tests_support import MakeActor, call

from actors import Actor, Limits, _ffi
from actors.callbacks import CALLERS
from actors.guest import Guest
from actors.host_api import serves
from lattice import DeadlineExceeded, Invocation, LatticeError


@serves("test:host/desk")
class Desk:
    """Host functions that wait in different ways, and know who waits."""

    waiting: ClassVar[int] = 0
    cancelled: ClassVar[int] = 0
    cleaned: ClassVar[int] = 0
    gate: ClassVar[asyncio.Event]

    @staticmethod
    async def wait(guest: Guest) -> int:
        Desk.waiting += 1
        try:
            await Desk.gate.wait()
        except asyncio.CancelledError:
            Desk.cancelled += 1
            raise
        finally:
            Desk.waiting -= 1
        return 1

    @staticmethod
    async def tidy(guest: Guest) -> int:
        """Needs the loop once more when it is cancelled."""
        Desk.waiting += 1
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(Desk.gate.wait())
                tasks.create_task(asyncio.sleep(3600))
        finally:
            Desk.waiting -= 1
            await asyncio.sleep(0)
            Desk.cleaned += 1
        return 1

    @staticmethod
    async def pause(guest: Guest) -> int:
        await asyncio.sleep(0.0005)
        return 1

    @staticmethod
    def at_once(guest: Guest) -> int:
        return 1


@pytest.fixture(autouse=True)
async def gate() -> asyncio.Event:
    Desk.waiting = Desk.cancelled = Desk.cleaned = 0
    Desk.gate = asyncio.Event()
    return Desk.gate


async def until_waiting(count: int) -> None:
    async with asyncio.timeout(60):
        while Desk.waiting < count:
            await asyncio.sleep(0)


def resident() -> int:
    """Bytes of this process's memory that are in RAM."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
async def test_ten_thousand_guests_wait_at_once_in_one_thread(actor_of: MakeActor, gate: asyncio.Event) -> None:
    actor = await actor_of(
        caller("test:host/desk", "wait", result="u32"), limits=Limits(concurrent=10_000, execution=120)
    )
    threads, before = threading.active_count(), resident()
    async with asyncio.TaskGroup() as tasks:
        calls = [tasks.create_task(actor.handle(call("run"))) for _ in range(10_000)]
        await until_waiting(10_000)
        assert len(CALLERS) == 10_000
        assert threading.active_count() <= threads + 1, "none but the clock's"
        assert resident() - before < 1024**3
        gate.set()
    assert sum(task.result() for task in calls) == 10_000


@pytest.mark.parametrize("function", ["wait", "tidy"])
async def test_cancelling_the_caller_cancels_the_host_call_in_flight(actor_of: MakeActor, function: str) -> None:
    actor = await actor_of(caller("test:host/desk", function, result="u32"))
    calls = [asyncio.create_task(actor.handle(call("run"))) for _ in range(5)]
    await until_waiting(5)
    for task in calls:
        task.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    assert all(task.cancelled() for task in calls)
    assert Desk.waiting == 0
    assert Desk.cancelled + Desk.cleaned == 5
    assert_nothing_is_left(actor)


async def test_a_deadline_cancels_the_host_call_in_flight(actor_of: MakeActor) -> None:
    actor = await actor_of(caller("test:host/desk", "tidy", result="u32"), limits=Limits(execution=0.02))
    with pytest.raises(DeadlineExceeded):
        await actor.handle(call("run"))
    assert Desk.cleaned == 1
    assert_nothing_is_left(actor)


async def test_cancelling_the_caller_cancels_what_its_guest_called_over_a_link(actor_of: MakeActor) -> None:
    callee = await actor_of(caller("test:host/desk", "wait", result="u32"))

    async def imports(_: Invocation) -> Any:
        return await callee.handle(call("run"))

    actor = await actor_of(caller("acme:shop/prices", "current", result="u32"), imports=imports)
    task = asyncio.create_task(actor.handle(call("run")))
    await until_waiting(1)
    assert len(CALLERS) == 2
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert Desk.cancelled == 1
    assert_nothing_is_left(actor, callee)


def assert_nothing_is_left(*actors: Actor) -> None:
    for actor in actors:
        assert not actor.running
        assert actor.permits.free == actor.permits.size
        assert not actor.permits.waiting
        assert not actor.component.engine.ticker.busy
    assert not CALLERS
    assert not _ffi.waiting
    assert asyncio.all_tasks() == {asyncio.current_task()}


TWO_STEPS = """(component
  (import "test:host/desk" (instance $desk (export "FUNCTION" (func (result u32)))))
  (alias export $desk "FUNCTION" (func $f))
  (core func $f-core (canon lower (func $f)))
  (core module $m
    (import "desk" "f" (func $f (result i32)))
    (func $work (param $turns i32)
      (loop $l (br_if $l (local.tee $turns (i32.sub (local.get $turns) (i32.const 1))))))
    (func (export "run") (param $turns i32) (result i32)
      (call $work (local.get $turns))
      (drop (call $f))
      (call $work (local.get $turns))
      (call $f)))
  (core instance $i (instantiate $m (with "desk" (instance (export "f" (func $f-core))))))
  (func (export "run") (param "turns" u32) (result u32) (canon lift (core func $i "run"))))"""
"""Computes, calls, computes, calls: with enough turns it does so in a worker thread."""


@pytest.mark.parametrize("seed", range(4))
async def test_a_storm_of_cancellations_leaves_nothing_behind(actor_of: MakeActor, seed: int) -> None:
    chance = random.Random(seed)
    limits = Limits(concurrent=40, execution=20)
    made = [
        await actor_of(TWO_STEPS.replace("FUNCTION", function), limits=limits)
        for function in ("wait", "tidy", "pause", "at-once")
    ]
    outcomes: list[str] = []

    async def one() -> None:
        actor = chance.choice(made)
        turns = chance.choice([1, 1, 1, 1000, 2_000_000, 40_000_000])
        task = asyncio.create_task(actor.handle(call("run", turns)))
        match chance.randrange(4):
            case 0:
                for _ in range(chance.randrange(6)):
                    await asyncio.sleep(0)
            case 1:
                await asyncio.sleep(chance.random() * 0.02)
            case 2:
                await asyncio.wait([task], timeout=0.05)
            case _:
                await asyncio.sleep(0.001)
        for _ in range(chance.choice([1, 1, 2])):
            task.cancel()
            await asyncio.sleep(0)
        try:
            await task
            outcomes.append("answered")
        except asyncio.CancelledError:
            outcomes.append("cancelled")
        except LatticeError as error:
            outcomes.append(error.code)

    async with asyncio.timeout(60):
        for _ in range(5):
            async with asyncio.TaskGroup() as tasks:
                for _ in range(40):
                    tasks.create_task(one())
    assert set(outcomes) == {"answered", "cancelled"}
    assert Desk.waiting == 0
    assert_nothing_is_left(*made)
    Desk.gate.set()
    for actor in made[:1] + made[2:]:
        assert await actor.handle(call("run", 1)) == 1
