"""One provider on this host, and the forms in which it runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from lattice import EntityId
from lattice.control import ProviderDescription
from lattice.lattice import Serving
from lattice.transport import Subscription
from providers import LinkRecord
from providers.link import LinkId
from providers.runtime import Health, Runtime

PLACEMENT = "placement"
"""Reserved key of a provider's configuration: `host` (in the host's process) or `process` (in its own)."""


class Body(Protocol):
    """A provider's running form."""

    @property
    def in_hand(self) -> int | None:
        """Calls that it answers just now; None when nobody here knows."""

    async def put_link(self, record: LinkRecord) -> None: ...
    async def delete_link(self, record: LinkRecord) -> None: ...
    async def set_config(self, config: dict[str, str]) -> None: ...
    async def health(self) -> Health: ...
    async def stop(self, grace: float, *, ask: bool = True) -> None:
        """Without `ask`: by other means than a request, which its successor would hear, too."""


class InProcess:
    """A provider in the host's own process: its links are direct calls."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.serving: Serving | None = None
        self.described: Subscription | None = None
        self.leave: Callable[[], None] = lambda: None
        """Have no more calls come directly."""

    @property
    def in_hand(self) -> int:
        return self.runtime.in_hand

    async def put_link(self, record: LinkRecord) -> None:
        await self.runtime.put_link(record)

    async def delete_link(self, record: LinkRecord) -> None:
        await self.runtime.delete_link(record.id)

    async def set_config(self, config: dict[str, str]) -> None:
        await self.runtime.set_config(config)

    async def health(self) -> Health:
        return await self.runtime.health()

    async def stop(self, grace: float, *, ask: bool = True) -> None:
        self.leave()
        if self.described is not None:
            await self.described.unsubscribe()
        if self.serving is not None:
            await self.serving.drain(grace)
        await self.runtime.stop(grace)


@dataclass(slots=True)
class Provided:
    """One provider on this host."""

    id: EntityId
    reference: str
    annotations: dict[str, str]
    config_names: list[str]
    body: Body | None = None
    coming: asyncio.Task[dict[LinkId, str]] | None = None
    """Its process, while it is on its way to being ready."""
    placement: str = "host"
    health: Health = field(default_factory=lambda: Health(False))
    misconfigured: str = ""
    """What it said against its present configuration."""
    restarts: int = 0
    since: float = field(default_factory=time.monotonic)
    refused: dict[tuple[str, ...], str] = field(default_factory=dict)
    """Links it would not take, and why, by the link's identity."""
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    stopping: bool = False

    def describe(self) -> ProviderDescription:
        return ProviderDescription(
            id=self.id,
            image_ref=self.reference,
            name=self.id,
            annotations=self.annotations,
            placement=self.placement,
        )
