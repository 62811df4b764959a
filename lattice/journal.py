"""What a member of a lattice logs, sent to the lattice: kept in a stream of ours, and told to whoever listens.

Each line is a JSON object: `time` (ISO 8601, UTC), `level`, `event`, `component` or `provider`, `app` and `trace` where
it has them, and whatever else was logged. They travel in batches:

    {"id": "N...", "host": "host-a", "number": 7, "lines": [...]}

`number` counts a member's batches, so that one that comes twice is known. Logging never waits: what cannot be sent is
held up to a limit; beyond it the oldest lines are dropped, and counted. What is known to be secret is hidden.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

import structlog

from lattice import subjects
from lattice.errors import DeadlineExceeded, Denied, LatticeError, ProtocolError, Unreachable
from lattice.glimpse import HIDDEN
from lattice.history import logs_of
from lattice.jetstream import JetStream
from lattice.lattice import ENVELOPE, Lattice
from lattice.names import EntityId
from lattice.tap import Known
from lattice.values import read_json

log = structlog.get_logger("lattice")

HELD = 16 * 1024 * 1024
"""Bytes of lines that wait to be sent while the broker is away or slow."""

BATCH = 128 * 1024
"""Bytes of lines that are sent together; one that is longer goes alone."""

LONGEST = 32 * 1024
"""Bytes of a line. Of a longer one, each value is cut to SHORTENED characters."""

SHORTENED = 4096

SHORTEST = 4
"""Characters of a secret that is hidden in what is logged: of less, too much would look like it."""

PAUSE = 0.02
"""Seconds between two batches that are not full: what a crash can take along, beside what is on its way."""

RETRY, RETRY_MOST = 1.0, 15.0
"""Seconds before a batch that the broker did not take is sent again; doubled each time, up to the most."""

HEARD = 0.2
"""Seconds between two batches where no stream takes them."""

IDS = frozenset(("time", "level", "component", "provider", "app", "trace"))
"""What of a line nobody has written who knows secrets."""

App = Callable[[EntityId], str | None]
"""From the id of a component or provider to the app it belongs to."""

_journal: ContextVar[Journal | None] = ContextVar("journal", default=None)


def to_journal(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: each line also goes to the journal of the member in whose context it is logged."""
    journal = _journal.get()
    if journal is not None:
        journal.add(event)
    return event


class ToJournal(logging.Handler):
    """The same for what libraries log."""

    def emit(self, record: logging.LogRecord) -> None:
        journal = _journal.get()
        if journal is not None:
            said = {"level": record.levelname.lower(), "event": record.getMessage(), "logger": record.name}
            journal.add({**said, "exc_info": record.exc_info} if record.exc_info else said)


