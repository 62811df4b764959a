"""What is on the lattice, as far as we have been told: a fold over events, inventories and state entries.

Nothing here is remembered that the lattice could not tell again, except failures: they live until the same thing
succeeds, or until somebody deploys anew.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias, TypeVar

from lattice import EntityId, HostId
from lattice.control import APPSPEC, DRAINED, Inventory, Wired
from lattice.events import (
    ComponentScaled,
    ComponentScaleFailed,
    Event,
    HealthCheckFailed,
    HealthCheckPassed,
    HealthCheckStatus,
    HostDraining,
    HostHeartbeat,
    HostStarted,
    HostStopped,
    LabelsChanged,
    LinkSet,
    LinkSetFailed,
    ProviderStarted,
    ProviderStartFailed,
    ProviderStopped,
)
from lattice.links import LinkDefinition
from wadm.commands import Key, link_key
from wadm.desired import MANAGED_BY, MANAGER, SETTINGS
from wadm.reasons import terminal

NOWHERE = HostId("")
"""The host of failures that are about the lattice itself: links and configurations."""

K = TypeVar("K")
V = TypeVar("V")

DEAD_AFTER = 4.0
"""Seconds without a sign of life (hosts give one each second) until a host counts as gone."""

SILENT_AFTER = 70.0
"""The same for hosts that only send the standard heartbeat, every 30 s."""

CRASHED = "crashed"
"""What the reason of a provider's stop begins with when it ended by itself."""

TRIES = 5
"""Failures in a row on a host after which one that might have passed counts as lasting. It is still tried again."""

_MAY_LAG = frozenset({"TRL-LNK-001", "TRL-CFG-001"})

SETTLED_AFTER = 30.0
"""Seconds that a host has to be there before work moves to it only to be spread better."""

FORGET_AFTER = 600.0
"""Seconds after which a host that is gone is not even listed any more."""


@dataclass(frozen=True, slots=True)
class Running:
    """One component or provider on one host. `count` is 1 for a provider."""

    image: str
    count: int = 1
    annotations: Mapping[str, str] = field(default_factory=dict)
    ailment: str | None = None
    """What a provider says when it is not well."""
    apart: bool = False
    """A provider in a process of its own: calls of it leave the host's process."""
    since: float = field(default=-math.inf, compare=False)
    """When this image with these settings was first seen there."""

    @property
    def app(self) -> str | None:
        """The application that a deployment manager started it for, if one did."""
        return self.annotations.get(APPSPEC) if self.annotations.get(MANAGED_BY) == MANAGER else None

    @property
    def settings(self) -> str | None:
        return self.annotations.get(SETTINGS)


@dataclass(frozen=True, slots=True)
class Host:
    """`lively` hosts give signs of life each second. Until `known`, only the id is certain: ask for the inventory.

    `since` is when it came, or came back.
    """

    id: HostId
    friendly_name: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    version: str | None = None
    uptime_seconds: int = 0
    last_seen: float = 0.0
    since: float = -math.inf
    lively: bool = False
    known: bool = False
    wired: Wired | None = None
    """None: it does not tell."""
    draining: bool = False
    """It is leaving: what runs there ends, and it hears no more commands."""
    components: Mapping[EntityId, Running] = field(default_factory=dict)
    providers: Mapping[EntityId, Running] = field(default_factory=dict)

    @property
    def called(self) -> str:
        return self.friendly_name or self.id[:8]

    @property
    def takes_work(self) -> bool:
        """Nobody is emptying it."""
        return not self.draining and DRAINED not in self.labels


@dataclass(frozen=True, slots=True)
class Failure:
    """A host could not start (or change to) `image`: the last error, and how many times in a row."""

    image: str
    error: str
    at: float
    count: int = 1
    settings: str | None = None
    """Those it was to have, where they are known."""

    def about(self, image: str, settings: str | None) -> bool:
        return self.image == image and (self.settings is None or self.settings == settings)

    @property
    def final(self) -> bool:
        """It will not get better by trying again: the error says so, or it has come back each time.

        A host may not have heard of a link or a configuration that is a moment old, so those count from the second
        time on.
        """
        code = terminal(self.error)
        if code is None:
            return self.count >= TRIES
        return code not in _MAY_LAG or self.count > 1

    @property
    def retry_at(self) -> float:
        """1 s, doubling to 30 s; one that names a lasting cause is tried more slowly, in case somebody mended it."""
        base = 5.0 if self.final and terminal(self.error) is not None else 1.0
        return self.at + min(30.0, base * 2.0 ** min(self.count - 1, 10))


