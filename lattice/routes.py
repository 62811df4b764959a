"""Where a call goes: directly to what runs in this process, else to the least busy host that runs it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from lattice.directory import Directory
from lattice.errors import Busy, Unreachable
from lattice.invocation import Handler, Invocation, Middleware
from lattice.lattice import Lattice
from lattice.names import EntityId, HostId
from lattice.tracing import unobserved
from lattice.values import Value


@dataclass(frozen=True, slots=True)
class Local:
    """Something that runs in this process. `load` is calls in hand and in line, per call it takes at a time."""

    handler: Handler
    load: Callable[[], float]


class Routes:
    """Every call that starts in this process passes here."""

    def __init__(self, lattice: Lattice, directory: Directory, observed: Middleware = unobserved) -> None:
        """`observed` is around each call that leaves the process."""
        self._lattice = lattice
        self._observed = observed
        self._anywhere = observed(lattice.invoke)
        self._directory = directory
        self._sent: Counter[tuple[HostId, EntityId]] = Counter()
        """Calls of ours that other hosts have in hand."""
        self.local: dict[EntityId, Local] = {}

    async def route(self, invocation: Invocation) -> Value:
        """Call the target. A Handler.

        In this process while a call would start at once; when everything here is busy, wherever our calls in hand are
        fewest for what the host takes at a time. A host that turns out to be gone or full costs one more try. A host
        that dies with our call in hand makes it Unreachable: it may have been carried out, so nobody repeats it.
        """
        target = invocation.target
        local = self.local.get(target)
        if local is not None and (local.load() < 1.0 or not self.elsewhere(target)):
            try:
                return await local.handler(invocation)
            except Busy:
                if target in self.local or not self.elsewhere(target):
                    raise
                local = None  # stopped here while the call was in line
        tried: set[HostId] = set()
        while True:
            host = self._least_busy(target, tried, local)
            if host is None:
                break
            tried.add(host)
            try:
                return await self._observed(partial(self._at, host))(invocation)
            except Busy:
                continue
            except Unreachable as error:
                if error.details.get("target") != target:
                    raise
                self._directory.missing(target, host)  # nobody took the call: it can safely go elsewhere
        if local is not None:
            return await local.handler(invocation)
        return await self._anywhere(invocation)

    async def known(self, target: EntityId, seconds: float) -> bool:
        """Wait `seconds` at most until some host is known to run it; whether one is."""
        try:
            async with asyncio.timeout(seconds):
                await self._directory.appearance_of(target)
        except TimeoutError:
            return False
        return True

    def elsewhere(self, target: EntityId) -> bool:
        """Some other host runs it, too."""
        return bool(self._directory.others(target))

    def _least_busy(self, target: EntityId, tried: set[HostId], local: Local | None) -> HostId | None:
        """The host to ask next; None for this one, or when there is none left."""
        best: HostId | None = None
        least = float("inf") if local is None else local.load()
        for host, size in self._directory.others(target).items():
            load = self._sent[host, target] / size
            if host not in tried and load < least:
                best, least = host, load
        return best

    async def _at(self, host: HostId, invocation: Invocation) -> Value:
        """Call the target on one host, for as long as that host lives."""
        key = (host, invocation.target)
        self._sent[key] += 1
        scopes = self._directory.scopes_of(host)
        scope = asyncio.timeout(None)  # a task beside this one, to wait for both, would cost several times as much
        scopes.add(scope)
        try:
            async with scope:
                return await self._lattice.invoke_at(host, invocation)
        except TimeoutError as error:
            if not scope.expired():
                raise
            raise Unreachable(f'the host that "{invocation.target}" was called on is gone', host=host) from error
        finally:
            scopes.discard(scope)
            self._sent[key] -= 1
            if not self._sent[key]:
                del self._sent[key]
