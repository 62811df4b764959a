"""Outgoing HTTP without a link: the host sends the request itself, to what the actor's `http` grants allow."""

from __future__ import annotations

from collections.abc import Callable

from lattice import Denied, Handler, Invocation, NotLinked, Value
from lattice.allow import WEB_PORTS, allow_list, shown
from lattice.http import OUTGOING
from lattice.invocation import Middleware
from lattice.tracing import unobserved
from providers.http.client import HttpClient
from providers.http.outgoing import Outgoing, Place


class Egress:
    """One pool of connections for all actors of a host; opened by the first request. `close` it at the end."""

    def __init__(self, client: Outgoing | None = None, *, observed: Middleware = unobserved) -> None:
        self._client = client or Outgoing()
        self._observed = observed

    def around(self, linked: Handler, granted: Callable[[], tuple[str, ...]]) -> Handler:
        """`linked`, and where it has no link for a request, the host itself. `granted` gives the actor's `http` grants.

        A link comes first, whatever is granted. Without one and without any grant, it is the missing link's error.
        """

        async def by_itself(invocation: Invocation) -> Value:
            request, options = HttpClient.exports[OUTGOING.key].arguments(invocation.args)
            place = Place.of(request)
            if not allow_list(granted(), WEB_PORTS).allows(place.host, place.port):
                grant = f'the http grant "{shown(place.host, place.port)}"'
                raise Denied(f"the request needs {grant}", grant=grant)
            return await self._client.send(request, options, trace=invocation.trace)

        send = self._observed(by_itself)

        async def imports(invocation: Invocation) -> Value:
            if invocation.function.key != OUTGOING.key:
                return await linked(invocation)
            try:
                return await linked(invocation)
            except NotLinked:
                if not granted():
                    raise
            return await send(invocation)

        return imports

    async def close(self) -> None:
        await self._client.close()
