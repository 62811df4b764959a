"""Each finished call of this host becomes one span, which is told to whoever reads: nothing else is in a call's way.

observing.observers.append(lambda span, args, answer: ...)
handler = observing.around(actor.handle, "component")
"""

from __future__ import annotations

import asyncio
from time import perf_counter, time

from lattice import Handler, Invocation, LatticeError, Value, WitError
from lattice.tracing import Kind, Observer, Span, child_of, span_id


class Observing:
    def __init__(self) -> None:
        self.observers: list[Observer] = []

    def tell(self, span: Span, args: tuple[Value, ...], answer: Value) -> None:
        """An Observer."""
        for observer in self.observers:
            observer(span, args, answer)

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
                outcome, error, answer = _outcome(failure)
                raise
            finally:
                seconds = perf_counter() - begun
                context, parent, key = trace["traceparent"], span_id(before), function.key
                span = Span(context, parent, at, seconds, kind, direct, source, target, key, link, outcome, error)
                tell(span, args, answer)

        return handle


def _outcome(failure: BaseException) -> tuple[str, str, Value]:
    """The outcome, the sentence to it, and what was answered."""
    match failure:
        case WitError():
            return "err", "", failure.payload
        case LatticeError():
            return failure.code, failure.message, None
        case asyncio.CancelledError():
            return "cancelled", "", None
    return LatticeError.code, f"{type(failure).__name__}: {failure}", None
