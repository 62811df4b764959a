"""Thousands of links, and hosts that write them at the same time."""

import asyncio

import pytest
from worlds import link

from lattice import EntityId
from lattice.links import ComponentRecord, LinkDefinition

pytestmark = pytest.mark.nats

COMPONENTS, LINKS = 1000, 5


async def test_a_host_that_joins_a_lattice_of_five_thousand_links_knows_them_all(world):
    bucket = await world.lattice.lattice_data()
    links = {
        f"c{c}": [link(f"c{c}", f"c{(c + step) % COMPONENTS}", "demo:math", f"i{step}") for step in range(1, LINKS + 1)]
        for c in range(COMPONENTS)
    }
    records = {id: ComponentRecord(url="file:///c.wasm", links=own).model_dump_json() for id, own in links.items()}
    await asyncio.gather(*(bucket.put(f"COMPONENT_{id}", record.encode()) for id, record in records.items()))
    late = await world.host()
    assert len(late.links.all()) == COMPONENTS * LINKS
    assert await late.links.target(EntityId("c7"), "demo:math/i3", "default") == "c10"
    assert len(late.links.of(EntityId("c7"))) == 2 * LINKS


async def test_hosts_that_write_links_of_one_source_at_the_same_time_lose_none(world):
    hosts = [await world.host(), await world.host()]
    targets = [f"t{n}" for n in range(60)]

    async def put(target: str) -> None:
        reply = await world.lattice.control("link", "put", body=link("busy", target, "demo:math", target), timeout=20)
        assert reply.success, reply

    await asyncio.gather(*(put(target) for target in targets))
    entry = await (await world.lattice.lattice_data()).get("COMPONENT_busy")
    assert {one.target for one in ComponentRecord.model_validate_json(entry.value).links} == set(targets)
    async with asyncio.timeout(20):
        for host in hosts:
            while {one.target for one in host.links.sources(EntityId("busy"))} != set(targets):
                await asyncio.sleep(0.02)


async def test_a_change_of_one_link_among_a_thousand_is_told_as_that_one(world):
    host = await world.host()
    many = [LinkDefinition.model_validate(link("http", f"c{n}", "wasi:http", "h", name=f"n{n}")) for n in range(1000)]
    bucket = await world.lattice.lattice_data()
    known, told = asyncio.Event(), []

    def changed(gone, new) -> None:
        told.append((gone, new))
        known.set()

    host.links.on_change.append(changed)
    await bucket.put("COMPONENT_http", ComponentRecord(links=many).model_dump_json().encode())
    await asyncio.wait_for(known.wait(), 10)
    told.clear()
    assert (await world.ask("link", "del", **many[500].model_dump(mode="json"))).success
    assert told == [([many[500]], [])]
    assert len(host.links.sources(EntityId("http"))) == 999
