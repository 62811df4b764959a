"""The components this host runs: started, scaled, updated and stopped without dropping a call in hand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import structlog

import actors.wasi  # noqa: F401  (registers what the host serves to guests)
from actors import Actor, Component, Engine, Limits
from actors.grants import Grants, Preopen
from actors.secrets import Secrets
from host.claims import Claims, KnownClaims, read_claims
from host.egress import Egress
from host.grants import granted, without_grants
from host.limits import limited
from host.policy import Subject
from host.site import Site
from lattice import EMPTY, BadInput, EntityId, Finding, Handler, Invocation, LatticeError
from lattice.control import UNBOUNDED, ComponentDescription, ScaleComponent, UpdateComponent
from lattice.errors import DeadlineExceeded, LimitExceeded, Trap, failure
from lattice.events import ComponentScaled, ComponentScaleFailed, Event
from lattice.lattice import Serving
from lattice.routes import Local
from lattice.secrets import PREFIX
from lattice.tracing import trace_id

log = structlog.get_logger("host")

STRICT_LINKS = "trellis.dev/strict-links"
"""Annotation of our own manager: its links are put before the component, so one that is missing stays missing."""

SETTINGS = "trellis.dev/settings"
"""Annotation of our own manager: stands for the configuration and the limits. While it stays, they stay."""

Fetch = Callable[[str], Awaitable[Path]]
"""From an image reference to a file."""


@dataclass(frozen=True, slots=True)
class Given:
    """What a component's configurations hold (what `wasi:config` answers, its grants, its secrets), and what is mounted
    beside them."""

    config: Mapping[str, str]
    grants: Grants
    secrets: Secrets
    environment: Mapping[str, str]

    @classmethod
    def of(cls, actor: Actor) -> Given:
        return cls(actor.config, actor.grants, actor.secrets, actor.environment)

    def give(self, actor: Actor) -> None:
        """Calls from now on have it."""
        actor.config, actor.grants, actor.secrets = self.config, self.grants, self.secrets
        actor.environment = self.environment


@dataclass(frozen=True, slots=True)
class Mounted:
    """What a component finds beside its configuration, from the process that this host is a part of."""

    directories: tuple[Preopen, ...]
    environment: Mapping[str, str]


NOT_MOUNTED = Mounted((), EMPTY)


@dataclass(slots=True)
class Running:
    """One component on this host."""

    id: EntityId
    reference: str
    actor: Actor
    serving: Serving
    count: int
    annotations: dict[str, str]
    config_names: list[str]
    limits: dict[str, str] | None = None
    claims: Claims | None = None
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def describe(self) -> ComponentDescription:
        return ComponentDescription(
            id=self.id,
            image_ref=self.reference,
            name=self.claims.name if self.claims else self.id,
            annotations=self.annotations,
            revision=self.claims.revision if self.claims else 0,
            max_instances=self.count,
            limits=self.limits,
        )

    def signed(self) -> dict[str, Any]:
        """What events say of a signed component."""
        return {} if self.claims is None else {"public_key": self.claims.subject, "claims": self.claims.told()}


@dataclass(frozen=True, slots=True)
class Made:
    """A component that can be called."""

    actor: Actor
    handler: Handler
    claims: Claims | None


class Components:
    """What `component.scale` and `component.update` act on."""

    def __init__(self, site: Site, host_name: str, engine: Engine, claims: KnownClaims, fetch: Fetch) -> None:
        self._site = site
        self.grace = site.config.grace
        """Seconds for work in hand when something is stopped."""
        self._host_name = host_name
        self._engine = engine
        self._claims = claims
        self._fetch = fetch
        self._egress = Egress(observed=partial(site.observing.around, kind="outgoing"))
        self._turns: dict[EntityId, asyncio.Lock] = {}
        self.running: dict[EntityId, Running] = {}
        self._mounted: dict[EntityId, Mounted] = {}
        site.configs.on_change.append(self._config_changed)
        self._tasks: set[asyncio.Task[None]] = set()

    async def scale(self, request: ScaleComponent) -> None:
        """Make it run as asked, and tell the lattice how it went. Never raises for what the request asks."""
        async with self._turns.setdefault(request.component_id, asyncio.Lock()):
            annotations = dict(request.annotations or {})
            try:
                reference = await self._scale(request, annotations)
            except Exception as error:
                sentence = failure(error)
                log.warning("component.scale_failed", component=request.component_id, error=sentence)
                await self._site.emit(
                    ComponentScaleFailed(
                        component_id=request.component_id,
                        host_id=self._site.id,
                        image_ref=request.component_ref,
                        max_instances=request.count,
                        annotations=annotations,
                        error=sentence,
                    )
                )
                return
            running = self.running.get(request.component_id)
            await self._site.emit(
                ComponentScaled(
                    component_id=request.component_id,
                    host_id=self._site.id,
                    image_ref=reference,
                    max_instances=request.count,
                    annotations=annotations,
                    **(running.signed() if running else {}),
                )
            )

    async def _scale(self, request: ScaleComponent, annotations: dict[str, str]) -> str:
        running = self.running.get(request.component_id)
        if request.count == 0:
            if running is not None:
                await self._stop(running)
            return request.component_ref or (running.reference if running else "")
        if running is None:
            await self._start(request, annotations)
            return request.component_ref
        reference = request.component_ref if request.allow_update else ""
        given, names, asked = Given.of(running.actor), running.config_names, running.limits
        if annotations.get(SETTINGS) is None or annotations[SETTINGS] != running.annotations.get(SETTINGS):
            names, asked = list(request.config), request.component_limits
            given = await self._given(running.id, names, request.config_data)
        limits = self._limits(running.id, asked, request.count)
        if reference in ("", running.reference):
            running.actor.limit(limits)
            given.give(running.actor)
        else:
            subject = Subject(running.id, reference, request.count, annotations)
            strict = annotations.get(STRICT_LINKS) == "true"
            await self._replace(running, reference, await self._made(subject, given, limits, strict=strict))
        if request.count != running.count:
            log.info("component.scaled", component=running.id, instances=request.count)
        running.count, running.limits, running.config_names = request.count, asked, names
        running.annotations = annotations
        return running.reference

    async def _start(self, request: ScaleComponent, annotations: dict[str, str]) -> None:
        id = request.component_id
        given = await self._given(id, request.config, request.config_data)
        limits = self._limits(id, request.component_limits, request.count)
        subject = Subject(id, request.component_ref, request.count, annotations)
        made = await self._made(subject, given, limits, strict=annotations.get(STRICT_LINKS) == "true")
        serving = await self._site.lattice.serve(
            id, self._site.observing.around(made.handler, "component"), host=self._site.id
        )
        self._site.router.local[id] = self._local(made)
        self.running[id] = Running(
            id,
            request.component_ref,
            made.actor,
            serving,
            request.count,
            annotations,
            list(request.config),
            request.component_limits,
            made.claims,
        )
        await self._started(self.running[id])
        log.info("component.started", component=id, image=request.component_ref, instances=request.count)

    async def _started(self, running: Running) -> None:
        """Let the lattice know what it was started from."""
        await self._site.links.started(running.id, running.reference)
        if running.claims is not None:
            await self._claims.put(running.claims)

    async def _made(self, subject: Subject, given: Given, limits: Limits, *, strict: bool) -> Made:
        """One that was instantiated already: what cannot begin never gets a call.

        Raises BadInput, and Denied when the policy is against it.
        """
        id = subject.id
        file = await self._fetch(subject.reference)
        claims = await asyncio.to_thread(read_claims, file, subject.reference)
        subject = replace(subject, claims=claims)
        await self._site.policy.start_component(subject)
        actor = Actor(
            id,
            await self._load(id, file, subject.reference, strict=strict),
            imports=self._egress.around(self._site.router.imports, lambda: actor.grants.http),
            config=given.config,
            secrets=given.secrets,
            environment=given.environment,
            grants=given.grants,
            limits=limits,
            on_line=partial(_wrote, id),
        )
        try:
            await actor.prove()
        except (Trap, LimitExceeded, DeadlineExceeded) as error:
            raise BadInput(
                Finding("TRL-IMG-013", f'component "{id}" fails when it is instantiated', why=error.message)
            ) from error
        return Made(actor, self._site.policy.around(subject, actor.handle), claims)

    async def _load(self, id: EntityId, file: Path, reference: str, *, strict: bool) -> Component:
        component = await self._engine.load(file, reference)
        if strict:
            missing = [i for i in component.needs_links() if not self._site.links.linked(id, i)]
            if missing:
                raise BadInput(
                    Finding(
                        "TRL-LNK-001",
                        f'component "{id}" imports {", ".join(missing)}, and no link provides it',
                        why="the host does not implement that interface itself",
                        fix="add a link trait from this component to a capability that exports it",
                    )
                )
        return component

    async def update(self, request: UpdateComponent) -> None:
        """The same component from another image; the old one serves until the new one is ready."""
        async with self._turns.setdefault(request.component_id, asyncio.Lock()):
            running = self.running.get(request.component_id)
            if running is None:
                return
            annotations = dict(request.annotations) if request.annotations is not None else running.annotations
            event: Event
            try:
                old, strict = running.actor, running.annotations.get(STRICT_LINKS) == "true"
                reference = request.new_component_ref
                subject = Subject(running.id, reference, running.count, annotations)
                made = await self._made(subject, Given.of(old), old.limits, strict=strict)
                await self._replace(running, reference, made)
                running.annotations = annotations
                event = ComponentScaled(
                    component_id=running.id,
                    host_id=self._site.id,
                    image_ref=running.reference,
                    max_instances=running.count,
                    annotations=annotations,
                    **running.signed(),
                )
            except Exception as error:
                sentence = failure(error)
                log.warning("component.update_failed", component=running.id, error=sentence)
                event = ComponentScaleFailed(
                    component_id=running.id,
                    host_id=self._site.id,
                    image_ref=request.new_component_ref,
                    max_instances=running.count,
                    annotations=annotations,
                    error=sentence,
                )
            await self._site.emit(event)

    async def _replace(self, running: Running, reference: str, made: Made) -> None:
        """New calls go to what was made; those in hand end where they began."""
        old = running.actor
        running.actor, running.claims = made.actor, made.claims
        running.serving.handler = self._site.observing.around(made.handler, "component")
        self._site.router.local[running.id] = self._local(made)
        running.reference = reference
        await self._started(running)
        log.info("component.updated", component=running.id, image=reference)
        self._later(self._drain(old))

    def _local(self, made: Made) -> Local:
        return Local(self._site.observing.around(made.handler, "component", direct=True), _load(made.actor))

    async def _stop(self, running: Running) -> None:
        """No new calls; those in line go elsewhere if they can; those in hand get the grace period."""
        self._site.router.local.pop(running.id, None)
        self.running.pop(running.id, None)
        await running.serving.leave()
        if self._site.router.elsewhere(running.id):
            running.actor.permits.turn_away()
        await running.serving.drain(self.grace)
        await self._drain(running.actor)
        log.info("component.stopped", component=running.id)

    async def _drain(self, actor: Actor) -> None:
        """Let its instances end; those that are still streaming after the grace period are left to their deadline."""
        try:
            async with asyncio.timeout(self.grace):
                await actor.drain()
        except TimeoutError:
            log.warning("component.not_drained", component=actor.id, instances=len(actor.running))

    async def stop_all(self) -> None:
        await asyncio.gather(*(self._stop(running) for running in list(self.running.values())))
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self.grace)
        try:
            async with asyncio.timeout(self.grace):
                await self._egress.close()
        except TimeoutError:
            log.warning("host.responses_broken_off")

    def _later(self, work: Awaitable[object]) -> None:
        async def run() -> None:
            await work

        task = asyncio.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- configuration and limits

    async def _given(
        self, id: EntityId, names: list[str], said: Mapping[str, Mapping[str, str]] | None = None
    ) -> Given:
        """What the named configurations come to; the component learns where it runs, too."""
        plain = [n for n in names if not n.startswith(PREFIX)]
        values = await self._site.configs.merged(plain, said)
        own = {"trellis.actor": id, "trellis.host": self._host_name, "trellis.host.id": self._site.id}
        grants, mounted = granted(values, self._site.config.allowed), self._mounted.get(id, NOT_MOUNTED)
        grants = replace(grants, directories=(*grants.directories, *mounted.directories))
        secrets = await self._site.secrets.of(id, names, said)
        return Given({**without_grants(values), **own}, grants, secrets, mounted.environment)

    async def mount(self, id: EntityId, mounted: Mounted) -> None:
        """Calls of that component from now on find `mounted`, also when it is started later; those in hand keep theirs.

        No manifest can ask for it.
        """
        async with self._turns.setdefault(id, asyncio.Lock()):
            before, self._mounted[id] = self._mounted.get(id, NOT_MOUNTED), mounted
            if running := self.running.get(id):
                actor = running.actor
                own = [one for one in actor.grants.directories if one not in before.directories]
                actor.grants = replace(actor.grants, directories=(*own, *mounted.directories))
                actor.environment = mounted.environment

    def _config_changed(self, name: str) -> None:
        async def refresh(running: Running) -> None:
            try:
                (await self._given(running.id, running.config_names)).give(running.actor)
            except (BadInput, LatticeError) as error:
                log.warning("component.config_kept", component=running.id, config=name, error=failure(error))

        for running in self.running.values():
            if name in running.config_names and SETTINGS not in running.annotations:
                self._later(refresh(running))

    def _instances(self, count: int) -> int:
        return self._site.config.max_instances if count == UNBOUNDED else count

    def _limits(self, id: EntityId, asked: Mapping[str, str] | None, count: int) -> Limits:
        return replace(limited(id, asked or {}, self._site.config.limits), concurrent=self._instances(count))


def _load(actor: Actor) -> Callable[[], float]:
    """Calls in hand and in line, per instance there may be."""
    permits = actor.permits
    return lambda: (permits.size - permits.free + len(permits.waiting)) / permits.size


def _wrote(id: EntityId, invocation: Invocation | None, stream: str, line: str) -> None:
    """A line that a guest printed, with the trace of the request it was printed for."""
    trace = "" if invocation is None else trace_id(invocation.trace)
    log.info("component.wrote", component=id, stream=stream, line=line, trace=trace)
