"""Each finished call of a host, or of another process, is one span, told to whoever reads: all that is in a call's way.

observing.observers.append(lambda span, args, answer: ...)
handler = observing.around(actor.handle, "component")
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import perf_counter, time

import structlog

from lattice.errors import WitError
from lattice.invocation import Handler, Invocation
from lattice.lattice import Lattice
from lattice.tap import Known, Taps
from lattice.traces import Traces
from lattice.tracing import HTTP, Http, Kind, Observer, Span, child_of, outcome_of, span_id
from lattice.values import Value

log = structlog.get_logger("lattice")


class Observing:
    """Of one process. Once it is open, the lattice can ask for what it tells: `lattice.traces`, `lattice.tap`."""

    def __init__(self) -> None:
        self.observers: list[Observer] = []
        self._ended: list[tuple[Span, tuple[Value, ...], Value]] = []
        """What nobody has been told of yet."""
        enabled: Callable[[int], bool] | None = getattr(log, "is_enabled_for", None)
        if enabled is None or enabled(logging.DEBUG):  # asked once: even a line that nobody sees costs time
            self.observers.append(logged)

    async def open(self, lattice: Lattice, id: str, name: str, known: Known | None = None) -> None:
        """Let the lattice ask for the latest spans, and for those to come, until it is closed.

        Arguments and answers are shown only where it is `known` what of them is secret.
        """
        traces = Traces(id, name)
        self.observers.append(traces.observe)
        await traces.listen(lattice)
        await Taps(id, name, self.observers, known).listen(lattice)

    def tell(self, span: Span, args: tuple[Value, ...], answer: Value) -> None:
        """An Observer. The others hear in the loop's next pass of all that ended in this one: there are several when a
        process is busy, and it comes to them with its caches warm.
        """
        ended = self._ended
        if not ended:
            asyncio.get_running_loop().call_soon(self._tell_all)
        ended.append((span, args, answer))

    def _tell_all(self) -> None:
        """An observer that fails is logged; no call fails of it."""
        every, self._ended = self._ended, []
        for span, args, answer in every:
            for observer in self.observers:
                try:
                    observer(span, args, answer)
                except Exception:
                    log.exception("observer.failed", trace=span.trace)

    def around(self, handler: Handler, kind: Kind, *, direct: bool = False) -> Handler:
        """`handler`, observed. Its calls have a span id of their own, which is the parent of what they call in turn."""
        tell = self.tell

        async def handle(invocation: Invocation) -> Value:
            target, function, args, source, link, deadline, before = invocation
            trace = child_of(before)
            outcome, error = "ok", ""
            answer: Value = None
            at, begun = time(), perf_counter()
            try:
                answer = await handler(Invocation(target, function, args, source, link, deadline, trace))
                return answer
            except BaseException as failure:
                outcome, error = outcome_of(failure)
                if isinstance(failure, WitError):
                    answer = failure.payload
                raise
            finally:
                seconds, key = perf_counter() - begun, function.key
                http = Http.of(key, args, answer) if key in HTTP else None
                own, parent = trace["traceparent"], span_id(before)
                span = Span(own, parent, at, seconds, kind, direct, source, target, key, link, outcome, error, http)
                tell(span, args, answer)

        return handle


def logged(span: Span, args: tuple[Value, ...], answer: Value) -> None:
    """An Observer."""
    log.debug(
        "invocation.handled",
        kind=span.kind,
        target=span.target,
        function=span.function,
        source=span.source,
        outcome=span.outcome,
        seconds=span.seconds,
        trace=span.trace,
    )
