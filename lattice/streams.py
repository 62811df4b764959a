"""Bytes that come in time: a bounded pipe with one writer and one reader.

The writer waits when the reader is slow, so memory stays within `capacity` bytes. Both ends can also be used without
waiting, which is what WASI's non-blocking streams need.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from functools import partial

Trailers = list[tuple[str, bytes]]

CHUNK = 64 * 1024
"""Bytes: what one read gives at most unless asked otherwise."""


class StreamClosed(Exception):
    """The other end is gone, or broke. For a reader `cause` says why, when the writer said so."""


class Budget:
    """Bytes that several streams may hold together. `exceeded` makes the error for the writer that wants more."""

    __slots__ = ("_exceeded", "limit", "used")

    def __init__(self, limit: int, exceeded: Callable[[], Exception]) -> None:
        self.limit = limit
        self.used = 0
        self._exceeded = exceeded

    def take(self, size: int) -> None:
        if self.used + size > self.limit:
            raise self._exceeded()
        self.used += size

    def give(self, size: int) -> None:
        self.used -= size


class ByteStream:
    """One body on its way. Not thread-safe: use both ends from one event loop.

    With a `budget`, what is buffered counts there, too, and a write that exceeds it raises the budget's error.
    """

    __slots__ = (
        "_budget",
        "_buffered",
        "_chunks",
        "_ended",
        "_error",
        "_reader_gone",
        "_waiters",
        "capacity",
        "trailers",
    )

    def __init__(self, capacity: int = 4 * CHUNK, budget: Budget | None = None) -> None:
        self.capacity = capacity
        self._budget = budget
        self.trailers: Trailers | None = None
        self._chunks: deque[bytes] = deque()
        self._buffered = 0
        self._ended = False
        self._error: BaseException | None = None
        self._reader_gone = False
        self._waiters: list[asyncio.Future[None]] = []

    @classmethod
    def of(cls, data: bytes, trailers: Trailers | None = None) -> ByteStream:
        """A stream that holds all of `data` already."""
        stream = cls(max(len(data), 1))
        if data:
            stream._chunks.append(data)
            stream._buffered = len(data)
        stream.trailers = trailers
        stream._ended = True
        return stream

    # -- both ends

    def nudge(self) -> None:
        """Wake whoever waits in `changed`, for a reason outside the stream."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def changed(self) -> None:
        """Wait until either end did something."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        unwatch = self.watch(waiter)
        try:
            await waiter
        finally:
            unwatch()

    def watch(self, waiter: asyncio.Future[None]) -> Callable[[], None]:
        """Complete `waiter` once either end does something; returns how to take that back."""
        self._waiters.append(waiter)
        return partial(self._unwatch, waiter)

    def _unwatch(self, waiter: asyncio.Future[None]) -> None:
        if waiter in self._waiters:
            self._waiters.remove(waiter)

    # -- the writer's end

    def room(self) -> int:
        """Bytes that may be written now without exceeding the capacity."""
        return max(0, self.capacity - self._buffered)

    @property
    def reader_gone(self) -> bool:
        return self._reader_gone

    def write_now(self, data: bytes) -> None:
        """Append without waiting, beyond the capacity if need be. Raises StreamClosed when nobody reads."""
        if self._reader_gone:
            raise StreamClosed("the reader is gone")
        if self._ended:
            raise StreamClosed("the stream was finished already")
        if data:
            if self._budget is not None:
                self._budget.take(len(data))
            self._chunks.append(data)
            self._buffered += len(data)
            self.nudge()

    async def write(self, data: bytes) -> None:
        """Append, waiting for room. Raises StreamClosed when nobody reads."""
        while self.room() == 0 and not self._reader_gone:
            await self.changed()
        self.write_now(data)

    async def drained(self) -> None:
        """Wait until the reader has taken everything (or left)."""
        while self._buffered and not self._reader_gone:
            await self.changed()

    def finish(self, trailers: Trailers | None = None) -> None:
        """No more bytes. A second call does nothing."""
        if not self._ended:
            self.trailers = trailers
            self._ended = True
            self.nudge()

    def fail(self, error: BaseException) -> None:
        """The body breaks off here: the reader gets what was written, then StreamClosed from `error`."""
        if not self._ended:
            self._error = error
            self._ended = True
            self.nudge()

    # -- the reader's end

    @property
    def ended(self) -> bool:
        """All bytes were taken and no more will come."""
        return self._ended and not self._chunks

    @property
    def complete(self) -> bool:
        """The writer finished without an error (bytes may still be waiting)."""
        return self._ended and self._error is None

    @property
    def buffered(self) -> int:
        return self._buffered

    def readable(self) -> bool:
        """A read would not wait: there are bytes, or the end is reached."""
        return bool(self._chunks) or self._ended

    def read_now(self, size: int = CHUNK) -> bytes:
        """Up to `size` bytes that are there; b"" when there are none (see `ended`). Raises StreamClosed on a break."""
        if not self._chunks:
            if self._ended and self._error is not None:
                raise StreamClosed(str(self._error)) from self._error
            return b""
        if size <= 0:
            return b""
        chunk = self._chunks.popleft()
        if len(chunk) > size:
            self._chunks.appendleft(chunk[size:])
            chunk = chunk[:size]
        self._buffered -= len(chunk)
        if self._budget is not None:
            self._budget.give(len(chunk))
        self.nudge()
        return chunk

    async def read(self, size: int = CHUNK) -> bytes:
        """Up to `size` bytes, waiting for the first; b"" at the end. Raises StreamClosed when the body broke off."""
        while not self.readable():
            await self.changed()
        return self.read_now(size)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while chunk := await self.read():
            yield chunk

    async def read_all(self, limit: int | None = None) -> bytes:
        """Everything. Raises ValueError when it is more than `limit` bytes."""
        parts: list[bytes] = []
        size = 0
        async for chunk in self:
            size += len(chunk)
            if limit is not None and size > limit:
                self.close()
                raise ValueError(f"the body is larger than {limit} bytes")
            parts.append(chunk)
        return b"".join(parts)

    def close(self) -> None:
        """The reader leaves: buffered bytes are dropped and the writer is told."""
        if not self._reader_gone:
            self._reader_gone = True
            self._chunks.clear()
            if self._budget is not None:
                self._budget.give(self._buffered)
            self._buffered = 0
            self.nudge()


Body = bytes | ByteStream


async def read_body(body: Body) -> bytes:
    """All bytes of `body`, whichever form it has."""
    if isinstance(body, ByteStream):
        return await body.read_all()
    return bytes(body)
