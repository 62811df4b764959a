"""A minute of faults drawn at random, on real processes under load: no answered request is lost, and all is well after.

The seed is printed, and `CHAOS_SEED` repeats its choices; `CHAOS_SECONDS` makes it last longer.
"""

import asyncio
import contextlib
import json
import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import aiohttp
import click
import pytest
from servers import free_port

from trellis.building import build, recipe
from trellis.commands.deploy import deploy
from trellis.failures import Failure
from trellis.options import Where
from trellis.stack import HostSpec, Stack

COUNTER = Path(__file__).parent.parent / "examples" / "counter"
SECONDS = float(os.environ.get("CHAOS_SECONDS", "60"))
EXECUTION = 30.0
"""Seconds that a call may take at most, by the limit that components have when nobody sets one."""

pytestmark = [pytest.mark.nats, pytest.mark.toolchain, pytest.mark.slow, pytest.mark.timeout(SECONDS + 240)]


class Clients:
    """Six that count, each request over a connection of its own."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/"
        self.sent = 0
        self.answers: Counter[str] = Counter()
        self.highest = 0
        self.longest = 0.0

    @contextlib.asynccontextmanager
    async def busy(self) -> AsyncIterator[None]:
        stop = asyncio.Event()
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
            tasks = [asyncio.create_task(self._count(session, stop)) for _ in range(6)]
            try:
                yield
            finally:
                stop.set()
                await asyncio.gather(*tasks)

    async def _count(self, session: aiohttp.ClientSession, stop: asyncio.Event) -> None:
        while not stop.is_set():
            begun = time.monotonic()
            self.sent += 1
            try:
                async with session.get(self.url, timeout=aiohttp.ClientTimeout(total=EXECUTION + 10)) as response:
                    body = await response.read()
                    self.answers[str(response.status)] += 1
                    if response.status == 200:
                        self.highest = max(self.highest, json.loads(body)["count"])
            except (aiohttp.ClientError, TimeoutError) as error:
                self.answers[type(error).__name__] += 1
            self.longest = max(self.longest, time.monotonic() - begun)
            await asyncio.sleep(0.02)


class Site:
    """Three hosts, a manager, a broker, and what can happen to them."""

    FAULTS = ("kill_host", "end_host", "pause_host", "add_host", "kill_manager", "kill_broker", "deploy")

    def __init__(self, stack: Stack, folder: Path, port: int) -> None:
        assert stack.nats is not None
        self.stack = stack
        self.where = Where(stack.nats, stack.lattice, "test", stack.settings)
        self.folder = folder
        self.port = port
        self.seed = int(os.environ.get("CHAOS_SEED") or random.randrange(10**6))
        self.draw = random.Random(self.seed)
        self.version = self.hosts = 0
        self._beside: set[asyncio.Task[object]] = set()

    def manifest(self, instances: int) -> Path:
        """The counter's next version. Its HTTP server may be anywhere: the hosts are one machine."""
        self.version += 1
        text = (COUNTER / "app-anywhere.yaml").read_text()
        text = re.sub(r" +spread:\n +- name: entrance\n +requirements:\n +zone: a\n", "", text)
        file = self.folder / f"v{self.version}.yaml"
        file.write_text(
            text.replace("127.0.0.1:8080", f"127.0.0.1:{self.port}")
            .replace("version: v2", f"version: v{self.version}")
            .replace("instances: 6", f"instances: {instances}")
            .replace("file://./actor", f"file://{COUNTER}/actor")
        )
        return file

    def beside(self, work: Coroutine[Any, Any, object]) -> None:
        self._beside.add(asyncio.create_task(work))

    async def settled(self) -> None:
        await asyncio.gather(*self._beside)

    def some_host(self) -> str | None:
        """One that may be lost: not the last."""
        return self.draw.choice(list(self.stack.hosts)) if len(self.stack.hosts) > 1 else None

    async def kill_host(self) -> None:
        if name := self.some_host():
            await self.stack.hosts.pop(name).kill()

    async def end_host(self) -> None:
        if name := self.some_host():
            self.beside(self.stack.hosts.pop(name).stop(EXECUTION))

    async def pause_host(self) -> None:
        """Shorter and longer than the silence that counts as death."""
        if name := self.some_host():
            host = self.stack.hosts[name]
            host.send(signal.SIGSTOP)

            async def resume(seconds: float = self.draw.uniform(1, 9)) -> None:
                await asyncio.sleep(seconds)
                host.send(signal.SIGCONT)

            self.beside(resume())

    async def add_host(self) -> None:
        if len(self.stack.hosts) < 4:
            self.hosts += 1
            await self.stack.start_host(HostSpec(f"host-{self.hosts}"))

    async def kill_manager(self) -> None:
        assert self.stack.manager is not None
        await self.stack.manager.kill()
        await asyncio.sleep(self.draw.uniform(0, 3))
        await self.stack.start_manager()

    async def kill_broker(self) -> None:
        """What it was given stays on its disk."""
        broker = self.stack.broker
        assert broker is not None and broker.process is not None
        await broker.process.kill()
        await asyncio.sleep(self.draw.uniform(0, 3))
        await broker.__aenter__()

    async def deploy(self) -> None:
        """It may find no manager, or no host with room: what counts is the end."""
        file = self.manifest(self.draw.randint(3, 9))

        async def attempt() -> None:
            with contextlib.suppress(Failure):
                await deploy(self.where, file, timeout=30)

        self.beside(attempt())


async def test_whatever_happens_no_answered_count_is_lost_and_the_app_is_ready_again(tmp_path: Path) -> None:
    await build(recipe(COUNTER / "actor"))
    port = free_port()
    clients = Clients(port)
    async with Stack([HostSpec(name) for name in ("one", "two", "three")]) as stack:
        site = Site(stack, tmp_path, port)
        click.echo(f"CHAOS_SEED={site.seed}")
        await deploy(site.where, site.manifest(6), timeout=60)
        async with clients.busy():
            end = time.monotonic() + SECONDS
            while time.monotonic() < end:
                await asyncio.sleep(site.draw.uniform(1, 5))
                fault = site.draw.choice(site.FAULTS)
                click.echo(f"{SECONDS - end + time.monotonic():6.1f} s  {fault}")
                await getattr(site, fault)()
            await site.settled()
            await stack.answering()
            await deploy(site.where, site.manifest(6), timeout=60)
            before = clients.answers["200"]
            async with asyncio.timeout(30):
                while clients.answers["200"] < before + 100:
                    await asyncio.sleep(0.05)
    click.echo(f"{dict(clients.answers)}, longest {clients.longest:.1f} s")
    assert clients.answers["200"] <= clients.highest <= clients.sent
    assert clients.longest < EXECUTION + 5
