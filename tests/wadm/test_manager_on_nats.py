"""The manager on a real nats-server: watches, JetStream, and a broker that goes away and comes back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from servers import Broker
from simulated_host import SimulatedHost
from simulated_lattice import component, manifest_text

from lattice import LatticeError, subjects
from lattice.lattice import Lattice
from lattice.nats_transport import connect
from wadm import Manager

pytestmark = pytest.mark.nats

SHOP = manifest_text(
    "shop", [component("api", instances=4, link="kv", config="cfg"), component("kv", kind="capability", image="p:1")]
)


class Site:
    def __init__(self, stack: AsyncExitStack, url: str, name: str) -> None:
        self.stack, self.url, self.name = stack, url, name
        self.hosts: dict[str, SimulatedHost] = {}

    async def lattice(self) -> Lattice:
        return await self.stack.enter_async_context(Lattice(self.name, await connect(self.url)))

    async def host(self, id: str) -> None:
        self.hosts[id] = await self.stack.enter_async_context(SimulatedHost(await self.lattice(), id))

    async def ask(self, subject: str, body: Any = None) -> Any:
        data = body.encode() if isinstance(body, str) else json.dumps(body or {}).encode()
        answer = await self.client.transport.request(subject, data, timeout=2)
        return json.loads(answer.data)

    async def until(self, state: str) -> None:
        async with asyncio.timeout(20):
            while True:
                try:
                    answer = await self.ask(subjects.manager(self.name, "status"), {"app": "shop"})
                    if answer["success"] and answer["apps"][0]["state"] == state:
                        return
                except LatticeError:
                    pass
                await asyncio.sleep(0.05)

    def counts(self) -> dict[str, int]:
        return {
            id: h.components["shop-api"].max_instances for id, h in self.hosts.items() if "shop-api" in h.components
        }


@asynccontextmanager
async def deployed(url: str, name: str) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        site = Site(stack, url, name)
        site.client = await site.lattice()  # type: ignore[attr-defined]
        await site.host("A")
        await site.host("B")
        await stack.enter_async_context(Manager(await site.lattice(), discovery=0.2, tick=0.1, dead_after=2.5))
        put = await site.ask(f"wadm.api.{name}.model.put", SHOP)
        assert put["result"] == "created", put
        await site.ask(f"wadm.api.{name}.model.deploy.shop")
        await site.until("ready")
        yield site


async def test_deploy_replace_and_undeploy_on_a_real_broker(nats_url: str, lattice_name: str) -> None:
    async with deployed(nats_url, lattice_name) as site:
        assert site.counts() == {"A": 2, "B": 2}
        await site.hosts.pop("A").die()
        async with asyncio.timeout(10):
            while site.counts() != {"B": 4}:
                await asyncio.sleep(0.02)
        await site.until("ready")
        await site.ask(f"wadm.api.{lattice_name}.model.undeploy.shop")
        await site.until("stopped")
        assert site.counts() == {}
        assert await (await site.client.config_data()).keys() == []  # type: ignore[attr-defined]


async def test_a_broker_that_restarts_costs_nothing(tmp_path: Path, lattice_name: str) -> None:
    broker = Broker(tmp_path)
    broker.start()
    try:
        async with deployed(broker.url, lattice_name) as site:
            for host in site.hosts.values():
                host.commands.clear()
            broker.stop()
            await asyncio.sleep(3.0)  # longer than hosts may be silent
            broker.start()
            await site.until("ready")
            assert site.counts() == {"A": 2, "B": 2}
            assert not {c for h in site.hosts.values() for c in h.commands} & {"component.scale", "provider.start"}
            await site.ask(subjects.manager(lattice_name, "scale"), {"app": "shop", "component": "api", "instances": 6})
            async with asyncio.timeout(10):
                while site.counts() != {"A": 3, "B": 3}:
                    await asyncio.sleep(0.02)
    finally:
        broker.stop()
