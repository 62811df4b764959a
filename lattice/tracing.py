"""W3C trace context: which request a call belongs to; and the span that each finished call leaves behind."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, TypeAlias

from lattice.errors import LatticeError, WitError
from lattice.http import HANDLE, OUTGOING
from lattice.invocation import EMPTY, Handler
from lattice.names import EntityId, LinkName
from lattice.values import Value

_PARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?P<ids>(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})(?P<more>-.*)?"
)

_LENGTH = 55
"""Characters of a traceparent, `00-TRACE-SPAN-FLAGS`. It is checked as it arrives; after that, places are enough."""

_STATE = 512
"""Characters of a tracestate that travel, the least that W3C asks for; a longer one is left behind."""

SHORT = 300
"""Characters of what others chose (URLs, sentences, subjects) in a span: thousands of spans are kept in memory."""

_TRACE, _SPAN = slice(3, 35), slice(36, 52)


sampler: Callable[[int], bool] | None = None
"""Decides on the traces that begin in this process, by their ids, whether others are asked to record them (the flag
"sampled"). None: yes. What `trellis trace` shows does not depend on it."""


def received(traceparent: str | None, tracestate: str | None = None) -> Mapping[str, str]:
    """Context as somebody else wrote it; empty when it is malformed, so that a new trace begins."""
    match = _PARENT.fullmatch(traceparent) if traceparent is not None else None
    if match is None or (match["more"] is not None and match[0].startswith("00")):
        return EMPTY
    context = {"traceparent": f"00-{match['ids']}-{match['flags']}"}
    if tracestate and len(tracestate) <= _STATE:
        context["tracestate"] = tracestate
    return context


def child_of(trace: Mapping[str, str]) -> dict[str, str]:
    """Context of a call made on behalf of `trace`, or of the first one: the same trace id, a new span id."""
    parent = trace.get("traceparent", "")
    span = random.randbytes(8).hex()
    if len(parent) != _LENGTH:
        trace_id = random.getrandbits(128) | 1
        flags = "01" if sampler is None or sampler(trace_id) else "00"
        return {"traceparent": f"00-{trace_id:032x}-{span}-{flags}"}
    context = {"traceparent": f"{parent[:36]}{span}{parent[52:]}"}
    if "tracestate" in trace:
        context["tracestate"] = trace["tracestate"]
    return context


def trace_id(trace: Mapping[str, str]) -> str:
    """The 32 hex digits that all calls of one request share, or ""."""
    return trace.get("traceparent", "")[_TRACE]


def span_id(trace: Mapping[str, str]) -> str:
    """The 16 hex digits of one call, or ""."""
    return trace.get("traceparent", "")[_SPAN]


Kind: TypeAlias = Literal["request", "message", "component", "provider", "away", "outgoing"]
"""What was observed:

    request     an HTTP request, at the server it came to
    message     a message, at the provider it came to
    component   a call, where the component answered it
    provider    a call, where the provider answered it
    away        a call over the lattice, at the side that made it; the side that answered has the same as `component`
                or `provider`, unless that is in a process that observes nothing
    outgoing    an HTTP request that the host itself sent for a component
"""


HTTP = frozenset((HANDLE.key, OUTGOING.key))
"""Functions whose spans have an Http."""


class Http(NamedTuple):
    """What a span of HTTP says besides. `url` is without query, and of one that came in the path only.

    `status` is 0 where no response came.
    """

    method: str
    url: str
    status: int

    @classmethod
    def of(cls, function: str, args: tuple[Value, ...], answer: Value) -> Http | None:
        """Of a call of wasi:http; None for arguments that are no request, since they may be what anybody sent."""
        try:
            request = args[0]
            method, url = request["method"], request["path-with-query"] or "/"
            if "?" in url:
                url = url[: url.index("?")]
            if function == OUTGOING.key:
                url = f"{request['scheme'] or 'https'}://{request['authority'].rpartition('@')[2]}{url}"
            return cls(method[:SHORT], url[:SHORT], _status(answer))
        except (LookupError, TypeError, AttributeError):
            return None

    def __str__(self) -> str:
        return f"{self.method} {self.url} {self.status or '-'}"


def _status(answer: Value) -> int:
    try:
        return int(answer["status"])
    except (LookupError, TypeError, ValueError):
        return 0


class Span(NamedTuple):
    """One finished call.

    `at` is when it began, in seconds since 1970 on its host's clock. `parent` is the id of the span it was made in, ""
    for the first of a trace. `direct`: it came from the same process. `outcome` is "ok", "err" (the err side of a
    `result`), "cancelled", or the code of the LatticeError whose sentence is `error`.
    """

    context: str
    """Its own traceparent."""
    parent: str
    at: float
    seconds: float
    kind: Kind
    direct: bool
    source: EntityId
    target: EntityId
    function: str
    link: LinkName
    outcome: str
    error: str = ""
    http: Http | None = None
    subject: str = ""
    """Of a message."""

    @property
    def trace(self) -> str:
        return self.context[_TRACE]

    @property
    def id(self) -> str:
        return self.context[_SPAN]

    @property
    def flags(self) -> str:
        """Two hex digits; the last bit says "sampled"."""
        return self.context[-2:]

    @property
    def is_root(self) -> bool:
        """Nothing on the lattice called it, whoever did."""
        return not self.parent or self.kind in ("request", "message")

    @property
    def failed(self) -> bool:
        """There was no answer, though somebody waited for it, or it says that the server failed.

        The err side of a `result` is an answer.
        """
        return self.outcome not in ("ok", "err", "cancelled") or (self.http is not None and self.http.status >= 500)


Observer: TypeAlias = Callable[[Span, tuple[Value, ...], Value], None]
"""Told of each span as it ends, with the call's arguments and its answer, if there was one (of "err", too).

Must be quick: the event loop waits.
"""


def outcome_of(failure: BaseException) -> tuple[str, str]:
    """Outcome and sentence of a call that ended so."""
    if isinstance(failure, WitError):
        return "err", ""
    if isinstance(failure, LatticeError):
        return failure.code, failure.message[:SHORT]
    if isinstance(failure, asyncio.CancelledError):
        return "cancelled", ""
    return LatticeError.code, f"{type(failure).__name__}: {failure}"[:SHORT]


def unobserved(handler: Handler) -> Handler:
    """The Middleware where nobody looks."""
    return handler


def nobody(span: Span, args: tuple[Value, ...], answer: Value) -> None:
    """The Observer where nobody looks."""
