"""Provider processes that hang, that die at their start, and that never come to one."""

import asyncio
import os
import signal
import time

import pytest
from worlds import ADD, SUM, in_time, link

from host import Host, HostConfig, process
from lattice import EntityId, Invocation, events
from lattice.control import StartProvider
from lattice.errors import LatticeError
from lattice.nats_transport import NatsOptions

pytestmark = pytest.mark.nats


async def test_a_provider_that_hangs_is_killed_and_comes_back_with_its_links(world, monkeypatch):
    monkeypatch.setattr(process, "HEALTH", 0.3)
    host = await world.host(health=0.2)
    path = world.folder / "sum.py"
    path.write_text(SUM)
    await world.lattice.control("config", "put", "extra", body={"extra": "100"})
    await world.ask("link", "put", **link("tester", "sum", "demo:math", "ops", target_config=["extra"]))
    await world.ask("provider", "start", host.id, provider_id="sum", provider_ref=path.as_uri())
    await world.until(events.ProviderStarted, provider_id="sum")
    hung = host.capabilities.running[EntityId("sum")].body._process.pid
    world.events.clear()
    os.kill(hung, signal.SIGSTOP)
    begun = time.monotonic()
    with pytest.raises(LatticeError):
        await world.lattice.invoke(Invocation(EntityId("sum"), ADD, (1, 2), EntityId("tester")).within(0.5))
    assert time.monotonic() - begun < 5
    stopped = await world.until(events.ProviderStopped, provider_id="sum")
    assert "it hung: 3 health checks in a row had no answer" in stopped.reason
    await world.until(events.HealthCheckFailed, provider_id="sum")
    await world.until(events.ProviderStarted, provider_id="sum")
    assert not there(hung)

    async def sums():
        return await world.lattice.invoke(Invocation(EntityId("sum"), ADD, (1, 2), EntityId("tester")).within(1)) == 103

    await in_time(sums)


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("os.write(1, b'no licence\\n'); os._exit(3)", "the process exited with 3\nno licence"),
        ("os.kill(os.getpid(), 9)", "the process ended by signal SIGKILL"),
    ],
    ids=["exits", "killed"],
)
async def test_a_provider_that_dies_at_its_start_is_told_with_its_last_words(world, source, why):
    host = await world.host()
    assert why in (await failed_start(world, host, source)).error
    assert host.capabilities.running == {}


async def test_a_provider_that_hangs_at_its_start_is_ended_even_if_it_ignores_sigterm(world, monkeypatch):
    monkeypatch.setattr(process, "START", 3.0)
    host = await world.host()
    source = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    assert "was not ready within 3 s" in (await failed_start(world, host, source)).error
    assert host.capabilities.running == {}


async def test_a_host_without_its_broker_does_not_wait_for_a_provider_when_it_stops(own_broker, lattice_name, tmp_path):
    path, told = tmp_path / "slow.py", tmp_path / "pid"
    path.write_text(f"import os, pathlib, time; pathlib.Path({str(told)!r}).touch(); time.sleep(600)")

    async def begun():
        return told.exists()

    async with Host(HostConfig(lattice=lattice_name, nats=NatsOptions(own_broker.url), grace=0.5)) as host:
        request = StartProvider(provider_id="slow", provider_ref=path.as_uri())
        starting = asyncio.create_task(host.capabilities.start(request))
        await in_time(begun)
        own_broker.kill()
        before = time.monotonic()
    await asyncio.wait_for(starting, 1)
    assert time.monotonic() - before < process.START / 2


async def failed_start(world, host, source: str) -> events.ProviderStartFailed:
    """Start a provider of this source, which does not come to a start; its process is gone."""
    told = world.folder / "pid"
    path = world.folder / "odd.py"
    path.write_text(f"import os, pathlib; pathlib.Path({str(told)!r}).write_text(str(os.getpid()))\n{source}\n")
    await world.ask("provider", "start", host.id, provider_id="odd", provider_ref=path.as_uri())
    failed = await world.until(events.ProviderStartFailed, provider_id="odd")
    assert not there(int(told.read_text()))
    return failed


def there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
