"""From what hosts have counted at two moments, to what goes on between them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from lattice.figures import Calls, Figures, Part
from lattice.histogram import Histogram
from lattice.names import EntityId

SERVED = frozenset(("component", "provider"))
EDGES = frozenset(("request", "message"))

Moment = Mapping[str, Figures]
"""What each host, and each provider in a process of its own, said, by its id."""


def rates(before: Moment, now: Moment, app: str | None = None) -> dict[str, Any]:
    """Per host and per component and provider: calls a second, those that fail, how long they take, what is in hand.

    A process that was not there `before` has no rates yet. With `app`, only its parts.
    """
    there: dict[EntityId, list[tuple[Figures, Part]]] = defaultdict(list)
    flows: dict[tuple[EntityId, bool], Flow] = defaultdict(Flow)
    counted = {calls.id for figures in now.values() for calls in figures.calls if calls.kind in SERVED | EDGES}
    hosts = []
    for id, figures in now.items():
        passed = _passed(before[id], figures) if id in before else []
        seconds = figures.uptime - before[id].uptime if id in before else 0.0
        for calls in passed:
            flows[calls.id, calls.kind in SERVED | EDGES].add(calls, seconds)
        for part in figures.parts:
            there[part.id].append((figures, part))
        if figures.host:
            hosts.append(_host(before.get(id), figures, passed))
    # a provider in a process that counts nothing is known by what its callers have counted
    parts = (_part(there[id], flows[id, id in counted]) for id in sorted(there))
    return {"hosts": hosts, "parts": [part for part in parts if app in (None, part["app"])]}


class Flow:
    """Calls of one thing in the time between, on all hosts."""

    def __init__(self) -> None:
        self.times = Histogram()
        self.failed = 0
        self.rate = 0.0

    def add(self, calls: Calls, seconds: float) -> None:
        self.times.add(Histogram(calls.counts, calls.seconds))
        self.failed += calls.failed
        self.rate += sum(calls.counts) / seconds


def _passed(before: Figures, now: Figures) -> list[Calls]:
    then = {(calls.kind, calls.id): calls for calls in before.calls}
    return [_since(then.get((calls.kind, calls.id)), calls) for calls in now.calls]


def _since(before: Calls | None, now: Calls) -> Calls:
    if before is None:
        return now
    passed = Histogram(now.counts, now.seconds).since(Histogram(before.counts, before.seconds))
    update = {"failed": now.failed - before.failed, "seconds": passed.seconds, "counts": passed.counts}
    return now.model_copy(update=update)


def _host(before: Figures | None, now: Figures, passed: Sequence[Calls]) -> dict[str, Any]:
    seconds = now.uptime - before.uptime if before else 0.0
    served = sum(sum(calls.counts) for calls in passed if calls.kind in SERVED)
    return {
        "id": now.id,
        "name": now.name,
        "uptime": round(now.uptime),
        "memory": now.memory,
        "cpu": round((now.cpu - before.cpu) / seconds, 3) if before else None,
        "rate": round(served / seconds, 1) if before else None,
        "busy": sum(part.busy or 0 for part in now.parts),
        "waiting": sum(part.waiting for part in now.parts),
    }


def _part(there: Sequence[tuple[Figures, Part]], flow: Flow) -> dict[str, Any]:
    """A provider in a process of its own is said by that process, too; one that was started by hand, by nobody else."""
    on_hosts = [(figures, part) for figures, part in there if figures.host] or there
    parts = [part for _, part in on_hosts]
    busy = [part.busy for _, part in there if part.busy is not None]
    return {
        "id": parts[0].id,
        "app": parts[0].app,
        "kind": parts[0].kind,
        "hosts": [figures.name for figures, _ in on_hosts if figures.host],
        "instances": sum(part.instances for part in parts),
        "rate": round(flow.rate, 1),
        "calls": flow.times.count,
        "failed": flow.failed,
        "p50": flow.times.quantile(0.5),
        "p99": flow.times.quantile(0.99),
        "busy": sum(busy) if busy else None,
        "waiting": sum(part.waiting for part in parts),
    }
