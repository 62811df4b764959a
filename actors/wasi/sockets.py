"""wasi:sockets: linkable and denied. An actor reaches the world through its links."""

from __future__ import annotations

from typing import NoReturn

from actors.guest import Guest
from actors.host_api import Resource, serves
from actors.wasi.denials import denied
from lattice import WitError

GRANT = "none: actors open no sockets; link the actor to a provider (wasi:http/outgoing-handler, wasi:keyvalue, ...)"


class Network(Resource, interface="wasi:sockets/network", name="network"):
    """`network`: opens nothing."""


class TcpSocket(Resource, interface="wasi:sockets/tcp", name="tcp-socket"):
    """`tcp-socket`: no guest is given one, so its methods cannot be reached."""


class UdpSocket(Resource, interface="wasi:sockets/udp", name="udp-socket"):
    """`udp-socket`: no guest is given one."""


class IncomingDatagramStream(Resource, interface="wasi:sockets/udp", name="incoming-datagram-stream"):
    """`incoming-datagram-stream`: no guest is given one."""


class OutgoingDatagramStream(Resource, interface="wasi:sockets/udp", name="outgoing-datagram-stream"):
    """`outgoing-datagram-stream`: no guest is given one."""


class ResolveAddressStream(Resource, interface="wasi:sockets/ip-name-lookup", name="resolve-address-stream"):
    """`resolve-address-stream`: no guest is given one."""


def _refuse(guest: Guest, interface: str, function: str) -> NoReturn:
    denied(guest, interface, function, GRANT)
    raise WitError("access-denied")


@serves("wasi:sockets/network", Network)
class Networks:
    """Has no functions that an actor could use: no stream breaks because of a socket."""

    @staticmethod
    def network_error_code(guest: Guest, error: object) -> str | None:
        return None


@serves("wasi:sockets/instance-network")
class InstanceNetwork:
    @staticmethod
    def instance_network(guest: Guest) -> Network:
        return Network()


@serves("wasi:sockets/tcp", TcpSocket)
class Tcp:
    """Has no functions of its own."""


@serves("wasi:sockets/tcp-create-socket")
class TcpCreateSocket:
    @staticmethod
    def create_tcp_socket(guest: Guest, address_family: str) -> TcpSocket:
        _refuse(guest, "wasi:sockets/tcp-create-socket", "create-tcp-socket")


@serves("wasi:sockets/udp", UdpSocket, IncomingDatagramStream, OutgoingDatagramStream)
class Udp:
    """Has no functions of its own."""


@serves("wasi:sockets/udp-create-socket")
class UdpCreateSocket:
    @staticmethod
    def create_udp_socket(guest: Guest, address_family: str) -> UdpSocket:
        _refuse(guest, "wasi:sockets/udp-create-socket", "create-udp-socket")


@serves("wasi:sockets/ip-name-lookup", ResolveAddressStream)
class IpNameLookup:
    @staticmethod
    def resolve_addresses(guest: Guest, network: Network, name: str) -> ResolveAddressStream:
        _refuse(guest, "wasi:sockets/ip-name-lookup", "resolve-addresses")
