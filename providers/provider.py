"""What a provider author writes: one class, async hooks, and methods that are exported.

class Shout(Provider):
    @export("demo:text/transform#shout")
    async def shout(self, link: Link, text: str) -> str:
        return text.upper() + link.config.get("suffix", "!")
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import structlog
from pydantic import BaseModel

from lattice import EMPTY, EntityId, HostId
from lattice.tracing import Observer, nobody
from providers.exports import Export, export, exports_of
from providers.link import Link, LinkId

if TYPE_CHECKING:
    from lattice.lattice import Lattice

log = structlog.get_logger("providers")

__all__ = ["Provider", "Spawn", "export"]


class Spawn(Protocol):
    """`Provider.spawn`, for its parts."""

    def __call__(self, work: Coroutine[Any, Any, None], *, name: str | None = None) -> asyncio.Task[None]: ...


class Provider:
    """A capability in Python. Subclass it; every hook may stay as it is.

    The runtime sets `id`, `config`, `settings`, `lattice`, `host_id` and `observe` before `started`, and keeps `links`.
    Hooks for one link never overlap; those of different links may. A hook that raises refuses what it was called for:
    `started` the whole provider, `link_added` that link.
    """

    wit: ClassVar[str | Path | tuple[str | Path, ...] | None] = None
    """Declare the WIT, as text or as its file or folder, and arguments and results are held against it. Of several, a
    later one's interfaces take the place of those before."""
    calls: ClassVar[tuple[str, ...] | None] = None
    """The interfaces that it calls on the other end of its links (`namespace:package/interface`); None: not said."""
    link_config: ClassVar[type[BaseModel] | None] = None
    """Declare a model, and every link's `config` is one of these; one that does not fit refuses its link."""
    settings_model: ClassVar[type[BaseModel] | None] = None
    """Declare a model, and `settings` is the provider's own configuration as one of these."""
    concurrency: ClassVar[int] = 256
    """Calls answered at a time; more wait in line, and when the line is full too, get Busy."""

    link_concurrency: ClassVar[int | None] = None
    """Calls answered at a time for any one link, so that one peer leaves room for the others; None: no such limit."""

    exports: ClassVar[Mapping[str, Export]] = {}
    """What the class exports, by function key."""

    id: EntityId = EntityId("")
    host_id: HostId | None = None
    config: Mapping[str, str] = EMPTY
    """The provider's named configurations, merged."""
    settings: Any = None
    lattice: Lattice | None = None
    """The lattice it runs in; None in unit tests."""
    observe: Observer = staticmethod(nobody)
    """Told of what comes in from outside the lattice (`Arrival`); calls are observed without the provider."""
    links: dict[LinkId, Link[Any]]
    """Every link that was accepted and not removed. The runtime keeps it; read only."""
    _tasks: set[asyncio.Task[None]]
    _broken: dict[str, str]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        self = super().__new__(cls)  # not in __init__: subclasses need not call ours
        self.links = {}
        self._tasks = set()
        self._broken = {}
        return self

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.exports = exports_of(cls)

    # -- hooks

    async def started(self) -> None:
        """Before any link and any call."""

    async def config_changed(self, config: Mapping[str, str]) -> None:
        """`config` (and `settings`) are the new ones already. When it raises, it is called again with the old ones."""

    async def link_added(self, link: Link[Any]) -> None:
        """Before the first call through it."""

    async def link_changed(self, old: Link[Any], new: Link[Any]) -> None:
        """The same link with other interfaces or configuration. When it raises, `old` goes on: leave that as it was.

        Unless overridden: removed, then added, between two calls. Overridden, calls through `old` go on meanwhile.
        """
        await self.link_removed(old)
        await self._add_instead(old, new)

    async def link_removed(self, link: Link[Any]) -> None:
        """After its last call. Not called for a link that was refused."""

    async def healthy(self) -> bool | str:
        """True, or False, or a sentence that says what is wrong."""
        return True

    async def draining(self) -> None:
        """It is about to stop: take no more work from outside. Calls in hand go on, links are still there."""

    async def stopped(self) -> None:
        """After the last call and the last link. Cancelled when the grace period ends."""

    async def _add_instead(self, old: Link[Any], new: Link[Any]) -> None:
        """`link_added`; a new one that is refused leaves the old one."""
        try:
            await self.link_added(new)
        except BaseException:
            await self.link_added(old)
            raise

    # -- what can be told before it runs

    @classmethod
    def place(cls, settings: Any, config: Any) -> str | None:
        """What a link with this `config` has to itself, such as an address; None when links do not mind each other.

        Both are parsed: the provider's own settings, and the link's configuration. Two links of one manifest with the
        same place are found when that is checked; at run time it is `link_added` that refuses the second.
        """
        return None

    # -- what it can do

    def spawn(self, work: Coroutine[Any, Any, None], *, name: str | None = None) -> asyncio.Task[None]:
        """Run `work` beside the calls, until it ends or the provider stops. If it raises, the provider is unhealthy."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._broken[task.get_name()] = f"{type(error).__name__}: {error}"
            log.error("provider.task_failed", provider=self.id, task=task.get_name(), exc_info=error)
