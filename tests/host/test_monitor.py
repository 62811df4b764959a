"""What a host tells by HTTP to those who watch over it."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from servers import Broker, free_port
from worlds import ADD, ADDER, in_time, world_on

from lattice import BadInput, Function, LatticeError
from lattice.control import APPSPEC, DRAINED
from lattice.histogram import BOUNDS

pytestmark = pytest.mark.nats

CRASH = Function.parse("demo:math/ops#crash")
ADDED = {"kind": "component", "target": "sum", "function": "demo:math/ops#add"}


class Watcher:
    def __init__(self, session: aiohttp.ClientSession, port: int) -> None:
        self.session = session
        self.url = f"http://127.0.0.1:{port}"

    async def get(self, path: str) -> tuple[int, str]:
        async with self.session.get(self.url + path) as response:
            return response.status, await response.text()

    async def metrics(self) -> dict[str, Metric]:
        status, text = await self.get("/metrics")
        assert status == 200
        return {family.name: family for family in text_string_to_metric_families(text)}


def value(family: Metric, name: str, /, **labels: str) -> float:
    (found,) = [s.value for s in family.samples if s.name == name and labels.items() <= s.labels.items()]
    return found


async def ready(watcher: Watcher) -> bool:
    return (await watcher.get("/readyz"))[0] == 200


async def test_a_host_tells_prometheus_what_it_counts(nats_url: str, lattice_name: str, tmp_path: Path):
    port = free_port()
    async with world_on(nats_url, lattice_name, tmp_path) as world, aiohttp.ClientSession() as session:
        host, watcher = await world.host(name="a", metrics=f"127.0.0.1:{port}"), Watcher(session, port)
        await world.scale(host, "sum", world.wasm("adder", ADDER), annotations={APPSPEC: "shop"})
        for _ in range(3):
            await world.call("sum", ADD, 1, 2)
        with pytest.raises(LatticeError):
            await world.call("sum", CRASH)
        found = await watcher.metrics()
        calls, durations = found["trellis_calls"], found["trellis_call_duration_seconds"]
        assert value(calls, "trellis_calls_total", outcome="ok", **ADDED) == 3
        assert value(calls, "trellis_calls_total", outcome="trap", function="demo:math/ops#crash") == 1
        assert value(durations, "trellis_call_duration_seconds_count", **ADDED) == 3
        assert value(durations, "trellis_call_duration_seconds_bucket", le="+Inf", **ADDED) == 3
        assert 0 < value(durations, "trellis_call_duration_seconds_sum", **ADDED) < 3 * BOUNDS[-1]
        assert value(found["trellis_instances"], "trellis_instances", kind="component", id="sum", app="shop") == 4
        assert value(found["trellis_broker_connected"], "trellis_broker_connected", connection="data") == 1
        assert value(found["trellis_host_info"], "trellis_host_info", name="a", lattice=lattice_name) == 1
        assert value(found["process_resident_memory_bytes"], "process_resident_memory_bytes") > 10_000_000
        assert {"trellis_ready", "trellis_log_lines_dropped", "trellis_http_responses"} < set(found)
        async with session.get(watcher.url + "/metrics", headers={"accept": "application/openmetrics-text"}) as other:
            assert (await other.text()).endswith("# EOF\n")


async def test_a_host_is_ready_while_it_has_a_broker_and_takes_work(tmp_path: Path):
    broker, port = Broker(tmp_path), free_port()
    broker.start()
    try:
        async with world_on(broker.url, "l", tmp_path) as world, aiohttp.ClientSession() as session:
            host, watcher = await world.host(metrics=f"127.0.0.1:{port}"), Watcher(session, port)
            assert await watcher.get("/readyz") == (200, "ready\n")
            await world.ask("label", "put", host.id, key=DRAINED, value="new kernel")
            assert await watcher.get("/readyz") == (503, "it is being emptied, or is empty\n")
            await world.ask("label", "del", host.id, key=DRAINED)
            broker.kill()
            await in_time(lambda: _unready(watcher))
            assert (await watcher.get("/livez"))[0] == 200
            broker.start()
            await in_time(lambda: ready(watcher))
            await host.stop()
            with pytest.raises(aiohttp.ClientConnectionError):
                await watcher.get("/livez")
    finally:
        broker.stop()


async def _unready(watcher: Watcher) -> bool:
    status, text = await watcher.get("/readyz")
    return status == 503 and "no connection to the broker" in text


@pytest.mark.parametrize("address", ["nonsense", "9090", "127.0.0.1:99999", "192.0.2.1:0"])
async def test_an_address_that_cannot_be_listened_at_is_said(
    address: str, nats_url: str, lattice_name: str, tmp_path: Path
):
    async with world_on(nats_url, lattice_name, tmp_path) as world:
        with pytest.raises(BadInput, match=f"cannot listen at `{address}`"):
            await world.host(metrics=address)
