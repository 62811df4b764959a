"""Which other hosts run what, as their events and signs of life tell: where a call can go, and which hosts are gone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from lattice.events import (
    ComponentScaled,
    ComponentScaleFailed,
    Event,
    HostHeartbeat,
    HostStopped,
    ProviderStarted,
    ProviderStopped,
)
from lattice.names import EntityId, HostId


class Directory:
    """Other hosts than `own`, what each runs, and how many calls of it at a time.

    A host without a sign of life for `silence` seconds is gone: run `sweep` every second or so.
    """

    def __init__(self, own: HostId | None = None, silence: float = 4.0) -> None:
        self._own = own
        self._silence = silence
        self._runs: dict[EntityId, dict[HostId, int]] = {}
        self._seen: dict[HostId, float] = {}
        self._scopes: dict[HostId, set[asyncio.Timeout]] = {}
        self._appearances: dict[EntityId, asyncio.Event] = {}

    def alive(self, host: HostId) -> bool:
        """Note a sign of life; True when this host was not known before."""
        new = host not in self._seen and host != self._own
        self._seen[host] = time.monotonic()
        return new

    def fold(self, host: HostId, event: Event) -> None:
        """Take in one event."""
        if host == self._own:
            return
        match event:
            case HostHeartbeat():
                self._seen[host] = time.monotonic()
                sizes = {c.id: c.max_instances for c in event.inventory.components}
                sizes |= {p.id: PROVIDER_SIZE for p in event.inventory.providers}
                for entity, hosts in self._runs.items():
                    if entity not in sizes:
                        hosts.pop(host, None)
                for entity, size in sizes.items():
                    self._put(entity, host, size)
            case HostStopped():
                self.gone(host, LAST_WORDS)
            case ComponentScaleFailed():
                pass  # before ComponentScaled, whose subclass it is
            case ComponentScaled():
                self._put(event.component_id, host, event.max_instances)
            case ProviderStarted():
                self._put(event.provider_id, host, PROVIDER_SIZE)
            case ProviderStopped():
                self._put(event.provider_id, host, 0)

    def _put(self, entity: EntityId, host: HostId, size: int) -> None:
        if size:
            self._seen.setdefault(host, time.monotonic())
            self._runs.setdefault(entity, {})[host] = size
            if entity in self._appearances:
                self._appearances.pop(entity).set()
        else:
            self._runs.get(entity, {}).pop(host, None)

    def sweep(self) -> Iterable[HostId]:
        """Forget the hosts that fell silent; which they were."""
        latest = time.monotonic() - self._silence
        silent = [host for host, seen in self._seen.items() if seen < latest and host != self._own]
        for host in silent:
            self.gone(host)
        return silent

    def forgive(self) -> None:
        """We could not listen for a while: nobody's silence counts yet."""
        now = time.monotonic()
        self._seen = dict.fromkeys(self._seen, now)

    def gone(self, host: HostId, seconds: float = 0.0) -> None:
        """This host does not run anything any more; calls that are under way there time out, in so many seconds."""
        self._seen.pop(host, None)
        for hosts in self._runs.values():
            hosts.pop(host, None)
        for scope in self._scopes.pop(host, ()):
            scope.reschedule(asyncio.get_running_loop().time() + seconds)

    def missing(self, entity: EntityId, host: HostId) -> None:
        """That host does not serve `entity` after all."""
        self._put(entity, host, 0)

    def others(self, entity: EntityId) -> dict[HostId, int]:
        """The other hosts that run `entity`, and how many calls of it each takes at a time."""
        return self._runs.get(entity) or {}

    async def appearance_of(self, entity: EntityId) -> None:
        """Return when some other host is known to run `entity`."""
        if not self.others(entity):
            await self._appearances.setdefault(entity, asyncio.Event()).wait()

    def scopes_of(self, host: HostId) -> set[asyncio.Timeout]:
        """The scopes that time out when `host` is gone. Whoever puts one in takes it out at its end."""
        return self._scopes.setdefault(host, set())


LAST_WORDS = 1.0
"""Seconds from the goodbye of a host, which has answered every call, until its answers are here, too."""

PROVIDER_SIZE = 256
"""Calls at a time that a provider is taken to answer."""
