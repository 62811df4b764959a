"""Exports that are more than a call of one function with plain values.

`wasi:http/incoming-handler#handle` is given resources and answers through one of them, perhaps long before the guest
ends. An adapter translates: it takes the Invocation as the lattice sees it, and calls the guest as WIT sees it.

    async def handle(instance: Instance, invocation: Invocation) -> Value:
        answer = asyncio.get_running_loop().create_future()
        request = IncomingRequest(invocation.args[0])
        return await instance.call_until(answer, request, ResponseOutparam(answer))

    ADAPTERS["wasi:http/incoming-handler#handle"] = handle

What the adapter may use of the instance: `guest`; `call(*args)`, which returns when the guest has ended; and
`call_until(answer, *args)`, which returns the future's result as soon as it is set while the guest goes on in a task of
its own. Either way the instance is dropped and its place in the actor is free again when the *guest* has ended; an
adapter never closes anything. `args` are lowered as the export's WIT types say; a host resource passed as `own` belongs
to the guest from then on.

A guest that fails after its answer has nobody left to tell: its error is in `guest.failure` when the `guest.on_end`
callbacks run, and reporting it is up to the adapter.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

from lattice import Invocation, Value

if TYPE_CHECKING:
    from actors.instance import Instance

Adapter: TypeAlias = "Callable[[Instance, Invocation], Awaitable[Value]]"

ADAPTERS: dict[str, Adapter] = {}
"""By function key, `namespace:package/interface#function` without a version. Filled when `actors.wasi` is imported."""
