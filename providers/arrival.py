"""What comes in from outside the lattice and goes on through a link: the first span of its trace here."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter, time
from typing import Any

from lattice import EMPTY, Function
from lattice.tracing import SHORT, Http, Kind, Span, child_of, received, span_id
from lattice.transport import Message
from providers.link import Link


class Arrival:
    """Made when it comes in, with the trace context that came with it; what is called for it has `context`."""

    __slots__ = ("_at", "_before", "_begun", "_function", "_kind", "_link", "context")

    def __init__(self, kind: Kind, link: Link[Any], function: Function, before: Mapping[str, str]) -> None:
        self._kind = kind
        self._link = link
        self._function = function
        self._before = before
        self._at, self._begun = time(), perf_counter()
        self.context = child_of(before)

    def ended(self, outcome: str, error: str = "", *, http: Http | None = None, subject: str = "") -> Span:
        """Now that it is over."""
        link = self._link
        return Span(
            self.context["traceparent"],
            span_id(self._before),
            self._at,
            perf_counter() - self._begun,
            self._kind,
            False,
            link.provider,
            link.peer,
            self._function.key,
            link.name,
            outcome,
            error,
            http,
            subject[:SHORT],
        )


def context_of(message: Message) -> Mapping[str, str]:
    """W3C trace context from the message's headers, as other publishers write it."""
    headers = message.headers or EMPTY
    return received(headers.get("traceparent"), headers.get("tracestate"))
