"""Allow-lists of hosts and ports: what an actor's sockets and requests may reach.

| pattern              | allows                                                       |
|----------------------|--------------------------------------------------------------|
| example.com:443      | that name, in any case, with or without the dot at its end   |
| *.example.com:443    | every name below it, not example.com itself                  |
| 192.0.2.7:80         | that address; an IPv6 address in brackets: [2001:db8::7]:80  |
| 10.0.0.0/8:5432      | every address of the network; [2001:db8::/32]:5432           |
| *:443                | every name and every address                                 |
| HOST:*               | every port of it                                             |

A name is allowed by patterns of names only, an address by patterns of addresses only (and either by `*`): a name that
happens to lead into an allowed network is not allowed by that, and the address of an allowed name is not allowed by
itself. Nothing here looks a name up.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import idna

Address: TypeAlias = "ipaddress.IPv4Address | ipaddress.IPv6Address"
Network: TypeAlias = "ipaddress.IPv4Network | ipaddress.IPv6Network"

ANY = "*"
NAME_LIMIT = 253
FORM = "HOST:PORT, such as example.com:443, *.example.com:443, 10.0.0.0/8:*, [::1]:80 or *:443"

_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_PORT = re.compile(r"[0-9]{1,5}")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


def address(text: str) -> Address | None:
    """The address that `text` spells, brackets allowed; None when it spells none.

    An IPv4 address inside an IPv6 one (`::ffff:10.0.0.1`) is the IPv4 address: that is where packets to it go.
    """
    bracketed = text.startswith("[") and text.endswith("]")
    inner = text[1:-1] if bracketed else text
    if "%" in inner:
        return None
    try:
        found = ipaddress.ip_address(inner)
    except ValueError:
        return None
    return None if bracketed and found.version == 4 else plain(found)


def plain(found: Address) -> Address:
    """`found`, or the IPv4 address that is mapped into it."""
    return getattr(found, "ipv4_mapped", None) or found


@lru_cache(maxsize=1024)
def name(text: str) -> str:
    """A host name the one way it is compared and looked up: A-labels, lower case, no dot at the end.

    Raises ValueError for what is no name. A name whose last label is a number is none: resolvers read such "names" as
    addresses (`127.1`, `0x7f000001`).
    """
    trimmed = text.removesuffix(".")
    if not trimmed.isascii():
        try:
            trimmed = idna.encode(trimmed, uts46=True, transitional=False).decode()
        except idna.IDNAError as error:
            raise ValueError(f"{text!r} is not a host name: {error}") from None
    lower = trimmed.lower()
    labels = lower.split(".")
    if len(lower) > NAME_LIMIT or not all(_LABEL.fullmatch(label) for label in labels) or _NUMBER.fullmatch(labels[-1]):
        raise ValueError(f"{text!r} is not a host name")
    return lower


def split(authority: str) -> tuple[str, int | None]:
    """(host, port) of `host[:port]`; an IPv6 address keeps its brackets. Raises ValueError, also for user names."""
    match = re.fullmatch(r"(\[[^\[\]@]*\]|[^\[\]:@/]+)(?::([0-9]{0,5}))?", authority)
    if match is None or (match[2] and int(match[2]) > 65535):
        raise ValueError(f"{authority!r} is not HOST or HOST:PORT")
    return match[1], int(match[2]) if match[2] else None


def shown(host: str | Address, port: int) -> str:
    """`host:port`, as it is written in a pattern."""
    return f"[{host}]:{port}" if ":" in str(host) and not str(host).startswith("[") else f"{host}:{port}"


@dataclass(frozen=True, slots=True)
class Pattern:
    """One line of an allow-list. `host` is `*`, a name, a suffix that begins with a dot, or a network."""

    host: str | Network
    ports: frozenset[int] | None
    """None: every port."""
    text: str

    @classmethod
    def parse(cls, text: str, default_ports: tuple[int, ...] = ()) -> Pattern:
        """Raises ValueError with the forms there are. Without `default_ports` the port must be written."""
        host, port = _host_and_port(text.strip())
        if port is None and not default_ports:
            raise ValueError(f"{text!r} names no port; expected {FORM}")
        try:
            ports = frozenset(default_ports) if port is None else _ports(port)
            return cls(_host(host), ports, text.strip())
        except ValueError as error:
            raise ValueError(f"{text!r} is not something to allow ({error}); expected {FORM}") from None

    def has_port(self, port: int) -> bool:
        return self.ports is None or port in self.ports

    def has_name(self, host: str) -> bool:
        """`host` as `name()` gives it."""
        if not isinstance(self.host, str):
            return False
        return self.host == ANY or (host.endswith(self.host) if self.host.startswith(".") else host == self.host)

    def has_address(self, host: Address) -> bool:
        """`host` as `plain()` gives it."""
        if isinstance(self.host, str):
            return self.host == ANY
        return host.version == self.host.version and host in self.host


def _host_and_port(text: str) -> tuple[str, str | None]:
    if match := re.fullmatch(r"(\[[^\]]*\](?:/[0-9]+)?)(?::(.*))?", text):
        return match[1], match[2]
    host, colon, port = text.partition(":")
    if ":" in port:
        raise ValueError(f"{text!r}: an IPv6 address is written in brackets; expected {FORM}")
    return host, port if colon else None


def _ports(text: str) -> frozenset[int] | None:
    if text == ANY:
        return None
    if not _PORT.fullmatch(text) or int(text) > 65535:
        raise ValueError(f"the port is {text!r}, not a number up to 65535 or *")
    return frozenset((int(text),))


def _host(text: str) -> str | Network:
    if text == ANY:
        return ANY
    if text.startswith("*."):
        return "." + name(text[2:])
    bare = re.sub(r"^\[(.*)\](/[0-9]+)?$", r"\1\2", text)
    if text.startswith("[") and ":" not in bare:
        raise ValueError("brackets are for IPv6 addresses")
    if "/" not in bare:
        found = address(bare)
        return name(text) if found is None else ipaddress.ip_network(found)
    network = ipaddress.ip_network(bare)  # strict: bits beyond the prefix are a slip of somebody's
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is not None and network.prefixlen >= 96:
        return ipaddress.ip_network((mapped, network.prefixlen - 96))
    return network


class AllowList:
    """Patterns, and whether they allow something. One without patterns allows nothing."""

    __slots__ = ("patterns",)

    def __init__(self, patterns: Iterable[Pattern]) -> None:
        self.patterns = tuple(patterns)

    @classmethod
    def parse(cls, texts: Iterable[str], default_ports: tuple[int, ...] = ()) -> AllowList:
        """Raises ValueError for the first text that is no pattern."""
        return cls(Pattern.parse(text, default_ports) for text in texts)

    def __bool__(self) -> bool:
        return bool(self.patterns)

    def for_name(self, host: str) -> tuple[Pattern, ...]:
        """The patterns that allow the name `host`, on their ports. Raises ValueError when it is no name."""
        known = name(host)
        return tuple(pattern for pattern in self.patterns if pattern.has_name(known))

    def allows_address(self, host: Address, port: int) -> bool:
        host = plain(host)
        return any(pattern.has_port(port) and pattern.has_address(host) for pattern in self.patterns)

    def allows(self, host: str, port: int) -> bool:
        """`host` as an authority has it: a name, an IPv4 address, or an IPv6 address in brackets."""
        literal = address(host) if host.startswith("[") or ":" not in host else None
        if literal is not None:
            return self.allows_address(literal, port)
        try:
            return any(pattern.has_port(port) for pattern in self.for_name(host))
        except ValueError:
            return False


WEB_PORTS = (80, 443)
"""What a pattern without a port stands for where requests are meant."""


@lru_cache(maxsize=256)
def allow_list(texts: tuple[str, ...], default_ports: tuple[int, ...] = ()) -> AllowList:
    """`AllowList.parse`, once per list: an actor's grants are looked at in every call."""
    return AllowList.parse(texts, default_ports)
