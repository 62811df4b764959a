"""What host functions see of the instance that called them. One Guest lives exactly as long as its Instance."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, TypeVar, cast

from actors.grants import NOTHING, Grants
from actors.limits import Limits, exceeded, size_text
from actors.secrets import Secrets, no_secrets
from actors.stdio import Stdio
from lattice import EMPTY, UNRESOLVED, EntityId, Function, Handler, Invocation, LinkName, Value
from lattice.errors import LimitExceeded, NotLinked
from lattice.names import DEFAULT_LINK
from lattice.streams import Budget

Kept = TypeVar("Kept")

OUTPUT_KEPT = 16 * 1024
"""Bytes of stdout and stderr, each, kept from the end for the error report of one invocation."""


DEFAULT = Limits()

OnLine: TypeAlias = Callable[[Invocation | None, str, str], None]
"""Told of each line a guest prints: (the invocation it serves, "stdout" or "stderr", the line)."""


async def nothing_linked(invocation: Invocation) -> Value:
    """The imports of an actor that was given none."""
    raise NotLinked(f'actor "{invocation.source}" is not linked to {invocation.function.interface}')


class Output:
    """What the guest writes to one of its standard streams: passed on line by line, its end kept for errors."""

    __slots__ = ("_actor", "_left", "_limit", "_line", "invocation", "kept", "on_line", "stream")

    def __init__(
        self, stream: str, on_line: OnLine | None, invocation: Invocation | None, actor: EntityId, limit: int
    ) -> None:
        self.stream = stream
        self.on_line = on_line
        self.invocation = invocation
        self.kept = bytearray()
        self._line = bytearray()
        self._actor = actor
        self._limit = self._left = limit

    def write(self, data: bytes) -> None:
        """Raises LimitExceeded when it is more than the guest may print."""
        self._left -= len(data)
        if self._left < 0:
            what = f"printed more than {size_text(self._limit)} to {self.stream}"
            raise exceeded(self._actor, "output", self._limit, what)
        self.keep(data)
        if self.on_line is None:
            return
        self._line += data
        *lines, rest = self._line.split(b"\n")
        if len(rest) > OUTPUT_KEPT:
            lines, rest = [*lines, rest], bytearray()
        self._line = bytearray(rest)
        for line in lines:
            self.on_line(self.invocation, self.stream, line.decode(errors="replace"))

    def keep(self, data: bytes) -> None:
        """Keep the end of `data` for errors, and no more than that."""
        self.kept += data
        if len(self.kept) > 2 * OUTPUT_KEPT:
            del self.kept[:-OUTPUT_KEPT]

    def flush(self) -> None:
        """Pass on a last line without a newline."""
        if self._line and self.on_line is not None:
            self.on_line(self.invocation, self.stream, self._line.decode(errors="replace"))
        self._line.clear()

    def tail(self) -> str:
        """The last OUTPUT_KEPT bytes as text."""
        return bytes(self.kept[-OUTPUT_KEPT:]).decode(errors="replace")


class Buffered(Budget):
    """What a guest has written and nobody has read, in all of its streams together: `guest.kept(Buffered)`."""

    def __init__(self, guest: Guest) -> None:
        actor, most = guest.actor, guest.limits.buffered

        def error() -> LimitExceeded:
            what = f"wrote more than {size_text(most)} into streams that nobody read"
            return exceeded(actor, "buffered", most, what)

        super().__init__(most, error)


class Guest:
    """The host's side of one instance."""

    __slots__ = (
        "_kept",
        "_stderr",
        "_stdout",
        "actor",
        "arguments",
        "config",
        "environment",
        "failure",
        "grants",
        "imports",
        "invocation",
        "limits",
        "links",
        "on_end",
        "on_line",
        "random",
        "secrets",
        "stdio",
    )

    def __init__(
        self,
        actor: EntityId,
        *,
        imports: Handler = nothing_linked,
        config: Mapping[str, str] = EMPTY,
        secrets: Secrets = no_secrets,
        environment: Mapping[str, str] = EMPTY,
        arguments: tuple[str, ...] = (),
        grants: Grants = NOTHING,
        invocation: Invocation | None = None,
        on_line: OnLine | None = None,
        stdio: Stdio | None = None,
        seed: int | None = None,
        limits: Limits = DEFAULT,
    ) -> None:
        self.actor = actor
        self.limits = limits
        self.imports = imports
        self.config = config
        self.secrets = secrets
        self.environment = environment
        self.arguments = arguments
        self.grants = grants
        self.invocation = invocation
        self.on_line = on_line
        self.stdio = stdio
        self._stdout: Output | None = None
        self._stderr: Output | None = None
        self.links: dict[str, LinkName] = {}
        """Link names chosen by `wasmcloud:bus/lattice.set-link-name`, by interface without version."""
        self.failure: Exception | None = None
        """Why the guest stopped, when it had answered already and no caller is left to be told. Set before `end`."""
        self.on_end: list[Callable[[], object]] = []
        """Called when the instance ends, last first: host state that must not outlive it."""
        self.random: random.Random | None = None if seed is None else random.Random(seed)
        """Where wasi:random draws from; None: the operating system."""
        self._kept: dict[type, Any] | None = None

    @property
    def stdout(self) -> Output:
        if self._stdout is None:
            self._stdout = Output("stdout", self.on_line, self.invocation, self.actor, self.limits.output)
        return self._stdout

    @property
    def stderr(self) -> Output:
        if self._stderr is None:
            self._stderr = Output("stderr", self.on_line, self.invocation, self.actor, self.limits.output)
        return self._stderr

    def kept(self, kind: type[Kept]) -> Kept:
        """The one `kind(guest)` of this instance, made when first asked for: what an interface knows between calls."""
        if self._kept is None:
            self._kept = {}
        found = self._kept.get(kind)
        if found is None:
            found = self._kept[kind] = cast("Callable[[Guest], Kept]", kind)(self)
        return cast(Kept, found)

    async def call(self, function: Function, *args: Value) -> Value:
        """Call through the actor's links. Raises WitError (an answer) or LatticeError.

        The call carries the deadline and trace of the invocation this instance serves.
        """
        return await self.imports(self.call_of(function, *args))

    def call_of(self, function: Function, *args: Value) -> Invocation:
        """The Invocation that `call` would send, for host functions that need to change it first."""
        serving = self.invocation
        link = self.links.get(function.interface, DEFAULT_LINK)
        if serving is None:
            return Invocation(UNRESOLVED, function, args, self.actor, link)
        return Invocation(UNRESOLVED, function, args, self.actor, link, serving.deadline, serving.trace)

    def end(self) -> None:
        while self.on_end:
            self.on_end.pop()()
        if self._stdout is not None:
            self._stdout.flush()
        if self._stderr is not None:
            self._stderr.flush()
