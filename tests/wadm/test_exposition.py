"""What a manager tells Prometheus."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from servers import free_port
from simulated_host import SimulatedHost
from simulated_lattice import component, manifest_text

from lattice.lattice import Lattice
from lattice.memory import MemoryBroker
from lattice.monitor import registry
from trellis.commands.wadm import managing
from trellis.options import Where
from wadm import Manager
from wadm.exposition import ManagerCollector

SHOP = manifest_text("shop", [component("api", instances=4)])


async def test_a_manager_tells_of_its_rounds_its_commands_its_lease_and_the_states_of_apps():
    broker = MemoryBroker()
    async with Lattice("l", broker.connect()) as client, Lattice("l", broker.connect()) as its:
        manager = Manager(its, discovery=0.05, tick=0.05)
        assert manager.unready()
        async with SimulatedHost(client, "A"), manager:
            for verb, body in (("put", SHOP), ("deploy.shop", "{}")):
                await client.transport.request(f"wadm.api.l.model.{verb}", body.encode(), timeout=5)
            said = registry(ManagerCollector(manager)).get_sample_value
            scaled = {"command": "ScaleComponent", "outcome": "taken"}
            async with asyncio.timeout(10):  # what a command brings about may be seen before its answer
                while manager.states() != {"shop": "ready"} or not said("trellis_manager_commands_total", scaled):
                    await asyncio.sleep(0.01)
            assert said("trellis_manager_acting") == said("trellis_ready") == 1
            assert (said("trellis_manager_round_duration_seconds_count") or 0) >= 2
            assert said("trellis_manager_commands_total", scaled) == 1
            assert said("trellis_apps", {"state": "ready"}) == 1
            assert said("process_cpu_seconds_total") > 0


@pytest.mark.nats
async def test_a_manager_answers_probes_and_prometheus(nats_url: str, lattice_name: str):
    place, port = Where(nats_url, lattice_name, ""), free_port()
    async with managing(place, 4.0, discovery=0.05, metrics=f"127.0.0.1:{port}"), aiohttp.ClientSession() as session:
        for path, expected in (("livez", "ok"), ("readyz", "ready"), ("metrics", "trellis_manager_acting ")):
            async with session.get(f"http://127.0.0.1:{port}/{path}") as response:
                assert response.status == 200 and expected in await response.text()
