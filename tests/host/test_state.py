"""Links and named configurations, as the lattice's buckets hold them."""

import asyncio
import contextlib
import json

import pytest

from host.configs import Configs
from host.links import LinkRefused, Links
from lattice import BadInput, EntityId, NotLinked, events
from lattice.control import ComponentDescription, Inventory
from lattice.directory import Directory
from lattice.links import LinkDefinition, LinkKey
from lattice.memory import MemoryBroker
from lattice.names import HostId


class State:
    def __init__(self, broker: MemoryBroker) -> None:
        self.transport = broker.connect()

    async def open(self) -> "State":
        self.configs = Configs(await self.transport.bucket("CONFIGDATA_default"))
        self.raw = await self.transport.bucket("LATTICEDATA_default")
        self.links = Links(self.raw, self.configs)
        self.tasks = [asyncio.create_task(self.links.follow()), asyncio.create_task(self.configs.follow())]
        await self.links.ready.wait()
        await self.configs.ready.wait()
        return self

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.transport.close()


@pytest.fixture
async def pair():
    """Two hosts' view of one lattice."""
    broker = MemoryBroker()
    async with contextlib.AsyncExitStack() as stack:
        states = []
        for _ in range(2):
            state = await State(broker).open()
            stack.push_async_callback(state.close)
            states.append(state)
        yield states


def link(target="store", name="default", interfaces=("store",), source="counter", **more) -> LinkDefinition:
    return LinkDefinition(
        source_id=EntityId(source),
        target=EntityId(target),
        name=name,
        wit_namespace="wasi",
        wit_package="keyvalue",
        interfaces=interfaces,
        **more,
    )


async def test_a_link_put_on_one_host_is_followed_by_the_other(pair):
    a, b = pair
    changed = asyncio.Event()
    b.links.on_change.append(lambda gone, new: changed.set())
    await a.links.put(link())
    await asyncio.wait_for(changed.wait(), 5)
    assert b.links.all() == [link()]
    assert await b.links.target(EntityId("counter"), "wasi:keyvalue/store", "default") == "store"


async def test_a_link_is_found_even_before_the_watcher_has_seen_it(pair):
    a, b = pair
    for task in b.tasks:
        task.cancel()
    await a.links.put(link())
    assert await b.links.target(EntityId("counter"), "wasi:keyvalue/store", "default") == "store"


async def test_a_missing_link_is_named_with_the_links_there_are(pair):
    a, _ = pair
    with pytest.raises(NotLinked, match='"counter" is not linked to wasi:keyvalue/store .*no links at all'):
        await a.links.target(EntityId("counter"), "wasi:keyvalue/store", "default")
    await a.links.put(link(interfaces=("atomics",)))
    with pytest.raises(NotLinked, match="it has: counter -.wasi:keyvalue/atomics default.-> store"):
        await a.links.target(EntityId("counter"), "wasi:keyvalue/store", "default")


async def test_two_targets_for_one_interface_under_one_name_are_refused(pair):
    a, _ = pair
    await a.links.put(link())
    with pytest.raises(LinkRefused, match="different target"):
        await a.links.put(link(target="other"))
    await a.links.put(link(target="other", name="backup"))
    await a.links.put(link(target="other", interfaces=("batch",)))
    assert len(a.links.all()) == 3


async def test_a_put_with_the_same_ends_replaces_and_is_told_as_gone_and_new(pair):
    a, _ = pair
    told = []
    await a.links.put(link())
    a.links.on_change.append(lambda gone, new: told.append((gone, new)))
    wider = link(interfaces=("store", "atomics"))
    await a.links.put(wider)
    await a.links.put(wider)
    assert a.links.all() == [wider]
    assert told == [([link()], [wider])]


async def test_concurrent_puts_for_one_source_lose_none(pair):
    a, b = pair
    await asyncio.gather(*(side.links.put(link(name=f"{n}{i}")) for n, side in (("a", a), ("b", b)) for i in range(10)))
    entry = await a.raw.get("COMPONENT_counter")
    assert len(json.loads(entry.value)["links"]) == 20


async def test_a_link_whose_configuration_does_not_exist_is_refused(pair):
    a, _ = pair
    with pytest.raises(LinkRefused, match="Configuration nowhere not found"):
        await a.links.put(link(target_config=("nowhere",)))
    await a.configs.put("nowhere", {"k": "v"})
    await a.links.put(link(target_config=("nowhere",)))


async def test_a_deleted_link_is_gone_and_a_second_delete_finds_none(pair):
    a, _ = pair
    await a.links.put(link())
    key = LinkKey(source_id=EntityId("counter"), wit_namespace="wasi", wit_package="keyvalue")
    assert await a.links.delete(key) == link()
    assert await a.links.delete(key) is None
    with pytest.raises(NotLinked):
        await a.links.target(EntityId("counter"), "wasi:keyvalue/store", "default")


async def test_configurations_merge_from_left_to_right(pair):
    a, b = pair
    await a.configs.put("one", {"x": "1", "y": "1"})
    await a.configs.put("two", {"y": "2"})
    assert await b.configs.merged(["one", "two"]) == {"x": "1", "y": "2"}
    with pytest.raises(BadInput, match="Config three does not exist"):
        await b.configs.merged(["one", "three"])


async def test_a_change_of_a_configuration_is_told_once(pair):
    a, b = pair
    told: list[str] = []
    seen = asyncio.Event()
    b.configs.on_change.append(lambda name: (told.append(name), name == "last" and seen.set()))
    await a.configs.put("one", {"x": "1"})
    await a.configs.put("one", {"x": "1"})
    await a.configs.delete("one")
    await a.configs.put("last", {})
    await asyncio.wait_for(seen.wait(), 5)
    assert told == ["one", "one", "last"]


def heartbeat(*components: str) -> events.HostHeartbeat:
    return events.HostHeartbeat(
        inventory=Inventory(
            host_id=HostId("NB"),
            friendly_name="b",
            labels={},
            version="0.1.0",
            uptime_human="1s",
            uptime_seconds=1,
            components=[ComponentDescription(id=EntityId(c), image_ref="x", max_instances=1) for c in components],
        )
    )


def scaled(count: int) -> events.ComponentScaled:
    return events.ComponentScaled(
        component_id=EntityId("counter"), host_id=HostId("NB"), image_ref="x", max_instances=count
    )


COUNTER = EntityId("counter")
B = HostId("NB")


async def test_the_directory_knows_who_else_runs_a_component():
    directory = Directory(HostId("NA"))
    assert directory.others(COUNTER) == {}
    directory.fold(B, scaled(2))
    directory.fold(HostId("NA"), scaled(2))
    assert directory.others(COUNTER) == {B: 2}
    directory.fold(B, scaled(0))
    assert directory.others(COUNTER) == {}
    directory.fold(B, heartbeat("counter"))
    assert directory.others(COUNTER) == {B: 1}
    directory.fold(B, heartbeat())
    assert directory.others(COUNTER) == {}


async def test_a_silent_host_is_gone_and_calls_that_are_under_way_there_time_out():
    directory = Directory(HostId("NA"), silence=0.05)
    directory.fold(B, scaled(2))
    directory.alive(B)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5) as calling:
            given = calling.when()
            directory.scopes_of(B).add(calling)
            assert list(directory.sweep()) == [] and calling.when() == given
            await asyncio.sleep(0.06)
            directory.forgive()
            assert list(directory.sweep()) == []
            await asyncio.sleep(0.06)
            assert list(directory.sweep()) == [B]
            assert calling.when() < given and directory.others(COUNTER) == {}
            await asyncio.Event().wait()
