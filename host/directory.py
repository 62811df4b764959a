"""Which other hosts run what, as their events tell: where a call can go when this host is full."""

from __future__ import annotations

import time

from lattice.events import ComponentScaled, ComponentScaleFailed, Event, HostHeartbeat, HostStopped
from lattice.names import EntityId, HostId


class Directory:
    """Other hosts' components. A host that showed no sign of life for `silence` seconds does not count."""

    def __init__(self, own: HostId, silence: float = 4.0) -> None:
        self._own = own
        self._silence = silence
        self._runs: dict[EntityId, set[HostId]] = {}
        self._seen: dict[HostId, float] = {}

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
                running = {c.id for c in event.inventory.components}
                for entity, hosts in self._runs.items():
                    if entity not in running:
                        hosts.discard(host)
                for entity in running:
                    self._runs.setdefault(entity, set()).add(host)
            case HostStopped():
                self.gone(host)
            case ComponentScaleFailed():
                pass
            case ComponentScaled() if event.max_instances == 0:
                self._runs.get(event.component_id, set()).discard(host)
            case ComponentScaled():
                self._seen.setdefault(host, time.monotonic())
                self._runs.setdefault(event.component_id, set()).add(host)

    def gone(self, host: HostId) -> None:
        """This host does not run anything any more."""
        self._seen.pop(host, None)
        for hosts in self._runs.values():
            hosts.discard(host)

    def others(self, entity: EntityId) -> list[HostId]:
        """The other live hosts that run `entity`."""
        hosts = self._runs.get(entity)
        if not hosts:
            return []
        latest = time.monotonic() - self._silence
        return [h for h in hosts if self._seen.get(h, 0.0) >= latest]
