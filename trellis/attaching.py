"""A provider on this machine, joined to a lattice for as long as somebody works on it.

The provider runs as a host would run it, with the lattice's links and configurations, but this is no host: nothing can
be placed here, and nobody counts on it. When its file changes, a new process takes the links over before the old one
leaves, so that a call always finds one of them.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from host import HostConfig
from host.capabilities import Capabilities
from host.configs import Configs
from host.links import Links
from host.policy import Policy, PolicySettings
from host.router import Router
from host.secrets import SecretReferences
from host.site import Site
from lattice import EntityId, HostId
from lattice.control import StartProvider
from lattice.directory import Directory
from lattice.events import Event, LinkSet, LinkSetFailed, ProviderStarted, ProviderStartFailed, ProviderStopped
from lattice.lattice import Lattice
from lattice.links import LinkDefinition
from lattice.observing import Observing
from providers.secrets.environment import EnvironmentSecrets
from trellis.show import relative

LOOK = 0.3
"""Seconds between two looks at the files."""
REPLAY = 10.0
"""Seconds for the first reading of links and configurations."""

Say = Callable[[str, str], None]
"""Told what happened (`ready`, `refused`...), and to what."""


class Attached:
    """One provider, in one process after the other. Its code is in `folder`."""

    def __init__(
        self, lattice: Lattice, reference: str, folder: Path, id: EntityId, config: list[str], say: Say
    ) -> None:
        self.folder = folder
        self._seen: dict[Path, tuple[int, int]] = {}
        """The files as they were when it was started last."""
        self.lattice = lattice
        self.reference = reference
        self.id = id
        self.config = config
        self.say = say
        self.links: Links
        self._configs: Configs
        self._observing = Observing()
        self._running: Capabilities | None = None
        self._host: HostId | None = None
        self._generation = 0
        self._refusals: set[str | None] = set()
        """Why links were refused that it has told of."""

    @asynccontextmanager
    async def joined(self) -> AsyncIterator[None]:
        """Follow the lattice's links, and run the provider with them; stopped when the block ends."""
        self._configs = Configs(await self.lattice.config_data())
        self.links = Links(await self.lattice.lattice_data(), self._configs)
        following = [asyncio.create_task(one.follow()) for one in (self.links, self._configs)]
        try:
            async with asyncio.timeout(REPLAY):
                await self.links.ready.wait()
                await self._configs.ready.wait()
            await self._observing.open(self.lattice, f"attached-{os.getpid()}", f"attached {self.id}")
            await self.reload()
            yield
        finally:
            if self._running is not None:
                await self._running.stop(self.id)
            for task in following:
                task.cancel()

    @property
    def taken(self) -> list[LinkDefinition]:
        """Its links, but for those that it has refused."""
        refused = self._running.running[self.id].refused if self._running is not None else {}
        return [link for link in self.links.of(self.id) if link.identity not in refused]

    async def reload(self) -> None:
        """Start it as it is now; the one that ran before stays when that cannot be."""
        self._generation += 1
        self._refusals.clear()
        self._seen = _snapshot(self.folder)
        # a host id of its own, because the verbs of the two processes must not be mixed up
        host = HostId(f"attached-{os.getpid()}-{self._generation}")
        away = partial(self._observing.around, kind="away")
        router = Router(self.lattice, self.links, Directory(host), away)
        secrets = SecretReferences(self._configs, {"env": EnvironmentSecrets()})
        policy = Policy(PolicySettings(), self.lattice.transport, dict)
        site = Site(
            HostConfig(),
            host,
            self.lattice,
            router,
            self.links,
            self._configs,
            secrets,
            policy,
            self._happened,
            self._observing,
        )
        made = Capabilities(site)
        await made.start(StartProvider(provider_id=self.id, provider_ref=self.reference, config=self.config))
        if self.id in made.running:
            old, self._running, self._host = self._running, made, host
            if old is not None:
                await old.stop(self.id)
            self.say("ready", self.id)
        elif self._running is not None:
            self.say("kept", f"{self.id} goes on as it was")

    async def follow(self) -> None:
        """Reload whenever a Python file below `folder` changes, for ever."""
        while True:
            await asyncio.sleep(LOOK)
            now = _snapshot(self.folder)
            if changed := [file for file in {**self._seen, **now} if now.get(file) != self._seen.get(file)]:
                self.say("changed", ", ".join(sorted(map(relative, changed))))
                await self.reload()

    async def _happened(self, event: Event) -> None:
        match event:
            case ProviderStartFailed():
                self.say("failed", event.error or "")
            case ProviderStopped() if event.reason != "stop":
                self.say("ended", f"{event.reason}; it is started again")
            case ProviderStarted() if event.host_id == self._host:
                self.say("ready", self.id)
            case LinkSetFailed():
                if event.error not in self._refusals:  # it is put again and again
                    self._refusals.add(event.error)
                    self.say("refused", event.error or "")
            case LinkSet():
                self._refusals.clear()
                self.say("linked", f"{event.source_id} -> {event.target}")


def _snapshot(folder: Path) -> dict[Path, tuple[int, int]]:
    """Size and time of change of every Python file below `folder`, hidden folders excepted."""
    found: dict[Path, tuple[int, int]] = {}
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith((".", "__pycache__"))]
        for name in files:
            if name.endswith(".py"):
                path = Path(place, name)
                try:
                    about = path.stat()
                except OSError:
                    continue  # an editor is just replacing it
                found[path] = (about.st_mtime_ns, about.st_size)
    return found