@dataclass(frozen=True, slots=True)
class Alive:
    """A host's sign of life."""

    host: HostId


@dataclass(frozen=True, slots=True)
class Seen:
    """A host's inventory, asked for."""

    inventory: Inventory


@dataclass(frozen=True, slots=True)
class LinksSeen:
    """The links whose source is `source`, as the lattice's state has them."""

    source: EntityId
    links: tuple[LinkDefinition, ...]
    revision: int = 0


@dataclass(frozen=True, slots=True)
class ConfigSeen:
    """A named configuration, or None when it is not there any more."""

    name: str
    data: Mapping[str, str] | None
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Refused:
    """A host (or, for links and configs, the lattice: NOWHERE) turned a command down."""

    host: HostId
    id: str
    image: str
    error: str


@dataclass(frozen=True, slots=True)
class Forgiven:
    """We did not listen for a while (a stall, a lost connection): nobody's silence counts yet."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Somebody deployed anew: past failures of these ids do not count any more."""

    ids: frozenset[str]


Fact: TypeAlias = Event | Alive | Seen | LinksSeen | ConfigSeen | Refused | Forgiven | Retry


@dataclass(frozen=True, slots=True)
class Observed:
    hosts: Mapping[HostId, Host] = field(default_factory=dict)
    links: Mapping[EntityId, tuple[LinkDefinition, ...]] = field(default_factory=dict)
    configs: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    failures: Mapping[tuple[HostId, str], Failure] = field(default_factory=dict)
    refused_links: Mapping[tuple[HostId, Key], str] = field(default_factory=dict)
    """Links that are on the lattice, and that a provider on that host will not take, with what it says."""
    link_revisions: Mapping[EntityId, int] = field(default_factory=dict)
    """When the links of a source changed last."""
    config_revisions: Mapping[str, int] = field(default_factory=dict)
    dead_after: float = DEAD_AFTER
    settled_after: float = SETTLED_AFTER

    def is_alive(self, host: Host, now: float) -> bool:
        return now - host.last_seen <= (self.dead_after if host.lively else max(SILENT_AFTER, self.dead_after))

    def alive(self, now: float) -> list[Host]:
        """Hosts that are there to stay and known, in the order of their ids."""
        return [h for _, h in sorted(self.hosts.items()) if h.known and not h.draining and self.is_alive(h, now)]

    def all_links(self) -> Iterable[LinkDefinition]:
        for _, links in sorted(self.links.items()):
            yield from links


