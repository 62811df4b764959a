"""The providers this host runs, in its own process or as children, with their links, health and restarts."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable

import structlog

from host.process import ChildProvider
from host.provided import PLACEMENT, InProcess, Provided
from host.site import Site
from lattice import BadInput, EntityId, LatticeError
from lattice.control import StartProvider, Wired
from lattice.errors import failure
from lattice.events import (
    HealthCheckFailed,
    HealthCheckPassed,
    HealthCheckStatus,
    LinkSet,
    LinkSetFailed,
    ProviderStarted,
    ProviderStartFailed,
    ProviderStopped,
)
from lattice.links import LinkDefinition
from lattice.routes import Local
from lattice.secrets import PREFIX
from providers import LinkRecord
from providers.description import describe, publish
from providers.link import LinkId
from providers.load import builtin_name, resolve
from providers.runtime import Health, Runtime

log = structlog.get_logger("host")

FIRST_HEALTH = 1.0
"""Seconds from a provider's start to its first health check."""

REFUSED_RETRY = 2.0
"""Seconds before a link that a provider refused is put again: a port may be free by then."""

RESTART_FIRST, RESTART_MOST = 0.5, 30.0
"""Seconds before a provider that ended is started again; doubled each time, up to the most."""

HANDED_ON = 0.02
"""Seconds between two looks whether a provider that leaves has closed what its successor waits for."""

IN_USE = "TRL-PRV-001"
"""In what a provider says against a link whose address somebody else listens at."""

STEADY = 60.0
"""Seconds of running after which a provider's earlier crashes are forgotten."""


