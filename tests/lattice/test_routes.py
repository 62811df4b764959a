"""Where calls go: here while there is room, then wherever our calls are fewest, never twice for one that was taken."""

import asyncio
from collections import Counter

import pytest

from lattice import EntityId, Function, Invocation
from lattice.directory import Directory
from lattice.errors import Trap, Unreachable
from lattice.events import ComponentScaled, HostStopped
from lattice.invocation import Permits, limited
from lattice.lattice import Lattice
from lattice.memory import MemoryBroker
from lattice.names import HostId
from lattice.routes import Local, Routes

COUNTER = EntityId("counter")
CALL = Invocation(COUNTER, Function.parse("demo:count/ops#next"))


class Place:
    """Runs the target `size` at a time, until told to let go."""

    def __init__(self, name: str, size: int) -> None:
        self.name = name
        self.size = size
        self.running = 0
        self.let_go = asyncio.Event()

    async def handle(self, invocation: Invocation) -> str:
        self.running += 1
        try:
            await self.let_go.wait()
            return self.name
        finally:
            self.running -= 1

    def load(self) -> float:
        return self.running / self.size


@pytest.fixture
async def lattice():
    async with Lattice("t", MemoryBroker().connect()) as joined:
        yield joined


async def remote(lattice: Lattice, directory: Directory, name: str, size: int) -> Place:
    place = Place(name, size)
    host = HostId(name)
    await lattice.serve(COUNTER, place.handle, host=host)
    directory.fold(host, ComponentScaled(component_id=COUNTER, host_id=host, image_ref="x", max_instances=size))
    return place


async def in_hand(*places: Place, calls: int) -> None:
    async with asyncio.timeout(5):
        while sum(p.running for p in places) < calls:
            await asyncio.sleep(0)


async def test_calls_stay_here_while_there_is_room_and_then_spread_by_size(lattice):
    directory = Directory(HostId("NA"))
    routes = Routes(lattice, directory)
    here = Place("here", 2)
    routes.local[COUNTER] = Local(here.handle, here.load)
    small = await remote(lattice, directory, "NB", 2)
    large = await remote(lattice, directory, "NC", 4)
    tasks = []
    for _ in range(16):
        tasks.append(asyncio.create_task(routes.route(CALL.within(10))))
        await in_hand(here, small, large, calls=len(tasks))
    assert (here.running, small.running, large.running) == (4, 4, 8)
    for place in (here, small, large):
        place.let_go.set()
    assert Counter(await asyncio.gather(*tasks)) == {"here": 4, "NB": 4, "NC": 8}


async def test_a_call_that_is_turned_away_in_line_here_goes_elsewhere(lattice):
    directory = Directory(HostId("NA"))
    routes = Routes(lattice, directory)
    permits = Permits(1, queue=8)
    here = Place("here", 1)
    routes.local[COUNTER] = Local(limited(permits)(here.handle), lambda: 0.0)
    far = await remote(lattice, directory, "NB", 1)
    far.let_go.set()
    first, second = (asyncio.create_task(routes.route(CALL.within(10))) for _ in range(2))
    await in_hand(here, calls=1)
    del routes.local[COUNTER]
    permits.turn_away()
    assert await second == "NB"
    here.let_go.set()
    assert await first == "here"
    assert permits.free == 1


async def test_a_host_that_dies_with_a_call_in_hand_makes_it_unreachable_at_once(lattice):
    directory = Directory(HostId("NA"))
    routes = Routes(lattice, directory)
    far = await remote(lattice, directory, "NB", 1)
    call = asyncio.create_task(routes.route(CALL.within(60)))
    await in_hand(far, calls=1)
    directory.gone(HostId("NB"))
    with pytest.raises(Unreachable, match='"counter" was called on is gone'):
        await asyncio.wait_for(call, 5)


async def test_an_answer_that_comes_after_its_hosts_goodbye_counts_and_none_is_waited_for_long(lattice, monkeypatch):
    monkeypatch.setattr("lattice.directory.LAST_WORDS", 0.1)
    directory = Directory(HostId("NA"))
    routes = Routes(lattice, directory)
    far = await remote(lattice, directory, "NB", 2)
    answered = asyncio.create_task(routes.route(CALL.within(60)))
    await in_hand(far, calls=1)
    directory.fold(HostId("NB"), HostStopped(labels={}))
    far.let_go.set()
    assert await answered == "NB"
    silent = await remote(lattice, directory, "NC", 2)
    call = asyncio.create_task(routes.route(CALL.within(60)))
    await in_hand(silent, calls=1)
    directory.fold(HostId("NC"), HostStopped(labels={}))
    with pytest.raises(Unreachable, match='"counter" was called on is gone'):
        await asyncio.wait_for(call, 5)


async def test_a_host_that_does_not_serve_it_after_all_costs_one_more_try(lattice):
    directory = Directory(HostId("NA"))
    routes = Routes(lattice, directory)
    ghost = HostId("ND")
    directory.fold(ghost, ComponentScaled(component_id=COUNTER, host_id=ghost, image_ref="x", max_instances=99))
    far = await remote(lattice, directory, "NB", 1)
    far.let_go.set()
    assert await routes.route(CALL.within(5)) == "NB"
    assert list(directory.others(COUNTER)) == ["NB"]


async def test_what_the_target_itself_could_not_reach_is_not_tried_elsewhere(lattice):
    directory = Directory(HostId("NA"))
    routes = Routes(lattice, directory)
    calls = []

    async def fails(invocation):
        calls.append(1)
        raise Unreachable("the store is gone", target="store")

    for name in ("NB", "NC"):
        host = HostId(name)
        await lattice.serve(COUNTER, fails, host=host)
        directory.fold(host, ComponentScaled(component_id=COUNTER, host_id=host, image_ref="x", max_instances=1))
    with pytest.raises(Unreachable, match="the store is gone"):
        await routes.route(CALL.within(5))
    assert calls == [1]


async def test_nobody_anywhere_is_said_at_once(lattice):
    routes = Routes(lattice, Directory(HostId("NA")))
    with pytest.raises(Unreachable, match='"counter"'):
        await asyncio.wait_for(routes.route(CALL.within(30)), 5)


async def test_a_trap_here_is_a_trap(lattice):
    routes = Routes(lattice, Directory(HostId("NA")))

    async def traps(invocation):
        raise Trap("boom")

    routes.local[COUNTER] = Local(traps, lambda: 0.0)
    with pytest.raises(Trap):
        await routes.route(CALL)
