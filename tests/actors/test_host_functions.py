"""What guests import: functions the host serves, functions of other actors, and functions that nobody has."""

from __future__ import annotations

import asyncio
import time
from typing import Any, ClassVar

import pytest
import structlog
from guests import COUNTERS, FOREIGN_RESOURCE, caller
from tests_support import MakeActor, call

from actors.callbacks import CALLERS
from actors.guest import Guest
from actors.host_api import Resource, serves
from lattice import (
    BadInput,
    BadValue,
    Busy,
    DeadlineExceeded,
    Denied,
    Invocation,
    LatticeError,
    NotLinked,
    Trap,
    Unreachable,
    WitError,
)


@serves("test:host/clock")
class Clock:
    waiting: ClassVar[int] = 0
    gate: ClassVar[asyncio.Event]

    @staticmethod
    def now(guest: Guest) -> int:
        return 1234

    @staticmethod
    async def soon(guest: Guest) -> int:
        return 5

    @staticmethod
    async def later(guest: Guest) -> int:
        Clock.waiting += 1
        try:
            await Clock.gate.wait()
        finally:
            Clock.waiting -= 1
        return 6

    @staticmethod
    async def patient(guest: Guest) -> int:
        try:
            async with asyncio.timeout(0.01):
                await Clock.gate.wait()
        except TimeoutError:
            return 7
        return 8

    @staticmethod
    async def broken(guest: Guest) -> int:
        await asyncio.sleep(0)
        raise RuntimeError("the spring is gone")

    @staticmethod
    def snapped(guest: Guest) -> int:
        raise KeyError("wheel")

    @staticmethod
    async def refused(guest: Guest) -> int:
        await asyncio.sleep(0)
        raise Trap("no clock for you")

    @staticmethod
    def nonsense(guest: Guest) -> str:
        return "noon"

    @staticmethod
    async def no_answer(guest: Guest) -> int:
        raise WitError("late")


@pytest.fixture(autouse=True)
async def gate() -> asyncio.Event:
    Clock.gate = asyncio.Event()
    return Clock.gate


async def test_a_plain_function_and_one_that_could_wait_give_their_values(actor_of: MakeActor) -> None:
    for name, expected in (("now", 1234), ("soon", 5)):
        actor = await actor_of(caller("test:host/clock@0.2.9", name, result="u32", turns=3))
        assert await actor.handle(call("run")) == expected


async def test_a_host_function_that_waits_keeps_only_its_own_guest_waiting(
    actor_of: MakeActor, gate: asyncio.Event
) -> None:
    actor = await actor_of(caller("test:host/clock", "later", result="u32", turns=2))
    async with asyncio.TaskGroup() as tasks:
        waiting = [tasks.create_task(actor.handle(call("run"))) for _ in range(20)]
        while Clock.waiting < 20:
            await asyncio.sleep(0)
        assert len(CALLERS) == 20
        gate.set()
    assert [task.result() for task in waiting] == [6] * 20


async def test_a_timeout_inside_a_host_function_works(actor_of: MakeActor) -> None:
    actor = await actor_of(caller("test:host/clock", "patient", result="u32", turns=2))
    assert await actor.handle(call("run")) == 7


async def test_cancelling_a_call_cancels_the_host_function_it_waits_for(actor_of: MakeActor) -> None:
    actor = await actor_of(caller("test:host/clock", "later", result="u32"))
    task = asyncio.create_task(actor.handle(call("run")))
    while not Clock.waiting:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert Clock.waiting == 0


async def test_a_guest_that_waits_past_its_deadline_is_stopped(actor_of: MakeActor) -> None:
    actor = await actor_of(caller("test:host/clock", "later", result="u32"))
    with pytest.raises(DeadlineExceeded, match="did not finish run in time"):
        await actor.handle(call("run", deadline=time.monotonic() + 0.02))
    assert Clock.waiting == 0


@pytest.mark.parametrize(
    ("name", "sentence", "cause"),
    [
        ("broken", "test:host/clock#broken: RuntimeError: the spring is gone", RuntimeError),
        ("snapped", "test:host/clock#snapped: KeyError: 'wheel'", KeyError),
        ("nonsense", "test:host/clock#nonsense: .*'noon' .str. is not a u32", ValueError),
        ("no-answer", "raised WitError, but its WIT type has no `result`", WitError),
    ],
)
async def test_a_host_function_that_fails_traps_the_guest_with_its_name_and_cause(
    actor_of: MakeActor, name: str, sentence: str, cause: type[BaseException]
) -> None:
    actor = await actor_of(caller("test:host/clock", name, result="u32"))
    with pytest.raises(Trap, match=sentence) as caught:
        await actor.handle(call("run"))
    assert isinstance(caught.value.__cause__, cause)


