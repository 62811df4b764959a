"""What happened on a lattice, kept for a while in JetStream streams: its events, and what its members logged.

Streams may not overlap. Events are kept in the one that wadm v1 makes, or uses where it is there, and whoever comes
first makes it: wadm's keeps them for 70 seconds.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime

from lattice import subjects
from lattice.errors import LatticeError
from lattice.jetstream import SECOND, JetStream, NotFound

STREAM = "wasmbus_events"
KEPT_SECONDS = 24 * 3600
EVENT_BYTES = 64 * 1024**2
"""Of all lattices of one NATS account. The oldest go first."""
LOG_BYTES = 128 * 1024**2
"""Of one lattice, so that a talkative one does not drive out what others logged. The oldest go first."""


@dataclass(frozen=True, slots=True)
class History:
    """What is published to `subject`, in our stream, which has all that `takes` matches, unless another keeps it."""

    stream: str
    subject: str
    takes: str
    most_bytes: int

    async def keep(self, jetstream: JetStream) -> None:
        """Make the stream, unless there is one that takes the subject. Raises LatticeError."""
        if await self._kept_in(jetstream) is not None:
            return
        settings = {
            "name": self.stream,
            "subjects": [self.takes],
            "retention": "limits",
            "storage": "file",
            "discard": "old",
            "max_age": KEPT_SECONDS * SECOND,
            "max_bytes": self.most_bytes,
        }
        try:
            await jetstream.ask(f"STREAM.CREATE.{self.stream}", settings)
        except LatticeError:
            if await self._kept_in(jetstream) is None:  # else somebody made it in between
                raise

    async def past(self, jetstream: JetStream, since: datetime) -> AsyncGenerator[bytes, None]:
        """Each message since then that is still kept, the oldest first. Raises NotFound when nothing keeps them."""
        stream = await self._kept_in(jetstream)
        if stream is None:
            raise NotFound(f"no stream keeps {self.subject}")
        begin = since.astimezone(UTC).isoformat().replace("+00:00", "Z")
        walk = jetstream.walk(stream, self.subject, deliver_policy="by_start_time", opt_start_time=begin)
        async with aclosing(walk) as deliveries:
            async for delivery in deliveries:
                yield delivery.message.data

    async def _kept_in(self, jetstream: JetStream) -> str | None:
        """The stream that takes the subject."""
        answer = await jetstream.ask("STREAM.NAMES", {"subject": self.subject})
        names: list[str] = answer.get("streams") or []
        return self.stream if self.stream in names else next(iter(names), None)


def events_of(lattice: str) -> History:
    """Its CloudEvents."""
    return History(STREAM, subjects.event(lattice, ">"), subjects.event("*", ">"), EVENT_BYTES)


def logs_of(lattice: str) -> History:
    """Its log lines, as `lattice.journal` sends them."""
    everybody = subjects.logs(lattice, "*")
    return History(subjects.log_stream(lattice), everybody, everybody, LOG_BYTES)
