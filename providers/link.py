"""One link as a provider sees it: who is at the other end, what was configured, and how to call them."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Generic, NamedTuple

from pydantic import AliasChoices, BaseModel, ConfigDict, Field
from typing_extensions import TypeVar

from lattice import EMPTY, EntityId, Function, Handler, Invocation, LinkName, Value
from lattice.invocation import Permits
from lattice.names import DEFAULT_LINK

ConfigT = TypeVar("ConfigT", default=Mapping[str, str])

serving: ContextVar[Invocation | None] = ContextVar("serving", default=None)
"""The call that the current task answers: what it calls in turn inherits its deadline and trace."""


class LinkId(NamedTuple):
    """What makes a link that link; a put with the same id takes the place of the one before."""

    source_id: EntityId
    target: EntityId
    wit_namespace: str
    wit_package: str
    name: LinkName

    def __str__(self) -> str:
        return f"{self.source_id} -({self.wit_namespace}:{self.wit_package} {self.name})-> {self.target}"


class LinkRecord(BaseModel):
    """One link with its configuration resolved: named configs are merged into values already."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    source_id: EntityId
    target: EntityId
    name: LinkName = Field(DEFAULT_LINK, validation_alias=AliasChoices("name", "link_name"))
    wit_namespace: str
    wit_package: str
    interfaces: tuple[str, ...]
    source_config: dict[str, str] = Field({}, repr=False)
    target_config: dict[str, str] = Field({}, repr=False)
    """Not shown: there may be secrets among them."""

    @property
    def id(self) -> LinkId:
        return LinkId(self.source_id, self.target, self.wit_namespace, self.wit_package, self.name)

    def covers(self) -> tuple[str, ...]:
        """The interfaces it links, as `namespace:package/interface`."""
        return tuple(f"{self.wit_namespace}:{self.wit_package}/{i}" for i in self.interfaces)

    def __str__(self) -> str:
        return f"{self.source_id} -({self.wit_namespace}:{self.wit_package} {self.name})-> {self.target}"


class Link(Generic[ConfigT]):
    """A link between this provider and one other entity, its `peer`.

    `config` is this side's configuration: the link's target_config when the provider is the target, its source_config
    when it is the source. It is a mapping of strings, or the parsed model when the provider declares `link_config`
    (annotate the parameter `Link[MyModel]` then). A changed link is a new object with the same `id`.
    """

    __slots__ = ("_call", "_idle", "_running", "config", "held", "peer", "permits", "provider", "record")

    def __init__(
        self, record: LinkRecord, provider: EntityId, config: ConfigT, call: Handler, permits: Permits | None = None
    ) -> None:
        self.record = record
        self.provider = provider
        self.peer = record.source_id if self.incoming else record.target
        """Who is at the other end."""
        self.config = config
        self.permits = permits
        self._call = call
        self._running = 0
        self._idle: asyncio.Future[None] | None = None
        self.held: asyncio.Event | None = None
        """While it is being changed: set when calls may go on, through the link that is there then."""

    @property
    def id(self) -> LinkId:
        return self.record.id

    @property
    def source(self) -> EntityId:
        return self.record.source_id

    @property
    def target(self) -> EntityId:
        return self.record.target

    @property
    def name(self) -> LinkName:
        return self.record.name

    @property
    def interfaces(self) -> tuple[str, ...]:
        """As `namespace:package/interface`, without versions."""
        return self.record.covers()

    @property
    def incoming(self) -> bool:
        """The provider is the target: the peer calls it."""
        return self.record.target == self.provider

    async def call(
        self,
        function: Function | str,
        *args: Value,
        timeout: float = math.inf,
        trace: Mapping[str, str] | None = None,
    ) -> Value:
        """Call the peer. Raises WitError (its answer) or LatticeError.

        Within an exported method the call inherits deadline and trace of the call being answered; `timeout` (seconds)
        can only shorten that. `trace` replaces the trace context.
        """
        if isinstance(function, str):
            function = Function.parse(function)
        parent = serving.get()
        deadline = math.inf if parent is None else parent.deadline
        if timeout < math.inf:
            deadline = min(deadline, time.monotonic() + timeout)
        if trace is None:
            trace = EMPTY if parent is None else parent.trace
        return await self._call(Invocation(self.peer, function, args, self.provider, self.record.name, deadline, trace))

    # -- calls in flight, kept by the runtime

    def enter(self) -> None:
        self._running += 1

    def leave(self) -> None:
        self._running -= 1
        if not self._running and self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    async def idle(self) -> None:
        """Wait until no call of the peer is being answered through this link."""
        if self._running:
            self._idle = asyncio.get_running_loop().create_future()
            await self._idle

    def hold(self) -> None:
        self.held = asyncio.Event()

    def release(self) -> None:
        if self.held is not None:
            self.held.set()
            self.held = None

    def __repr__(self) -> str:
        return f"<Link {self.record}>"


def link_between(source: str, target: str, interfaces: str, *, name: str = "default", **configs: Any) -> LinkRecord:
    """A record from `namespace:package/one,two`, for tests and for running a provider by hand."""
    package, _, names = interfaces.partition("/")
    namespace, _, package = package.partition(":")
    return LinkRecord(
        source_id=EntityId(source),
        target=EntityId(target),
        name=LinkName(name),
        wit_namespace=namespace,
        wit_package=package,
        interfaces=tuple(names.split(",")),
        **configs,
    )
