"""Standard streams that lead somewhere: to the terminal, files and pipes of the process, byte by byte.

Without them a guest's stdin is empty, and what it prints is passed on by lines (see `actors.guest.Output`).
"""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Callable
from dataclasses import dataclass

from actors.pipes import Sink, Source
from lattice.errors import WitError
from lattice.streams import StreamClosed

NAMES = ("stdin", "stdout", "stderr")


@dataclass(frozen=True, slots=True)
class Stdio:
    """What one guest's standard streams are; `terminals` names those that a person sits at."""

    stdin: Source
    stdout: Sink
    stderr: Sink
    terminals: frozenset[str] = frozenset()

    @classmethod
    def of(cls, stdin: int = 0, stdout: int = 1, stderr: int = 2) -> Stdio:
        """These file descriptors, which stay open and in the mode they are in. For use in one event loop."""
        descriptors = (stdin, stdout, stderr)
        terminals = frozenset(name for name, fd in zip(NAMES, descriptors, strict=True) if _is_terminal(fd))
        return cls(FileSource(stdin), FileSink(stdout), FileSink(stderr), terminals)


class FileSource:
    """A Source: what can be read from a file descriptor without waiting. One that is not open is at its end."""

    __slots__ = ("_fd", "_waiters", "ended")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._waiters: list[asyncio.Future[None]] = []
        self.ended = not _is_open(fd)

    def readable(self) -> bool:
        return self.ended or bool(select.select([self._fd], [], [], 0)[0])

    def read_now(self, size: int) -> bytes:
        if size == 0 or self.ended or not self.readable():
            return b""
        try:
            data = os.read(self._fd, size)
        except BlockingIOError:
            return b""
        except OSError as error:
            self.ended = True
            raise StreamClosed(f"cannot read: {error.strerror}") from error
        self.ended = not data
        return data

    def watch(self, waiter: asyncio.Future[None]) -> Callable[[], object]:
        loop = asyncio.get_running_loop()
        return _watch(self._fd, waiter, self._waiters, loop.add_reader, loop.remove_reader)


class FileSink:
    """A Sink that writes at once, as much as a file descriptor takes without waiting.

    `broken` once nobody reads what is written any more.
    """

    __slots__ = ("_fd", "_waiters", "broken")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._waiters: list[asyncio.Future[None]] = []
        self.broken = not _is_open(fd)

    def room(self) -> int:
        if self.broken:
            raise WitError("closed")
        return select.PIPE_BUF if select.select([], [self._fd], [], 0)[1] else 0

    def write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:  # somebody else made the file non-blocking, and less than a block is free
                select.select([], [self._fd], [])
            except OSError as error:
                self.broken = True
                raise WitError("closed") from error

    def watch(self, waiter: asyncio.Future[None]) -> Callable[[], object]:
        loop = asyncio.get_running_loop()
        return _watch(self._fd, waiter, self._waiters, loop.add_writer, loop.remove_writer)


def _watch(
    fd: int,
    waiter: asyncio.Future[None],
    waiters: list[asyncio.Future[None]],
    add: Callable[[int, Callable[[], None]], object],
    remove: Callable[[int], object],
) -> Callable[[], object]:
    """Complete `waiter` when `fd` is ready. The event loop has one callback for each; `waiters` are all it is for."""

    def ready() -> None:
        remove(fd)
        woken = waiters.copy()
        waiters.clear()
        for one in woken:
            if not one.done():
                one.set_result(None)

    def forget() -> None:
        if waiter in waiters:
            waiters.remove(waiter)
            if not waiters:
                remove(fd)

    waiters.append(waiter)
    try:
        add(fd, ready)
    except OSError:  # what cannot be watched (a file, /dev/null) never makes anybody wait
        ready()
    return forget


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _is_terminal(fd: int) -> bool:
    return _is_open(fd) and os.isatty(fd)
