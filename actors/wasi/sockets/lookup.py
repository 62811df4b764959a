"""wasi:sockets/ip-name-lookup: the host's own resolver, for granted names only."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from actors.guest import Guest
from actors.host_api import Resource, serves
from actors.wasi.io import Pollable, nothing, wake
from actors.wasi.sockets.network import Network, Sockets, ip_address
from lattice import Value, WitError
from lattice.allow import Address, address, name

MOST_ADDRESSES = 64
"""Of one name; more are left out."""

RESOLVERS = ThreadPoolExecutor(8, thread_name_prefix="lookup")
"""Threads of their own, so that slow name servers keep nothing else waiting."""

_CODES = {
    socket.EAI_AGAIN: "temporary-resolver-failure",
    socket.EAI_MEMORY: "out-of-memory",
    socket.EAI_NONAME: "name-unresolvable",
    getattr(socket, "EAI_NODATA", socket.EAI_NONAME): "name-unresolvable",
    getattr(socket, "EAI_ADDRFAMILY", socket.EAI_NONAME): "name-unresolvable",
}

Lookup = asyncio.Task[list[Address]]


class ResolveAddressStream(Resource, interface="wasi:sockets/ip-name-lookup", name="resolve-address-stream"):
    """`resolve-address-stream`: addresses that are there already, or those that `lookup` finds."""

    __slots__ = ("_failure", "_found", "_lookup")

    def __init__(self, found: Iterable[Address] = (), lookup: Lookup | None = None) -> None:
        self._found = deque(found)
        self._lookup = lookup
        self._failure: WitError | None = None

    def resolve_next_address(self) -> Value:
        """`option<ip-address>`. Raises WitError: would-block, or why there are none."""
        if self._lookup is not None:
            if not self._lookup.done():
                raise WitError("would-block")
            lookup, self._lookup = self._lookup, None
            try:
                self._found.extend(lookup.result())
            except WitError as error:
                self._failure = error
            except asyncio.CancelledError:
                self._failure = WitError("temporary-resolver-failure")
        if self._failure is not None:
            raise WitError(self._failure.payload)
        return ip_address(self._found.popleft()) if self._found else None

    def subscribe(self) -> Pollable:
        return Pollable(self._ready, self._watch)

    def _ready(self) -> bool:
        return self._lookup is None or self._lookup.done()

    def _watch(self, waiter: asyncio.Future[None]) -> Callable[[], object]:
        lookup = self._lookup
        if lookup is None:
            wake(waiter)
            return nothing
        done = partial(wake, waiter)
        lookup.add_done_callback(done)
        return lambda: lookup.remove_done_callback(done)

    def dropped(self) -> None:
        if self._lookup is not None:
            self._lookup.cancel()


@serves("wasi:sockets/ip-name-lookup", ResolveAddressStream)
class IpNameLookup:
    @staticmethod
    def resolve_addresses(guest: Guest, network: Network, text: str) -> ResolveAddressStream:
        """An address is its own answer and needs no grant: to look is not to reach."""
        sockets = guest.kept(Sockets)
        literal = address(text)
        if literal is not None:
            return ResolveAddressStream((literal,))
        try:
            known = name(text)
        except ValueError as error:
            raise WitError("invalid-argument") from error
        patterns = sockets.named(known)
        if not patterns:
            sockets.refuse("ip-name-lookup#resolve-addresses", f'the network grant "{known}:PORT"')

        async def find() -> list[Address]:
            found = await resolve(known)
            sockets.learn(found, patterns)
            return found

        return ResolveAddressStream(lookup=sockets.look_up(find()))


async def resolve(known: str) -> list[Address]:
    """The addresses of a name, as the host's resolver orders them. Raises WitError with an error-code."""
    loop = asyncio.get_running_loop()
    try:
        answers = await loop.run_in_executor(
            RESOLVERS, partial(socket.getaddrinfo, known, None, type=socket.SOCK_STREAM)
        )
    except socket.gaierror as error:
        raise WitError(_CODES.get(error.errno or 0, "permanent-resolver-failure")) from error
    except OSError as error:
        raise WitError("temporary-resolver-failure") from error
    found: dict[Address, None] = {}
    for _, _, _, _, where in answers:
        text = str(where[0])
        if "%" not in text:
            found[ipaddress.ip_address(text)] = None
    if not found:
        raise WitError("name-unresolvable")
    return list(found)[:MOST_ADDRESSES]
