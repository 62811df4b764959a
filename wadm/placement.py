"""Where instances go. Pure: hosts and what runs there in, a number per host out.

Inside a spread, instances are shared out evenly. What is fine stays where it is: a new host gets work when more is
wanted, never because it is new. Equal hosts are taken in an order that differs from application to application, so
that the parts of one application meet on one host (a link inside a host costs nothing) and applications do not all
pile up on the first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

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


def place(wanted: Wanted, hosts: Sequence[Host], current: Mapping[HostId, int], avoid: Collection[HostId]) -> Placed:
    """Share `wanted` out over `hosts`, of which `current` run some already; `avoid` are not given more."""
    shares = wanted.counts()
    fitting = {s.name: [h.id for h in hosts if s.fits(h.labels)] for s in wanted.spreads}
    order = sorted(wanted.spreads, key=lambda s: (len(fitting[s.name]), s.name))
    rank = ranking(wanted.app)
    counts: dict[HostId, int] = {}
    names: dict[HostId, list[str]] = {}
    unmet: list[tuple[Spread, int]] = []
    total = 0
    overlap = sum(len(f) for f in fitting.values()) > len({h for f in fitting.values() for h in f})
    for spread in order:
        share, eligible = shares[spread.name], fitting[spread.name]
        if wanted.kind is Kind.PROVIDER:
            share = len(eligible) if wanted.rule is Rule.DAEMON else share
            free = [h for h in eligible if h not in counts]
            chosen = choose(share, free, current, avoid, rank)
            given = dict.fromkeys(chosen, 1)
            missing = share - len(chosen)
        elif wanted.rule is Rule.DAEMON:
            given = {h: share for h in eligible if h not in counts and share > 0}
            missing = 0
            share = sum(given.values())
        elif eligible:
            here = {} if overlap else {h: current[h] for h in eligible if h in current}
            given = {h: n for h, n in level(share, eligible, here, avoid, rank).items() if n > 0}
            missing = 0
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


def ranking(app: str) -> Callable[[HostId], str]:
    """The order in which an application takes equal hosts."""
    return lambda host: hashlib.sha256(f"{app}\0{host}".encode()).hexdigest()


def choose(
    number: int,
    hosts: Iterable[HostId],
    current: Mapping[HostId, int],
    avoid: Collection[HostId],
    rank: Callable[[HostId], str],
) -> list[HostId]:
    """`number` of `hosts`: those that run it first, then those not to be avoided."""
    ordered = sorted(hosts, key=lambda h: (h not in current, h in avoid and h not in current, rank(h)))
    return ordered[:number]


def level(
    number: int,
    hosts: Iterable[HostId],
    current: Mapping[HostId, int],
    avoid: Collection[HostId],
    rank: Callable[[HostId], str],
) -> dict[HostId, int]:
    """`number` over `hosts` (at least one), filling the emptiest first or emptying the fullest first."""
    ordered = sorted(hosts, key=rank)
    have = {h: current.get(h, 0) for h in ordered}
    total = sum(have.values())
    if total == number:
        return have
    if total < number:
        open_hosts = [h for h in ordered if h not in avoid] or ordered
        low, high = 0, number
        while low < high:  # the highest water line that `number` reaches
            line = (low + high + 1) // 2
            if sum(max(0, line - have[h]) for h in open_hosts) <= number - total:
                low = line
            else:
                high = line - 1
        for h in open_hosts:
            have[h] = max(have[h], low)
        left = number - sum(have.values())
        for h in [h for h in open_hosts if have[h] == low][:left]:
            have[h] += 1
        return have
    low, high = 0, max(have.values())
    while low < high:  # the lowest line that leaves at least `number`
        line = (low + high) // 2
        if sum(min(line, n) for n in have.values()) >= number:
            high = line
        else:
            low = line + 1
    have = {h: min(low, n) for h, n in have.items()}
    excess = sum(have.values()) - number
    full = [h for h in reversed(ordered) if have[h] == low]
    for h in full[:excess]:
        have[h] -= 1
    return have