def fold(observed: Observed, fact: Fact, now: float, source: HostId | None = None) -> Observed:
    """What is known after `fact`. `source` is the host that an event came from."""
    match fact:
        case Alive(host_id):
            return _with_host(observed, replace(_seen(observed, host_id, now), lively=True))
        case Seen(inventory) | HostHeartbeat(inventory=inventory):
            return _inventory(observed, inventory, now)
        case HostStarted() if source is not None:
            return _started(observed, fact, source, now)
        case HostDraining() if source is not None:
            return _with_host(observed, replace(_seen(observed, source, now), draining=True))
        case HostStopped() if source is not None:
            return _without(observed, {source})
        case LabelsChanged():
            return _with_host(observed, replace(_seen(observed, fact.host_id, now), labels=fact.labels))
        case ComponentScaleFailed():  # before ComponentScaled, whose subclass it is
            seen = _with_host(observed, _seen(observed, fact.host_id, now))
            settings = fact.annotations.get(SETTINGS)
            return _failed(seen, fact.host_id, fact.component_id, fact.image_ref, fact.error, now, settings)
        case ComponentScaled():
            host = _seen(observed, fact.host_id, now)
            running = Running(fact.image_ref, fact.max_instances, fact.annotations)
            running = _dated(running, host.components.get(fact.component_id), now)
            left = running if running.count else None
            host = replace(host, components=_put(host.components, fact.component_id, left))
            return _succeeded(_with_host(observed, host), host.id, fact.component_id, running)
        case ProviderStarted():
            host = _seen(observed, fact.host_id, now)
            running = Running(fact.image_ref, 1, fact.annotations, apart=fact.placement == "process")
            running = _dated(running, host.providers.get(fact.provider_id), now)
            host = replace(host, providers=_put(host.providers, fact.provider_id, running), wired=fact.wired)
            return _succeeded(_with_host(observed, host), host.id, fact.provider_id, running)
        case ProviderStartFailed():
            seen = _with_host(observed, _seen(observed, fact.host_id, now))
            return _failed(seen, fact.host_id, fact.provider_id, fact.provider_ref, fact.error, now)
        case LinkSetFailed():  # before LinkSet, whose subclass it is
            if source is None or not (fact.error or "").startswith("provider "):
                return observed  # turned down before it came to a provider: whoever put it was told
            return _with_refusal(observed, source, fact, fact.error)
        case LinkSet():
            return observed if source is None else _with_refusal(observed, source, fact, None)
        case ProviderStopped() if fact.reason.startswith(CRASHED):  # its host starts it again
            return _with_host(observed, _seen(observed, fact.host_id, now))
        case ProviderStopped():
            return _provider_stopped(observed, fact, now)
        case HealthCheckPassed():  # and its subclasses
            return _checked(observed, fact, now)
        case LinksSeen():
            return _links(observed, fact)
        case ConfigSeen(name, data, revision):
            return replace(
                observed,
                configs=_put(observed.configs, name, data),
                config_revisions=_put(observed.config_revisions, name, None if data is None else revision),
                failures={key: f for key, f in observed.failures.items() if key != (NOWHERE, name)},
            )
        case Refused(refuser, id, image, error):
            return _failed(observed, refuser, id, image, error, now)
        case Retry(ids):
            return replace(observed, failures={k: f for k, f in observed.failures.items() if k[1] not in ids})
        case Forgiven():
            return replace(observed, hosts={key: replace(h, last_seen=now) for key, h in observed.hosts.items()})
        case _:
            return observed


def forgive(observed: Observed, gap: float) -> Observed:
    """The same, as if the last `gap` seconds, in which we could not listen, had not passed."""
    return replace(observed, hosts={k: replace(h, last_seen=h.last_seen + gap) for k, h in observed.hosts.items()})


def prune(observed: Observed, now: float) -> Observed:
    """Without the hosts that have been gone for long, and what failed there."""
    gone = {key for key, h in observed.hosts.items() if now - h.last_seen > FORGET_AFTER}
    return _without(observed, gone) if gone else observed


def _without(observed: Observed, gone: Container[HostId]) -> Observed:
    """Without those hosts, what failed there, and what providers there refused."""
    return replace(
        observed,
        hosts={key: h for key, h in observed.hosts.items() if key not in gone},
        failures={key: f for key, f in observed.failures.items() if key[0] not in gone},
        refused_links={key: text for key, text in observed.refused_links.items() if key[0] not in gone},
    )


def _started(observed: Observed, fact: HostStarted, source: HostId, now: float) -> Observed:
    host = replace(_seen(observed, source, now), draining=False)
    if not host.known:  # else its inventory came first, and says more
        host = replace(host, friendly_name=fact.friendly_name, labels=fact.labels, version=fact.version or None)
    return _with_host(observed, host)


def _provider_stopped(observed: Observed, fact: ProviderStopped, now: float) -> Observed:
    host = _seen(observed, fact.host_id, now)
    refused = {
        key: text
        for key, text in observed.refused_links.items()
        if key[0] != fact.host_id or fact.provider_id not in key[1]
    }
    observed = replace(observed, refused_links=refused)
    return _with_host(observed, replace(host, providers=_put(host.providers, fact.provider_id, None)))


