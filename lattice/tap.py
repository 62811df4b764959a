"""Calls as they end, told to who asks for them, for as long as they go on asking.

A Wish on `subjects.tap`, JSON, is good for some seconds; the same `id` again renews it. Whoever observes calls answers
it with nothing, and then sends those that match in batches (Told). Nobody pays for a tap that nobody holds.
"""

from __future__ import annotations

import asyncio
import json
import secrets as random
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import structlog
from pydantic import BaseModel, Field, ValidationError

from lattice import subjects
from lattice.errors import LatticeError
from lattice.glimpse import glimpse
from lattice.lattice import ENVELOPE, Lattice
from lattice.replies import reply_on
from lattice.secrets import SecretValue
from lattice.tracing import Observer, Span
from lattice.transport import Message
from lattice.values import Value

log = structlog.get_logger("lattice")

LEASE = 6.0
"""Seconds that a wish is good for."""
RENEWED = 2.0
"""Seconds between two askings."""
PAUSE = 0.05
"""Seconds between two batches."""
MOST = 500
"""Spans of a batch; more are counted, and not told: a tap must not cost much on a busy host."""
TAPS = 16
"""Wishes that are granted at a time."""

Known = Callable[[], Collection[SecretValue]]
"""The secrets that were given out in this process."""


class Wish(BaseModel):
    """To see calls whose source contains `source` and whose target contains `target`; of `either`, one of them must."""

    id: str = Field(max_length=64)
    to: str = Field(min_length=1, max_length=256, pattern=r"^[^\s*>]+$")
    """The subject that they are sent to."""
    source: str = Field(default="", max_length=128)
    target: str = Field(default="", max_length=128)
    either: str = Field(default="", max_length=128)
    values: bool = False
    seconds: float = Field(default=LEASE, ge=0, le=60)

    def matches(self, span: Span) -> bool:
        if span.kind in ("request", "message"):
            return False  # what came in; the call that is made for it has a span of its own
        either = self.either in span.source or self.either in span.target
        return either and self.source in span.source and self.target in span.target


class Told(BaseModel):
    """A batch, of the process called `name`. Of `values`, there is one for each span: arguments and answer."""

    id: str
    name: str
    spans: list[Span]
    values: list[tuple[str, str]] = []
    dropped: int = 0


@dataclass(slots=True)
class _Granted:
    wish: Wish
    until: float
    spans: list[Span] = field(default_factory=list)
    values: list[tuple[str, str]] = field(default_factory=list)
    dropped: int = 0


class Taps:
    """Of one process, called `name`. Observes while somebody wants to see.

    Arguments are shown by the process of the caller, answers by that of who answers: of what they hold, both know what
    is secret (`known`). Without that, there are no values.
    """

    def __init__(self, id: str, name: str, observers: list[Observer], known: Known | None) -> None:
        self._id = id
        self._name = name
        self._observers = observers
        self._known = known
        self._granted: dict[str, _Granted] = {}
        self._telling: asyncio.Task[None] | None = None

    async def listen(self, lattice: Lattice) -> None:
        """Grant what is wished for on `lattice`, until that is closed."""

        def wished(data: bytes) -> bytes:
            self._grant(Wish.model_validate_json(data), lattice)
            return b""

        await reply_on(lattice.transport, subjects.tap(lattice.name), wished)

    def _grant(self, wish: Wish, lattice: Lattice) -> None:
        granted = self._granted.get(wish.id)
        if granted is None:
            if len(self._granted) == TAPS:
                return
            granted = self._granted[wish.id] = _Granted(wish, 0.0)
        granted.until = time.monotonic() + wish.seconds
        if self._telling is None:
            self._observers.append(self.observe)
            self._telling = asyncio.create_task(self._tell(lattice), name="taps")

    def observe(self, span: Span, args: tuple[Value, ...], answer: Value) -> None:
        """An Observer."""
        for granted in self._granted.values():
            if not granted.wish.matches(span):
                continue
            if len(granted.spans) == MOST:
                granted.dropped += 1
                continue
            granted.spans.append(span)
            if granted.wish.values:
                granted.values.append(self._values(span, args, answer))

    def _values(self, span: Span, args: tuple[Value, ...], answer: Value) -> tuple[str, str]:
        if self._known is None:
            return "", ""
        known, answered = self._known(), span.outcome in ("ok", "err")
        asked_here = span.direct or span.kind not in ("component", "provider")
        answered_here = span.kind in ("component", "provider", "outgoing")
        return (
            ", ".join(glimpse(one, known) for one in args) if asked_here else "",
            glimpse(answer, known) if answered_here and answered else "",
        )

    async def _tell(self, lattice: Lattice) -> None:
        try:
            while self._granted:
                await asyncio.sleep(PAUSE)
                for id, granted in list(self._granted.items()):
                    try:
                        await self._send(granted, lattice)
                    except LatticeError:
                        granted.until = 0.0  # it is asked for anew where there is somebody to ask
                    if granted.until <= time.monotonic():
                        del self._granted[id]
        finally:
            self._observers.remove(self.observe)
            self._telling = None

    async def _send(self, granted: _Granted, lattice: Lattice) -> None:
        if not granted.spans:
            return
        spans, values, dropped = granted.spans, granted.values, granted.dropped
        granted.spans, granted.values, granted.dropped = [], [], 0
        told = {"id": self._id, "name": self._name, "spans": spans, "values": values, "dropped": dropped}
        data = json.dumps(told).encode()
        while len(data) > lattice.transport.max_payload - ENVELOPE and spans:
            told["dropped"] = dropped = dropped + (len(spans) + 1) // 2
            spans, values = spans[: len(spans) // 2], values[: len(spans) // 2]
            data = json.dumps({**told, "spans": spans, "values": values}).encode()
        await lattice.transport.publish(granted.wish.to, data)


@asynccontextmanager
async def tapped(lattice: Lattice, calls: str = "", *, values: bool = False) -> AsyncIterator[asyncio.Queue[Told]]:
    """What everybody tells of `calls`, which are named as in `wish`, until the block ends.

    Raises Unreachable when there is nobody, DeadlineExceeded, and Denied when this login may not look.
    """
    told: asyncio.Queue[Told] = asyncio.Queue()
    wanted = wish(calls, lattice.transport.inbox(), values=values)

    def arrived(message: Message) -> None:
        try:
            told.put_nowait(Told.model_validate_json(message.data))
        except ValidationError:
            log.warning("tap.unreadable")  # of another version: it does not hide the others

    async def ask(one: Wish) -> None:
        asked = one.model_dump_json().encode()
        await lattice.transport.request(subjects.tap(lattice.name), asked, timeout=RENEWED)

    async def go_on() -> None:
        while True:
            await asyncio.sleep(RENEWED)
            try:
                await ask(wanted)
            except LatticeError as error:
                log.warning("tap.not_renewed", error=error.message)

    subscription = await lattice.transport.subscribe(wanted.to, arrived)
    try:
        await ask(wanted)
        asking = asyncio.create_task(go_on(), name="tap")
        try:
            yield told
        finally:
            asking.cancel()
            with suppress(LatticeError):
                await ask(wanted.model_copy(update={"seconds": 0.0}))
    finally:
        await subscription.unsubscribe()


def wish(text: str, to: str, *, values: bool = False) -> Wish:
    """From `SOURCE->TARGET`, either of them left out, or from a part of one of them; "" is all calls."""
    id = random.token_urlsafe(12)
    source, arrow, target = text.partition("->")
    if arrow:
        return Wish(id=id, to=to, source=source.strip(), target=target.strip(), values=values)
    return Wish(id=id, to=to, either=text.strip(), values=values)
