"""Sessions: one instance for a chain of calls, and the resources that guests export."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from guests import COMPUTE, THINGS, caller
from tests_support import MakeActor, call

from actors import Actor, Engine, EngineConfig, GuestResource, Limits, Session
from actors.callbacks import CALLERS
from lattice import BadValue, DeadlineExceeded, EntityId, Function, Invocation, Trap, UnknownFunction, Value

API = "test:things/api"
MAKE = Function(API, "[constructor]thing")
GET = Function(API, "[method]thing.get")
MERGE = Function(API, "[static]thing.merge")
DROPPED = Function("", "dropped")


async def test_a_resource_is_made_used_and_given_back(actor_of: MakeActor) -> None:
    actor = await actor_of(THINGS)
    async with Session(actor) as session:
        three = await session.call(MAKE, 3)
        assert isinstance(three, GuestResource)
        assert repr(three) == "<thing of test:things/api>"
        assert [await session.call(GET, three) for _ in range(2)] == [3, 3]
        four = await session.call(MAKE, 4)
        seven = await session.call(MERGE, three, four)
        assert await session.call(GET, seven) == 7
        assert await session.call(DROPPED) == 2, "merging dropped both of its arguments"


async def test_resources_come_inside_other_values(actor_of: MakeActor) -> None:
    actor = await actor_of(THINGS)
    async with Session(actor) as session:
        assert [await session.call(GET, thing) for thing in await session.call(Function(API, "pair"))] == [1, 2]


async def test_what_was_given_back_cannot_be_used_again(actor_of: MakeActor) -> None:
    actor = await actor_of(THINGS)
    async with Session(actor) as session:
        one, two = await session.call(MAKE, 1), await session.call(MAKE, 2)
        both = await session.call(MERGE, one, two)
        with pytest.raises(BadValue, match="self: <thing of test:things/api> was given back to its guest"):
            await session.call(GET, one)
        with pytest.raises(BadValue, match="b: 5 is not a thing of test:things/api"):
            await session.call(MERGE, both, 5)
        assert await session.call(GET, both) == 3, "a call that was never made takes nothing"


async def test_one_handle_given_twice_in_one_call_is_refused_by_the_engine(actor_of: MakeActor) -> None:
    actor = await actor_of(THINGS)
    async with Session(actor) as session:
        one = await session.call(MAKE, 1)
        with pytest.raises(Trap, match="unknown handle"):
            await session.call(MERGE, one, one)


async def test_a_resource_is_of_one_session(actor_of: MakeActor) -> None:
    actor = await actor_of(THINGS)
    async with Session(actor) as session:
        thing = await session.call(MAKE, 3)
        async with Session(actor) as another:
            with pytest.raises(BadValue, match="is of another session"):
                await another.call(GET, thing)
    async with Session(actor) as later:
        with pytest.raises(BadValue, match="is of another session"):
            await later.call(GET, thing)


async def test_functions_that_pass_own_resources_are_for_sessions_only(actor_of: MakeActor) -> None:
    actor = await actor_of(THINGS)
    for name in ("[constructor]thing", "[method]thing.get", "pair"):
        with pytest.raises(UnknownFunction, match="passes its own resource thing.*in a session only"):
            await actor.handle(call(name, 3, interface=API))
    assert await actor.handle(call("dropped")) == 0


async def test_a_session_keeps_state_that_invocations_do_not(actor_of: MakeActor) -> None:
    actor = await actor_of(COMPUTE)
    grow = Function("", "grow")
    async with Session(actor) as session:
        assert [await session.call(grow, 1) for _ in range(3)] == [1, 2, 3]
    async with Session(actor) as session:
        assert await session.call(grow, 1) == 1


async def test_calls_of_one_session_take_turns(actor_of: MakeActor) -> None:
    actor = await actor_of(COMPUTE)
    async with Session(actor) as session:
        calls = [session.call(Function("", "grow"), 1) for _ in range(5)]
        assert await asyncio.gather(*calls) == [1, 2, 3, 4, 5]


async def test_a_session_takes_one_place_and_gives_it_back(actor_of: MakeActor) -> None:
    actor = await actor_of(COMPUTE, limits=Limits(concurrent=1))
    async with Session(actor):
        assert actor.permits.free == 0
    async with Session(actor) as session:
        await session.call(Function("", "divide"), 4, 2)
        assert actor.permits.free == 0
        assert len(actor.running) == 1
    assert actor.permits.free == 1
    await actor.drain()
    with pytest.raises(RuntimeError, match="the session is over"):
        await session.call(Function("", "divide"), 4, 2)


async def test_a_guest_that_trapped_is_not_called_again(actor_of: MakeActor) -> None:
    actor = await actor_of(THINGS)
    async with Session(actor) as session:
        unlucky = await session.call(MAKE, 13)
        with pytest.raises(Trap, match="unreachable"):
            await session.call(GET, unlucky)
        with pytest.raises(Trap, match="cannot enter component instance"):
            await session.call(GET, unlucky)


async def test_a_call_that_is_cancelled_or_late_ends_alone(actor_of: MakeActor) -> None:
    actor = await actor_of(COMPUTE)
    spin, divide = Function("", "spin"), Function("", "divide")
    async with Session(actor) as session:
        with pytest.raises(DeadlineExceeded):
            await session.call(spin, deadline=time.monotonic() + 0.02)
        with pytest.raises(Trap):
            await session.call(divide, 4, 2)
    assert not CALLERS


async def test_an_unknown_function_is_named(actor_of: MakeActor) -> None:
    actor = await actor_of(COMPUTE)
    async with Session(actor) as session:
        with pytest.raises(UnknownFunction, match="does not export #nothing; it exports"):
            await session.call(Function("", "nothing"))


async def test_links_see_the_deadline_of_the_call_at_hand(actor_of: MakeActor) -> None:
    seen: list[Invocation] = []

    async def imports(invocation: Invocation) -> Value:
        seen.append(invocation)
        return 1

    actor = await actor_of(caller("acme:shop/prices", "current", result="u32"), imports=imports)
    async with Session(actor) as session:
        for _ in range(2):
            await session.call(Function("", "run"), deadline=time.monotonic() + 5)
    assert seen[0].deadline < seen[1].deadline


async def test_a_session_outside_of_the_pool_works_alike(tmp_path: Path) -> None:
    engine = Engine(EngineConfig(pool=1, cache=tmp_path))
    if not engine.pooled:
        pytest.skip("this machine does not give the address space for a pool")
    actor = Actor(EntityId("subject"), await engine.load(THINGS.encode()))
    async with Session(actor) as first, Session(actor) as second:
        things = [await session.call(MAKE, n) for n, session in enumerate((first, second))]
        assert [await s.call(GET, t) for s, t in zip((first, second), things, strict=True)] == [0, 1]
    engine.close()
