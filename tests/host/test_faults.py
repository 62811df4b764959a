"""Brokers, hosts and providers that go away and come back."""

import asyncio
import contextlib
import os
import signal
import time

import aiohttp
import pytest
from processes import held, start_host
from servers import free_port
from worlds import ADD, ADDER, ASK, ASKER, HELLO, MANIFEST, SUM, in_time, link, start_http, world_on

from lattice import EntityId, Invocation, events, subjects
from lattice.lattice import Lattice
from lattice.nats_transport import connect
from trellis.commands.call import Asked, call_actor
from trellis.options import Where
from trellis.planner import Planner
from wadm import Manager

pytestmark = pytest.mark.nats


@pytest.fixture
async def world(own_broker, lattice_name, tmp_path):
    async with world_on(own_broker.url, lattice_name, tmp_path) as made:
        yield made


async def test_everything_converges_when_the_broker_is_killed_and_comes_back_with_its_data(world, own_broker):
    a, b = await world.host(), await world.host()
    await world.scale(a, "asker", world.wasm("asker", ASKER))
    await world.scale(b, "adder", world.wasm("adder", ADDER))
    assert (await world.ask("link", "put", **link("asker", "adder", "demo:math", "ops"))).success
    path = world.folder / "sum.py"
    path.write_text(SUM)
    await world.lattice.control("config", "put", "extra", body={"extra": "0"})
    await world.ask("link", "put", **link("tester", "sum", "demo:math", "ops", target_config=["extra"]))
    await world.ask("provider", "start", a.id, provider_id="sum", provider_ref=path.as_uri())
    await world.until(events.ProviderStarted, provider_id="sum")
    port = free_port()
    await start_http(world, b, port, target="adder")
    await world.until(events.ProviderStarted, provider_id="http")

    async def asks():
        return await world.call("asker", ASK, 41, timeout=1.0) == 42

    async def http_answers():
        async with aiohttp.ClientSession() as client, client.get(f"http://127.0.0.1:{port}/") as answer:
            return answer.status

    async def sums(expected: int):
        call = Invocation(EntityId("sum"), ADD, (1, 2), EntityId("tester"))
        return await world.lattice.invoke(call.within(1.0)) == expected

    assert await asks()
    await in_time(http_answers)
    own_broker.kill()
    assert await in_time(http_answers), "HTTP needs no broker"
    own_broker.start()
    await in_time(asks)
    await in_time(lambda: sums(3))

    async def changed():
        return (await world.lattice.control("config", "put", "extra", body={"extra": "100"})).success

    await in_time(changed)
    await in_time(lambda: sums(103))  # the watch of the configurations lives again, and the provider's process
    assert (await world.ask("link", "del", **link("asker", "adder", "demo:math", "ops"))).success

    async def unlinked():
        return all(not host.links.of(EntityId("asker")) for host in (a, b))

    await in_time(unlinked)


async def test_a_host_that_joins_late_knows_links_and_configurations(world):
    first = await world.host()
    await world.lattice.control("config", "put", "extra", body={"extra": "7"})
    await world.ask("link", "put", **link("tester", "sum", "demo:math", "ops", target_config=["extra"]))
    await world.ask("link", "put", **link("asker", "adder", "demo:math", "ops"))
    await world.scale(first, "adder", world.wasm("adder", ADDER))
    late = await world.host()
    path = world.folder / "sum.py"
    path.write_text(SUM)
    await world.ask("provider", "start", late.id, provider_id="sum", provider_ref=path.as_uri())
    await world.until(events.ProviderStarted, provider_id="sum")
    call = Invocation(EntityId("sum"), ADD, (1, 2), EntityId("tester"))
    assert await world.lattice.invoke(call.within(5)) == 10
    await world.scale(late, "asker", world.wasm("asker", ASKER))
    assert await world.call("asker", ASK, 1) == 2


async def test_a_provider_that_is_killed_again_and_again_is_started_after_longer_and_longer_pauses(world):
    host = await world.host()
    path = world.folder / "sum.py"
    path.write_text(SUM)
    await world.ask("provider", "start", host.id, provider_id="sum", provider_ref=path.as_uri())
    await world.until(events.ProviderStarted, provider_id="sum")
    pauses = []
    for _ in range(3):
        world.events.clear()
        provided = host.capabilities.running[EntityId("sum")]
        os.kill(provided.body._process.pid, signal.SIGKILL)
        stopped = await world.until(events.ProviderStopped, provider_id="sum")
        assert "SIGKILL" in stopped.reason
        begun = time.monotonic()
        await world.until(events.ProviderStarted, provider_id="sum")
        pauses.append(time.monotonic() - begun)
    assert provided.restarts == 3
    assert pauses[0] >= 0.5 and pauses[1] >= 1.0 and pauses[2] >= 2.0, pauses


@pytest.mark.parametrize("seconds", [0, pytest.param(60, marks=pytest.mark.slow)])
async def test_a_host_that_stood_still_loses_its_work_and_doubles_nothing_when_it_returns(world, seconds):
    """For `seconds` at least, and until its work runs elsewhere."""
    name, url = world.lattice.name, world.url
    trait = {"type": "spreadscaler", "properties": {"instances": 4}}
    component = {
        "name": "numbers",
        "type": "component",
        "properties": {"image": world.wasm("numbers", HELLO)},
        "traits": [trait],
    }
    async with contextlib.AsyncExitStack() as stack:
        processes = [await start_host(stack, url, name, friendly) for friendly in ("one", "two")]
        await stack.enter_async_context(Manager(Lattice(name, await connect(url))))
        planner = Planner(world.lattice)

        def instances():
            return held(world.lattice, "sums-numbers")

        async def both_there():
            return len(await instances()) == 2

        await in_time(both_there, 40)
        await planner.put({**MANIFEST, "spec": {"components": [component]}})
        await planner.deploy("sums", "1")

        async def spread():
            return sum((await instances()).values()) == 4

        async def moved():
            return (await instances()) == {"two": 4}

        async def settled():
            numbers = await instances()
            app = await planner.app("sums")
            return len(numbers) == 2 and sum(numbers.values()) == 4 and app is not None and app["state"] == "ready"

        await in_time(spread)
        processes[0].send_signal(signal.SIGSTOP)
        stopped = time.monotonic()
        try:
            place = Where(url, name, "")
            for _ in range(6):  # the broker still gives the host that stands still its share
                assert await asyncio.wait_for(call_actor(place, "sums-numbers", Asked("one"), 60), 10) == 0
            await in_time(moved, 40)
            await asyncio.sleep(stopped + seconds - time.monotonic())
            assert await moved()
        finally:
            processes[0].send_signal(signal.SIGCONT)
        await in_time(settled, 40)
        # and it stays so: nothing moves any more while heartbeats and signs of life go on
        heard = 0
        steady = asyncio.Event()

        def alive(message) -> None:
            nonlocal heard
            heard += 1
            if heard >= 6:
                steady.set()

        await world.lattice.transport.subscribe(subjects.alive(name), alive)
        await asyncio.wait_for(steady.wait(), 20)
        assert await settled()
