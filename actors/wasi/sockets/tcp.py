"""wasi:sockets/tcp and tcp-create-socket: the state machine of the WIT, on non-blocking sockets.

A socket of the operating system exists from the first call that needs one, after the grant was checked. A connection
is closed when its tcp-socket and both of its streams are dropped; what the guest wrote before is still sent.
"""

from __future__ import annotations

import asyncio
import enum
import errno
import socket
from collections.abc import Callable

from actors.guest import Guest
from actors.host_api import serves
from actors.wasi.io import InputStream, OutputStream, Pollable, nothing, once, wake
from actors.wasi.sockets import options
from actors.wasi.sockets.network import Endpoint, Network, NetworkError, Sockets, failed
from actors.wasi.sockets.options import WithOptions
from actors.wasi.sockets.ready import Ready
from lattice import Value, WitError
from lattice.streams import CHUNK, StreamClosed

BACKLOG = 128
LINGER = 5.0
"""Seconds: how long bytes that the guest wrote may take to leave after it let go of the connection."""

_ABORTED = frozenset(
    (
        errno.ECONNABORTED,
        errno.ECONNRESET,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.EPROTO,
        errno.ENOPROTOOPT,
        errno.EOPNOTSUPP,
    )
)
"""What Linux says in `accept` of a connection that is gone already."""


class Receiving:
    """The Source of a connection's input-stream: nothing is read ahead, so the peer feels a slow guest."""

    __slots__ = ("_ready", "ended", "watch")

    def __init__(self, ready: Ready) -> None:
        self._ready = ready
        self.ended = False
        self.watch = ready.watch_readable

    def readable(self) -> bool:
        return self.ended or self._ready.readable()

    def read_now(self, size: int) -> bytes:
        if self.ended or size <= 0:
            return b""
        try:
            data = self._ready.socket.recv(size)
        except (BlockingIOError, InterruptedError):
            return b""
        except OSError as error:
            self.ended = True
            raise StreamClosed(str(error)) from error
        self.ended = not data
        return data


class Sending:
    """The Sink of a connection's output-stream: at most one write waits here, when the system has no room for it."""

    __slots__ = ("_finishing", "_on_idle", "_pending", "_ready", "_waiters", "closed", "failure")

    def __init__(self, ready: Ready) -> None:
        self._ready = ready
        self._pending: memoryview | None = None
        self._waiters: list[asyncio.Future[None]] = []
        self._finishing = False
        self._on_idle: Callable[[], object] = nothing
        self.closed = False
        self.failure: OSError | None = None

    @property
    def pending(self) -> bool:
        return self._pending is not None

    def room(self) -> int:
        self._raise()
        return CHUNK if self._pending is None and self._ready.writable() else 0

    def write(self, data: bytes) -> None:
        self._raise()
        if not data:
            return
        self._send(memoryview(data))
        self._raise()

    def watch(self, waiter: asyncio.Future[None]) -> Callable[[], object]:
        if self._pending is None:
            return self._ready.watch_writable(waiter)
        self._waiters.append(waiter)
        return lambda: self._waiters.remove(waiter) if waiter in self._waiters else None

    def finish(self) -> None:
        """No more writes; the peer hears of it after the last byte."""
        self.closed = True
        self._finishing = True
        if self._pending is None:
            self._shut()

    def on_idle(self, then: Callable[[], object]) -> None:
        """Call `then` when nothing is pending any more."""
        self._on_idle = then

    def _raise(self) -> None:
        if self.failure is not None:
            failure, self.failure = self.failure, None
            self.closed = True
            if failure.errno != errno.EPIPE:
                raise WitError({"last-operation-failed": NetworkError(failure)})
        if self.closed:
            raise WitError("closed")

    def _send(self, data: memoryview) -> None:
        try:
            sent = self._ready.socket.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            self.failure = error
            sent = len(data)
        if sent < len(data):
            self._pending = data[sent:]
            more: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            more.add_done_callback(self._go_on)
            self._ready.watch_writable(more)
            return
        self._pending = None

    def _go_on(self, _: object) -> None:
        if self._pending is None:
            return
        if self._ready.closed:
            self._pending = None
        else:
            self._send(self._pending)
        if self._pending is None:
            if self._finishing:
                self._shut()
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                wake(waiter)
            self._on_idle()

    def _shut(self) -> None:
        if not self._ready.closed:
            try:
                self._ready.socket.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # the connection is gone altogether


