"""wasi:sockets/network and instance-network: addresses, error codes, and what a guest may reach."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
from collections.abc import Coroutine, Iterable
from typing import Any, NamedTuple, NoReturn, TypeVar

from actors.denials import denied
from actors.guest import Guest
from actors.host_api import Resource, serves
from actors.wasi.io import IoError
from actors.wasi.sockets.ready import Ready
from lattice import Trap, Value, WitError
from lattice.allow import Address, Pattern, allow_list, plain, shown

Found = TypeVar("Found")

MOST_SOCKETS = 64
"""In one instance; more get `new-socket-limit`."""
MOST_LOOKUPS = 16
"""Under way in one instance; more get `temporary-resolver-failure`."""
MOST_LEARNED = 1024
"""Addresses of granted names that one instance remembers; the oldest are forgotten."""

FAMILIES = {"ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}

ERROR_CODES = {
    errno.EPERM: "access-denied",
    errno.EACCES: "access-denied",
    errno.EADDRINUSE: "address-in-use",
    errno.EADDRNOTAVAIL: "address-not-bindable",
    errno.ETIMEDOUT: "timeout",
    errno.ECONNREFUSED: "connection-refused",
    errno.ECONNRESET: "connection-reset",
    errno.EPIPE: "connection-reset",
    errno.ECONNABORTED: "connection-aborted",
    errno.EINVAL: "invalid-argument",
    errno.EHOSTUNREACH: "remote-unreachable",
    errno.EHOSTDOWN: "remote-unreachable",
    errno.ENETDOWN: "remote-unreachable",
    errno.ENETUNREACH: "remote-unreachable",
    errno.EISCONN: "invalid-state",
    errno.ENOTCONN: "invalid-state",
    errno.EDESTADDRREQ: "invalid-state",
    errno.EMSGSIZE: "datagram-too-large",
    errno.EMFILE: "new-socket-limit",
    errno.ENFILE: "new-socket-limit",
    errno.ENOMEM: "out-of-memory",
    errno.ENOBUFS: "out-of-memory",
    errno.EOPNOTSUPP: "not-supported",
    errno.ENOPROTOOPT: "not-supported",
    errno.EPFNOSUPPORT: "not-supported",
    errno.EPROTONOSUPPORT: "not-supported",
    errno.EPROTOTYPE: "not-supported",
    errno.EAFNOSUPPORT: "not-supported",
    errno.EAGAIN: "would-block",
    errno.EWOULDBLOCK: "would-block",
}
"""`error-code` of what the operating system says; anything else is `unknown`."""


def error_code(number: int | None) -> str:
    return "unknown" if number is None else ERROR_CODES.get(number, "unknown")


def failed(error: OSError) -> WitError:
    """What a guest is told of `error`."""
    return WitError(error_code(error.errno))


class NetworkError(IoError):
    """An `error` that `network-error-code` finds a code in."""

    __slots__ = ("code",)

    def __init__(self, error: BaseException | None) -> None:
        number = error.errno if isinstance(error, OSError) else None
        self.code = error_code(number)
        super().__init__(f"{self.code}: {error}")


class Endpoint(NamedTuple):
    """`ip-socket-address`."""

    ip: Address
    port: int
    flow: int = 0
    scope: int = 0

    @classmethod
    def of(cls, value: Value) -> Endpoint:
        """From the WIT variant."""
        (family, fields), *_ = value.items()
        if family == "ipv4":
            return cls(ipaddress.IPv4Address(bytes(fields["address"])), fields["port"])
        packed = b"".join(part.to_bytes(2, "big") for part in fields["address"])
        return cls(ipaddress.IPv6Address(packed), fields["port"], fields["flow-info"], fields["scope-id"])

    @classmethod
    def at(cls, name: tuple[str, int] | tuple[str, int, int, int]) -> Endpoint:
        """From what the socket module says."""
        host = name[0].partition("%")[0]
        return cls(ipaddress.ip_address(host), *name[1:])

    def wit(self) -> Value:
        if self.ip.version == 4:
            return {"ipv4": {"port": self.port, "address": tuple(self.ip.packed)}}
        return {"ipv6": {"port": self.port, "flow-info": self.flow, "scope-id": self.scope, "address": parts(self.ip)}}

    def name(self) -> tuple[str, int] | tuple[str, int, int, int]:
        """As the socket module wants it."""
        return (str(self.ip), self.port) if self.ip.version == 4 else (str(self.ip), self.port, self.flow, self.scope)

    def fits(self, family: str) -> bool:
        """It is of this `ip-address-family`: IPv4 addresses inside IPv6 ones are of none."""
        if isinstance(self.ip, ipaddress.IPv4Address):
            return family == "ipv4"
        return family == "ipv6" and self.ip.ipv4_mapped is None and not _ipv4_compatible(self.ip)

    @property
    def unicast(self) -> bool:
        return not self.ip.is_multicast and str(self.ip) != "255.255.255.255"

    @property
    def remote(self) -> bool:
        """Something could be there."""
        return self.port != 0 and not self.ip.is_unspecified

    def __str__(self) -> str:
        return shown(self.ip, self.port)


def _ipv4_compatible(ip: ipaddress.IPv6Address) -> bool:
    return int(ip) >> 32 == 0 and int(ip) > 1


def parts(ip: Address) -> tuple[int, ...]:
    """`ipv6-address`"""
    return tuple(int.from_bytes(ip.packed[at : at + 2], "big") for at in range(0, 16, 2))


def ip_address(ip: Address) -> Value:
    """`ip-address`"""
    return {"ipv4": tuple(ip.packed)} if ip.version == 4 else {"ipv6": parts(ip)}


class Sockets:
    """All sockets of one instance, and what it may reach. Raises Trap when a grant is no pattern."""

    __slots__ = ("_allow", "_count", "_guest", "_learned", "_lookups", "_open")

    def __init__(self, guest: Guest) -> None:
        try:
            self._allow = allow_list(guest.grants.network)
        except ValueError as error:
            raise Trap(f'"{guest.actor}" has a network grant that cannot be used: {error}') from error
        self._guest = guest
        self._count = 0
        self._learned: dict[Address, frozenset[Pattern]] = {}
        self._lookups: set[asyncio.Task[Any]] = set()
        self._open: set[Ready] = set()
        guest.on_end.append(self._end)

    # -- what it may reach

    @property
    def any_granted(self) -> bool:
        return bool(self._allow)

    def named(self, name: str) -> tuple[Pattern, ...]:
        """The grants that allow the name. Raises ValueError when it is none."""
        return self._allow.for_name(name)

    def learn(self, found: Iterable[Address], patterns: tuple[Pattern, ...]) -> None:
        """These are the addresses of a name that `patterns` allow: they allow the addresses too, on their ports."""
        for ip in found:
            known = self._learned.pop(plain(ip), frozenset())
            self._learned[plain(ip)] = known.union(patterns)
        while len(self._learned) > MOST_LEARNED:
            del self._learned[next(iter(self._learned))]

    def allows(self, endpoint: Endpoint) -> bool:
        learned = self._learned.get(plain(endpoint.ip), ())
        return self._allow.allows_address(endpoint.ip, endpoint.port) or any(
            pattern.has_port(endpoint.port) for pattern in learned
        )

    def check(self, endpoint: Endpoint, function: str) -> None:
        """Raises WitError(access-denied), and says which grant is missing. `function` is `interface#name`."""
        if not self.allows(endpoint):
            self.refuse(function, f'the network grant "{endpoint}"')

    def refuse(self, function: str, grant: str) -> NoReturn:
        """Raises WitError(access-denied)."""
        interface, _, name = function.partition("#")
        denied(self._guest, f"wasi:sockets/{interface}", name, grant)
        raise WitError("access-denied")

    # -- what it has

    def enter(self) -> None:
        """One more socket. Raises WitError(new-socket-limit)."""
        if self._count >= MOST_SOCKETS:
            raise WitError("new-socket-limit")
        self._count += 1

    def leave(self) -> None:
        self._count -= 1

    def open(self, family: str, kind: socket.SocketKind, function: str) -> Ready:
        """A socket of the operating system. Raises WitError; for a guest without any grant there is none."""
        if not self._allow:
            self.refuse(function, "a network grant for the addresses it is meant to reach")
        try:
            made = socket.socket(FAMILIES[family], kind)
            try:
                if family == "ipv6":
                    made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                return self.keep(made)
            except BaseException:
                made.close()
                raise
        except OSError as error:
            raise failed(error) from error

    def keep(self, made: socket.socket) -> Ready:
        """`made`, closed at the latest when the instance ends."""
        ready = Ready(made)
        self._open.add(ready)
        return ready

    def look_up(self, find: Coroutine[Any, Any, Found]) -> asyncio.Task[Found]:
        """`find` as a task, cancelled when the instance ends. Raises WitError(temporary-resolver-failure)."""
        if len(self._lookups) >= MOST_LOOKUPS:
            find.close()
            raise WitError("temporary-resolver-failure")
        lookup = asyncio.get_running_loop().create_task(find)
        self._lookups.add(lookup)
        lookup.add_done_callback(self._looked_up)
        return lookup

    def _looked_up(self, lookup: asyncio.Task[Any]) -> None:
        self._lookups.discard(lookup)
        if not lookup.cancelled():
            lookup.exception()  # a guest may end without looking at what became of its lookup

    def close(self, ready: Ready) -> None:
        self._open.discard(ready)
        ready.close()

    def detach(self, ready: Ready) -> None:
        """It may outlive the instance; whoever calls this closes it."""
        self._open.discard(ready)

    def _end(self) -> None:
        for lookup in self._lookups:
            lookup.cancel()
        while self._open:
            self._open.pop().close()


class Network(Resource, interface="wasi:sockets/network", name="network"):
    """`network`: which one is meant; what may be reached through it is the actor's grants."""


@serves("wasi:sockets/network", Network)
class Networks:
    @staticmethod
    def network_error_code(guest: Guest, error: IoError) -> str | None:
        return error.code if isinstance(error, NetworkError) else None


@serves("wasi:sockets/instance-network")
class InstanceNetwork:
    @staticmethod
    def instance_network(guest: Guest) -> Network:
        return Network()
