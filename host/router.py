"""Every call that starts on a host: a guest's imports by its links, the others by their target."""

from __future__ import annotations

from host.links import Links
from lattice import Invocation, Value
from lattice.directory import Directory
from lattice.invocation import Middleware
from lattice.lattice import Lattice
from lattice.routes import Routes
from lattice.tracing import unobserved


class Router(Routes):
    def __init__(self, lattice: Lattice, links: Links, directory: Directory, observed: Middleware = unobserved) -> None:
        super().__init__(lattice, directory, observed)
        self._links = links

    async def imports(self, invocation: Invocation) -> Value:
        """A guest's imports: look up the link, then route. A Handler."""
        target = await self._links.target(invocation.source, invocation.function.interface, invocation.link)
        return await self.route(invocation.to(target))
