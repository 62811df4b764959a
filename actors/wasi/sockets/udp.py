"""wasi:sockets/udp and udp-create-socket.

Sending needs a grant for each address sent to, binding one for the local address. A guest with any grant may also bind
to a free port of the unspecified address, as every client must; on such a socket it gets only datagrams of addresses
that it may send to.
"""

from __future__ import annotations

import asyncio
import enum
import socket
from collections.abc import Callable

from actors.guest import Guest
from actors.host_api import Resource, serves
from actors.wasi.io import Pollable, nothing, wake
from actors.wasi.sockets import options
from actors.wasi.sockets.network import Endpoint, Network, Sockets, failed
from actors.wasi.sockets.options import WithOptions
from actors.wasi.sockets.ready import Ready
from lattice import Trap, Value, WitError

DATAGRAM_LIMIT = 65535
"""Bytes."""
AT_ONCE = 16
"""Datagrams that one `receive` gives, and one `check-send` permits, at most."""
LOOKS = 64
"""Datagrams that one `receive` looks at; those from elsewhere are left out."""


class State(enum.Enum):
    UNBOUND = enum.auto()
    BINDING = enum.auto()
    BOUND = enum.auto()
    CONNECTED = enum.auto()
    CLOSED = enum.auto()


class Port:
    """A UDP socket of the operating system, held by its udp-socket and the streams of it."""

    __slots__ = ("_holders", "_sockets", "bound", "client", "ready", "remote")

    def __init__(self, sockets: Sockets, ready: Ready) -> None:
        self._sockets = sockets
        self._holders = 1
        self.ready = ready
        self.bound: Endpoint | None = None
        self.remote: Endpoint | None = None
        self.client = False
        """Bound without a grant for the local address."""

    @property
    def streaming(self) -> bool:
        return self._holders > 1

    def hold(self) -> None:
        self._holders += 1

    def release(self) -> None:
        self._holders -= 1
        if not self._holders:
            self._sockets.close(self.ready)

    def welcome(self, sender: Endpoint) -> bool:
        """The guest may have a datagram from there."""
        if self.remote is not None:
            return (sender.ip, sender.port) == (self.remote.ip, self.remote.port)
        return not self.client or self._sockets.allows(sender)

    def check(self, remote: Endpoint, function: str) -> None:
        self._sockets.check(remote, function)


class UdpSocket(WithOptions, interface="wasi:sockets/udp", name="udp-socket"):
    """`udp-socket`"""

    __slots__ = ("_port", "_sockets", "_state")

    def __init__(self, sockets: Sockets, family: str) -> None:
        super().__init__(family)
        sockets.enter()
        self._sockets = sockets
        self._state = State.UNBOUND
        self._port: Port | None = None

    def start_bind(self, network: Network, local_address: Value) -> None:
        if self._state is State.BINDING:
            raise WitError("concurrency-conflict")
        self._expect(State.UNBOUND)
        local = Endpoint.of(local_address)
        if not local.fits(self._family):
            raise WitError("invalid-argument")
        client = self._sockets.any_granted and local.ip.is_unspecified and local.port == 0
        if client:
            client = not self._sockets.allows(local)
        else:
            self._sockets.check(local, "udp#start-bind")
        port = self._opened("start-bind")
        try:
            port.ready.socket.bind(local.name())
            port.bound = Endpoint.at(port.ready.socket.getsockname())
        except OSError as error:
            raise failed(error) from error
        port.client = client
        self._state = State.BINDING

    def finish_bind(self) -> None:
        if self._state is not State.BINDING:
            raise WitError("not-in-progress")
        self._state = State.BOUND

    def stream(self, remote_address: Value) -> tuple[IncomingDatagramStream, OutgoingDatagramStream]:
        """Traps while streams of an earlier call are alive. With an address: to and from that one only."""
        self._expect(State.BOUND, State.CONNECTED)
        port = self._opened("stream")
        if port.streaming:
            raise Trap("udp-socket.stream was called before the streams of the last call were dropped")
        remote = None if remote_address is None else Endpoint.of(remote_address)
        if remote is not None:
            if not remote.fits(self._family) or not remote.remote:
                raise WitError("invalid-argument")
            port.check(remote, "udp#stream")
        if port.remote is not None:
            port = self._disconnected(port)
        if remote is not None:
            try:
                port.ready.socket.connect(remote.name())
            except OSError as error:
                raise failed(error) from error
            port.remote = remote
            self._state = State.CONNECTED
        return IncomingDatagramStream(port), OutgoingDatagramStream(port, self._family)

    def _disconnected(self, port: Port) -> Port:
        """The same local address on a new socket, since Python cannot dissolve an association."""
        assert port.bound is not None
        self._port = None
        self._state = State.CLOSED
        port.release()
        fresh = self._opened("stream")
        fresh.bound, fresh.client = port.bound, port.client
        for option, value in self._options.items():
            options.put(fresh.ready.socket, option, value)
        try:
            fresh.ready.socket.bind(port.bound.name())
        except OSError as error:
            raise failed(error) from error
        self._state = State.BOUND
        return fresh

    def local_address(self) -> Value:
        self._expect(State.BOUND, State.CONNECTED)
        try:
            return Endpoint.at(self._opened("local-address").ready.socket.getsockname()).wit()
        except OSError as error:
            raise failed(error) from error

    def remote_address(self) -> Value:
        self._expect(State.CONNECTED)
        remote = self._opened("remote-address").remote
        assert remote is not None
        return remote.wit()

    def unicast_hop_limit(self) -> int:
        return self._hop_limit()

    def set_unicast_hop_limit(self, value: int) -> None:
        self._set_hop_limit(value)

    def subscribe(self) -> Pollable:
        """Always ready: nothing that a udp-socket does takes time."""
        return Pollable(lambda: True, _at_once)

    def dropped(self) -> None:
        self._sockets.leave()
        self._state = State.CLOSED
        port, self._port = self._port, None
        if port is not None:
            port.release()

    def _socket(self) -> socket.socket:
        return self._opened("options").ready.socket

    def _expect(self, *states: State) -> None:
        if self._state not in states:
            raise WitError("invalid-state")

    def _opened(self, function: str) -> Port:
        if self._port is None:
            ready = self._sockets.open(self._family, socket.SOCK_DGRAM, f"udp#{function}")
            self._port = Port(self._sockets, ready)
        return self._port


