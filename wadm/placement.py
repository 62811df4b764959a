"""Where instances go. Pure: hosts and what runs there in, a number per host out.

Inside a spread, instances are shared out evenly. What is even (no host has two more than another) stays where it is; a
host that comes gets its share of the rest only when it has been there for a while. Equal hosts are taken in an order
that differs from application to application, so that the parts of one application meet on one host (a link inside a
host costs nothing) and applications do not all pile up on the first.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from lattice import HostId
from wadm.desired import Kind, Rule, Spread, Wanted
from wadm.observed import Host


@dataclass(frozen=True, slots=True)
class Placed:
    """`counts` per host, for the spreads in `spreads`; `unmet` holds each spread with how many found no place."""

    counts: Mapping[HostId, int]
    spreads: Mapping[HostId, str]
    unmet: tuple[tuple[Spread, int], ...]
    wanted: int


class Eligible:
    """The hosts of one round, in the order of their ids. What fits a requirement is looked for once.

    `settled` are those that work may move to only to be spread better.
    """

    def __init__(self, hosts: Sequence[Host], settled: Collection[HostId] = ()) -> None:
        self.hosts = hosts
        self.settled = settled
        self._by_id = {h.id: h for h in hosts}
        self._fitting: dict[tuple[tuple[str, str], ...], dict[HostId, None]] = {}
        self._overlap: dict[tuple[tuple[tuple[str, str], ...], ...], bool] = {}

    def of(self, spread: Spread) -> Mapping[HostId, None]:
        """The hosts that have what the spread requires, and take work."""
        found = self._fitting.get(spread.requirements)
        if found is None:
            found = {h.id: None for h in self.hosts if h.takes_work and spread.fits(h.labels)}
            self._fitting[spread.requirements] = found
        return found

    def emptied(self, spread: Spread, current: Collection[HostId]) -> Mapping[HostId, None]:
        """Those of `current` that have what the spread requires, and are being emptied."""
        found = (self._by_id[h] for h in current if h in self._by_id)
        return {h.id: None for h in found if not h.takes_work and spread.fits(h.labels)}

    def overlap(self, spreads: Sequence[Spread]) -> bool:
        """Whether a host fits several of them."""
        if len(spreads) < 2:
            return False
        key = tuple(s.requirements for s in spreads)
        found = self._overlap.get(key)
        if found is None:
            every = [self.of(s) for s in spreads]
            found = sum(map(len, every)) > len({h for fitting in every for h in fitting})
            self._overlap[key] = found
        return found


def place(
    wanted: Wanted, hosts: Eligible, current: Mapping[HostId, int], avoid: Collection[HostId], *, stay: bool = False
) -> Placed:
    """Share `wanted` out over `hosts`, of which `current` run some already; `avoid` are not given more.

    With `stay`, nothing moves only to be spread better. Where no host takes work, what runs on hosts that are being
    emptied stays there, and nothing is added.
    """
    shares = wanted.counts()
    fitting = {s.name: hosts.of(s) or hosts.emptied(s, current) for s in wanted.spreads}
    order = sorted(wanted.spreads, key=lambda s: (len(fitting[s.name]), s.name))
    rank = ranking(wanted.app)
    counts: dict[HostId, int] = {}
    names: dict[HostId, list[str]] = {}
    unmet: list[tuple[Spread, int]] = []
    total = 0
    overlap = hosts.overlap(wanted.spreads)
    for spread in order:
        share, eligible = shares[spread.name], fitting[spread.name]
        taking = bool(hosts.of(spread))
        if wanted.kind is Kind.PROVIDER:
            share = len(eligible) if wanted.rule is Rule.DAEMON else share
            free = {h: None for h in eligible if h not in counts} if counts else eligible
            chosen = choose(share, free, current, avoid, rank)
            given = dict.fromkeys(chosen, 1)
            missing = share - len(chosen)
        elif wanted.rule is Rule.DAEMON:
            given = {h: share if taking else min(share, current[h]) for h in eligible if h not in counts and share > 0}
            missing = 0
            share = sum(given.values())
        elif eligible:
            if overlap and sum(current.values()) >= sum(shares.values()):
                eligible = {h: None for h in eligible if h in current or h in hosts.settled} or eligible
            here = {} if overlap else {h: n for h, n in current.items() if h in eligible}
            most = share if taking else min(share, sum(current[h] for h in eligible))
            given = level(most, eligible, here, avoid, rank)
            if given == here and not stay:
                given = even(here, (h for h in hosts.settled if h in eligible and h not in avoid), rank)
            given = {h: n for h, n in given.items() if n > 0}
            missing = share - most
        else:
            given, missing = {}, share
        total += share
        for host, number in given.items():
            counts[host] = counts.get(host, 0) + number
            names.setdefault(host, []).append(spread.name)
        nobody = wanted.rule is Rule.DAEMON and not eligible and wanted.instances > 0
        if missing > 0 or nobody:
            unmet.append((spread, missing))
    spreads = {host: ",".join(sorted(n)) for host, n in names.items()}
    return Placed(counts, spreads, tuple(unmet), total)


def ranking(app: str) -> Callable[[HostId], int]:
    """The order in which an application takes equal hosts."""
    mine = _number(app)
    return lambda host: (_number(host) ^ mine) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF


@lru_cache(maxsize=1 << 16)
def _number(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")


def choose(
    number: int,
    hosts: Mapping[HostId, None],
    current: Mapping[HostId, int],
    avoid: Collection[HostId],
    rank: Callable[[HostId], int],
) -> list[HostId]:
    """`number` of `hosts`: those that run it first, then those not to be avoided."""
    chosen = sorted((h for h in current if h in hosts), key=rank)[:number]
    if len(chosen) < number:
        others = (h for h in hosts if h not in current)
        chosen += heapq.nsmallest(number - len(chosen), others, key=lambda h: (h in avoid, rank(h)))
    return chosen


def level(
    number: int,
    hosts: Iterable[HostId],
    current: Mapping[HostId, int],
    avoid: Collection[HostId],
    rank: Callable[[HostId], int],
) -> dict[HostId, int]:
    """`number` over `hosts` (at least one), filling the emptiest first or emptying the fullest first.

    `current` are some of `hosts`; a host that gets none may be left out.
    """
    total = sum(current.values())
    if total == number:
        return dict(current)
    if total < number:
        have = {h: current.get(h, 0) for h in hosts}
        open_hosts = [h for h in have if h not in avoid] or list(have)
        empty = sum(1 for h in open_hosts if have[h] == 0)
        low, high = 0, number if empty <= number - total else 0
        while low < high:  # the highest water line that `number` reaches
            line = (low + high + 1) // 2
            if sum(max(0, line - have[h]) for h in open_hosts) <= number - total:
                low = line
            else:
                high = line - 1
        for h in open_hosts:
            have[h] = max(have[h], low)
        left = number - sum(have.values())
        for h in heapq.nsmallest(left, [h for h in open_hosts if have[h] == low], key=rank):
            have[h] += 1
        return have
    have = dict(current)
    low, high = 0, max(have.values())
    while low < high:  # the lowest line that leaves at least `number`
        line = (low + high) // 2
        if sum(min(line, n) for n in have.values()) >= number:
            high = line
        else:
            low = line + 1
    have = {h: min(low, n) for h, n in have.items()}
    excess = sum(have.values()) - number
    for h in heapq.nlargest(excess, [h for h in have if have[h] == low], key=rank):
        have[h] -= 1
    return have


def even(current: Mapping[HostId, int], others: Iterable[HostId], rank: Callable[[HostId], int]) -> dict[HostId, int]:
    """The same number as in `current`, level over its hosts and `others`; as it is while no host has two too many."""
    most = max(current.values(), default=0)
    if most < 2:
        return dict(current)
    have = {**dict.fromkeys(others, 0), **current}
    if most - min(have.values()) < 2:
        return dict(current)
    low, left = divmod(sum(have.values()), len(have))
    more = set(sorted(have, key=lambda h: (-have[h], rank(h)))[:left])
    return {h: low + (h in more) for h in have}
