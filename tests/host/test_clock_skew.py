"""A host whose clock is more than a year ahead: signs of life, deadlines and placement do not look at it."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest
from processes import held, start_host
from worlds import ADD, ADDER, ASK, ASKER, HELLO, MANIFEST, in_time, link

from lattice import EntityId, Function, Invocation, subjects
from lattice.errors import DeadlineExceeded
from lattice.lattice import Lattice
from lattice.nats_transport import connect
from trellis.planner import Planner
from wadm import Manager

pytestmark = pytest.mark.nats

SPIN = Function.parse("demo:math/ops#spin")

AHEAD = """
import datetime, runpy, sys, time
shift = datetime.timedelta(days=400)
class Ahead(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return super().now(tz) + shift
datetime.datetime = Ahead
real = time.time
time.time = lambda: real() + shift.total_seconds()
sys.argv[0] = "trellis"
runpy.run_module("trellis", run_name="__main__")
"""


async def test_a_host_in_the_future_is_alive_while_it_speaks_and_gone_when_it_is_silent(world):
    name, stack, lattice = world.lattice.name, world._stack, world.lattice
    times: dict[str, str] = {}

    def told(message) -> None:
        event = json.loads(message.data)
        times[event["data"]["friendly_name"]] = event["time"]

    await lattice.transport.subscribe(subjects.event(name, "host_started"), told)
    await world.host(name="now")
    future = await start_host(stack, world.url, name, "future", program=("-c", AHEAD))
    await stack.enter_async_context(Manager(Lattice(name, await connect(world.url)), discovery=0.2, dead_after=2.5))
    planner = Planner(lattice)

    async def both_there():
        return {h["name"]: h["id"] for h in (await planner.status())["hosts"] if h["alive"]}.keys() == {"now", "future"}

    await in_time(both_there)
    assert datetime.fromisoformat(times["future"]) > datetime.now(UTC) + timedelta(days=300)
    ids = {h["name"]: h["id"] for h in (await planner.status())["hosts"]}
    component = {
        "name": "numbers",
        "type": "component",
        "properties": {"image": world.wasm("numbers", HELLO)},
        "traits": [{"type": "spreadscaler", "properties": {"instances": 4}}],
    }
    await planner.put({**MANIFEST, "spec": {"components": [component]}})
    await planner.deploy("sums", "1")

    async def spread():
        return await held(lattice, "sums-numbers") == {"now": 2, "future": 2}

    await in_time(spread)

    # deadlines: of a call into the future, and of one from there back to now
    async def scale(host: str, id: str, text: str) -> None:
        reference = world.wasm(id, text)
        await world.ask("component", "scale", ids[host], component_id=id, component_ref=reference, count=2)

    await scale("future", "spinner", ADDER)
    await scale("future", "asker", ASKER)
    await scale("now", "adder", ADDER)
    await world.ask("link", "put", **link("asker", "adder", "demo:math", "ops"))

    async def adds():
        call = Invocation(EntityId("spinner"), ADD, (40, 2))
        return await lattice.invoke_at(ids["future"], call.within(5)) == 42

    async def asks():
        return await world.call("asker", ASK, 41) == 42

    await in_time(adds)
    await in_time(asks)
    begun = asyncio.get_running_loop().time()
    with pytest.raises(DeadlineExceeded):
        await lattice.invoke_at(ids["future"], Invocation(EntityId("spinner"), SPIN).within(0.5))
    assert asyncio.get_running_loop().time() - begun >= 0.5
    await in_time(both_there)

    future.kill()

    async def moved():
        return await held(lattice, "sums-numbers") == {"now": 4}

    await in_time(moved)