async def test_a_trap_that_a_host_function_raises_is_the_error_itself(actor_of: MakeActor) -> None:
    actor = await actor_of(caller("test:host/clock", "refused", result="u32"))
    with pytest.raises(Trap, match="^no clock for you$"):
        await actor.handle(call("run"))


async def test_a_function_the_host_lacks_traps_by_name_when_it_is_called(actor_of: MakeActor) -> None:
    for interface in ("test:host/clock@0.3.1", "wasi:sockets/never-heard-of@0.2.0"):
        actor = await actor_of(caller(interface, "wind-up", result="u32"))
        with pytest.raises(Trap, match=f"{interface}#wind-up is not implemented by this host"):
            await actor.handle(call("run"))


# -- links


async def test_an_interface_the_host_does_not_know_becomes_an_invocation(actor_of: MakeActor) -> None:
    seen: list[Invocation] = []

    async def imports(invocation: Invocation) -> Any:
        seen.append(invocation)
        await asyncio.sleep(0)
        return 42

    actor = await actor_of(caller("acme:shop/prices@1.2.0", "current", result="u32"), imports=imports)
    deadline = time.monotonic() + 5
    assert await actor.handle(call("run", deadline=deadline, trace={"traceparent": "00-a-b-01"})) == 42
    (sent,) = seen
    assert str(sent.function) == "acme:shop/prices@1.2.0#current"
    assert sent.source == "subject"
    assert sent.deadline == deadline
    assert sent.trace == {"traceparent": "00-a-b-01"}


async def test_the_err_side_of_a_linked_function_is_an_answer_for_the_guest(actor_of: MakeActor) -> None:
    async def imports(_: Invocation) -> Any:
        raise WitError()

    actor = await actor_of(caller("acme:shop/prices", "check", result="(result)"), imports=imports)
    with pytest.raises(WitError):  # the guest passes it on
        await actor.handle(call("run"))


async def test_a_link_that_fails_traps_the_guest_and_says_why(actor_of: MakeActor) -> None:
    async def imports(_: Invocation) -> Any:
        await asyncio.sleep(0)
        raise Denied("no grant for acme:shop")

    actor = await actor_of(caller("acme:shop/prices", "current", result="u32"), imports=imports)
    with pytest.raises(Trap, match="acme:shop/prices#current: no grant for acme:shop") as caught:
        await actor.handle(call("run"))
    assert caught.value.details["cause"] == "denied"


TELLING = """(component
  (import "acme:shop/prices" (instance $far (export "current" (func (result (result u32 (error string)))))))
  (alias export $far "current" (func $f))
  (core module $libc (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
  (core instance $libc (instantiate $libc))
  (alias core export $libc "memory" (core memory $memory))
  (core func $f-core (canon lower (func $f) (memory $memory) (realloc (core func $libc "realloc"))))
  (core module $m
    (import "far" "f" (func $f (param i32)))
    (func (export "run") (result i32) (call $f (i32.const 16)) (i32.const 16)))
  (core instance $i (instantiate $m (with "far" (instance (export "f" (func $f-core))))))
  (func (export "run") (result (result u32 (error string))) (canon lift (core func $i "run") (memory $memory))))"""
"""Passes on what its link answers, with the reason for an error as text."""


@pytest.mark.parametrize(
    "error",
    [
        Unreachable("no host runs it"),
        Busy("the line is full"),
        DeadlineExceeded("it took too long over there"),
        Trap("it fell over"),
        Denied("not for you"),
    ],
    ids=lambda error: error.code,
)
async def test_a_guest_is_told_why_nobody_answered_where_its_types_have_room_for_that(
    actor_of: MakeActor, error: LatticeError
) -> None:
    async def imports(_: Invocation) -> Any:
        await asyncio.sleep(0)
        raise error

    actor = await actor_of(TELLING, imports=imports)
    with pytest.raises(WitError) as answer:
        await actor.handle(call("run"))
    assert answer.value.payload == error.message


