"""A provider that runs: the same in the host's process, in a process of its own, and in a test.

runtime = Runtime(Shout(), EntityId("shout"), call)
await runtime.start()
await runtime.put_link(record)
value = await runtime.handle(invocation)      # a Handler
await runtime.stop(grace=10)
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from lattice import (
    BadInput,
    Busy,
    DeadlineExceeded,
    EntityId,
    Finding,
    Handler,
    HostId,
    Invocation,
    LatticeError,
    LinkName,
    NotLinked,
    Trap,
    UnknownFunction,
    Unreachable,
    Value,
    WitError,
)
from lattice.invocation import Permits, limited
from lattice.links import LinkKey
from lattice.tracing import Observer, nobody, trace_id
from providers.config import LinkLimits, limits_apart, parse_config
from providers.link import Link, LinkId, LinkRecord, serving
from providers.provider import Provider
from providers.purpose import purposeful

if TYPE_CHECKING:
    from lattice.lattice import Lattice

log = structlog.get_logger("providers")

HOOK_SECONDS = 30.0
"""How long `started`, `link_added` and their like may take before what they were called for is refused."""
CHANGE_SECONDS = 10.0
"""How long calls in hand may keep a link from changing."""
HEALTH_SECONDS = 5.0
LINE = 1024
"""Calls that wait for their turn, at most: of the provider, and of each link that has a limit of its own."""


@dataclass(frozen=True, slots=True)
class Health:
    healthy: bool
    message: str = ""


class Runtime:
    """One running provider. `call` is how it reaches other entities: direct calls, the lattice, or a test's double."""

    def __init__(
        self,
        provider: Provider,
        id: EntityId,
        call: Handler,
        config: Mapping[str, str] | None = None,
        *,
        lattice: Lattice | None = None,
        host_id: HostId | None = None,
        max_concurrent: int | None = None,
        observe: Observer = nobody,
    ) -> None:
        self.provider = provider
        self.id = id
        self.refused: dict[LinkId, str] = {}
        """Links that are wanted but cannot be, and why."""
        provider.id = id
        provider.lattice = lattice
        provider.host_id = host_id
        provider.observe = observe
        provider.config = dict(config or {})
        self._call = call
        self._links = provider.links
        self._incoming: dict[tuple[EntityId, str, LinkName], Link[Any]] = {}
        self._turns: dict[LinkId, asyncio.Lock] = {}
        self._in_hand: set[asyncio.Timeout] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopping = False
        self._stopped = False
        permits = Permits(max_concurrent or provider.concurrency, LINE)
        self._answer: Handler = limited(permits)(self._dispatch)

    @property
    def in_hand(self) -> int:
        """Calls that it answers just now."""
        return len(self._in_hand)

    # -- its life

    async def start(self) -> None:
        """Parse the configuration, then let the provider start. Raises BadInput or LatticeError when it cannot."""
        self._parse_settings(self.provider.config)
        await self._hook(self.provider.started(), f'provider "{self.id}" did not start')
        log.info("provider.started", provider=self.id, kind=type(self.provider).__qualname__)

    async def stop(self, grace: float = 10.0) -> None:
        """Take no more calls, finish those in hand, remove the links, stop the provider: `grace` seconds in all.

        What is not done by then is cancelled. A second call does nothing.
        """
        if self._stopping:
            return
        self._stopping = True
        until = time.monotonic() + grace
        await self._quietly(self.provider.draining(), until, "provider.drain_failed")
        try:
            async with asyncio.timeout(max(0.0, until - time.monotonic())):
                await self._idle.wait()
        except TimeoutError:
            log.warning("provider.calls_cancelled", provider=self.id, calls=len(self._in_hand))
            for scope in self._in_hand:
                scope.reschedule(asyncio.get_running_loop().time())
        self._incoming.clear()
        await asyncio.gather(*(self._leave(link, until) for link in tuple(self._links.values())))
        tasks = self.provider._tasks - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=max(0.0, until - time.monotonic()) + 1)
        await self._quietly(self.provider.stopped(), until, "provider.stop_failed")
        self._stopped = True
        log.info("provider.stopped", provider=self.id)

    async def _leave(self, link: Link[Any], until: float) -> None:
        await self._quietly(self.provider.link_removed(link), until, "link.remove_failed", link=str(link.record))
        self._links.pop(link.id, None)

    async def _quietly(self, hook: Awaitable[None], until: float, event: str, **about: str) -> None:
        """Run a hook whose failure must not keep us from leaving."""
        try:
            async with asyncio.timeout(max(0.05, until - time.monotonic())):
                await hook
        except Exception as error:
            log.warning(event, provider=self.id, error=sentence(error), **about)

    # -- configuration

    def _parse_settings(self, config: Mapping[str, str]) -> None:
        model = self.provider.settings_model
        if model is not None:
            self.provider.settings = parse_config(model, config, of=f'provider "{self.id}"')

    async def set_config(self, config: Mapping[str, str]) -> None:
        """The provider's own configuration from now on. Raises BadInput or LatticeError, keeping the old one."""
        provider = self.provider
        if dict(config) == dict(provider.config):
            return
        before = provider.config, provider.settings
        self._parse_settings(config)
        provider.config = dict(config)
        try:
            await self._hook(provider.config_changed(provider.config), f'provider "{self.id}" refused its config')
        except BaseException:
            provider.config, provider.settings = before
            await self._quietly(
                provider.config_changed(provider.config), time.monotonic() + HOOK_SECONDS, "config.restore_failed"
            )
            raise

    # -- links

    async def put_link(self, record: LinkRecord) -> None:
        """Add the link, or change it; an identical one is left alone.

        Raises BadInput or LatticeError when this link cannot be: then it stays as it was, and `refused` remembers why.
        A link that was refused can be put again.
        """
        async with self._turn(record.id):
            old = self._links.get(record.id)
            if old is not None and old.record == record:
                self.refused.pop(record.id, None)
                return
            if self._stopping:
                raise Busy(f'provider "{self.id}" is stopping')
            try:
                new = self._made(record)
                hook = self.provider.link_added(new) if old is None else self._change(old, new)
                await self._hook(hook, f"link {record} was refused")
            except Exception as error:
                reason = sentence(error)
                if self.refused.get(record.id) != reason:  # it may be put again and again until it fits
                    log.warning("link.refused", provider=self.id, link=str(record), error=reason)
                self.refused[record.id] = reason
                raise
            else:
                self.refused.pop(record.id, None)
                self._replace(old, new)
            finally:
                if old is not None:
                    old.release()
            log.info("link.changed" if old else "link.added", provider=self.id, link=str(record))

    def _replace(self, old: Link[Any] | None, new: Link[Any]) -> None:
        if old is not None:
            self._forget(old)
        self._links[new.id] = new
        if new.incoming:
            for interface in new.record.covers():
                self._incoming[new.source, interface, new.name] = new

    async def _change(self, old: Link[Any], new: Link[Any]) -> None:
        """Where the provider removes and adds, calls wait for that, and it for those in hand."""
        if type(self.provider).link_changed is not Provider.link_changed:
            await self.provider.link_changed(old, new)
            return
        old.hold()
        await self._quietly(old.idle(), time.monotonic() + CHANGE_SECONDS, "link.calls_left", link=str(old.record))
        await self.provider.link_changed(old, new)

    def _made(self, record: LinkRecord) -> Link[Any]:
        if self.id not in (record.source_id, record.target):
            raise BadInput(Finding("TRL-LNK-007", f'link {record} is not about provider "{self.id}"'))
        purposeful(self.provider, record)
        of, model = f"link {record}", self.provider.link_config
        own, limits = limits_apart(record.target_config if record.target == self.id else record.source_config)
        config = own if model is None else parse_config(model, own, of=of)
        most = parse_config(LinkLimits, limits, of=of).link_concurrency or self.provider.link_concurrency
        return Link(record, self.id, config, self._call, None if most is None else Permits(most, LINE))

    def _forget(self, link: Link[Any]) -> None:
        if self._links.get(link.id) is link:
            del self._links[link.id]
        for key in [key for key, value in self._incoming.items() if value is link]:
            del self._incoming[key]

    async def delete_link(self, key: LinkKey | LinkId) -> None:
        """Remove the link, after its calls in hand. One that is not there is no error."""
        for id in self._matching(key):
            async with self._turn(id):
                self.refused.pop(id, None)
                link = self._links.get(id)
                if link is None:
                    continue
                self._forget(link)
                until = time.monotonic() + HOOK_SECONDS
                await self._quietly(link.idle(), until, "link.calls_left", link=str(link.record))
                await self._quietly(
                    self.provider.link_removed(link), until, "link.remove_failed", link=str(link.record)
                )
                log.info("link.removed", provider=self.id, link=str(link.record))
            self._turns.pop(id, None)

    def _matching(self, key: LinkKey | LinkId) -> list[LinkId]:
        if isinstance(key, LinkId):
            return [key]
        wanted = (key.source_id, key.wit_namespace, key.wit_package, key.name)
        return [
            id
            for id in {*self._links, *self.refused, *self._turns}
            if (id.source_id, id.wit_namespace, id.wit_package, id.name) == wanted and key.target in (None, id.target)
        ]

    def _turn(self, id: LinkId) -> asyncio.Lock:
        """Puts and deletes of one link happen one after the other, in the order they came."""
        return self._turns.setdefault(id, asyncio.Lock())

    async def _hook(self, hook: Awaitable[None], what: str) -> None:
        """Run a hook; whatever it raises becomes BadInput or LatticeError, with a sentence."""
        scope = asyncio.timeout(HOOK_SECONDS)
        try:
            async with scope:
                await hook
        except (BadInput, LatticeError):
            raise
        except Exception as error:
            if isinstance(error, TimeoutError) and scope.expired():
                raise LatticeError(f"{what}: it took longer than {HOOK_SECONDS:g} s") from None
            log.exception("provider.hook_failed", provider=self.id)
            raise LatticeError(f"{what}: {type(error).__name__}: {error}") from error

    # -- health

    async def health(self) -> Health:
        """What the provider says of itself; never raises, never takes longer than a few seconds."""
        if self._stopped:
            return Health(False, "it has stopped")
        for name, reason in self.provider._broken.items():
            return Health(False, f"its task {name} ended: {reason}")
        try:
            async with asyncio.timeout(HEALTH_SECONDS):
                said = await self.provider.healthy()
        except Exception as error:
            return Health(False, sentence(error))
        return Health(False, said) if isinstance(said, str) else Health(said)

    # -- calls

    async def handle(self, invocation: Invocation) -> Value:
        """Answer one call: a Handler.

        Raises WitError (the answer), NotLinked, UnknownFunction, Busy, DeadlineExceeded, BadValue or Trap, and any
        LatticeError that the provider met in a call of its own.
        """
        if self._stopping:
            raise Busy(f'provider "{self.id}" is stopping')
        left = invocation.remaining()
        if left <= 0:
            raise DeadlineExceeded(f"no time left to call {invocation.function.key}")
        # a scope rather than the task: a direct call runs in the caller's task, which is not ours to cancel
        scope = asyncio.timeout(None if math.isinf(left) else left)
        self._in_hand.add(scope)
        self._idle.clear()
        try:
            async with scope:
                return await self._answer(invocation)
        except TimeoutError:
            if not scope.expired():
                raise
            if invocation.remaining() > 0:
                raise Unreachable(f'provider "{self.id}" stopped before {invocation.function.key} was done') from None
            raise DeadlineExceeded(
                f'provider "{self.id}" did not answer {invocation.function.key} within {left:.3g} s'
            ) from None
        finally:
            self._in_hand.discard(scope)
            if not self._in_hand:
                self._idle.set()

    async def _dispatch(self, invocation: Invocation) -> Value:
        function = invocation.function
        found = self.provider.exports.get(function.key)
        if found is None:
            raise UnknownFunction(f'provider "{self.id}" does not export {function.key}')
        key = (invocation.source, function.interface, invocation.link)
        link = self._incoming.get(key)
        while link is not None and link.held is not None:
            await link.held.wait()
            link = self._incoming.get(key)
        if link is None:
            raise NotLinked(
                f'"{invocation.source}" is not linked to {function.interface} of provider "{self.id}" '
                f'(link "{invocation.link}")'
            )
        args = found.arguments(invocation.args)
        token = serving.set(invocation)
        link.enter()
        permits = None
        try:
            if link.permits is not None:
                await link.permits.acquire(invocation.deadline)
                permits = link.permits
            return found.returned(await getattr(self.provider, found.attribute)(link, *args))
        except WitError as answer:
            raise found.raised(answer) from None
        except LatticeError:
            raise
        except Exception as error:
            log.exception(
                "provider.call_failed",
                provider=self.id,
                function=function.key,
                source=invocation.source,
                trace=trace_id(invocation.trace),
            )
            raise Trap(
                f'provider "{self.id}" failed in {function.key}: {type(error).__name__}: {error}',
                exception=type(error).__name__,
            ) from error
        finally:
            if permits is not None:
                permits.release()
            link.leave()
            serving.reset(token)


def sentence(error: BaseException) -> str:
    """What went wrong, for people: no class name where the error is ours."""
    if isinstance(error, BadInput):
        return "; ".join(f"{f.message}; {f.hint}" if f.hint else f.message for f in error.findings)
    if isinstance(error, LatticeError):
        return error.message
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
