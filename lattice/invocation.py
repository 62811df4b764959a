"""The one shape: `async (Invocation) -> Value`.

An actor, a provider's export table, the far side of the lattice and a test double are all Handlers; what cuts across
them wraps one Handler in another.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from lattice.errors import Busy, DeadlineExceeded
from lattice.names import DEFAULT_LINK, UNRESOLVED, EntityId, Function, LinkName
from lattice.values import Value

EMPTY: Mapping[str, str] = MappingProxyType({})


class Invocation(NamedTuple):
    """One call of one WIT function, from a source to a target.

    `deadline` is in seconds on `time.monotonic()`'s clock and is only ever shortened on the way. `trace` holds W3C
    trace context (`traceparent`, `tracestate`).
    """

    target: EntityId
    function: Function
    args: tuple[Value, ...] = ()
    source: EntityId = UNRESOLVED
    link: LinkName = DEFAULT_LINK
    deadline: float = math.inf
    trace: Mapping[str, str] = EMPTY

    def remaining(self) -> float:
        """Seconds until the deadline; `inf` when there is none, 0 or less when it has passed."""
        return self.deadline - time.monotonic()

    def within(self, seconds: float) -> Invocation:
        """The same call with at most `seconds` from now; never later than it was."""
        deadline = time.monotonic() + seconds
        if deadline >= self.deadline:
            return self
        return Invocation(self.target, self.function, self.args, self.source, self.link, deadline, self.trace)

    # _replace costs twice as much as these, and they are on every call's way

    def to(self, target: EntityId) -> Invocation:
        """The same call of another target."""
        return Invocation(target, self.function, self.args, self.source, self.link, self.deadline, self.trace)

    def under(self, trace: Mapping[str, str]) -> Invocation:
        """The same call with other trace context."""
        return Invocation(self.target, self.function, self.args, self.source, self.link, self.deadline, trace)


Handler: TypeAlias = Callable[[Invocation], Awaitable[Value]]
"""May raise WitError (an answer) or LatticeError. It keeps the deadline: no caller times it again."""

Middleware: TypeAlias = Callable[[Handler], Handler]


class Permits:
    """`size` calls at a time, `queue` more waiting in line (first come, first served), and nobody else."""

    __slots__ = ("free", "queue", "size", "waiting")

    def __init__(self, size: int, queue: int) -> None:
        self.size = self.free = size
        self.queue = queue
        self.waiting: deque[asyncio.Future[bool]] = deque()

    def resize(self, size: int) -> None:
        """Change the number of permits; calls that run keep theirs."""
        self.free += size - self.size
        self.size = size
        self._wake()

    def turn_away(self) -> None:
        """Whoever waits in line gets Busy: nothing of their calls was begun, so they can go elsewhere."""
        while self.waiting:
            turn = self.waiting.popleft()
            if not turn.done():
                turn.set_result(False)

    async def acquire(self, deadline: float) -> None:
        """Raises Busy when the line is full or turned away, DeadlineExceeded when `deadline` passes in line."""
        if self.free > 0 and not self.waiting:
            self.free -= 1
            return
        if len(self.waiting) >= self.queue:
            raise Busy(
                f"{self.size} calls are running and {len(self.waiting)} wait; the line is full",
                limit="concurrent",
                amount=self.size,
            )
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.waiting.append(turn)
        left = None if math.isinf(deadline) else max(0.0, deadline - time.monotonic())
        try:
            async with asyncio.timeout(left):
                if not await turn:
                    raise Busy("it is being stopped here")
        except BaseException as error:
            if turn.done() and not turn.cancelled() and turn.result():
                self.release()  # our turn came at the very moment we gave up
            else:
                turn.cancel()
                if turn in self.waiting:
                    self.waiting.remove(turn)
            if isinstance(error, TimeoutError):
                raise DeadlineExceeded("the deadline passed while waiting for a free instance") from None
            raise

    def release(self) -> None:
        self.free += 1
        self._wake()

    def _wake(self) -> None:
        while self.free > 0 and self.waiting:
            turn = self.waiting.popleft()
            if not turn.done():
                self.free -= 1
                turn.set_result(True)


def limited(permits: Permits) -> Middleware:
    """As many calls at a time, and in line, as `permits` has; more get Busy."""

    def wrap(handler: Handler) -> Handler:
        async def handle(invocation: Invocation) -> Value:
            await permits.acquire(invocation.deadline)
            try:
                return await handler(invocation)
            finally:
                permits.release()

        return handle

    return wrap


def timed(handler: Handler) -> Handler:
    """A Middleware: the call is cancelled at its deadline."""

    async def handle(invocation: Invocation) -> Value:
        left = invocation.remaining()
        if math.isinf(left):
            return await handler(invocation)
        if left <= 0:
            raise DeadlineExceeded(f"no time left to call {invocation.function}")
        scope = asyncio.timeout(left)
        try:
            async with scope:
                return await handler(invocation)
        except TimeoutError:
            if not scope.expired():
                raise
            raise DeadlineExceeded(
                f'"{invocation.target}" did not answer {invocation.function} within {left:.3g} s',
                target=invocation.target,
                function=str(invocation.function),
            ) from None

    return handle
