"""wadm's state bucket, which JavaScript clients read: hosts, and what runs on them. Nothing here is read from it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import structlog

from lattice import LatticeError
from lattice.lattice import Lattice
from lattice.transport import WrongRevision
from wadm.status import lattice_state
from wadm.world import World

log = structlog.get_logger("wadm")

BUCKET = "wadm_state"
REFRESHED = 30.0
"""Seconds after which it is written although nothing changed."""


class StateBucket:
    """`seen_at` is when each host was heard last."""

    def __init__(self, lattice: Lattice, world: World, seen_at: Mapping[str, str]) -> None:
        self.lattice = lattice
        self.world = world
        self.seen_at = seen_at
        self._written = b""

    async def open(self) -> None:
        """Readers do not expect that there is none."""
        self._bucket = await self.lattice.transport.bucket(BUCKET)
        for kind in lattice_state(self.world.observed, {}):
            with contextlib.suppress(WrongRevision):
                await self._bucket.create(f"{kind}_{self.lattice.name}", b"{}")

    def forget(self) -> None:
        """The broker may have lost what was written."""
        self._written = b""

    async def keep(self, acting: Callable[[], bool], tick: float) -> None:
        """Write it when something changed, at most once a tick, for as long as we act."""
        refreshed = -math.inf
        while True:
            now, observed = self.world.clock(), self.world.observed
            live = {key: h for key, h in observed.hosts.items() if observed.is_alive(h, now)}
            maps = lattice_state(replace(observed, hosts=live), self.seen_at)
            essence = json.dumps(lattice_state(replace(observed, hosts=live), {}), sort_keys=True).encode()
            if not acting():
                refreshed = -math.inf  # what was written since is not ours
            elif self._written != essence or now - refreshed > REFRESHED:
                try:
                    for kind, value in maps.items():
                        await self._bucket.put(f"{kind}_{self.lattice.name}", json.dumps(value).encode())
                    self._written = essence
                    refreshed = now
                except LatticeError as error:
                    log.warning("state.unsaved", error=error.message)
            await asyncio.sleep(tick)
