"""wasi:io: errors, pollables and byte streams.

An input-stream reads a Source, which mostly is a ByteStream. An output-stream writes into a Sink: a ByteStream's
writing end behind a body, or a guest's standard output. Back-pressure is the sink's room: `check-write` never promises
more than fits.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeAlias

from actors.guest import Guest, Output
from actors.host_api import Resource, internal, serves
from actors.pipes import Sink, Source
from lattice import Trap, Value, WitError
from lattice.streams import CHUNK, StreamClosed

WRITE_AT_ONCE = 4096
"""Bytes: what WIT lets the blocking-write functions take in one call."""

LONGEST_WAIT = 24 * 3600.0
"""Seconds: timers further away are looked at again after this time."""

Watch: TypeAlias = "Callable[[asyncio.Future[None]], Callable[[], object]]"
"""Complete the future at the next change; what comes back takes that back. Spurious wake-ups are allowed."""


class IoError(Resource, interface="wasi:io/error", name="error"):
    """`error`: why a stream broke. `error_code` is the wasi:http error-code, where HTTP was the reason."""

    __slots__ = ("error_code", "message")

    def __init__(self, message: str, error_code: Value = None) -> None:
        self.message = message
        self.error_code = error_code

    @classmethod
    @internal
    def of(cls, closed: StreamClosed) -> IoError:
        return cls(str(closed))

    def to_debug_string(self) -> str:
        return self.message


@serves("wasi:io/error", IoError)
class Error:
    """Has no functions of its own."""


class Pollable(Resource, interface="wasi:io/poll", name="pollable"):
    """`pollable`: `ready` looks, without waiting; `watch` hears of the next change."""

    __slots__ = ("_ready", "watch")

    def __init__(self, ready: Callable[[], bool], watch: Watch) -> None:
        self._ready = ready
        self.watch = watch

    def ready(self) -> bool:
        return self._ready()

    async def block(self) -> None:
        while not self._ready():
            await once(self.watch)


async def once(*watches: Watch) -> None:
    """Wait until the first of these things changes."""
    woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    undo = [watch(woken) for watch in watches]
    try:
        await woken
    finally:
        for forget in undo:
            forget()


def wake(waiter: asyncio.Future[None], *_: object) -> None:
    if not waiter.done():
        waiter.set_result(None)


def timer(when: int) -> Pollable:
    """Ready from `when` on, in nanoseconds of the monotonic clock."""

    def watch(waiter: asyncio.Future[None]) -> Callable[[], object]:
        seconds = max(0, when - time.monotonic_ns()) / 1e9
        return asyncio.get_running_loop().call_later(min(seconds, LONGEST_WAIT), wake, waiter).cancel

    return Pollable(lambda: time.monotonic_ns() >= when, watch)


@serves("wasi:io/poll", Pollable)
class Poll:
    @staticmethod
    async def poll(guest: Guest, pollables: list[Pollable]) -> list[int]:
        """The indexes of those that are ready, at least one. An empty list traps."""
        if not pollables:
            raise Trap("wasi:io/poll#poll was called with no pollables")
        while True:
            ready = [index for index, pollable in enumerate(pollables) if pollable.ready()]
            if ready:
                return ready
            await once(*[pollable.watch for pollable in pollables])


class InputStream(Resource, interface="wasi:io/streams", name="input-stream"):
    """`input-stream`: the reading end of a Source. `explain` makes the error of a stream that broke off."""

    __slots__ = ("_explain", "_over", "_source")

    def __init__(self, source: Source, explain: Callable[[StreamClosed], IoError] = IoError.of) -> None:
        self._source = source
        self._explain = explain
        self._over = False

    def read(self, size: int) -> bytes:
        """At most CHUNK bytes, b"" when none are there yet."""
        source = self._source
        if self._over:
            raise WitError("closed")
        try:
            data = source.read_now(size if size < CHUNK else CHUNK)
        except StreamClosed as closed:
            self._over = True
            raise WitError({"last-operation-failed": self._explain(closed)}) from closed
        if not data and source.ended:
            self._over = True
            raise WitError("closed")
        return data

    async def blocking_read(self, size: int) -> bytes:
        await self.arrival()
        return self.read(size)

    def skip(self, size: int) -> int:
        return len(self.read(size))

    async def blocking_skip(self, size: int) -> int:
        await self.arrival()
        return self.skip(size)

    def subscribe(self) -> Pollable:
        return Pollable(self.readable, self._source.watch)

    @internal
    def readable(self) -> bool:
        """A read would not wait."""
        return self._over or self._source.readable()

    @internal
    async def arrival(self) -> None:
        """Wait until a read would not wait."""
        while not self.readable():
            await once(self._source.watch)


class OutputStream(Resource, interface="wasi:io/streams", name="output-stream"):
    """`output-stream`. What a sink took is on its way: `flush` has nothing left to wait for."""

    __slots__ = ("_permit", "_sink")

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._permit = 0

    def check_write(self) -> int:
        """Bytes that the next `write` may bring: the sink's room, and at most CHUNK."""
        self._permit = min(self._sink.room(), CHUNK)
        return self._permit

    def write(self, contents: bytes) -> None:
        """More than `check-write` permitted traps."""
        if len(contents) > self._permit:
            raise Trap(f"output-stream.write of {len(contents)} bytes where check-write permitted {self._permit}")
        self._permit -= len(contents)
        self._sink.write(contents)

    async def blocking_write_and_flush(self, contents: bytes) -> None:
        """More than 4096 bytes trap."""
        if len(contents) > WRITE_AT_ONCE:
            raise Trap(f"output-stream.blocking-write-and-flush of {len(contents)} bytes; {WRITE_AT_ONCE} at most")
        sink = self._sink
        while sink.room() <= 0:
            await once(sink.watch)
        sink.write(contents)

    def flush(self) -> None:
        self._sink.room()

    async def blocking_flush(self) -> None:
        self._sink.room()

    def subscribe(self) -> Pollable:
        return Pollable(self.writable, self._sink.watch)

    @internal
    def writable(self) -> bool:
        """A `check-write` would permit something, or fail."""
        try:
            return self._sink.room() > 0
        except WitError:
            return True

    def write_zeroes(self, size: int) -> None:
        if size > self._permit:
            raise Trap(f"output-stream.write-zeroes of {size} bytes where check-write permitted {self._permit}")
        self.write(bytes(size))

    async def blocking_write_zeroes_and_flush(self, size: int) -> None:
        if size > WRITE_AT_ONCE:
            raise Trap(f"output-stream.blocking-write-zeroes-and-flush of {size} bytes; {WRITE_AT_ONCE} at most")
        await self.blocking_write_and_flush(bytes(size))

    def splice(self, source: InputStream, size: int) -> int:
        """Move what is there and fits, at most `size` bytes; returns how many."""
        fits = min(size, self.check_write())
        data = source.read(fits) if fits else b""
        self.write(data)
        return len(data)

    async def blocking_splice(self, source: InputStream, size: int) -> int:
        while not self.writable():
            await once(self._sink.watch)
        await source.arrival()
        return self.splice(source, size)


@serves("wasi:io/streams", InputStream, OutputStream)
class Streams:
    """Has no functions of its own."""


class OutputSink:
    """A guest's stdout or stderr: always has room."""

    __slots__ = ("_output",)

    def __init__(self, output: Output) -> None:
        self._output = output

    def room(self) -> int:
        return CHUNK

    def write(self, data: bytes) -> None:
        self._output.write(data)

    def watch(self, waiter: asyncio.Future[None]) -> Callable[[], object]:
        wake(waiter)
        return nothing


class Tee:
    """A sink that leads elsewhere; `output` keeps the end for errors. What it takes is not the host's to limit."""

    __slots__ = ("_output", "_sink", "room", "watch")

    def __init__(self, sink: Sink, output: Output) -> None:
        self._sink = sink
        self._output = output
        self.room = sink.room
        self.watch = sink.watch

    def write(self, data: bytes) -> None:
        self._output.keep(data)
        self._sink.write(data)


def nothing() -> None:
    """Takes nothing back: the change has happened."""