class Capabilities:
    """What `provider.start` and `provider.stop` act on."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.grace = site.config.grace
        """Seconds for work in hand when a provider is stopped."""
        self.running: dict[EntityId, Provided] = {}
        self._turns: dict[EntityId, asyncio.Lock] = {}
        self._changing: set[asyncio.Task[None]] = set()
        """Changes of links that providers have not taken or refused yet."""
        self.wired = Wired()
        self.rewired = asyncio.Event()
        """Set when `wired` has advanced; whoever tells the lattice clears it."""
        site.links.on_advance = site.configs.on_advance = self._note_wired
        site.links.on_change.append(self._links_changed)
        site.configs.on_change.append(self._config_changed)

    # -- start and stop

    async def start(self, request: StartProvider) -> None:
        """Start it and tell the lattice how it went. Never raises for what the request asks."""
        async with self._turns.setdefault(request.provider_id, asyncio.Lock()):
            await self._start(request)

    async def _start(self, request: StartProvider) -> None:
        id = request.provider_id
        provided = Provided(id, request.provider_ref, dict(request.annotations or {}), list(request.config))
        old = self.running.get(id)
        if old is not None and (old.reference, old.annotations) == (provided.reference, provided.annotations):
            await self._announce(old)  # asked again, perhaps because the first time took long
            return
        if old is not None and not request.replace:
            return
        try:
            await self._site.policy.start_provider(id, provided.reference, provided.annotations)
            async with provided.turn:
                if old is None:
                    self.running[id] = provided
                    await self._embody(provided)
                else:
                    await self._succeed(old, provided)
        except Exception as error:
            if self.running.get(id) is provided:
                del self.running[id]
            sentence = failure(error)
            log.warning("provider.start_failed", provider=id, error=sentence)
            await self._site.emit(
                ProviderStartFailed(
                    provider_id=id, provider_ref=request.provider_ref, host_id=self._site.id, error=sentence
                )
            )
            return
        await self._announce(provided)
        self._spawn(provided, self._check_health(provided))

    async def renew(self, id: EntityId) -> bool:
        """Start it again from its file as it is now, and hand its links over; False when it does not run here.

        Raises for whatever keeps the new one from taking them; then the old one stays.
        """
        async with self._turns.setdefault(id, asyncio.Lock()):
            old = self.running.get(id)
            if old is None:
                return False
            new = Provided(id, old.reference, old.annotations, old.config_names)
            async with new.turn:
                await self._succeed(old, new)
            await self._announce(new)
            self._spawn(new, self._check_health(new))
            return True

    async def _succeed(self, old: Provided, new: Provided) -> None:
        """Let `new` take calls, then `old` leave. When `new` refuses what `old` took, `old` stays.

        Where an address can be listened at by one of them only, such a link comes to `new` when `old` has closed it.
        """
        refused = await self._come_alive(new)
        links = {link.identity: link for link in self._site.links.of(new.id)}
        why = [error for id, error in refused.items() if id not in old.refused and IN_USE not in error]
        if why or self.running.get(new.id) is not old:
            assert new.body is not None
            await new.body.stop(self.grace, ask=False)
            raise LatticeError(why[0] if why else "it was stopped meanwhile")
        await self._take_calls(new)
        self.running[new.id] = new
        async with asyncio.TaskGroup() as tasks:
            leaving = tasks.create_task(self._end(old, self.grace, ask=False))
            for id, link in links.items():
                if id in refused:
                    tasks.create_task(self._inherit(new, link, leaving))
        now = self._site.links.of(new.id)
        if changed := ([k for k in links.values() if k not in now], [k for k in now if k not in links.values()]):
            self._change(new, *changed)
        await self._site.links.started(new.id, new.reference)

    async def _inherit(self, new: Provided, link: LinkDefinition, leaving: asyncio.Task[None]) -> None:
        """Have `new` take a link as soon as the one that is leaving makes room for it.

        That one may still have heard us, and answered in place of `new`; so it is put again at the end.
        """
        taken = False
        while not (taken or leaving.done()):
            await asyncio.wait({leaving}, timeout=HANDED_ON)
            with contextlib.suppress(BadInput, LatticeError):
                if new.body is not None:
                    await new.body.put_link(await self._record(new, link))
                    taken = True
        await asyncio.wait({leaving})
        await self._put_link(new, link)

    def _note_wired(self, *_: object) -> None:
        if not self._changing:
            self.wired = Wired(links=self._site.links.revision, configs=self._site.configs.revision)
            if self.running:
                self.rewired.set()

    async def _announce(self, provided: Provided) -> None:
        await self._site.emit(
            ProviderStarted(
                provider_id=provided.id,
                host_id=self._site.id,
                image_ref=provided.reference,
                annotations=provided.annotations,
                placement=provided.placement,
                wired=self.wired,
            )
        )

    async def _embody(self, provided: Provided) -> None:
        """Bring it to life with its links; a link it refuses is told to the lattice, and tried again."""
        refused = await self._come_alive(provided)
        await self._take_calls(provided)
        for link in self._site.links.of(provided.id):
            if link.identity in refused:
                await self._refused(provided, link, refused[link.identity])
        await self._site.links.started(provided.id, provided.reference)

    async def _come_alive(self, provided: Provided) -> dict[tuple[str, ...], str]:
        """Make its running form, with its links; those it refuses, and why."""
        config = await self._site.secrets.merged(provided.id, provided.config_names)
        placement = config.pop(PLACEMENT, None)
        if placement not in (None, "host", "process"):
            raise LatticeError(f"{PLACEMENT} is {placement!r}; it must be 'host' or 'process'")
        ours = builtin_name(provided.reference) is not None
        provided.placement = placement or ("host" if ours else "process")
        records: list[LinkRecord] = []
        refused: dict[tuple[str, ...], str] = {}
        for link in self._site.links.of(provided.id):
            try:
                records.append(await self._record(provided, link))
            except (BadInput, LatticeError) as error:
                refused[link.identity] = failure(error)
        if provided.placement == "process":
            child = self._child(provided, config, records)
            refused |= {tuple(id): why for id, why in (await self._ready(provided, child)).items()}
            provided.body = child
        else:
            runtime = Runtime(
                resolve(provided.reference)(),
                provided.id,
                self._site.router.route,
                config,
                lattice=self._site.lattice,
                host_id=self._site.id,
                observe=self._site.observing.tell,
            )
            await runtime.start()
            for record in records:
                try:
                    await runtime.put_link(record)
                except (BadInput, LatticeError) as error:
                    refused[record.id] = failure(error)
            provided.body = InProcess(runtime)
        provided.since = time.monotonic()
        return refused

    async def _ready(self, provided: Provided, child: ChildProvider) -> dict[LinkId, str]:
        """The links that it refuses, and why. Raises LatticeError, also when it is stopped meanwhile."""
        provided.coming = asyncio.create_task(child.start(), name=f"start of {provided.id}")
        try:
            await asyncio.wait((provided.coming,))
            if provided.coming.cancelled():
                raise LatticeError("it was stopped before it was ready")
            return provided.coming.result()
        finally:
            provided.coming.cancel()
            await asyncio.wait((provided.coming,))  # the process is gone, too
            provided.coming = None

    async def _take_calls(self, provided: Provided) -> None:
        """A process of its own takes them since it is ready."""
        body = provided.body
        if isinstance(body, InProcess):
            handle, around = body.runtime.handle, self._site.observing.around
            body.serving = await self._site.lattice.serve(provided.id, around(handle, "provider"), host=self._site.id)
            said = describe(type(body.runtime.provider), provided.reference)
            body.described = await publish(self._site.lattice, provided.id, said)
            local = self._site.router.local[provided.id] = Local(around(handle, "provider", direct=True), lambda: 0.0)

            def leave() -> None:
                if self._site.router.local.get(provided.id) is local:
                    del self._site.router.local[provided.id]

            body.leave = leave
        else:
            self._site.router.local.pop(provided.id, None)

    def _child(self, provided: Provided, config: dict[str, str], links: list[LinkRecord]) -> ChildProvider:
        async def exited(why: str) -> None:
            if not provided.stopping:
                self._spawn(provided, self._restart(provided, why))

        return ChildProvider(provided.reference, provided.id, self._site.id, self._site.lattice, config, links, exited)

    async def _restart(self, provided: Provided, why: str) -> None:
        """Bring it back after it ended by itself, with longer and longer pauses while it keeps ending."""
        provided.body = None
        await self._turned(provided, Health(False, why))
        await self._site.emit(
            ProviderStopped(
                provider_id=provided.id,
                host_id=self._site.id,
                annotations=provided.annotations,
                reason=f"crashed: {why.splitlines()[0]}",
            )
        )
        if time.monotonic() - provided.since > STEADY:
            provided.restarts = 0
        while not provided.stopping:
            await asyncio.sleep(min(RESTART_MOST, RESTART_FIRST * 2**provided.restarts))
            provided.restarts += 1
            try:
                async with provided.turn:
                    await self._embody(provided)
            except Exception as error:
                log.warning("provider.restart_failed", provider=provided.id, error=failure(error))
                await self._turned(provided, Health(False, failure(error)))
                continue
            log.info("provider.restarted", provider=provided.id, restarts=provided.restarts)
            await self._announce(provided)
            return

    async def stop(self, id: EntityId, grace: float | None = None) -> bool:
        """Drain and end it; False when it does not run here."""
        provided = self.running.pop(id, None)
        if provided is None:
            return False
        await self._end(provided, self.grace if grace is None else grace)
        await self._site.emit(
            ProviderStopped(provider_id=id, host_id=self._site.id, annotations=provided.annotations, reason="stop")
        )
        return True

    async def _end(self, provided: Provided, grace: float, *, ask: bool = True) -> None:
        provided.stopping = True
        for task in provided.tasks:
            task.cancel()
        if provided.coming is not None:
            provided.coming.cancel()
        async with provided.turn:
            if provided.body is not None:
                await provided.body.stop(grace, ask=ask)

    async def stop_all(self, *, sources: bool) -> None:
        """Stop those that call actors (`sources`: work stops coming in), or all the others."""
        chosen = [id for id in self.running if not sources or self._calls_others(id)]
        await asyncio.gather(*(self.stop(id) for id in chosen))

    def _calls_others(self, id: EntityId) -> bool:
        return bool(self._site.links.sources(id))

    def _spawn(self, provided: Provided, work: Awaitable[None]) -> asyncio.Task[None]:
        async def run() -> None:
            await work

        task = asyncio.create_task(run(), name=f"provider {provided.id}")
        provided.tasks.add(task)
        task.add_done_callback(provided.tasks.discard)
        return task

    # -- links

    def _links_changed(self, gone: list[LinkDefinition], new: list[LinkDefinition]) -> None:
        replaced = {link.identity for link in new}
        for provided in self.running.values():
            removed = [old for old in gone if self._mine(provided, old) and old.identity not in replaced]
            put = [link for link in new if self._mine(provided, link)]
            if removed or put:
                self._change(provided, removed, put)

    def _mine(self, provided: Provided, link: LinkDefinition) -> bool:
        return provided.id in (link.source_id, link.target)

    def _change(self, provided: Provided, removed: list[LinkDefinition], put: list[LinkDefinition]) -> None:
        task = self._spawn(provided, self._change_links(provided, removed, put))
        self._changing.add(task)
        task.add_done_callback(self._changing.discard)
        task.add_done_callback(self._note_wired)

    async def _change_links(self, provided: Provided, removed: list[LinkDefinition], put: list[LinkDefinition]) -> None:
        async with provided.turn:
            if provided.body is None:
                return  # _embody reads the links when it comes to life
            for link in removed:
                provided.refused.pop(link.identity, None)
                try:
                    await provided.body.delete_link(_bare(link))
                except LatticeError as error:
                    log.warning("link.delete_failed", provider=provided.id, link=str(link), error=error.message)
            for link in put:
                await self._put_link(provided, link)

    async def _put_link(self, provided: Provided, link: LinkDefinition) -> None:
        """Hand it to the provider; when that refuses, tell the lattice why and try again later."""
        body = provided.body
        if body is None:
            return
        try:
            await body.put_link(await self._record(provided, link))
        except (BadInput, LatticeError) as error:
            await self._refused(provided, link, failure(error))
        else:
            if provided.refused.pop(link.identity, None) is not None:
                await self._site.emit(LinkSet(name_=link.name, **link.model_dump(exclude={"name"})))

    async def _record(self, provided: Provided, link: LinkDefinition) -> LinkRecord:
        """With the secrets of the provider's own side. Raises BadInput for what is not there."""

        async def side(end: EntityId, names: tuple[str, ...]) -> dict[str, str]:
            own = end == provided.id
            return await self._site.secrets.merged(end, [n for n in names if own or not n.startswith(PREFIX)])

        return LinkRecord(
            **link.model_dump(exclude={"source_config", "target_config"}),
            source_config=await side(link.source_id, link.source_config),
            target_config=await side(link.target, link.target_config),
        )

    async def _refused(self, provided: Provided, link: LinkDefinition, sentence: str) -> None:
        """Tell the lattice why, and try again later."""
        if provided.refused.get(link.identity) != sentence:
            log.warning("link.refused", provider=provided.id, link=str(link), error=sentence)
        provided.refused[link.identity] = sentence
        await self._site.emit(
            LinkSetFailed(
                name_=link.name, **link.model_dump(exclude={"name"}), error=f'provider "{provided.id}": {sentence}'
            )
        )
        self._spawn(provided, self._put_again(provided, link))

    async def _put_again(self, provided: Provided, link: LinkDefinition) -> None:
        await asyncio.sleep(REFUSED_RETRY)
        async with provided.turn:
            if link.identity in provided.refused and link in self._site.links.of(provided.id):
                await self._put_link(provided, link)

    # -- configuration and health

    def _config_changed(self, name: str) -> None:
        for provided in self.running.values():
            if name in provided.config_names:
                self._spawn(provided, self._reconfigure(provided))
            links = [k for k in self._site.links.of(provided.id) if name in (*k.source_config, *k.target_config)]
            if links:
                self._change(provided, [], links)

    async def _reconfigure(self, provided: Provided) -> None:
        async with provided.turn:
            if provided.body is None:
                return
            try:
                config = await self._site.secrets.merged(provided.id, provided.config_names)
                config.pop(PLACEMENT, None)
                await provided.body.set_config(config)
                provided.misconfigured = ""
            except (BadInput, LatticeError) as error:
                provided.misconfigured = failure(error)
                log.warning("provider.config_refused", provider=provided.id, error=provided.misconfigured)
            await self._turned(provided, await self._health(provided))

    async def _check_health(self, provided: Provided) -> None:
        pause = FIRST_HEALTH
        while True:
            await asyncio.sleep(pause)
            pause = self._site.config.health
            if provided.body is None:
                continue
            health = await self._health(provided)
            if health == provided.health:
                error = None if health.healthy else health.message
                await self._site.emit(HealthCheckStatus(provider_id=provided.id, host_id=self._site.id, error=error))
            else:
                await self._turned(provided, health)

    async def _health(self, provided: Provided) -> Health:
        if provided.misconfigured or provided.body is None:
            return Health(False, provided.misconfigured)
        return await provided.body.health()

    async def _turned(self, provided: Provided, health: Health) -> None:
        if provided.health == health:
            return
        provided.health = health
        if health.healthy:
            await self._site.emit(HealthCheckPassed(provider_id=provided.id, host_id=self._site.id))
        else:
            log.warning("provider.unhealthy", provider=provided.id, why=health.message)
            await self._site.emit(
                HealthCheckFailed(provider_id=provided.id, host_id=self._site.id, error=health.message)
            )


def _bare(link: LinkDefinition) -> LinkRecord:
    """The link without its configuration: enough to name it."""
    return LinkRecord(**link.model_dump(exclude={"source_config", "target_config"}))
