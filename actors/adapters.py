"""Exports that are more than a call of one function with plain values.

`wasi:http/incoming-handler#handle` is given resources and answers through one of them, perhaps long before the guest
ends. An adapter translates: it takes the Invocation as the lattice sees it, and calls the guest as WIT sees it.

    async def handle(callee: Callee, invocation: Invocation) -> Value:
        answer = asyncio.get_running_loop().create_future()
        request = IncomingRequest(invocation.args[0])
        return await callee.call_until(answer, request, ResponseOutparam(answer))

    ADAPTERS["wasi:http/incoming-handler#handle"] = handle

The callee is the instance that was made for the invocation. It is dropped, and its place in the actor free again, when
the *guest* has ended; an adapter never closes anything. `args` are lowered as the export's WIT types say; a host
resource passed as `own` belongs to the guest from then on.

A guest that fails after its answer has nobody left to tell: its error is in `guest.failure` when the `guest.on_end`
callbacks run, and reporting it is up to the adapter.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeAlias

from actors.callbacks import HostCall
from actors.guest import Guest
from lattice import Invocation, Value


class Callee(Protocol):
    """What an adapter may use of the instance."""

    guest: Guest
    pending: HostCall | None
    """The host function that the guest waits for."""

    async def call(self, *args: Any) -> Any:
        """Call the export: returns when the guest has ended."""

    async def call_until(self, answer: asyncio.Future[Any], *args: Any) -> Any:
        """Call it, and return the result of `answer` as soon as that is set; the guest goes on in a task of its own."""


Adapter: TypeAlias = Callable[[Callee, Invocation], Awaitable[Value]]

ADAPTERS: dict[str, Adapter] = {}
"""By function key, `namespace:package/interface#function` without a version. Filled when `actors.wasi` is imported."""
