"""A stack whose host and manager are in this process; only the broker is in another."""

from __future__ import annotations

import asyncio
from typing import Any

from host import Host
from trellis.commands.host import host_config, host_settings
from trellis.commands.wadm import managing
from trellis.options import Where
from trellis.session import reaching
from trellis.stack import HostSpec, Stack

DISCOVERY, DISCOVERY_ALONE = 1.0, 0.05
"""Seconds that the manager waits for hosts of the lattice: where there may be others, and where it is new."""


class Together(Stack):
    """One host and the manager. They are made and told to stop as `trellis host start` and `trellis wadm start` do."""

    def __init__(self, spec: HostSpec, **more: Any) -> None:
        super().__init__([spec], **more)
        self.host: Host | None = None
        self._managing: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()

    async def start_members(self) -> None:
        (spec,) = self.specs
        place = Where(self.url, self.lattice, "trellis up", self.settings)
        settings = host_settings(*spec.options())
        host = Host(host_config(place, **settings))
        # in tasks, since each of them binds its name and its journal to the logs of its context
        with reaching(place):
            await asyncio.create_task(host.start())
        self.host = host
        managed = asyncio.Event()
        self._managing = asyncio.create_task(self._manage(place, settings["dead_after"], managed))
        waiting = asyncio.create_task(managed.wait())
        await asyncio.wait({self._managing, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if not managed.is_set():
            await self._managing

    async def _manage(self, place: Where, dead_after: float, managed: asyncio.Event) -> None:
        discovery = DISCOVERY if self.broker is None else DISCOVERY_ALONE
        async with managing(place, dead_after, discovery=discovery, metrics=self.metrics):
            managed.set()
            await self._stopping.wait()

    async def stop_members(self) -> None:
        self._stopping.set()
        if self._managing is not None:
            await self._managing
        if self.host is not None:
            await self.host.stop()