class Connection:
    """A connected socket, held by its tcp-socket and its two streams."""

    __slots__ = ("_holders", "_sockets", "ready", "receiving", "sending")

    def __init__(self, sockets: Sockets, ready: Ready) -> None:
        self._sockets = sockets
        self._holders = 3
        self.ready = ready
        self.receiving = Receiving(ready)
        self.sending = Sending(ready)

    def streams(self) -> tuple[TcpInputStream, TcpOutputStream]:
        return TcpInputStream(self), TcpOutputStream(self)

    def release(self) -> None:
        self._holders -= 1
        if self._holders:
            return
        if not self.sending.pending or self.ready.closed:
            self._sockets.close(self.ready)
            return
        self._sockets.detach(self.ready)
        late = asyncio.get_running_loop().call_later(LINGER, self.ready.close)

        def sent() -> None:
            late.cancel()
            self.ready.close()

        self.sending.on_idle(sent)


def _explain(closed: StreamClosed) -> NetworkError:
    return NetworkError(closed.__cause__)


class TcpInputStream(InputStream):
    """The `input-stream` of a connection."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection.receiving, _explain)
        self._connection = connection

    def dropped(self) -> None:
        self._connection.release()


class TcpOutputStream(OutputStream):
    """The `output-stream` of a connection: flushed when the system has taken all of it."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection.sending)
        self._connection = connection

    async def blocking_flush(self) -> None:
        sending = self._connection.sending
        while sending.pending:
            await once(sending.watch)
        sending.room()

    async def blocking_write_and_flush(self, contents: bytes) -> None:
        await super().blocking_write_and_flush(contents)
        await self.blocking_flush()

    def dropped(self) -> None:
        self._connection.release()


class State(enum.Enum):
    UNBOUND = enum.auto()
    BINDING = enum.auto()
    BOUND = enum.auto()
    CONNECTING = enum.auto()
    CONNECTED = enum.auto()
    LISTEN_STARTED = enum.auto()
    LISTENING = enum.auto()
    CLOSED = enum.auto()


