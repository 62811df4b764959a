"""What comes in from outside the lattice and goes on through a link: the first span of its trace here."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter, time
from typing import Any

from lattice import EMPTY, Function, Value
from lattice.tracing import SHORT, Ended, Kind, child_of, received
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

    def ended(
        self, outcome: str, error: str = "", args: tuple[Value, ...] = (), answer: Value = None, *, subject: str = ""
    ) -> Ended:
        """Now that it is over."""
        link = self._link
        seconds = perf_counter() - self._begun
        return Ended(
            self.context,
            self._before,
            self._at,
            seconds,
            self._kind,
            False,
            link.provider,
            link.peer,
            self._function,
            link.name,
            outcome,
            error,
            args,
            answer,
            subject[:SHORT],
        )


def context_of(message: Message) -> Mapping[str, str]:
    """W3C trace context from the message's headers, as other publishers write it."""
    headers = message.headers or EMPTY
    return received(headers.get("traceparent"), headers.get("tracestate"))
