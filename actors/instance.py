"""One store, one invocation, then dropped: the coroutine that drives a guest.

The guest runs inside `future_poll`, on a stack of its own, until it ends, waits for a host function, or an epoch tick
preempts it. wasmtime never wakes us: what happens between two polls is decided here.

- A host coroutine that completes at once costs no Task. One that waits is continued inside the driver's own task, so
  `asyncio.timeout` and cancellation reach it.
- A guest that computes is preempted at each tick and the loop runs in between; after a few ticks it is polled in a
  worker thread, and what it calls there hops back to the loop.
- However a call ends, its future is deleted before the store is: that order is what stops a guest.
"""

from __future__ import annotations

import asyncio
import math
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future as ThreadFuture
from typing import Any

from actors import _ffi
from actors._ffi import future_delete, future_poll, val_delete, waiting, word_at
from actors.callbacks import CALLERS, HostCall
from actors.codec import GuestResource, Misfit
from actors.exports import ARGUMENTS, ERROR, FUNC, INSTANCE, RESULT, Export, delete_arguments
from actors.guest import Guest
from actors.host_api import Resource
from actors.limits import exceeded
from actors.linker import Linker
from actors.steps import continued, start
from actors.traps import trap_in_host, trap_of
from lattice.errors import Busy, DeadlineExceeded, LatticeError, Trap, UnknownFunction, WitError

INLINE_TICKS = 2
"""Epoch ticks a guest may use up on the event loop before it is polled in a worker thread."""
STINT_TICKS = 10
"""Ticks in a worker thread before it stands in line again, so that many such guests share few threads."""

NO_LIMIT = 2**64 - 1

_POOL_FULL = re.compile(r"limit of \d+ .*reached", re.IGNORECASE)
_NO_ROOM = re.compile(r"Cannot allocate memory|os error 12")


