"""The lattice's events, kept for a while: in the JetStream stream that wadm v1 makes, or uses where it is there.

Streams may not overlap, so there is one for both, and whoever comes first makes it: wadm's keeps events for 70 seconds.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime

from lattice import subjects
from lattice.errors import LatticeError
from lattice.jetstream import SECOND, JetStream, NotFound

STREAM = "wasmbus_events"
KEPT_SECONDS = 24 * 3600
KEPT_BYTES = 64 * 1024**2
"""Of all lattices of one NATS account. The oldest go first."""


async def keep_events(jetstream: JetStream, lattice: str) -> None:
    """Make the stream, unless there is one that takes this lattice's events. Raises LatticeError."""
    if await _stream(jetstream, lattice) is not None:
        return
    settings = {
        "name": STREAM,
        "subjects": [subjects.event("*", ">")],
        "retention": "limits",
        "storage": "file",
        "discard": "old",
        "max_age": KEPT_SECONDS * SECOND,
        "max_bytes": KEPT_BYTES,
    }
    try:
        await jetstream.ask(f"STREAM.CREATE.{STREAM}", settings)
    except LatticeError:
        if await _stream(jetstream, lattice) is None:  # else somebody made it in between
            raise


async def past_events(jetstream: JetStream, lattice: str, since: datetime) -> AsyncGenerator[bytes, None]:
    """Each event since then that is still kept, the oldest first. Raises NotFound when nothing keeps them."""
    stream = await _stream(jetstream, lattice)
    if stream is None:
        raise NotFound(f"no stream keeps the events of lattice {lattice}")
    begin = since.astimezone(UTC).isoformat().replace("+00:00", "Z")
    walk = jetstream.walk(stream, subjects.event(lattice, ">"), deliver_policy="by_start_time", opt_start_time=begin)
    async with aclosing(walk) as deliveries:
        async for delivery in deliveries:
            yield delivery.message.data


async def _stream(jetstream: JetStream, lattice: str) -> str | None:
    """The stream that takes this lattice's events."""
    answer = await jetstream.ask("STREAM.NAMES", {"subject": subjects.event(lattice, ">")})
    names: list[str] = answer.get("streams") or []
    return STREAM if STREAM in names else next(iter(names), None)
