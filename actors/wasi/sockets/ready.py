"""A non-blocking socket on the event loop: look whether it is ready, or hear of it when it becomes so."""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable
from functools import partial

from actors.wasi.io import nothing, wake


class Ready:
    """Owns `socket`. Looking costs one system call; the loop watches the socket only while somebody waits."""

    __slots__ = ("_loop", "_readers", "_writers", "closed", "socket")

    def __init__(self, made: socket.socket) -> None:
        made.setblocking(False)
        self.socket = made
        self.closed = False
        self._loop = asyncio.get_running_loop()
        self._readers: list[asyncio.Future[None]] = []
        self._writers: list[asyncio.Future[None]] = []

    def readable(self) -> bool:
        """A read would not wait: there is something, the end, or an error. True once closed."""
        return self.closed or _poll(self.socket, select.POLLIN)

    def writable(self) -> bool:
        """A write would not wait: there is room, or an error. True once closed."""
        return self.closed or _poll(self.socket, select.POLLOUT)

    def watch_readable(self, waiter: asyncio.Future[None]) -> Callable[[], object]:
        """Complete `waiter` when it is readable; what comes back takes that back."""
        if self.closed:
            wake(waiter)
            return nothing
        if not self._readers:
            self._loop.add_reader(self.socket.fileno(), self._became_readable)
        self._readers.append(waiter)
        return partial(self._forget_reader, waiter)

    def watch_writable(self, waiter: asyncio.Future[None]) -> Callable[[], object]:
        """Complete `waiter` when it is writable; what comes back takes that back."""
        if self.closed:
            wake(waiter)
            return nothing
        if not self._writers:
            self._loop.add_writer(self.socket.fileno(), self._became_writable)
        self._writers.append(waiter)
        return partial(self._forget_writer, waiter)

    def _became_readable(self) -> None:
        self._loop.remove_reader(self.socket.fileno())
        waiters, self._readers = self._readers, []
        for waiter in waiters:
            wake(waiter)

    def _became_writable(self) -> None:
        self._loop.remove_writer(self.socket.fileno())
        waiters, self._writers = self._writers, []
        for waiter in waiters:
            wake(waiter)

    def _forget_reader(self, waiter: asyncio.Future[None]) -> None:
        if waiter in self._readers:
            self._readers.remove(waiter)
            if not self._readers and not self.closed:
                self._loop.remove_reader(self.socket.fileno())

    def _forget_writer(self, waiter: asyncio.Future[None]) -> None:
        if waiter in self._writers:
            self._writers.remove(waiter)
            if not self._writers and not self.closed:
                self._loop.remove_writer(self.socket.fileno())

    def close(self) -> None:
        """Whoever waits is woken. The second time does nothing."""
        if self.closed:
            return
        self.closed = True
        if not self._loop.is_closed():
            if self._readers:
                self._loop.remove_reader(self.socket.fileno())
            if self._writers:
                self._loop.remove_writer(self.socket.fileno())
            for waiter in (*self._readers, *self._writers):
                wake(waiter)
        self._readers, self._writers = [], []
        self.socket.close()


def _poll(looked_at: socket.socket, event: int) -> bool:
    poll = select.poll()
    poll.register(looked_at, event)
    return bool(poll.poll(0))
