"""Several managers, of which one acts: the lease itself, and managers that hold it and lose it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from simulated_host import SimulatedHost
from simulated_lattice import component, manifest_text

from lattice import subjects
from lattice.lattice import Lattice
from lattice.memory import MemoryBroker, MemoryBucket
from lattice.transport import Transport, WrongRevision
from wadm import Manager
from wadm.lease import Lease

SHOP = manifest_text(
    "shop", [component("api", instances=4, link="kv"), component("kv", kind="capability", image="img:p")]
)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def bucket() -> MemoryBucket:
    return MemoryBucket()


def lease(bucket: MemoryBucket, clock: Clock, holder: str) -> Lease:
    return Lease(bucket, "default", holder, renew=2.0, clock=clock)


async def turn(one: Lease) -> None:
    try:
        await one.turn()
    except WrongRevision:
        pass


async def test_the_first_takes_it_and_the_second_waits(bucket: MemoryBucket, clock: Clock) -> None:
    a, b = lease(bucket, clock, "a"), lease(bucket, clock, "b")
    await asyncio.gather(turn(a), turn(b))
    for _ in range(10):
        clock.now += 2.0
        await turn(a)
        await turn(b)
        assert (a.held, b.held) == (True, False)
    assert b.seen_holder == "a"


async def test_a_silent_holder_stops_before_another_begins_and_within_ten_seconds(
    bucket: MemoryBucket, clock: Clock
) -> None:
    a, b = lease(bucket, clock, "a"), lease(bucket, clock, "b")
    await turn(a)
    await turn(b)
    silent_since = clock.now
    while not b.held:
        clock.now += 0.1
        await turn(b)
        assert not (a.held and b.held)
    assert not a.held
    assert clock.now - silent_since < 10


async def test_one_that_was_stalled_finds_its_lease_gone_and_does_not_take_it_back(
    bucket: MemoryBucket, clock: Clock
) -> None:
    a, b = lease(bucket, clock, "a"), lease(bucket, clock, "b")
    await turn(a)
    await turn(b)
    clock.now += 8
    await turn(b)
    assert not a.held
    await turn(a)
    assert (a.held, b.held) == (False, True)


async def test_a_renewal_of_which_the_answer_was_lost_is_recognised(bucket: MemoryBucket, clock: Clock) -> None:
    a = lease(bucket, clock, "a")
    await turn(a)
    await bucket.put(a.key, json.dumps({"holder": "a"}).encode())
    clock.now += 2
    await turn(a)
    assert a.held


async def test_released_it_is_free_at_once(bucket: MemoryBucket, clock: Clock) -> None:
    a, b = lease(bucket, clock, "a"), lease(bucket, clock, "b")
    await turn(a)
    await turn(b)
    await a.release()
    await turn(b)
    assert (a.held, b.held) == (False, True)


async def test_what_cannot_be_read_counts_as_free(bucket: MemoryBucket, clock: Clock) -> None:
    a = lease(bucket, clock, "a")
    await bucket.put(a.key, b"?")
    await turn(a)
    assert a.held


# -- managers


class Site:
    """A lattice with two simulated hosts; `ask` is answered by any one of its managers."""

    def __init__(self, stack: AsyncExitStack, client: Transport, name: str) -> None:
        self.stack, self.client, self.name = stack, client, name
        self.hosts: dict[str, SimulatedHost] = {}

    async def host(self, id: str, transport: Transport) -> None:
        lattice = await self.stack.enter_async_context(Lattice(self.name, transport))
        self.hosts[id] = await self.stack.enter_async_context(SimulatedHost(lattice, id))

    async def ask(self, subject: str, body: Any = None) -> Any:
        data = body.encode() if isinstance(body, str) else json.dumps(body or {}).encode()
        answer = await self.client.request(subject, data, timeout=5)
        return json.loads(answer.data)

    async def wadm(self, operation: str, body: Any = None) -> Any:
        return await self.ask(f"wadm.api.{self.name}.model.{operation}", body)

    async def status(self) -> Any:
        return await self.ask(subjects.manager(self.name, "status"))

    async def until(self, state: str) -> None:
        while True:
            apps = (await self.status())["apps"]
            if apps and apps[0]["state"] == state:
                return
            await asyncio.sleep(0.02)

    async def deploy(self) -> None:
        put = await self.wadm("put", SHOP)
        deployed = await self.wadm("deploy.shop", {"version": put["current_version"]})
        assert deployed["result"] == "acknowledged"

    def count(self) -> int:
        return sum(h.components["shop-api"].max_instances for h in self.hosts.values() if "shop-api" in h.components)


class Pair:
    """Two managers on one lattice in memory."""

    def __init__(self, site: Site, managers: list[Manager]) -> None:
        self.site, self.managers = site, managers

    @property
    def acting(self) -> list[Manager]:
        return [m for m in self.managers if m.acting]

    @property
    def standby(self) -> Manager:
        return next(m for m in self.managers if not m.acting)


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    broker = MemoryBroker()
    async with AsyncExitStack() as stack:
        site = Site(stack, broker.connect(), "default")
        for id in "AB":
            await site.host(id, broker.connect())
        managers = []
        for _ in range(2):
            lattice = await stack.enter_async_context(Lattice("default", broker.connect()))
            manager = Manager(lattice, discovery=0.05, tick=0.05, dead_after=0.5, renew=0.1)
            managers.append(await stack.enter_async_context(manager))
        async with asyncio.timeout(20):
            while not any(m.acting for m in managers):
                await asyncio.sleep(0.01)
            yield Pair(site, managers)


async def test_two_managers_send_each_command_once(pair: Pair) -> None:
    await pair.site.deploy()
    await pair.site.until("ready")
    assert len(pair.acting) == 1
    assert pair.site.count() == 4
    commands = [c for h in pair.site.hosts.values() for c in h.commands]
    assert commands.count("component.scale") == 2 and commands.count("provider.start") == 1


async def test_a_standby_knows_what_the_acting_one_knows(pair: Pair) -> None:
    for host in pair.site.hosts.values():
        host.broken["img:1"] = "no such file: /x.wasm"
    await pair.site.deploy()
    while {m.world.plan.apps["shop"].state for m in pair.managers if "shop" in m.world.plan.apps} != {"blocked"}:
        await asyncio.sleep(0.01)
    reasons = [m.world.plan.apps["shop"].reasons() for m in pair.managers]
    assert [r.code for r in reasons[0]] == [r.code for r in reasons[1]] == ["TRL-IMG-001"]


async def test_a_refusal_that_only_the_sender_hears_is_told_to_the_others(pair: Pair) -> None:
    from lattice import HostId
    from wadm.observed import Refused

    acting, standby = pair.acting[0], pair.standby
    acting._hearing.refused(Refused(HostId("A"), "shop-api", "img:1", "no"))
    while (HostId("A"), "shop-api") not in standby.world.observed.failures:
        await asyncio.sleep(0.01)


async def test_a_manager_that_lost_the_lease_changes_nothing_and_goes_on_observing(pair: Pair) -> None:
    await pair.site.deploy()
    await pair.site.until("ready")
    before, after = pair.acting[0], pair.standby
    bucket = await before.lattice.transport.bucket("trellis_manager")
    await bucket.put("default.lease", json.dumps({"holder": after.id}).encode())
    while before.acting or not after.acting:
        await asyncio.sleep(0.01)
    await pair.site.hosts.pop("A").die()
    while pair.site.count() != 4:
        await asyncio.sleep(0.01)
    assert not before.acting and len(before.world.observed.alive(before.clock())) == 1
    while before.world.plan.apps["shop"].state != "ready":
        await asyncio.sleep(0.01)


async def test_when_the_acting_manager_leaves_the_other_restores_what_is_lost(pair: Pair) -> None:
    await pair.site.deploy()
    await pair.site.until("ready")
    leaving = pair.acting[0]
    await leaving.__aexit__(None, None, None)
    await pair.site.hosts.pop("A").die()
    while pair.site.count() != 4:
        await asyncio.sleep(0.01)
    assert (await pair.site.status())["manager"]["acting"] is True
