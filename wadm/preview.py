"""What deploying a manifest would do, without doing it: the differences, where all would run, what is in the way.

Pure: the same planning as the real one, on a picture of the lattice in which the application is deployed already.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from wadm.changes import Change, changes
from wadm.claims import clashes
from wadm.desired import Desired, Kind, Leftovers, together
from wadm.images import answered_by
from wadm.observed import Observed
from wadm.plan import ComponentStatus, LinkStatus
from wadm.reasons import UNDER_WAY, Reason, State
from wadm.reconcile import reconcile


@dataclass(frozen=True, slots=True)
class Placement:
    """Of one component: instances per host's name. `answered` is which of our providers answers its image."""

    name: str
    kind: Kind
    hosts: tuple[tuple[str, int], ...]
    answered: str | None = None


@dataclass(frozen=True, slots=True)
class Way:
    """How the calls of a link would travel, by the name of the host that they come from."""

    source: str
    target: str
    interfaces: tuple[str, ...]
    local: tuple[str, ...]
    remote: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Preview:
    """`problems` would keep it from becoming ready, and will not go away by themselves."""

    changes: tuple[Change, ...]
    placement: tuple[Placement, ...]
    links: tuple[Way, ...]
    problems: tuple[Reason, ...]


def preview(
    old: Desired,
    new: Desired,
    others: Iterable[Desired],
    leftovers: Mapping[str, Leftovers],
    observed: Observed,
    now: float,
) -> Preview:
    """Of changing one application from `old` (nothing, when it is not deployed) to `new`, next to `others`."""
    (app,) = new.apps
    others = list(others)
    plan = reconcile(together([*others, new], leftovers), observed, {}, now)
    status = plan.apps[app]
    placement = tuple(_placement(c, observed) for c in status.components)
    stands = [(c.state, c.reason) for c in status.components] + [(s.state, s.reason) for s in status.links]
    problems = dict.fromkeys(clashes(new, others))
    problems |= dict.fromkeys(
        reason
        for state, reason in stands
        if state in (State.BLOCKED, State.DEGRADED) and reason is not None and reason.code != UNDER_WAY
    )
    return Preview(
        tuple(changes(old, new)),
        placement,
        tuple(_way(link, placement, observed) for link in status.links),
        tuple(problems),
    )


def _placement(status: ComponentStatus, observed: Observed) -> Placement:
    hosts = tuple((observed.hosts[h.host].called, h.wanted) for h in status.hosts if h.wanted > 0)
    ours = answered_by(status.image)
    return Placement(status.name, status.kind, hosts, ours if ours != status.image else None)


def _way(link: LinkStatus, placement: tuple[Placement, ...], observed: Observed) -> Way:
    """An end that is not of this application runs where it is seen now."""
    definition = link.wanted.link
    placed = {p.name: [host for host, _ in p.hosts] for p in placement}

    def hosts(name: str, id: str) -> list[str]:
        there = [h.called for _, h in sorted(observed.hosts.items()) if id in h.components or id in h.providers]
        return placed.get(name, there)

    apart = any(
        h.providers[id].apart
        for h in observed.hosts.values()
        for id in (definition.source_id, definition.target)
        if id in h.providers
    )
    sources, targets = hosts(link.wanted.source, definition.source_id), hosts(link.wanted.target, definition.target)
    inside = set() if apart else set(targets)
    return Way(
        link.wanted.source,
        link.wanted.target,
        tuple(definition.covers()),
        tuple(h for h in sources if h in inside),
        tuple(h for h in sources if h not in inside and targets),
    )
