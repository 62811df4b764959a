"""Socket options, as wasi:sockets wants them: never 0, out-of-range values clamped, buffers as they were asked for."""

from __future__ import annotations

import errno
import socket
import sys
from typing import NamedTuple

from actors.host_api import Resource
from actors.wasi.sockets.network import failed
from lattice import WitError

SECOND = 10**9


class Option(NamedTuple):
    level: int
    number: int
    most: int


KEEP_ALIVE = Option(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
KEEP_IDLE = Option(socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPIDLE", getattr(socket, "TCP_KEEPALIVE", 0)), 2**15 - 1)
KEEP_INTERVAL = Option(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 2**15 - 1)
KEEP_COUNT = Option(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2**7 - 1)
RECEIVE_BUFFER = Option(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**31 - 1)
SEND_BUFFER = Option(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**31 - 1)
HOP_LIMIT = {
    "ipv4": Option(socket.IPPROTO_IP, socket.IP_TTL, 255),
    "ipv6": Option(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 255),
}

_BUFFERS = (RECEIVE_BUFFER, SEND_BUFFER)
_DOUBLED = sys.platform == "linux"
"""Linux keeps, and reports, twice the buffer size that was asked for."""


def get(of: socket.socket, option: Option) -> int:
    """Raises WitError."""
    try:
        value = of.getsockopt(option.level, option.number)
    except OSError as error:
        raise failed(error) from error
    return value // 2 if _DOUBLED and option in _BUFFERS else value


def put(of: socket.socket, option: Option, value: int) -> None:
    """Raises WitError; a buffer larger than the system gives is a wish, not an error."""
    try:
        of.setsockopt(option.level, option.number, min(value, option.most))
    except OSError as error:
        if error.errno != errno.ENOBUFS or option not in _BUFFERS:
            raise failed(error) from error


class WithOptions(Resource):
    """What a tcp-socket and a udp-socket have in common."""

    __slots__ = ("_family", "_options")

    def __init__(self, family: str) -> None:
        self._family = family
        self._options: dict[Option, int] = {}
        """Those that the guest set."""

    def _socket(self) -> socket.socket:
        """The system's socket, while options can be asked of it. Raises WitError."""
        raise NotImplementedError

    def address_family(self) -> str:
        return self._family

    def receive_buffer_size(self) -> int:
        return self._get(RECEIVE_BUFFER)

    def set_receive_buffer_size(self, value: int) -> None:
        self._put(RECEIVE_BUFFER, positive(value))

    def send_buffer_size(self) -> int:
        return self._get(SEND_BUFFER)

    def set_send_buffer_size(self, value: int) -> None:
        self._put(SEND_BUFFER, positive(value))

    def _hop_limit(self) -> int:
        return self._get(HOP_LIMIT[self._family])

    def _set_hop_limit(self, value: int) -> None:
        self._put(HOP_LIMIT[self._family], positive(value))

    def _get(self, option: Option) -> int:
        return get(self._socket(), option)

    def _put(self, option: Option, value: int) -> None:
        put(self._socket(), option, value)
        self._options[option] = value


def positive(value: int) -> int:
    """Raises WitError(invalid-argument) for 0."""
    if value == 0:
        raise WitError("invalid-argument")
    return value


def seconds(duration: int) -> int:
    """Of a `duration` in nanoseconds: at least 1. Raises WitError(invalid-argument) for 0."""
    return max(1, positive(duration) // SECOND)
