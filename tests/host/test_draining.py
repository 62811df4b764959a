"""Hosts that leave, and components that are scaled away, with calls in hand and in line."""

import asyncio

import pytest
from worlds import ADD, ADDER

from host import Host, HostConfig
from lattice import Function
from lattice.errors import LatticeError
from lattice.nats_transport import NatsOptions

pytestmark = pytest.mark.nats

SPIN = Function.parse("demo:math/ops#spin")


async def test_calls_in_line_go_elsewhere_when_their_host_leaves_and_the_one_in_hand_is_told(world):
    config = HostConfig(lattice=world.lattice.name, nats=NatsOptions(world.url), grace=0.5)
    leaving = await world._stack.enter_async_context(Host(config))
    staying = await world.host()
    image = world.wasm("adder", ADDER)
    await world.scale(leaving, "adder", image, 1)
    hand = asyncio.create_task(world.call("adder", SPIN, timeout=60))
    line = [asyncio.create_task(world.call("adder", ADD, 40, 2, timeout=60)) for _ in range(20)]
    permits = leaving.components.running["adder"].actor.permits
    async with asyncio.timeout(10):
        while len(permits.waiting) < 20:
            await asyncio.sleep(0.01)
    await world.scale(staying, "adder", image, 1)
    stopping = asyncio.create_task(leaving.stop())
    async with asyncio.timeout(10):  # the spinning one keeps its grace period, nobody waits for it
        assert await asyncio.gather(*line) == [42] * 20
        assert not hand.done()
        with pytest.raises(LatticeError, match="was stopped before"):
            await hand
        await stopping
