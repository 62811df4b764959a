"""An actor: a component deployed under an id, with its links, configuration and limits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from actors.component import Component, exported
from actors.exports import Export
from actors.grants import NOTHING, Grants
from actors.guest import Guest, OnLine, nothing_linked
from actors.instance import Instance
from actors.limits import Limits
from actors.linker import Linker
from actors.reflection import EXPORTS
from actors.reflection import encode as reflected
from actors.secrets import Secrets, no_secrets
from actors.stdio import Stdio
from lattice import EMPTY, EntityId, Function, Handler, Invocation, Value
from lattice.errors import BadInput, DeadlineExceeded, Finding, UnknownFunction
from lattice.invocation import Permits

_FUEL = "make the engine with EngineConfig(fuel=True), or limit the time (`execution`)"


class Actor:
    """Serves invocations, each in an instance of its own.

    `imports` is the Handler behind every import the host does not serve itself. `on_line` gets what guests print.
    `stdio` takes the place of their standard streams: all guests of the actor share it. With a `seed`, which is for
    tests, wasi:random gives every guest the same.
    Raises BadInput when the component has imports that nothing can satisfy, or limits that the engine cannot keep.
    """

    def __init__(
        self,
        id: EntityId,
        component: Component,
        *,
        imports: Handler = nothing_linked,
        config: Mapping[str, str] = EMPTY,
        secrets: Secrets = no_secrets,
        environment: Mapping[str, str] = EMPTY,
        arguments: tuple[str, ...] = (),
        grants: Grants = NOTHING,
        limits: Limits | None = None,
        on_line: OnLine | None = None,
        stdio: Stdio | None = None,
        seed: int | None = None,
    ) -> None:
        self.id = id
        self.component = component
        self.imports = imports
        self.config = config
        self.secrets = secrets
        self.environment = environment
        self.arguments = arguments
        self.grants = grants
        self.on_line = on_line
        self.stdio = stdio
        self.seed = seed
        self.linker = Linker(component)
        self.exports = self.linker.exports
        self.limits = limits = limits or Limits()
        self.permits = Permits(limits.concurrent, limits.queue)
        self.limit(limits)
        self.running: set[Instance] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    def limit(self, limits: Limits) -> None:
        """Calls from now on have these limits. Raises BadInput for those that the engine cannot keep."""
        if limits.fuel is not None and not self.component.engine.config.fuel:
            raise BadInput(
                Finding("TRL-LIM-001", f'"{self.id}" has a limit of fuel, which this engine does not count', fix=_FUEL)
            )
        self.limits = limits
        self.permits.queue = limits.queue
        self.permits.resize(limits.concurrent)

    async def handle(self, invocation: Invocation) -> Value:
        """Call the export that `invocation.function` names, whatever its version. A Handler.

        `actors.reflection.EXPORTS` is answered with what there is to call. Raises WitError when the guest answers
        `err`; UnknownFunction; BadValue for arguments that do not fit; Busy when the line is full; DeadlineExceeded at
        the invocation's deadline or the execution limit, whichever is first; Trap and LimitExceeded for what the guest
        does.
        """
        export = self.exports.get(invocation.function.key)
        if export is None or export.resource is not None:
            if invocation.function == EXPORTS:
                return reflected(self.component.exports)
            raise self.unknown(invocation.function, export)
        now = time.monotonic()
        if invocation.deadline <= now:
            raise DeadlineExceeded(f"no time left to call {invocation.function}", function=export.title)
        deadline = min(invocation.deadline, now + self.limits.execution)
        permits = self.permits
        if permits.free > 0 and not permits.waiting:
            permits.free -= 1
        else:
            await permits.acquire(deadline)
        try:
            instance = self.instance(export, invocation, deadline)
        except BaseException:
            permits.release()
            raise
        try:
            if export.adapter is None:
                return await instance.call(*invocation.args)
            return await export.adapter(instance, invocation)
        finally:
            if not instance.detached:
                instance.close()

    async def prove(self) -> None:
        """Instantiate once, and drop it: raises what `handle` raises when the guest cannot even begin."""
        export = next(iter(self.exports.values()), None)
        if export is None:
            return
        deadline = time.monotonic() + self.limits.execution
        await self.permits.acquire(deadline)
        try:
            instance = self.instance(export, Invocation(self.id, export.function, deadline=deadline), deadline)
        except BaseException:
            self.permits.release()
            raise
        try:
            await instance.begin()
        finally:
            instance.close()

    def instance(self, export: Export, invocation: Invocation, deadline: float, *, kept: bool = False) -> Instance:
        """A new instance, which holds a permit that was acquired for it until it is closed."""
        guest = Guest(
            self.id,
            imports=self.imports,
            config=self.config,
            secrets=self.secrets,
            environment=self.environment,
            arguments=self.arguments,
            grants=self.grants,
            invocation=invocation,
            on_line=self.on_line,
            stdio=self.stdio,
            seed=self.seed,
            limits=self.limits,
        )
        instance = Instance(self.linker, export, guest, deadline, self._closed, kept=kept)
        self.running.add(instance)
        return instance

    def _closed(self, instance: Instance) -> None:
        self.running.discard(instance)
        self.permits.release()
        if not self.running:
            self._idle.set()

    def unknown(self, function: Function, export: Export | None = None) -> UnknownFunction:
        """The error for a function that is not exported, or not for calls that have an instance of their own."""
        if export is not None and export.resource is not None:
            return UnknownFunction(
                f'{function} of "{self.id}" passes its own resource {export.resource.name}, which lives no longer than '
                "its instance: it can be called in a session only",
                resource=export.resource.name,
            )
        names = exported(self.component.exports)
        listed = f"it exports {', '.join(names)}" if names else "it exports nothing"
        return UnknownFunction(f'"{self.id}" does not export {function}; {listed}', exports=names)

    async def drain(self) -> None:
        """Wait for the calls in flight, those that go on after their answer included. Send no new ones."""
        while self.running or self.permits.waiting:
            self._idle.clear()
            await self._idle.wait()