class Instance:
    """A guest about to run. `close()` it, whatever happened; that is safe to do twice."""

    __slots__ = (
        "_buffer",
        "_lent",
        "_next",
        "_store",
        "_table",
        "_used",
        "address",
        "context",
        "deadline",
        "detached",
        "export",
        "failure",
        "given",
        "guest",
        "kept",
        "lent",
        "limits",
        "linker",
        "loop",
        "off_loop",
        "on_close",
        "pending",
        "stop",
        "task",
    )

    def __init__(
        self,
        linker: Linker,
        export: Export,
        guest: Guest,
        deadline: float = math.inf,
        on_close: Callable[[Instance], None] | None = None,
        *,
        kept: bool = False,
    ) -> None:
        self.linker = linker
        self.export = export
        self.guest = guest
        self.limits = guest.limits
        self.deadline = deadline
        self.on_close = on_close
        self.kept = kept
        """It serves more than one call, so that what the guest gives away can come back."""
        self.given: list[GuestResource] = []
        self.lent: list[int] | None = None
        self.detached = False
        self.failure: tuple[str, BaseException] | None = None
        self.pending: HostCall | None = None
        self.off_loop = False
        self.stop = False
        self.task: asyncio.Task[None] | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self._table: dict[int, Resource] = {}
        self._lent: set[int] | None = None
        self._next = 0
        self._used = False
        self._buffer = export.buffer()
        self.address: int = _ffi.address_of(self._buffer)
        self._open()

    def _open(self) -> None:
        limits = self.limits
        engine = self.linker.component.engine
        engine.alive += 1
        store = self._store = _ffi.store_new(engine.address, None, None)
        context = self.context = _ffi.store_context(store)
        CALLERS[context] = self
        _ffi.store_limiter(
            store, limits.memory, limits.table_elements, limits.core_instances, limits.tables, limits.memories
        )
        _ffi.set_epoch_deadline(context, 1)
        _ffi.yield_at_epoch(context, 1)
        if engine.config.fuel:
            _ffi.set_fuel(context, limits.fuel or NO_LIMIT)

    # -- resources: numbers for the guest, objects for the host

    def push(self, resource: Resource, *, lent: bool = False) -> int:
        """A number for `resource`. One that is only lent is not dropped with the instance. Raises LimitExceeded."""
        self._next = rep = self._next + 1
        table = self._table
        if len(table) >= self.limits.handles:
            most = self.limits.handles
            raise exceeded(self.guest.actor, "handles", most, f"held more than {most} resources of the host at a time")
        table[rep] = resource
        if lent:
            if self._lent is None:
                self._lent = set()
            self._lent.add(rep)
        return rep

    def borrowed(self, rep: int) -> Resource:
        return self._table[rep]

    def taken(self, rep: int) -> Resource:
        """The guest gave it to the host, and has it no longer."""
        return self._table.pop(rep)

    def dropped(self, rep: int) -> None:
        """The guest let go of its handle."""
        resource = self._table.pop(rep, None)
        if resource is not None:
            resource.dropped()

    # -- calls

    async def call(self, *args: Any) -> Any:
        """Instantiate, call the export, and return its result. Once per instance, unless it is a kept one.

        Raises WitError (the `err` side), BadValue, Trap, LimitExceeded, DeadlineExceeded or Busy. A cancellation stops
        the guest wherever it is.
        """
        if not self._used:
            await self.begin()
        export = self.export
        context = self.context
        address = self.address
        if not _ffi.get_func(address + INSTANCE, context, export.address, address + FUNC):
            raise UnknownFunction(f'"{self.guest.actor}" has no function {export.title}')
        lent = export.lower_into(address + ARGUMENTS, args, self)
        while self.given:
            self.given.pop().leave()
        count = len(args)
        result = address + RESULT
        try:
            future = _ffi.call_async(
                address + FUNC, context, address + ARGUMENTS, count, result, export.results, address + ERROR
            )
            try:
                if not self._poll(future):
                    await self._wait(future)
            finally:
                self._delete(future)
        finally:
            delete_arguments(address + ARGUMENTS, count, lent)
        if error := word_at(address + ERROR).value:
            raise self._trap(_ffi.take_message(error))
        lift = export.answer.lift
        if lift is None:
            return None
        try:
            return lift(result, self)
        except Misfit as misfit:
            raise Trap(f"{export.title}: {misfit}") from misfit
        finally:
            val_delete(result)

    async def begin(self) -> None:
        """Instantiate: in the engine's pool, and outside of it when that is full. `call` does it when nobody has."""
        self._used = True
        engine = self.linker.component.engine
        if engine.pooled and engine.alive > engine.config.pool:
            await self._leave_pool()
            engine = self.linker.component.engine
        if not engine.pooled and engine.alive > engine.config.on_demand:
            raise Busy(f"{engine.config.on_demand} guests run in this process already", limit="on_demand")
        address = self.address
        future = _ffi.instantiate_async(
            self.linker.address, self.context, self.linker.component.address, address + INSTANCE, address + ERROR
        )
        try:
            if not self._poll(future):
                await self._wait(future)
        finally:
            self._delete(future)
        error = word_at(address + ERROR).value
        if not error:
            return
        text = _ffi.take_message(error)
        if self.linker.component.engine.pooled and _POOL_FULL.search(text):
            await self._leave_pool()
            await self.begin()
            return
        raise self._trap(text)

    async def _leave_pool(self) -> None:
        linker = await self.linker.on_demand()
        self._drop()
        self.linker = linker
        self.turn_to(linker.exports[self.export.function.key])
        self._open()

    def _drop(self) -> None:
        store, self._store = self._store, 0
        self.linker.component.engine.alive -= 1
        del CALLERS[self.context]
        _ffi.store_delete(store)

    def turn_to(self, export: Export) -> None:
        """The next call is one of `export`."""
        buffer = export.buffer()
        address = _ffi.address_of(buffer)
        _ffi.memmove(address, self.address + INSTANCE, _ffi.INSTANCE)
        self.export = export
        self._buffer = buffer
        self.address = address
        self.failure = None

    async def call_until(self, answer: asyncio.Future[Any], *args: Any) -> Any:
        """Call the export, and return the result of `answer` as soon as it is there, be the guest done or not.

        The guest then goes on in a task of its own, and the instance is closed when that ends. When the guest ends
        without having answered, its error is raised, or a Trap that says so. Cancelling this before there is an answer
        stops the guest.
        """
        self.detached = True
        self.task = task = start(self._to_the_end(answer, args), f"guest {self.guest.actor}")
        if task is None or (answer.done() and not answer.cancelled()):
            return answer.result()
        task.add_done_callback(lambda _: self.close())  # a task cancelled before its first step runs no `finally`
        try:
            return await answer
        except asyncio.CancelledError:
            task.cancel()
            raise

    async def _to_the_end(self, answer: asyncio.Future[Any], args: tuple[Any, ...]) -> None:
        try:
            await self.call(*args)
            if not answer.done():
                answer.set_exception(Trap(f'"{self.guest.actor}" ended without an answer to {self.export.title}'))
        except asyncio.CancelledError:
            answer.cancel()
            raise
        except Exception as error:
            self.guest.failure = error
            if not answer.done():
                answer.set_exception(error)
        finally:
            self.close()

    # -- driving

    def _poll(self, future: int) -> bool:
        ticker = self.linker.component.engine.ticker
        busy = ticker.busy
        busy.add(self)
        if ticker.asleep:
            ticker.wake()
        done: bool = future_poll(future)
        busy.discard(self)
        return done

    async def _wait(self, future: int) -> None:
        """Poll until the guest is done, within the deadline."""
        self.loop = asyncio.get_running_loop()
        left = self.deadline - time.monotonic()
        if math.isinf(left):
            await self._drive(future)
            return
        scope = asyncio.timeout(left)
        try:
            async with scope:
                await self._drive(future)
        except TimeoutError:
            if not scope.expired():
                raise
            raise self._overdue() from None

    async def _drive(self, future: int) -> None:
        ticks = 0
        while True:
            if self.pending is not None:
                await self._host_call(self.pending)
                ticks = 0
            elif ticks < INLINE_TICKS:
                ticks += 1
                await asyncio.sleep(0)
            else:
                if await self._poll_in_thread(future):
                    return
                continue
            if self._poll(future):
                return

    async def _host_call(self, call: HostCall) -> None:
        """Run the host function to its end and hand its answer to the guest. What it raises stops the guest."""
        self.pending = None
        try:
            try:
                if call.fresh:
                    value = await call.coroutine
                else:
                    value = await continued(call.coroutine, call.awaited)
            except WitError as error:
                if call.answer.error is None:
                    raise Trap(f"{call.title} raised WitError, but its WIT type has no `result`") from error
                call.answer.error(call.results, error.payload, self)
            else:
                call.answer.lower(call.results, value, self)
        except Exception as error:
            raise trap_in_host(self.guest, self.export.title, call.title, error) from error
        waiting.discard(self.context)

    # -- guests that compute

    async def _poll_in_thread(self, future: int) -> bool:
        """Let a worker thread poll. Returns only when that thread has let go of the guest, cancelled or not."""
        self.off_loop = True
        self.stop = False
        stint: ThreadFuture[bool] = self.linker.component.engine.workers.submit(self._stint, future)
        waited = asyncio.wrap_future(stint)
        try:
            return await asyncio.shield(waited)
        except asyncio.CancelledError:
            self.stop = True
            if not stint.cancel():
                await _surely(waited)
            raise
        finally:
            self.off_loop = False

    def _stint(self, future: int) -> bool:
        for _ in range(STINT_TICKS):
            if self.stop:
                return False
            if self._poll(future):
                return True
            if self.pending is not None:
                return False
        return False

    def on_loop(self, work: Callable[[], None]) -> None:
        """From the worker thread: run `work` on the event loop and wait for it. Raises what it raises.

        Raises Trap when the loop or the engine has stopped: nobody would ever do the work.
        """
        finished = threading.Event()
        raised: list[BaseException] = []
        claim = [work]  # whoever pops it has the say: the loop does the work, or we give it up

        def run() -> None:
            try:
                mine = claim.pop()
            except IndexError:
                return
            try:
                mine()
            except BaseException as error:
                raised.append(error)
            finally:
                finished.set()

        loop, engine = self.loop, self.linker.component.engine
        assert loop is not None
        try:
            loop.call_soon_threadsafe(run)
        except RuntimeError as error:
            raise Trap("the event loop is closed") from error
        while not finished.wait(0.1):
            if engine.closed or not loop.is_running():
                try:
                    claim.pop()
                except IndexError:
                    continue
                raise Trap("the host is stopping")
        if raised:
            raise raised[0]

    # -- ends

    def _delete(self, future: int) -> None:
        """Stop the guest, if it has not ended."""
        future_delete(future)
        if self.pending is not None:
            self.pending.coroutine.close()
            self.pending = None
        waiting.discard(self.context)

    def _trap(self, text: str) -> BaseException:
        if self.failure is not None:
            function, cause = self.failure
            trap = trap_in_host(self.guest, self.export.title, function, cause, text)
            if trap is not cause:
                trap.__cause__ = cause
            return trap
        if _NO_ROOM.search(text):  # the engine's words, for an instance's memory or a guest's stack
            return Busy(f"this machine has no room for another guest: {text.splitlines()[-1].strip()}")
        return trap_of(self.guest, self.export.title, text, self.linker.component.engine.config.stack)

    def _overdue(self) -> LatticeError:
        title, limit = self.export.title, self.limits.execution
        error = DeadlineExceeded(f'"{self.guest.actor}" did not finish {title} in time', function=title)
        invocation = self.guest.invocation
        if invocation is None or self.deadline < invocation.deadline:
            error = DeadlineExceeded(
                f'"{self.guest.actor}" did not finish {title} within its limit of {limit:g} s',
                function=title,
                limit="execution",
                amount=limit,
            )
        if output := self.guest.stderr.tail():
            error.details["output"] = output
        return error

    def close(self) -> None:
        """Drop the store, and every resource the guest still had. The second time does nothing."""
        if not self._store:
            return
        self._drop()
        try:
            if self._table:
                lent = self._lent or ()
                for rep, resource in reversed(self._table.items()):
                    if rep not in lent:
                        resource.dropped()
                self._table.clear()
            self.guest.end()
        finally:
            if self.on_close is not None:
                self.on_close(self)


async def _surely(future: asyncio.Future[Any]) -> None:
    """Wait for `future`, however often we are cancelled meanwhile."""
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:
            continue