class TcpSocket(WithOptions, interface="wasi:sockets/tcp", name="tcp-socket"):
    """`tcp-socket`: in the wrong state a method says `invalid-state`, `not-in-progress` or `concurrency-conflict`."""

    __slots__ = ("_backlog", "_connection", "_ready", "_sockets", "_state")

    def __init__(self, sockets: Sockets, family: str) -> None:
        super().__init__(family)
        sockets.enter()
        self._sockets = sockets
        self._state = State.UNBOUND
        self._ready: Ready | None = None
        self._connection: Connection | None = None
        self._backlog = BACKLOG

    # -- bind

    def start_bind(self, network: Network, local_address: Value) -> None:
        self._expect(State.UNBOUND, in_progress=State.BINDING)
        local = Endpoint.of(local_address)
        if not local.fits(self._family) or not local.unicast:
            raise WitError("invalid-argument")
        self._sockets.check(local, "tcp#start-bind")
        made = self._opened("start-bind").socket
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(local.name())
        except OSError as error:
            raise failed(error) from error
        self._state = State.BINDING

    def finish_bind(self) -> None:
        if self._state is not State.BINDING:
            raise WitError("not-in-progress")
        self._state = State.BOUND

    # -- connect

    def start_connect(self, network: Network, remote_address: Value) -> None:
        self._expect(State.UNBOUND, State.BOUND, in_progress=State.CONNECTING)
        remote = Endpoint.of(remote_address)
        if not remote.fits(self._family) or not remote.unicast or not remote.remote:
            raise WitError("invalid-argument")
        self._sockets.check(remote, "tcp#start-connect")
        number = self._opened("start-connect").socket.connect_ex(remote.name())
        if number not in (0, errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EINTR):
            self._close()
            raise failed(OSError(number, ""))
        self._state = State.CONNECTING

    def finish_connect(self) -> tuple[InputStream, OutputStream]:
        if self._state is not State.CONNECTING:
            raise WitError("not-in-progress")
        ready = self._opened("finish-connect")
        if not ready.writable():
            raise WitError("would-block")
        number = ready.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            self._close()
            raise failed(OSError(number, ""))
        return self._connected(ready)

    def _connected(self, ready: Ready) -> tuple[InputStream, OutputStream]:
        self._ready = ready
        self._state = State.CONNECTED
        self._connection = Connection(self._sockets, ready)
        return self._connection.streams()

    # -- listen

    def start_listen(self) -> None:
        self._expect(State.BOUND, in_progress=State.LISTEN_STARTED)
        self._state = State.LISTEN_STARTED

    def finish_listen(self) -> None:
        if self._state is not State.LISTEN_STARTED:
            raise WitError("not-in-progress")
        try:
            self._opened("finish-listen").socket.listen(self._backlog)
        except OSError as error:
            self._close()
            raise failed(error) from error
        self._state = State.LISTENING

    def accept(self) -> tuple[TcpSocket, InputStream, OutputStream]:
        self._expect(State.LISTENING)
        accepted = TcpSocket(self._sockets, self._family)
        try:
            made, _ = self._opened("accept").socket.accept()
        except OSError as error:
            accepted.dropped()
            if error.errno in _ABORTED:
                raise WitError("connection-aborted") from error
            raise failed(error) from error
        for option, value in self._options.items():
            try:
                options.put(made, option, value)
            except WitError:
                pass  # the connection is gone already; its streams will say so
        return accepted, *accepted._connected(self._sockets.keep(made))

    # -- what it is

    def local_address(self) -> Value:
        self._expect(State.BOUND, State.CONNECTED, State.LISTEN_STARTED, State.LISTENING)
        try:
            return Endpoint.at(self._opened("local-address").socket.getsockname()).wit()
        except OSError as error:
            raise failed(error) from error

    def remote_address(self) -> Value:
        self._expect(State.CONNECTED)
        try:
            return Endpoint.at(self._opened("remote-address").socket.getpeername()).wit()
        except OSError as error:
            raise failed(error) from error

    def is_listening(self) -> bool:
        return self._state is State.LISTENING

    # -- options

    def set_listen_backlog_size(self, value: int) -> None:
        backlog = min(options.positive(value), 2**31 - 1)
        self._expect(State.UNBOUND, State.BOUND, State.LISTENING)
        if self._state is State.LISTENING:
            try:
                self._opened("set-listen-backlog-size").socket.listen(backlog)
            except OSError as error:
                raise WitError("not-supported") from error
        self._backlog = backlog

    def keep_alive_enabled(self) -> bool:
        return self._get(options.KEEP_ALIVE) != 0

    def set_keep_alive_enabled(self, value: bool) -> None:
        self._put(options.KEEP_ALIVE, int(value))

    def keep_alive_idle_time(self) -> int:
        return self._get(options.KEEP_IDLE) * options.SECOND

    def set_keep_alive_idle_time(self, value: int) -> None:
        self._put(options.KEEP_IDLE, options.seconds(value))

    def keep_alive_interval(self) -> int:
        return self._get(options.KEEP_INTERVAL) * options.SECOND

    def set_keep_alive_interval(self, value: int) -> None:
        self._put(options.KEEP_INTERVAL, options.seconds(value))

    def keep_alive_count(self) -> int:
        return self._get(options.KEEP_COUNT)

    def set_keep_alive_count(self, value: int) -> None:
        self._put(options.KEEP_COUNT, options.positive(value))

    def hop_limit(self) -> int:
        return self._hop_limit()

    def set_hop_limit(self, value: int) -> None:
        self._set_hop_limit(value)

    def _socket(self) -> socket.socket:
        self._alive()
        return self._opened("options").socket

    # -- waiting and ending

    def subscribe(self) -> Pollable:
        return Pollable(self._is_ready, self._watch)

    def _is_ready(self) -> bool:
        match self._state, self._ready:
            case State.CONNECTING, Ready() as ready:
                return ready.writable()
            case State.LISTENING, Ready() as ready:
                return ready.readable()
            case _:
                return True

    def _watch(self, waiter: asyncio.Future[None]) -> Callable[[], object]:
        match self._state, self._ready:
            case State.CONNECTING, Ready() as ready:
                return ready.watch_writable(waiter)
            case State.LISTENING, Ready() as ready:
                return ready.watch_readable(waiter)
            case _:
                wake(waiter)
                return nothing

    def shutdown(self, shutdown_type: str) -> None:
        self._expect(State.CONNECTED, in_progress=State.CONNECTING)
        assert self._connection is not None
        if shutdown_type in ("receive", "both"):
            self._connection.receiving.ended = True
            try:
                self._connection.ready.socket.shutdown(socket.SHUT_RD)
            except OSError:
                pass  # the peer was first
        if shutdown_type in ("send", "both"):
            self._connection.sending.finish()

    def dropped(self) -> None:
        self._sockets.leave()
        self._close()

    def _expect(self, *states: State, in_progress: State | None = None) -> None:
        if self._state is in_progress:
            raise WitError("concurrency-conflict")
        if self._state not in states:
            raise WitError("invalid-state")

    def _alive(self) -> None:
        if self._state in (State.CONNECTING, State.CLOSED):
            raise WitError("invalid-state")

    def _opened(self, function: str) -> Ready:
        if self._ready is None:
            self._ready = self._sockets.open(self._family, socket.SOCK_STREAM, f"tcp#{function}")
        return self._ready

    def _close(self) -> None:
        self._state = State.CLOSED
        connection, self._connection = self._connection, None
        ready, self._ready = self._ready, None
        if connection is not None:
            connection.release()
        elif ready is not None:
            self._sockets.close(ready)


@serves("wasi:sockets/tcp", TcpSocket)
class Tcp:
    """Has no functions of its own."""


@serves("wasi:sockets/tcp-create-socket")
class TcpCreateSocket:
    @staticmethod
    def create_tcp_socket(guest: Guest, address_family: str) -> TcpSocket:
        return TcpSocket(guest.kept(Sockets), address_family)