async def test_a_link_that_is_missing_is_told_to_the_guest_and_logged_with_what_would_allow_it(
    actor_of: MakeActor,
) -> None:
    actor = await actor_of(TELLING)
    with structlog.testing.capture_logs() as events, pytest.raises(WitError, match="is not linked to acme:shop/prices"):
        await actor.handle(call("run"))
    (event,) = [event for event in events if event["event"] == "guest.denied"]
    assert (event["actor"], event["interface"], event["function"]) == ("subject", "acme:shop/prices", "current")
    assert event["grant"] == "a link from this actor to a provider of acme:shop/prices"


async def test_the_end_of_its_own_time_is_no_answer(actor_of: MakeActor) -> None:
    async def imports(invocation: Invocation) -> Any:
        await asyncio.sleep(0)
        time.sleep(max(0.0, invocation.deadline - time.monotonic()))  # noqa: ASYNC251  so that no timer comes first
        raise DeadlineExceeded("over")

    actor = await actor_of(TELLING, imports=imports)
    with pytest.raises((DeadlineExceeded, Trap)):
        await actor.handle(call("run", deadline=time.monotonic() + 0.02))


async def test_an_actor_without_links_says_what_it_needs(actor_of: MakeActor) -> None:
    actor = await actor_of(caller("acme:shop/prices", "current", result="u32"))
    assert actor.component.needs_links() == ["acme:shop/prices"]
    with pytest.raises(Trap, match='actor "subject" is not linked to acme:shop/prices') as caught:
        await actor.handle(call("run"))
    assert isinstance(caught.value.__cause__, NotLinked)


async def test_an_unknown_interface_that_passes_resources_is_refused_before_anything_runs(actor_of: MakeActor) -> None:
    with pytest.raises(BadInput, match=r"imports acme:files/store, which passes resources \(file\)"):
        await actor_of(FOREIGN_RESOURCE)


# -- resources


class Counter(Resource, interface="test:host/counters", name="counter"):
    __slots__ = ("value",)
    gone: ClassVar[list[int]] = []

    def __init__(self, value: int) -> None:
        self.value = value

    @staticmethod
    def new(guest: Guest, start: int) -> Counter:
        return Counter(start)

    def add(self, n: int) -> int:
        self.value += n
        return self.value

    @staticmethod
    async def merge(guest: Guest, a: Counter, b: Counter) -> Counter:
        await asyncio.sleep(0)
        return Counter(a.value + b.value)

    def dropped(self) -> None:
        Counter.gone.append(self.value)


class Doubling(Counter):
    def add(self, n: int) -> int:
        return super().add(2 * n)


@serves("test:host/counters", Counter)
class Counters:
    pass


@serves("test:host/registry")
class Registry:
    @staticmethod
    def read(guest: Guest, c: Counter) -> int:
        return c.value


@pytest.fixture(autouse=True)
def none_gone() -> None:
    Counter.gone.clear()


async def test_resources_are_made_used_passed_on_and_dropped(actor_of: MakeActor) -> None:
    actor = await actor_of(COUNTERS)
    assert await actor.handle(call("sum")) == 17
    assert Counter.gone == [17]  # those given to merge belong to the host


async def test_what_the_guest_keeps_is_dropped_with_its_instance(actor_of: MakeActor) -> None:
    actor = await actor_of(COUNTERS)
    await actor.handle(call("keep"))
    assert Counter.gone == [1]


async def test_a_bad_handle_is_the_guests_bug(actor_of: MakeActor) -> None:
    actor = await actor_of(COUNTERS)
    with pytest.raises(Trap, match="unknown handle index 77"):
        await actor.handle(call("misuse"))


async def test_the_host_gives_lends_and_receives_resources(actor_of: MakeActor) -> None:
    actor = await actor_of(COUNTERS)
    assert await actor.handle(call("given", Counter(20))) == 21
    assert Counter.gone == [21]
    mine = Counter(30)
    assert await actor.handle(call("lent", mine)) == 31
    assert mine.value == 31
    assert Counter.gone == [21]
    made = await actor.handle(call("made"))
    assert isinstance(made, Counter)
    assert made.value == 9
    assert Counter.gone == [21]


async def test_a_subclass_brings_its_own_methods(actor_of: MakeActor) -> None:
    actor = await actor_of(COUNTERS)
    assert await actor.handle(call("given", Doubling(20))) == 22


async def test_something_else_than_the_resource_is_refused(actor_of: MakeActor) -> None:
    actor = await actor_of(COUNTERS)
    with pytest.raises(BadValue, match="c: 3 is not a counter of test:host/counters"):
        await actor.handle(call("given", 3))