def _at_once(waiter: asyncio.Future[None]) -> Callable[[], object]:
    wake(waiter)
    return nothing


class IncomingDatagramStream(Resource, interface="wasi:sockets/udp", name="incoming-datagram-stream"):
    """`incoming-datagram-stream`: datagrams wait in the operating system, nowhere else."""

    __slots__ = ("_port",)

    def __init__(self, port: Port) -> None:
        port.hold()
        self._port = port

    def receive(self, max_results: int) -> list[Value]:
        """Those that are there, none included. Raises WitError when the first thing there is an error."""
        datagrams: list[Value] = []
        for _ in range(LOOKS):
            if len(datagrams) >= min(max_results, AT_ONCE):
                break
            try:
                data, name = self._port.ready.socket.recvfrom(DATAGRAM_LIMIT)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                if datagrams:
                    break
                raise failed(error) from error
            sender = Endpoint.at(name)
            if self._port.welcome(sender):
                datagrams.append({"data": data, "remote-address": sender.wit()})
        return datagrams

    def subscribe(self) -> Pollable:
        return Pollable(self._port.ready.readable, self._port.ready.watch_readable)

    def dropped(self) -> None:
        self._port.release()


class OutgoingDatagramStream(Resource, interface="wasi:sockets/udp", name="outgoing-datagram-stream"):
    """`outgoing-datagram-stream`"""

    __slots__ = ("_family", "_full", "_permit", "_port")

    def __init__(self, port: Port, family: str) -> None:
        port.hold()
        self._port = port
        self._family = family
        self._permit = 0
        self._full = False

    def check_send(self) -> int:
        """Datagrams that the next `send` may bring."""
        self._permit = AT_ONCE if self._writable() else 0
        return self._permit

    def send(self, datagrams: list[Value]) -> int:
        """How many were sent. Raises WitError when the first was not; more than `check-send` permitted traps."""
        if len(datagrams) > self._permit:
            raise Trap(f"outgoing-datagram-stream.send of {len(datagrams)} where check-send permitted {self._permit}")
        self._permit = 0
        for count, datagram in enumerate(datagrams):
            try:
                self._send(datagram["data"], datagram["remote-address"])
            except (BlockingIOError, InterruptedError):
                self._full = True
                return count
            except OSError as error:
                if not count:
                    raise failed(error) from error
                return count
            except WitError:
                if not count:
                    raise
                return count
        return len(datagrams)

    def _send(self, data: bytes, remote_address: Value) -> None:
        if len(data) > DATAGRAM_LIMIT:
            raise WitError("datagram-too-large")
        port = self._port
        remote = port.remote if remote_address is None else Endpoint.of(remote_address)
        if remote is None or not remote.fits(self._family) or not remote.remote:
            raise WitError("invalid-argument")
        if port.remote is None:
            port.check(remote, "udp#send")
            port.ready.socket.sendto(data, remote.name())
        elif port.welcome(remote):
            port.ready.socket.send(data)
        else:
            raise WitError("invalid-argument")

    def subscribe(self) -> Pollable:
        return Pollable(self._writable, self._port.ready.watch_writable)

    def _writable(self) -> bool:
        if self._full and self._port.ready.writable():
            self._full = False
        return not self._full

    def dropped(self) -> None:
        self._port.release()


@serves("wasi:sockets/udp", UdpSocket, IncomingDatagramStream, OutgoingDatagramStream)
class Udp:
    """Has no functions of its own."""


@serves("wasi:sockets/udp-create-socket")
class UdpCreateSocket:
    @staticmethod
    def create_udp_socket(guest: Guest, address_family: str) -> UdpSocket:
        return UdpSocket(guest.kept(Sockets), address_family)
