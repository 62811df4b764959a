"""Several calls of one instance: what the first returns, the next can take."""

from __future__ import annotations

import asyncio
import math
import time
from types import TracebackType
from typing import Any

from actors.actor import Actor
from actors.codec import GuestResource
from actors.instance import Instance
from lattice import Function, Invocation, Value


class Session:
    """One instance of an actor, kept for a chain of calls. It takes the place of one invocation while it is open.

    Calls are made one at a time, each with the actor's execution limit. Resources that the guest exports are values
    here (`GuestResource`): a constructor returns one, a method takes it as its first argument. They end with the
    session. Their destructors do not run then, no more than those of any instance that is dropped; nor can one be run
    earlier, because wasmtime's C API does that only for instances that cannot be preempted.

    A guest that trapped cannot be called again: wasmtime refuses, and that is a Trap, too.
    """

    def __init__(self, actor: Actor) -> None:
        self._actor = actor
        self._instance: Instance | None = None
        self._open = False
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Session:
        await self._actor.permits.acquire(math.inf)
        self._open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open = False
        async with self._turn:
            if self._instance is None:
                self._actor.permits.release()
            else:
                self._instance.close()

    async def call(self, function: Function, *args: Value | GuestResource, deadline: float = math.inf) -> Any:
        """Call an export in this session's instance, and return its result. Raises what `Actor.handle` raises.

        Exports with an adapter, such as an HTTP handler, are called as WIT has them: with resources, not a request.
        """
        actor = self._actor
        if function.key not in actor.exports:
            raise actor.unknown(function)
        async with self._turn:
            if not self._open:
                raise RuntimeError("the session is over")
            deadline = min(deadline, time.monotonic() + actor.limits.execution)
            invocation = Invocation(actor.id, function, deadline=deadline)
            instance = self._instance
            if instance is None:
                export = actor.exports[function.key]
                instance = self._instance = actor.instance(export, invocation, deadline, kept=True)
            else:
                # its own exports: an instance outside of the pool has others than the actor
                instance.turn_to(instance.linker.exports[function.key])
                instance.guest.invocation = invocation
                instance.deadline = deadline
            return await instance.call(*args)
