"""What one round of planning looks at, found by what is asked for, and what it has decided so far."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

from lattice import EntityId, HostId
from lattice.links import LinkDefinition
from wadm.commands import Command, Key, Pending
from wadm.desired import Desired, Kind, Proven, Wanted, WantedLink
from wadm.observed import NOWHERE, Failure, Host, Observed, Running
from wadm.placement import Eligible


class Round:
    """`commands` are to be sent; `wake_at` is when to look again at the latest."""

    def __init__(self, desired: Desired, observed: Observed, pending: Pending, now: float) -> None:
        self.desired = desired
        self.observed = observed
        self.pending = pending
        self.now = now
        self.hosts = observed.alive(now)
        self.commands: list[Command] = []
        self.ids = {w.id: w for w in desired.wanted}
        self.by_id = {h.id: h for h in self.hosts}
        settled_at = {h.id: h.since + observed.settled_after for h in self.hosts}
        self.eligible = Eligible(self.hosts, [id for id, at in settled_at.items() if at <= now])
        self.wake_at = min((at for at in settled_at.values() if at > now), default=math.inf)
        self.components: dict[EntityId, dict[HostId, Running]] = {}
        self.provided: dict[EntityId, dict[HostId, Running]] = {}
        for host in self.hosts:
            for id, running in host.components.items():
                self.components.setdefault(id, {})[host.id] = running
            for id, running in host.providers.items():
                self.provided.setdefault(id, {})[host.id] = running
        self.failures: dict[str, list[tuple[Host, Failure]]] = {}
        for (at, id_), failure in sorted(observed.failures.items(), key=lambda item: item[0]):
            if at in self.by_id:
                self.failures.setdefault(id_, []).append((self.by_id[at], failure))
        self.links_by_app: dict[str, list[WantedLink]] = {}
        self.links_by_source: dict[tuple[str, ...], list[WantedLink]] = {}
        self.links_by_end: dict[tuple[str, EntityId], list[WantedLink]] = {}
        self.linked = {link.identity: link for links in observed.links.values() for link in links}
        for link in desired.links:
            self.links_by_app.setdefault(link.app, []).append(link)
            for end in {link.link.source_id, link.link.target}:
                self.links_by_end.setdefault((link.app, end), []).append(link)
            self.links_by_source.setdefault(claim(link.link), []).append(link)
        self.refused_links: dict[Key, list[tuple[Host, str]]] = {}
        for (at, key), error in sorted(observed.refused_links.items(), key=lambda item: item[0]):
            if at in self.by_id:
                self.refused_links.setdefault(key, []).append((self.by_id[at], error))

    def in_order(self, ids: Iterable[HostId]) -> list[Host]:
        """Those hosts, in the order of their ids."""
        return [self.by_id[id] for id in sorted(ids)]

    # -- deciding

    def send(self, command: Command) -> None:
        """Unless the very same command is on its way."""
        on_its_way = self.pending.get(command.key)
        if on_its_way is not None and on_its_way.command == command and self.now < on_its_way.until:
            self.wake(on_its_way.until)
            return
        self.commands.append(command)

    def wake(self, at: float) -> None:
        self.wake_at = min(self.wake_at, at)

    def waiting(self, id: str) -> bool:
        """Whether it is too early to try that link or configuration again."""
        failure = self.observed.failures.get((NOWHERE, id))
        return failure is not None and self.now < failure.retry_at

    # -- versions

    def with_values(self, wanted: Wanted) -> Wanted:
        """With what the configurations say that somebody else put, and that it uses."""
        names = [name for name in wanted.config if name in self.desired.external and name in self.observed.configs]
        if not names or wanted.kind is Kind.PROVIDER:
            return wanted
        return wanted.with_values({name: self.observed.configs[name] for name in names})

    def running(self, wanted: Wanted) -> Mapping[HostId, Running]:
        return (self.provided if wanted.kind is Kind.PROVIDER else self.components).get(wanted.id, {})

    @staticmethod
    def old(wanted: Wanted, running: Mapping[HostId, Running]) -> frozenset[HostId]:
        """Hosts that run another version: another image, or other settings. What was started by hand has none."""
        return frozenset(
            h for h, r in running.items() if r.image != wanted.image or r.settings not in (None, wanted.settings)
        )

    def outdated(self, id: EntityId) -> bool:
        """Whether an old version still runs somewhere, or may have to."""
        if id not in self.ids:
            return False
        wanted = self.with_values(self.ids[id])
        running = self.running(wanted)
        old = self.old(wanted, running)
        unproven = len(old) == len(running) or bool(self.failed(wanted))
        somewhere = any(self.eligible.of(spread) for spread in wanted.spreads)
        return bool(old) or (unproven and somewhere and self.before(wanted) is not None)

    def failed(self, wanted: Wanted) -> dict[HostId, Failure]:
        """Where this version could not start."""
        return {h.id: f for h, f in self.failures.get(wanted.id, ()) if f.about(wanted.image, wanted.settings)}

    def before(self, wanted: Wanted) -> Proven | None:
        """The last version that was ready, if that is another one, and has failed nowhere since."""
        found = self.desired.proven.get(wanted.id)
        if found is None or found.wanted.kind is not wanted.kind:
            return None
        found = replace(found, wanted=self.with_values(found.wanted))
        same = (found.wanted.image, found.wanted.settings) == (wanted.image, wanted.settings)
        return None if same or self.failed(found.wanted) else found


def claim(link: LinkDefinition) -> tuple[str, ...]:
    """What two links must have in common to be in each other's way."""
    return (link.source_id, link.wit_namespace, link.wit_package, link.name)