class Journal:
    """The log of one member, `id`, which people call `name`: all that is logged in the context where it is made, and
    in the tasks that begin there. What was logged before `start` is sent then.
    """

    def __init__(self, id: str, name: str) -> None:
        self.dropped = 0
        """Lines that nobody will see: more waited than may."""
        self._id = id
        self._name = name
        self.app: App = lambda id: None
        self.known: Known = tuple
        """What of it is secret, if anything."""
        self.readers: list[Callable[[Mapping[str, Any]], None]] = []
        """Told of each line as it is logged, in whichever thread that is."""
        self._hide: list[str] = []
        self._known_then = 0
        self._lines: deque[bytes] = deque()
        self._size = 0
        self._untold = 0
        """Of the dropped ones, those that no batch has told of yet."""
        self._number = 0
        self._kept: bool | None = None
        """Whether a stream takes what is sent; None: that is to be found out."""
        self._refused = False
        """Our login may not send."""
        self._some = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._lattice: Lattice | None = None
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        _journal.set(self)

    @asynccontextmanager
    async def sending(self, lattice: Lattice) -> AsyncIterator[None]:
        """Send to `lattice` within the block."""
        self.start(lattice)
        try:
            yield
        finally:
            await self.close()

    def start(self, lattice: Lattice) -> None:
        """Begin to send."""
        self._lattice = lattice
        lattice.transport.on_reconnect(self._ask_again)
        self._task = asyncio.create_task(self._send_all(lattice), name="journal")

    async def close(self, seconds: float = 1.0) -> None:
        """Send what is left, for so long at most, and nothing to a broker that is away."""
        if self._task is not None and self._lattice is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds if self._lattice.transport.connected else 0):
                    await self.sent()
            self._task.cancel()
            await asyncio.wait([self._task])
        self._closed = True

    async def sent(self) -> None:
        """Return once all lines have been taken by somebody, or published where nobody keeps them."""
        await self._empty.wait()

    # -- taking lines

    def add(self, event: MutableMapping[str, Any]) -> None:
        """Take a structlog event dictionary. Never waits; from any thread."""
        if self._closed or self._refused:
            return
        line = self._line(event)
        if threading.get_ident() == self._thread:
            self._put(line)
        else:
            with suppress(RuntimeError):  # the loop has ended, and with it the journal
                self._loop.call_soon_threadsafe(self._put, line)

    def _put(self, line: bytes) -> None:
        self._lines.append(line)
        self._size += len(line)
        while self._size > HELD:
            self._size -= len(self._lines.popleft())
            self.dropped += 1
            self._untold += 1
        self._some.set()
        self._empty.clear()

    def _line(self, event: MutableMapping[str, Any]) -> bytes:
        line: MutableMapping[str, Any] = {"time": datetime.now(UTC).isoformat(timespec="microseconds"), **event}
        host = line.pop("host", self._name)  # the batch says whose line it is
        if host != self._name:
            line["other_host"] = host
        if "exc_info" in line:
            line = structlog.processors.format_exc_info(None, "", line)
        if "actor" in line:
            line["component"] = line.pop("actor")
        if line.get("event") == "provider.wrote":
            line = of_process(line)
        about = line.get("component") or line.get("provider")
        if about is not None and (app := self.app(about)) is not None:
            line["app"] = app
        if secrets := self._secrets():
            line = {key: value if key in IDS else _hidden(value, secrets) for key, value in line.items()}
        for reader in self.readers:
            reader(line)
        encoded = _encoded(line)
        if len(encoded) > LONGEST:
            encoded = _encoded({key: str(value)[:SHORTENED] for key, value in line.items()} | {"cut": True})
        return encoded

    def _secrets(self) -> list[str]:
        """Line by line, as they are printed; the longest first, since one may be part of another."""
        known = self.known()
        if len(known) != self._known_then:
            texts = (one.decode(errors="replace") if isinstance(one, bytes) else one for one in known)
            lines = {line for text in texts for line in text.splitlines() if len(line) >= SHORTEST}
            self._hide, self._known_then = sorted(lines, key=len, reverse=True), len(known)
        return self._hide

    # -- sending them

    def _ask_again(self) -> None:
        self._kept, self._refused = None, False

    async def _send_all(self, lattice: Lattice) -> None:
        jetstream = JetStream(lattice.transport)
        while True:
            await self._some.wait()
            try:
                most = min(BATCH, lattice.transport.max_payload - 2 * ENVELOPE)
                await self._deliver(self._next(most), lattice, jetstream)
            except Denied as error:
                self._refused = True  # else what is logged of the refusal would be refused, and logged, and so on
                self._lines.clear()
                self._size = 0
                log.warning("logs.refused", reason=error.message)
            if not self._lines:
                self._some.clear()
                self._empty.set()
            if self._size < BATCH:
                await asyncio.sleep(PAUSE)

    async def _deliver(self, batch: bytes, lattice: Lattice, jetstream: JetStream) -> None:
        """Send it until the broker has it. Raises Denied."""
        pause = RETRY
        while True:
            try:
                await self._send(batch, lattice, jetstream)
                return
            except Denied:
                raise
            except ProtocolError as error:  # a line that is too long for this broker: it would never be taken
                log.warning("logs.unsent", reason=error.message)
                return
            except LatticeError as error:
                if pause == RETRY:
                    log.warning("logs.unsent", reason=error.message)
            self._kept = None  # the stream may be gone
            await asyncio.sleep(pause)
            pause = min(2 * pause, RETRY_MOST)

    async def _send(self, batch: bytes, lattice: Lattice, jetstream: JetStream) -> None:
        """Raises LatticeError, and then it may have arrived all the same; Denied."""
        while not lattice.transport.connected:
            await asyncio.sleep(PAUSE)  # rather than fill the client's own buffer, which events need
        if self._kept is None:
            self._kept = await _keep(lattice, jetstream)
        subject = subjects.logs(lattice.name, self._id)
        if self._kept:
            await jetstream.publish(subject, batch, {"Nats-Msg-Id": f"{self._id}-{self._number}"})
            return
        with suppress(Unreachable, DeadlineExceeded):  # nobody listens, or somebody, who does not answer
            await lattice.transport.request(subject, batch, timeout=HEARD)  # as a request, it can be Denied

    def _next(self, most: int) -> bytes:
        """The next batch of what there is, of so many bytes at most, but for a single line."""
        lines: list[bytes] = []
        if self._untold:
            lines.append(self._line({"level": "warning", "event": "logs.dropped", "lines": self._untold}))
            self._untold = 0
        size = 0
        while self._lines and (not size or size + len(self._lines[0]) <= most):
            line = self._lines.popleft()
            size += len(line)
            lines.append(line)
        self._size -= size
        self._number += 1
        head = json.dumps({"id": self._id, "host": self._name, "number": self._number})
        return head.encode()[:-1] + b', "lines": [' + b",".join(lines) + b"]}"


async def _keep(lattice: Lattice, jetstream: JetStream) -> bool:
    """Whether a stream takes the lattice's log, if need be one that is made."""
    try:
        await logs_of(lattice.name).keep(jetstream)
        return True
    except LatticeError as error:
        log.warning("logs.not_kept", reason=error.message)
        return False


def of_process(line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """What a provider's process wrote: with its own event, level and trace where it logs JSON as ours do."""
    text = line["line"]
    try:
        said = read_json(text) if text.startswith("{") else None
    except ValueError:
        return line
    if not isinstance(said, dict) or not isinstance(said.get("event"), str):
        return line
    level = said.get("level")
    ours = {
        "time": line["time"],
        "provider": line["provider"],
        "level": level if isinstance(level, str) else line["level"],
    }
    return {**said, **ours}


def _hidden(value: Any, secrets: list[str]) -> Any:
    match value:
        case None | bool() | int() | float():
            return value
        case Mapping():
            return {key: _hidden(one, secrets) for key, one in value.items()}
        case list() | tuple():
            return [_hidden(one, secrets) for one in value]
    text = str(value)
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return text


def _encoded(line: MutableMapping[str, Any]) -> bytes:
    return json.dumps(line, default=str, skipkeys=True, ensure_ascii=False).encode(errors="replace")
