"""A bound socket and its connections: open with a clear refusal, close without cutting anybody off."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from typing import TYPE_CHECKING, cast
from weakref import WeakValueDictionary

import structlog

from lattice import BadInput, Finding
from providers.http.certificate import Certificate
from providers.http.handing import Door, taken_over
from providers.http.protocol import App, Connection
from providers.http.settings import host_and_port

if TYPE_CHECKING:
    from providers.http.http2 import Http2Connection

log = structlog.get_logger("providers.http")

KEEP_ALIVE_SECONDS = 75.0
CHECK_SECONDS = 5.0
BACKLOG = 2048

_owned: WeakValueDictionary[tuple[str, str], Listener] = WeakValueDictionary()
"""The listeners of this process that listen, by owner and address."""


class Listener:
    """Made by `open`."""

    def __init__(
        self, address: str, app: App, certificate: Certificate | None, keep_alive: float, http2: bool = False
    ) -> None:
        self.address = address
        self.app = app
        self.certificate = certificate
        self.http2 = http2
        self.keep_alive = keep_alive
        self.connections: set[Connection | Http2Connection] = set()
        self.bound: tuple[str, int] = ("", 0)
        """Where it really listens: the port that the system chose when `address` says 0."""
        self.closing = False
        self._socket: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._door: Door | None = None
        self._checks: asyncio.TimerHandle | None = None
        self._empty = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._unsent: list[Connection] = []

    @classmethod
    async def open(
        cls,
        address: str,
        app: App,
        *,
        certificate: Certificate | None = None,
        http2: bool = False,
        keep_alive: float = KEEP_ALIVE_SECONDS,
        owner: str = "",
    ) -> Listener:
        """Listen on `address` (`host:port`) now. Raises BadInput that names it and what to do when that cannot be.

        The listener that `owner` has there already, in this process or another, shares its socket: until it closes,
        both take connections.
        """
        self = cls(address, app, certificate, keep_alive, http2)
        owned = bool(owner and host_and_port(address)[1])
        shared = await _shared(owner, address) if owned else None
        self._socket = bound = shared or await _bind(address)
        self.bound = bound.getsockname()[:2]
        loop = asyncio.get_running_loop()
        context = None if certificate is None else certificate.context
        self._server = await loop.create_server(self._connected, sock=bound, backlog=BACKLOG, ssl=context)
        self._checks = loop.call_later(CHECK_SECONDS, self._check)
        if owned:
            _owned[owner, address] = self
            with contextlib.suppress(OSError):  # then a successor in another process finds the port in use for a while
                self._door = Door(owner, address, bound)
        return self

    @property
    def url(self) -> str:
        host, port = self.bound
        return f"{self.scheme}://{f'[{host}]' if ':' in host else host}:{port}"

    @property
    def scheme(self) -> str:
        return "http" if self.certificate is None else "https"

    def _connected(self) -> asyncio.Protocol:
        if not self.http2:
            return Connection(self)
        if self.certificate is not None:
            return _Negotiated(self)
        from providers.http.http2 import EitherConnection

        return EitherConnection(self)

    @property
    def listening(self) -> bool:
        return self._server is not None and self._server.is_serving() and not self.closing

    def disconnected(self, connection: Connection | Http2Connection) -> None:
        self.connections.discard(connection)
        if not self.connections:
            self._empty.set()

    def send_soon(self, connection: Connection) -> None:
        """Send once the requests that arrived together are answered.

        One response after the other, the kernel's way out stays in the processor's caches, and so do we in between: a
        busy server answers a quarter more.
        """
        if not self._unsent:
            self._loop.call_soon(self._send)
        self._unsent.append(connection)

    def _send(self) -> None:
        unsent, self._unsent = self._unsent, []
        for connection in unsent:
            connection.send()

    def _check(self) -> None:
        loop = asyncio.get_running_loop()
        self._checks = loop.call_later(CHECK_SECONDS, self._check)
        if self.certificate is not None:
            self.certificate.refresh()
        now = loop.time()
        for connection in tuple(self.connections):
            connection.check(now)

    async def close(self) -> None:
        """Listen no more, finish the requests in hand, close. When cancelled, what is left is cut off."""
        if self.closing or self._server is None:
            return
        self.closing = True
        if self._door is not None:
            self._door.close()
        self._server.close()
        try:
            while self.connections:
                self._empty.clear()
                for connection in tuple(self.connections):
                    connection.leave()
                await self._empty.wait()
        finally:
            if self._checks is not None:
                self._checks.cancel()
            for connection in tuple(self.connections):
                connection.transport.abort()


class _Negotiated(asyncio.Protocol):
    """A connection before it is known which HTTP its client speaks."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        from providers.http.http2 import Http2Connection

        spoken = transport.get_extra_info("ssl_object").selected_alpn_protocol()
        chosen = Http2Connection(self._listener) if spoken == "h2" else Connection(self._listener)
        cast(asyncio.Transport, transport).set_protocol(chosen)
        chosen.connection_made(transport)


async def _shared(owner: str, address: str) -> socket.socket | None:
    before = _owned.get((owner, address))
    if before is not None and before.listening and before._socket is not None:
        return before._socket.dup()
    return await taken_over(owner, address)


async def _bind(address: str) -> socket.socket:
    host, port = host_and_port(address)
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise BadInput(Finding("TRL-PRV-001", f'cannot listen on {address}: "{host}" is not an address')) from error
    family, kind, proto, _, place = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    sock = socket.socket(family, kind, proto)
    try:
        if os.name == "posix":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(place)
        sock.listen(
            BACKLOG
        )  # now, not when the first connection is awaited: another may have bound it without listening
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise BadInput(_refusal(address, host, port, error)) from error
    return sock


def _refusal(address: str, host: str, port: int, error: OSError) -> Finding:
    match error.errno:
        case errno.EADDRINUSE:
            return Finding(
                "TRL-PRV-001",
                f"cannot listen on {address}: port {port} is in use",
                why="another process of this machine, or another link, listens there",
                fix=f'set another "address", or stop the other one (ss -ltnp "sport = :{port}" names it)',
            )
        case errno.EACCES | errno.EPERM:
            return Finding(
                "TRL-PRV-001",
                f"cannot listen on {address}: not permitted",
                fix=f"choose a port from 1024 up, or let the host's user bind port {port}",
            )
        case errno.EADDRNOTAVAIL:
            return Finding(
                "TRL-PRV-001",
                f"cannot listen on {address}: no network interface of this machine has the address {host}",
                fix="use 127.0.0.1 for this machine only, or 0.0.0.0 for all its interfaces",
            )
    return Finding("TRL-PRV-001", f"cannot listen on {address}: {error.strerror or error}")
