"""Where a call goes: directly to what runs in this process, over the lattice otherwise."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from host.directory import Directory
from host.links import Links
from lattice import Busy, EntityId, Handler, Invocation, Unreachable, Value
from lattice.lattice import Lattice


@dataclass(frozen=True, slots=True)
class Local:
    """Something that runs in this process. `has_room` says whether a call would start at once."""

    handler: Handler
    has_room: Callable[[], bool]


class Router:
    """Every call that starts on this host passes here."""

    def __init__(self, lattice: Lattice, links: Links, directory: Directory) -> None:
        self._lattice = lattice
        self._links = links
        self._directory = directory
        self.local: dict[EntityId, Local] = {}

    async def imports(self, invocation: Invocation) -> Value:
        """A guest's imports: look up the link, then route. A Handler."""
        target = await self._links.target(invocation.source, invocation.function.interface, invocation.link)
        return await self.route(invocation.to(target))

    async def route(self, invocation: Invocation) -> Value:
        """Call the target, in this process where possible. A Handler.

        When the instances here are all busy and another host runs the target as well, the call goes to one or the
        other; a host that turns out to be gone or full costs one more try, here.
        """
        local = self.local.get(invocation.target)
        if local is None:
            return await self._lattice.invoke(invocation)
        if not local.has_room():
            other = random.choice([None, *self._directory.others(invocation.target)])
            if other is not None:
                try:
                    return await self._lattice.invoke_at(other, invocation)
                except Busy:
                    pass
                except Unreachable as error:
                    if error.details.get("target") != invocation.target:
                        raise  # the target was reached; something behind it was not
                    self._directory.gone(other)
        return await local.handler(invocation)
