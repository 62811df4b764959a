"""How what runs becomes what is wanted, host by host, without losing capacity on the way. Pure.

A host changes all instances of a component at once: beside the old ones, which take calls until the new ones were
proven, or (as far as the manifest lets some be unavailable) after the old ones left. One host goes first and alone.
Where the new version fails, no other host follows. What moves to another host comes there first, as far as the
manifest lets more run than wanted.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from lattice import HostId
from wadm.manifest import Rollout


class Verb(Enum):
    START = auto()
    REPLACE = auto()
    SIZE = auto()
    STOP = auto()


@dataclass(frozen=True, slots=True)
class Move:
    """`number` is how many instances the host runs after it."""

    verb: Verb
    host: HostId
    number: int


@dataclass(frozen=True, slots=True)
class Scene:
    """Of one component: instances by host that are wanted and that run, and what the hosts run."""

    target: Mapping[HostId, int]
    running: Mapping[HostId, int]
    old: Collection[HostId] = ()
    """Run another version than the wanted one."""
    changed: Mapping[HostId, float] = field(default_factory=dict)
    """Run the wanted version, and since when (seconds)."""
    failed: Collection[HostId] = ()
    """Were to run the wanted version, and could not, or are not well with it."""
    waiting: Collection[HostId] = ()
    """Of those, where it is too early to try again."""
    on_their_way: Mapping[HostId, int] = field(default_factory=dict)
    """How many instances hosts will run after commands that were sent and show no effect yet."""


@dataclass(frozen=True, slots=True)
class Step:
    """`paused` is until when no further host changes, if the manifest says so."""

    moves: tuple[Move, ...] = ()
    paused: float | None = None


def step(rollout: Rollout, scene: Scene, now: float) -> Step:
    """What to do next; nothing when all is as wanted, or has to wait for what is on its way."""
    wanted, have = sum(scene.target.values()), sum(scene.running.values())
    surge = rollout.max_surge.of(wanted, up=True)
    unavailable = rollout.max_unavailable.of(wanted, up=False) or (0 if surge else 1)
    coming = {h: max(0, n - scene.running.get(h, 0)) for h, n in scene.on_their_way.items()}
    leaving = {h: max(0, scene.running.get(h, 0) - n) for h, n in scene.on_their_way.items()}
    paused = _pause(rollout, scene, now)
    missing = max(0, wanted - have + sum(leaving.values()))
    beside, after = set[HostId](), set[HostId]()
    if paused is None:
        beside, after = _next(scene, surge, unavailable - missing, leaving, any_size=not missing)
    moves = [Move(Verb.REPLACE, host, scene.running[host]) for host in sorted(beside) if host not in scene.waiting]
    moves += [Move(Verb.STOP, host, 0) for host in sorted(after)]
    done = {move.host for move in moves}
    more = wanted + surge - have - sum(coming.values())
    for host, number in sorted(scene.target.items()):
        there = scene.running.get(host, 0)
        if there >= number or host in done or (there == 0 and host in scene.waiting):
            continue
        mine = coming.get(host, 0)
        added = min(number - there, max(0, more) + mine)
        more -= max(0, added - mine)
        if added:
            moves.append(Move(Verb.SIZE if there else Verb.START, host, there + added))
    fewer = have - sum(leaving.values()) - (wanted - unavailable)
    fewer -= sum(scene.running[h] - leaving.get(h, 0) for h in after)
    for host, there in sorted(scene.running.items(), key=lambda item: (item[0] in scene.target, item[0])):
        mine = leaving.get(host, 0)
        taken = min(there - scene.target.get(host, 0), max(0, fewer) + mine)
        if taken > 0 and host not in done:
            fewer -= max(0, taken - mine)
            moves.append(Move(Verb.SIZE if taken < there else Verb.STOP, host, there - taken))
    return Step(tuple(moves), paused)


def _pause(rollout: Rollout, scene: Scene, now: float) -> float | None:
    if not (rollout.pause and scene.old and scene.changed):
        return None
    until = max(scene.changed.values()) + rollout.pause
    return until if now < until else None


def _next(
    scene: Scene, surge: int, unavailable: int, leaving: Mapping[HostId, int], *, any_size: bool
) -> tuple[set[HostId], set[HostId]]:
    """The hosts that change beside their old instances, and those that change after them.

    `unavailable` is how many may leave beside those that are `leaving` already; with `any_size`, one host may run more.
    """
    beside: set[HostId] = set()
    after: set[HostId] = set()
    any_surge = surge > 0
    for host in sorted(scene.old):
        if scene.failed and host not in scene.failed:
            continue
        number = scene.running[host]
        if any_surge and (number <= surge or not beside):
            beside.add(host)
            surge -= number
        elif (more := number - leaving.get(host, 0)) <= unavailable or (any_size and not any_surge and not after):
            after.add(host)
            unavailable -= more
        else:
            break
        if not scene.changed:
            break
    return beside, after
