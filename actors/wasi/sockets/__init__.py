"""wasi:sockets: TCP, UDP and name lookup, within what `Grants.network` allows; without a grant, access-denied."""

from actors.wasi.sockets import lookup, network, tcp, udp

__all__ = ["lookup", "network", "tcp", "udp"]
