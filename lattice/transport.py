"""The door to the broker: everything above it works the same on NATS and in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from lattice.errors import LatticeError


@dataclass(frozen=True, slots=True)
class Message:
    """What arrived: its subject, its bytes, and where an answer goes (None: nobody waits)."""

    subject: str
    data: bytes
    reply: str | None = None
    headers: Mapping[str, str] | None = None


OnMessage: TypeAlias = Callable[[Message], Awaitable[None] | None]
"""Called for each message, in order, and not before the last call returned when it is a coroutine function."""


class Subscription(Protocol):
    async def unsubscribe(self) -> None:
        """No more messages. A second call does nothing."""

    async def drain(self) -> None:
        """Take no new messages, finish those that arrived, then end."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One key's state in a bucket. `value` is None when the key was deleted."""

    key: str
    value: bytes | None
    revision: int


class WrongRevision(Exception):
    """Somebody else wrote that key in between: read it again and decide anew."""


class NoBucket(Exception):
    """There is no bucket of that name, and it was not to be made."""


class Bucket(Protocol):
    """A JetStream KV bucket, or its image in memory."""

    async def get(self, key: str) -> Entry | None:
        """None when the key is missing or deleted."""

    async def put(self, key: str, value: bytes) -> int:
        """The new revision."""

    async def create(self, key: str, value: bytes) -> int:
        """Raises WrongRevision when the key exists."""

    async def update(self, key: str, value: bytes, revision: int) -> int:
        """Raises WrongRevision unless `revision` is the key's latest."""

    async def delete(self, key: str) -> None:
        """Deleting what is not there does nothing."""

    async def purge(self, key: str) -> None:
        """Delete the key with its history."""

    async def keys(self) -> list[str]:
        """All keys that have a value."""

    async def page(self, after: int, most: int) -> list[Entry]:
        """At most `most` of the keys that have a value, from after the revision `after` on, without their values.

        In the order of their revisions: going on from the last one's misses no key that stays, whatever else changes.
        """

    def watch(self) -> AsyncIterator[Entry | None]:
        """Every key's current entry, then None once, then each change as it happens, until closed.

        Raises Unreachable when changes may have been missed: the connection was lost, or the bucket.
        """

    async def incarnation(self) -> str:
        """Which making of this bucket it is: another answer than before means that the broker lost what was in it.

        A bucket that is gone is made again, as at every writing; Unreachable when it was not to be made.
        """


async def swap(bucket: Bucket, key: str, before: Entry | None, value: bytes) -> bool:
    """Put `value` in the place of what `get` said; False when somebody else wrote that key in between."""
    try:
        if before is None:
            await bucket.create(key, value)
        else:
            await bucket.update(key, value, before.revision)
    except WrongRevision:
        return False
    return True


class Transport(Protocol):
    """One connection to the broker. Raises Unreachable when the broker is gone."""

    @property
    def max_payload(self) -> int:
        """Bytes: the largest message the broker takes."""

    @property
    def url(self) -> str:
        """Where it is connected, without credentials."""

    @property
    def connected(self) -> bool:
        """False while a lost connection is being made again, and when it is closed."""

    @property
    def domain(self) -> str | None:
        """The JetStream domain that buckets and streams are in; None: the server's own."""

    async def publish(
        self, subject: str, data: bytes, *, reply: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None: ...

    async def request(
        self, subject: str, data: bytes, *, timeout: float, headers: Mapping[str, str] | None = None
    ) -> Message:
        """The first answer. Raises Unreachable when nobody listens, DeadlineExceeded after `timeout` seconds."""

    async def gather(self, subject: str, data: bytes, *, seconds: float, most: int | None = None) -> list[Message]:
        """Every answer that comes within `seconds`, or the first `most` of them."""

    async def subscribe(self, subject: str, on_message: OnMessage, *, queue: str | None = None) -> Subscription:
        """`subject` may hold the wildcards `*` and `>`; with `queue`, one member of the group gets each message."""

    async def bucket(self, name: str, *, history: int = 1, create: bool = True) -> Bucket:
        """Open the bucket, or make it when it is not there; an existing one's settings are left alone.

        Raises NoBucket when it is not there and `create` is False.
        """

    def inbox(self) -> str:
        """A new subject that only this connection listens to, for replies and streams."""

    def pending_requests(self) -> dict[str, str]:
        """The subject of each request that waits for its answer, by its reply subject."""

    def fail_request(self, reply: str, error: LatticeError) -> None:
        """End the request that waits for an answer on `reply`, if it still does."""

    def on_disconnect(self, callback: Callable[[], None]) -> None:
        """Call back each time the connection is found to be lost."""

    def on_reconnect(self, callback: Callable[[], None]) -> None:
        """Call back each time a lost connection was made again."""

    async def flush(self) -> None:
        """Return once the broker has taken everything that was published."""

    async def close(self) -> None:
        """Finish what was taken, then disconnect. A second call does nothing."""
