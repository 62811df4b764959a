"""A whole lattice on this machine: a broker, hosts and the deployment manager, each in a process of its own.

The demo is this, and what it says about it; so is `trellis up` with several hosts (with one: `trellis.live.together`).
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lattice.login import Settings
from trellis.broker import Broker
from trellis.child import Child
from trellis.failures import NOT_CONVERGED, failure
from trellis.options import Where

START = 30.0
"""Seconds that a host or the manager may take until it answers."""


@dataclass(frozen=True, slots=True)
class HostSpec:
    """A host to start: what people call it, its labels, more options of `trellis host start`, and its `--metrics`."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    more: tuple[str, ...] = ()
    metrics: str | None = None

    def __str__(self) -> str:
        labels = ",".join(f"{key}={value}" for key, value in self.labels.items())
        return f"{self.name} {labels}".rstrip()

    def options(self) -> list[str]:
        """Of `trellis host start`."""
        labels = [part for key, value in self.labels.items() for part in ("--label", f"{key}={value}")]
        return ["--name", self.name, *labels, *self.more, *_metrics(self.metrics)]


def _metrics(address: str | None) -> tuple[str, ...]:
    """As an option."""
    return ("--metrics", address) if address else ()


class Stack:
    """`async with Stack([HostSpec("a", {"zone": "a"})]) as stack: ...`

    Everything answers when the block begins. When it ends, the manager stops first (so that nobody restores what the
    hosts let go), then the hosts, then the broker; nothing is left. With `nats`, somebody else's broker is used.
    """

    def __init__(
        self,
        hosts: Sequence[HostSpec],
        *,
        lattice: str = "default",
        nats: str | None = None,
        port: int | None = None,
        settings: Settings | None = None,
        metrics: str | None = None,
    ) -> None:
        self.specs = tuple(hosts)
        self.settings = settings or Settings()
        """For somebody else's broker; our own asks nobody."""
        self.lattice = lattice
        self.nats = nats
        self.metrics = metrics
        """Where the manager tells its figures."""
        self._port = port
        self.broker: Broker | None = None
        self.hosts: dict[str, Child] = {}
        self.manager: Child | None = None
        self.folder = Path()
        self.ended: asyncio.Queue[Child] = asyncio.Queue()
        """Children that ended although nobody meant them to."""
        self._watching: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Stack:
        self.folder = Path(tempfile.mkdtemp(prefix="trellis-up-"))
        try:
            if self.nats is None:
                self.settings = Settings()
                self.broker = Broker(self._port, self.folder)
                await self.broker.__aenter__()
                self.nats = self.broker.url
                if self.broker.process is not None:
                    self._watch(self.broker.process)
            await self.start_members()
        except BaseException:
            await self._leave()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._leave()

    @property
    def url(self) -> str:
        """Of the broker, within the block."""
        assert self.nats is not None
        return self.nats

    async def start_members(self) -> None:
        """The manager and the hosts, until they answer. Raises Failure."""
        await self.start_manager()
        for spec in self.specs:
            await self.start_host(spec)
        await self.answering()

    async def stop_members(self) -> None:
        """What `start_members` has started, be it all or not."""
        if self.manager is not None:
            await self.manager.stop()
        await asyncio.gather(*(child.stop() for child in self.hosts.values()))

    @property
    def children(self) -> list[Child]:
        """All that run, in the order in which they are to be stopped."""
        broker = self.broker.process if self.broker else None
        everyone = [self.manager, *self.hosts.values(), broker]
        return [child for child in everyone if child is not None and child.running]

    async def start_manager(self) -> None:
        """The deployment manager, anew when it has ended: it keeps nothing that the lattice does not."""
        self.manager = await self._start("the manager", "manager.log", "wadm", "start", *_metrics(self.metrics))

    async def start_host(self, spec: HostSpec) -> Child:
        """One more host. It has started, but may not answer yet."""
        child = await self._start(spec.name, f"{spec.name}.log", "host", "start", *spec.options())
        self.hosts[spec.name] = child
        return child

    async def _start(self, name: str, log: str, *arguments: str) -> Child:
        command = [sys.executable, "-P", "-m", "trellis", *arguments, "--lattice", self.lattice]
        # the URL may hold a password, and the login does, which a command line would show to everybody on this machine
        said = replace(self.settings, nats=replace(self.settings.nats, url=self.url))
        child = await Child.start(name, command, self.folder / log, said.environment())
        self._watch(child)
        return child

    def _watch(self, child: Child) -> None:
        async def watch() -> None:
            await child.wait()
            if not child.expected:
                self.ended.put_nowait(child)

        task = asyncio.create_task(watch())
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)

    async def answering(self) -> None:
        """Wait until every host and the manager answer. Raises Failure when one ends or takes too long."""
        waiting = asyncio.create_task(self._all_answer(self.url))
        ended = asyncio.create_task(self.ended.get())
        try:
            await asyncio.wait({waiting, ended}, return_when=asyncio.FIRST_COMPLETED, timeout=START)
            if ended.done():
                raise ended.result().ended_badly()
            if not waiting.done():
                raise failure(
                    "TRL-UP-003",
                    f"not everything answered within {START:g} s",
                    why="\n       ".join(f"{line}" for child in self.children for line in child.tail(5)),
                    exit_code=NOT_CONVERGED,
                )
            waiting.result()
        finally:
            waiting.cancel()
            ended.cancel()
            await asyncio.wait({waiting, ended})

    async def _all_answer(self, nats: str) -> None:
        from lattice.control import HostInfo
        from lattice.errors import DeadlineExceeded, Unreachable
        from lattice.lattice import Lattice
        from trellis.planner import Planner
        from trellis.session import connected

        async with connected(Where(nats, self.lattice, "--nats", self.settings), "trellis up") as transport:
            lattice = Lattice(self.lattice, transport)
            missing = set(self.hosts)
            while missing:
                for reply in await lattice.control_all("host", "ping", seconds=0.5, most=len(self.hosts)):
                    missing.discard(HostInfo.model_validate(reply.response).friendly_name)
                await asyncio.sleep(0.02)
            while True:
                try:
                    await Planner(lattice).apps()
                    return
                except (Unreachable, DeadlineExceeded):
                    await asyncio.sleep(0.02)

    async def _leave(self) -> None:
        try:
            await self.stop_members()
        finally:
            try:
                if self.broker is not None:
                    await self.broker.__aexit__(None, None, None)
            finally:
                for task in self._watching:
                    task.cancel()
                shutil.rmtree(self.folder, ignore_errors=True)
