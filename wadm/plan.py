"""What one round of planning comes to: commands to send, and how everything stands."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from lattice import EntityId, HostId
from wadm.commands import Command
from wadm.desired import Kind, WantedLink
from wadm.reasons import Reason, State, terminal, told


@dataclass(frozen=True, slots=True)
class Standing:
    state: State
    reason: Reason | None = None


READY = Standing(State.READY)


def refused(error: str, before: str = "") -> Standing:
    """What was turned down: it is blocked, unless that may pass."""
    return Standing(State.BLOCKED if terminal(error) else State.PROGRESSING, told(error, before))


@dataclass(frozen=True, slots=True)
class OnHost:
    """What of one component runs on one host; `wanted` 0 means it is on its way out."""

    host: HostId
    friendly_name: str
    labels: Mapping[str, str]
    running: int
    wanted: int
    image: str


@dataclass(frozen=True, slots=True)
class ComponentStatus:
    app: str
    name: str
    id: EntityId
    kind: Kind
    image: str
    state: State
    wanted: int
    running: int
    hosts: tuple[OnHost, ...] = ()
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class LinkStatus:
    """`local`: the hosts where a call of the source stays inside the host; `remote`: those it has to leave."""

    wanted: WantedLink
    state: State
    reason: Reason | None = None
    local: tuple[HostId, ...] = ()
    remote: tuple[HostId, ...] = ()


@dataclass(frozen=True, slots=True)
class AppStatus:
    state: State
    components: tuple[ComponentStatus, ...] = ()
    links: tuple[LinkStatus, ...] = ()

    def reasons(self) -> tuple[Reason, ...]:
        reasons = [c.reason for c in self.components] + [link.reason for link in self.links]
        return tuple(dict.fromkeys(reason for reason in reasons if reason is not None))


@dataclass(frozen=True, slots=True)
class Plan:
    """`commands` to send now; `apps` how each deployed application stands; `wake_at` when to look again at the latest.

    `leaving` are applications that are not wanted any more and of which something is still there.
    """

    commands: tuple[Command, ...] = ()
    apps: Mapping[str, AppStatus] = field(default_factory=dict)
    leaving: frozenset[str] = frozenset()
    wake_at: float = math.inf


def worst(states: Iterable[State]) -> State:
    """The state of a whole: blocked and failed parts show first, then degraded ones, then those on their way."""
    found = set(states)
    for state in (State.FAILED, State.BLOCKED, State.DEGRADED, State.PROGRESSING):
        if state in found:
            return state
    return State.READY