def _checked(observed: Observed, fact: HealthCheckPassed, now: float) -> Observed:
    """A provider's health was checked: it passed, failed, or is as it was."""
    host = _seen(observed, fact.host_id, now)
    provider = host.providers.get(fact.provider_id)
    if provider is None:
        return _with_host(observed, host)
    ailment = None
    if isinstance(fact, HealthCheckFailed):
        ailment = fact.error
        if ailment is None:  # not every host says why, nor that it still is so
            ailment = provider.ailment if isinstance(fact, HealthCheckStatus) else ""
    provider = replace(provider, ailment=ailment)
    return _with_host(observed, replace(host, providers=_put(host.providers, fact.provider_id, provider)))


def _links(observed: Observed, seen: LinksSeen) -> Observed:
    """The links of one source; what failed of those that are there, and was refused of those that are not, is over."""
    there = {link_key(link) for link in seen.links}
    made = {(NOWHERE, str(key)) for key in there}
    return replace(
        observed,
        links=_put(observed.links, seen.source, seen.links or None),
        link_revisions=_put(observed.link_revisions, seen.source, seen.revision if seen.links else None),
        failures={key: f for key, f in observed.failures.items() if key not in made},
        refused_links={
            key: text for key, text in observed.refused_links.items() if key[1][1] != seen.source or key[1] in there
        },
    )


def _with_refusal(observed: Observed, host: HostId, fact: LinkSet, error: str | None) -> Observed:
    key = ("link", fact.source_id, fact.target, fact.wit_namespace, fact.wit_package, fact.name_)
    return replace(observed, refused_links=_put(observed.refused_links, (host, key), error))


def _seen(observed: Observed, id: HostId, now: float) -> Host:
    """The host as of now. One that was gone and comes back may run anything: it has to be asked."""
    host = observed.hosts.get(id)
    if host is None:
        return Host(id, last_seen=now, since=now)
    if observed.is_alive(host, now):
        return replace(host, last_seen=now)
    return replace(host, last_seen=now, since=now, known=False)


def _with_host(observed: Observed, host: Host) -> Observed:
    return replace(observed, hosts={**observed.hosts, host.id: host})


def _inventory(observed: Observed, inventory: Inventory, now: float) -> Observed:
    old = _seen(observed, inventory.host_id, now)
    host = Host(
        id=inventory.host_id,
        friendly_name=inventory.friendly_name,
        labels=inventory.labels,
        version=inventory.version,
        uptime_seconds=inventory.uptime_seconds,
        last_seen=now,
        since=old.since,
        lively=old.lively,
        known=True,
        wired=inventory.wired,
        draining=old.draining,
        components={
            c.id: _dated(Running(c.image_ref, c.max_instances, c.annotations), old.components.get(c.id), now)
            for c in inventory.components
            if c.max_instances
        },
        providers={
            p.id: _dated(
                Running(
                    p.image_ref,
                    1,
                    p.annotations,
                    old.providers[p.id].ailment if p.id in old.providers else None,
                    p.placement == "process",
                ),
                old.providers.get(p.id),
                now,
            )
            for p in inventory.providers
        },
    )
    observed = _with_host(observed, host)
    for id, running in (*host.components.items(), *host.providers.items()):
        observed = _succeeded(observed, host.id, id, running)
    return observed


def _dated(running: Running, before: Running | None, now: float) -> Running:
    same = before is not None and (before.image, before.settings) == (running.image, running.settings)
    return replace(running, since=before.since if before is not None and same else now)


def _failed(
    observed: Observed, host: HostId, id: str, image: str, error: str, now: float, settings: str | None = None
) -> Observed:
    old = observed.failures.get((host, id))
    again = old is not None and (old.image, old.settings) == (image, settings)
    failure = Failure(image, error, now, old.count + 1 if old is not None and again else 1, settings)
    return replace(observed, failures={**observed.failures, (host, id): failure})


def _succeeded(observed: Observed, host: HostId, id: str, running: Running) -> Observed:
    """A success of another image or other settings (an old version that goes on) does not undo a failure."""
    old = observed.failures.get((host, id))
    if old is None or not old.about(running.image, running.settings):
        return observed
    return replace(observed, failures={k: f for k, f in observed.failures.items() if k != (host, id)})


def _put(mapping: Mapping[K, V], key: K, value: V | None) -> dict[K, V]:
    """A copy with `key` set, or removed when `value` is None."""
    changed = {k: v for k, v in mapping.items() if k != key}
    if value is not None:
        changed[key] = value
    return changed
