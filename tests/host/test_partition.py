"""A host that is cut off from the broker without either of them being told, and comes back."""

import asyncio

import pytest
from lines import Line
from processes import held, start_host
from servers import Broker
from worlds import ADDER, HELLO, MANIFEST, in_time, link, world_on

from lattice import EntityId, Function, Invocation, events
from lattice.errors import Unreachable
from lattice.lattice import Lattice
from lattice.nats_transport import connect
from lattice.presence import routes
from trellis.planner import Planner
from wadm import Manager

pytestmark = pytest.mark.nats

ONE = Function.parse("demo:math/numbers#one")
SPIN = Function.parse("demo:math/ops#spin")

RELAY = """
from pathlib import Path

from providers import Link, Provider, export


class Relay(Provider):
    @export("demo:math/ops#spin")
    async def spin(self, link: Link) -> None:
        (onward,) = (link for link in self.links.values() if not link.incoming)
        Path(self.config["file"]).touch()
        await onward.call("demo:math/ops#spin")
"""


@pytest.fixture
async def world(tmp_path, lattice_name):
    """With a broker that notices within seconds that a client is gone."""
    (tmp_path / "broker").mkdir()
    broker = Broker(tmp_path / "broker", config='ping_interval: "1s"\nping_max: 2\n')
    broker.start()
    try:
        async with world_on(broker.url, lattice_name, tmp_path) as made:
            yield made
    finally:
        broker.stop()


async def test_a_host_that_is_cut_off_is_replaced_and_doubles_nothing_when_it_returns(world):
    name, stack = world.lattice.name, world._stack
    line = await stack.enter_async_context(Line(int(world.url.rpartition(":")[2])))
    near = await world.host(name="near")
    await start_host(stack, f"nats://127.0.0.1:{line.port}", name, "far")
    await stack.enter_async_context(Manager(Lattice(name, await connect(world.url)), discovery=0.2, dead_after=2.5))
    planner = Planner(world.lattice)

    def instances():
        return held(world.lattice, "sums-numbers")

    async def both_there():
        return len(await instances()) == 2

    async def spread():
        return await instances() == {"near": 2, "far": 2}

    async def moved():
        return await instances() == {"near": 4}

    async def settled():
        numbers, app = await instances(), await planner.app("sums")
        return len(numbers) == 2 and sum(numbers.values()) == 4 and app is not None and app["state"] == "ready"

    def call(target: str, function: Function, seconds: float) -> Invocation:
        return Invocation(EntityId(target), function).within(seconds)

    await in_time(both_there)
    component = {
        "name": "numbers",
        "type": "component",
        "properties": {"image": world.wasm("numbers", HELLO)},
        "traits": [{"type": "spreadscaler", "properties": {"instances": 4}}],
    }
    await planner.put({**MANIFEST, "spec": {"components": [component]}})
    await planner.deploy("sums", "1")
    await in_time(spread)
    there = next(h["id"] for h in (await planner.status())["hosts"] if h["name"] == "far")
    await world.ask("component", "scale", there, component_id="spinner", component_ref=world.wasm("s", ADDER), count=1)

    path, calling = world.folder / "relay.py", world.folder / "calling"
    path.write_text(RELAY)

    async def begun():
        return calling.exists()

    await world.lattice.control("config", "put", "relay", body={"file": str(calling)})
    assert (await world.ask("link", "put", **link("relay", "spinner", "demo:math", "ops"))).success
    assert (await world.ask("link", "put", **link("tester", "relay", "demo:math", "ops"))).success
    await world.ask("provider", "start", near.id, provider_id="relay", provider_ref=path.as_uri(), config=["relay"])
    await world.until(events.ProviderStarted, provider_id="relay")
    clients = await stack.enter_async_context(routes(world.lattice))
    assert await clients.known(EntityId("spinner"), 10) and await near.router.known(EntityId("spinner"), 10)
    through_a_host = asyncio.create_task(near.router.route(call("spinner", SPIN, 60)))
    by_a_client = asyncio.create_task(clients.route(call("spinner", SPIN, 60)))
    by_a_provider = asyncio.create_task(
        world.lattice.invoke(call("relay", SPIN, 60)._replace(source=EntityId("tester")))
    )
    await in_time(begun)
    await near.lattice.transport.flush()
    await world.lattice.transport.flush()
    line.cut()
    for waiting in (through_a_host, by_a_client, by_a_provider):  # when the silence is noticed, not at the deadline
        with pytest.raises(Unreachable, match="is gone"):
            await asyncio.wait_for(waiting, 15)
    await in_time(moved)
    # the broker drops the silent client: nobody's call is lost to it any more
    await in_time(lambda: all_answered(world.lattice, call))

    line.mend()
    await in_time(settled, 40)
    await in_time(lambda: all_answered(world.lattice, call))
    assert near.directory.others(EntityId("spinner"))  # it was there all the time, and is known again
    assert await settled()


async def all_answered(lattice: Lattice, call) -> bool:
    """Each of many calls to whoever of the queue group gets it."""
    answers = await asyncio.gather(*(lattice.invoke(call("sums-numbers", ONE, 1.0)) for _ in range(40)))
    return answers == [1] * 40
