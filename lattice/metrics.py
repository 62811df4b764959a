"""What a host or another process counts of the calls that it sees: for `trellis top`, and for Prometheus."""

from __future__ import annotations

import mmap
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

from lattice import subjects
from lattice.figures import Calls, Figures, Part
from lattice.histogram import Histogram
from lattice.lattice import Lattice
from lattice.names import EntityId
from lattice.replies import reply_on
from lattice.tracing import Span
from lattice.values import Value

Key: TypeAlias = tuple[str, str, str, str, str]
"""Kind of span, source (of calls that were served here: ""), target, function, outcome."""

SERIES = 5000
"""Keys that are counted apart: callers name the functions that they call, and can make up any."""

OTHER = "other"
"""In the place of what is too much to be counted apart."""

SERVER_ERROR = "5xx"
"""Outcome of a call that was answered with such an HTTP status."""

NOT_FAILED = frozenset(("ok", "err", "cancelled"))

METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"))


class Metrics:
    """Counts spans: `observe` is an Observer."""

    def __init__(self) -> None:
        self.calls: dict[Key, Histogram] = {}
        self.responses: Counter[tuple[str, str, str, int]] = Counter()
        """To HTTP requests that came in: provider, component, method, status (0: there was none)."""
        self._begun = time.monotonic()

    def observe(self, span: Span, args: tuple[Value, ...], answer: Value) -> None:
        kind, source, outcome, http = span.kind, span.source, span.outcome, span.http
        if http is not None:
            if http.status >= 500:
                outcome = SERVER_ERROR
            if kind == "request":
                method = http.method if http.method in METHODS else OTHER
                self.responses[source, span.target, method, http.status] += 1
        key = (kind, "" if kind in ("component", "provider") else source, span.target, span.function, outcome)
        histogram = self.calls.get(key)
        if histogram is None:
            histogram = self._new(key)
        histogram.observe(span.seconds)

    def _new(self, key: Key) -> Histogram:
        if len(self.calls) >= SERIES:
            key = (key[0], OTHER, OTHER, OTHER, OTHER)
        return self.calls.setdefault(key, Histogram())

    async def open(
        self, lattice: Lattice, id: str, name: str, parts: Callable[[], Iterable[Part]], *, host: bool
    ) -> None:
        """Let the lattice ask for the figures of this process, which runs `parts`, until it is closed."""

        def figures(_: bytes) -> bytes:
            told = Figures(
                id=id,
                name=name,
                host=host,
                uptime=time.monotonic() - self._begun,
                cpu=time.process_time(),
                memory=resident(),
                parts=list(parts()),
                calls=list(self._summed()),
            )
            return told.model_dump_json().encode()

        await reply_on(lattice.transport, subjects.figures(lattice.name), figures)

    def _summed(self) -> Iterator[Calls]:
        summed: dict[tuple[str, str], Histogram] = {}
        failed: Counter[tuple[str, str]] = Counter()
        for (kind, source, target, _, outcome), histogram in self.calls.items():
            who = (kind, source if kind in ("request", "message") else target)
            summed.setdefault(who, Histogram()).add(histogram)
            if outcome not in NOT_FAILED:
                failed[who] += histogram.count
        for (kind, id), total in summed.items():
            lost = failed[kind, id]
            yield Calls(kind=kind, id=EntityId(id), failed=lost, seconds=total.seconds, counts=total.counts)


def resident() -> int:
    """Bytes of memory that this process has; where the system does not tell, the most that it has had."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE
    except OSError:
        import resource

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
