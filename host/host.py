"""A host: one member of a lattice that runs components and providers, and does what it is told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import structlog

from actors import Engine, EngineConfig
from host.capabilities import Capabilities
from host.claims import KnownClaims
from host.components import Components
from host.config import HostConfig
from host.configs import Configs
from host.control import Control
from host.identity import new_host_id, own_labels, own_version
from host.images import Images
from host.links import Links
from host.own_values import OwnValues
from host.parts import parts
from host.policy import Policy
from host.router import Router
from host.secrets import SecretReferences
from host.site import Site
from lattice import BadInput, LatticeError, events, read_json, subjects
from lattice.control import APPSPEC, DRAINED, HostInfo, Inventory, uptime_human
from lattice.directory import Directory
from lattice.errors import failure
from lattice.events import Event
from lattice.history import events_of
from lattice.images import ImageStore
from lattice.jetstream import JetStream
from lattice.journal import Journal
from lattice.lattice import Lattice
from lattice.metrics import Metrics
from lattice.names import EntityId, friendly_name
from lattice.nats_transport import connect
from lattice.observing import Observing
from lattice.otel import exported
from lattice.presence import Presence
from lattice.transport import Transport
from providers.secrets.backends import backends

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

log = structlog.get_logger("host")

CONFIG_SERVICE = 5.0
"""Seconds that a configuration service has for its answer."""

BETWEEN = 0.05
"""Seconds between two heartbeats at least, however fast links change."""

REPLAY = 10.0
"""Seconds for the first reading of links and configurations."""


class Host:
    """Use as `async with Host(config) as host: await host.run()`; leaving the block stops it in order."""

    routing: ClassVar[type[Router]] = Router
    """What is made of its router: tests have one that loses calls."""

    def __init__(self, config: HostConfig, transport: Transport | None = None) -> None:
        self.config = config
        self.id = new_host_id()
        self.name = config.name or friendly_name()
        self.labels = {**config.labels, **own_labels()}
        self.registries: dict[str, object] = {}
        self.observing = Observing()
        self.metrics = Metrics()
        self.observing.observers.append(self.metrics.observe)
        self._transport = transport
        self._tasks: list[asyncio.Task[None]] = []
        self._watched = AsyncExitStack()
        self._joined = False
        self._stop = asyncio.Event()
        self._started = time.monotonic()
        self._stopped = False

    journal: Journal
    lattice: Lattice
    engine: Engine
    configs: Configs
    links: Links
    claims: KnownClaims
    directory: Directory
    router: Router
    images: Images
    components: Components
    capabilities: Capabilities
    control: Control

    # -- its life

    async def start(self) -> Host:
        """Join the lattice. Raises Unreachable when there is no broker."""
        structlog.contextvars.bind_contextvars(host=self.name)
        self.journal = Journal(self.id, self.name)
        transport = self._transport or await connect(self.config.nats)
        try:
            data = await connect(self.config.data) if self.config.data else None
        except LatticeError:
            await transport.close()
            raise
        self.lattice = await Lattice(self.config.lattice, transport, data).start()
        self.journal.start(self.lattice)
        try:
            await self._join()
        except BaseException:
            for task in self._tasks:
                task.cancel()
            await self._watched.aclose()
            await self.journal.close()
            await self.lattice.close()
            raise
        return self

    async def _assemble(self) -> None:
        """Make its parts, which do nothing yet."""
        self.engine = Engine(EngineConfig(fuel=self.config.limits.fuel is not None, stack=self.config.stack))
        self.configs = Configs(await self.lattice.config_data(), OwnValues(self.config.config_folder))
        data = await self.lattice.lattice_data()
        self.links = Links(data, self.configs)
        self.claims = KnownClaims(data)
        self.links.others = self.claims.seen
        self.directory = Directory(self.id, self.config.dead_after)
        self.router = self.routing(
            self.lattice, self.links, self.directory, partial(self.observing.around, kind="away")
        )
        self.images = Images(
            self.config.images, ImageStore(self.lattice.transport, self.lattice.name), lambda: self.registries
        )
        keeping = await backends(self.lattice, folder=self.config.secrets_folder, key_file=self.config.secrets_key)
        self.secrets = SecretReferences(self.configs, keeping)
        self.policy = Policy(self.config.policy, self.lattice.transport, self._told_to_policy)
        site = Site(
            self.config,
            self.id,
            self.lattice,
            self.router,
            self.links,
            self.configs,
            self.secrets,
            self.policy,
            self.emit,
            self.observing,
        )
        self.components = Components(site, self.name, self.engine, self.claims, self.images.fetch)
        self.capabilities = Capabilities(site)
        self.control = Control(self)

    async def _join(self) -> None:
        await self._assemble()
        self.journal.app, self.journal.known = self._app, lambda: self.secrets.given
        presence = Presence(self.lattice, self.directory)
        await self.policy.listen()
        await self._let_watch()
        for name, work in (
            ("links", self.links.follow()),
            ("configs", self.configs.follow()),
            ("heartbeat", self._beat()),
            ("alive", self._live()),
            ("presence", presence.follow(self.config.alive)),
        ):
            self._tasks.append(asyncio.create_task(work, name=name))
        async with asyncio.timeout(REPLAY):
            await self.links.ready.wait()
            await self.configs.ready.wait()
        if self.config.config_service:
            await self._ask_for_registries()
        self.lattice.transport.on_reconnect(lambda: self.control.later(self._put_back()))
        await presence.listen()
        await self.observing.open(self.lattice, self.id, self.name, lambda: self.secrets.given)
        await self.control.listen()
        runs = partial(parts, self.components, self.capabilities)
        await self.metrics.open(self.lattice, self.id, self.name, runs, host=True)
        await self.lattice.transport.flush()
        await self._keep_events()
        await self.emit(events.HostStarted(friendly_name=self.name, labels=dict(self.labels), version=own_version()))
        await self._say_alive()
        self._joined = True
        log.info("host.started", id=self.id, lattice=self.lattice.name, nats=self.lattice.transport.url)

    async def run(self) -> None:
        """Return when it was told to stop."""
        await self._stop.wait()

    def stop_soon(self, grace: float | None = None) -> None:
        """Let `run` return; `grace` is seconds for work in hand, if not those of the configuration."""
        if grace is not None:
            self.components.grace = self.capabilities.grace = grace
        self._stop.set()

    async def stop(self) -> None:
        """In order: no new requests, no new calls, finish what is in hand, say goodbye, leave."""
        if self._stopped:
            return
        self._stopped = True
        self._stop.set()
        log.info("host.stopping", id=self.id)
        await self.emit(events.HostDraining(labels=dict(self.labels)))
        await self.control.deafen()
        await self.capabilities.stop_all(sources=True)
        await self.components.stop_all()
        await self.capabilities.stop_all(sources=False)
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        try:
            await self.emit(events.HostStopped(labels=dict(self.labels)))
            await self.lattice.flow.finish(1.0)
        except LatticeError as error:
            log.warning("host.goodbye_unsent", error=error.message)
        await self.images.close()
        await self._watched.aclose()
        await self.journal.close()
        await self.lattice.close()
        self.engine.close()
        log.info("host.stopped", id=self.id)

    async def __aenter__(self) -> Host:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    # -- what it says of itself

    def uptime(self) -> float:
        """Seconds."""
        return time.monotonic() - self._started

    def info(self) -> HostInfo:
        return HostInfo(
            id=self.id,
            friendly_name=self.name,
            labels=dict(self.labels),
            lattice=self.lattice.name,
            uptime_seconds=int(self.uptime()),
            uptime_human=uptime_human(self.uptime()),
            version=own_version(),
            ctl_host=self.lattice.transport.url,
            rpc_host=self.lattice.data.url,
            js_domain=self.config.nats.domain,
        )

    def inventory(self) -> Inventory:
        return Inventory(
            host_id=self.id,
            friendly_name=self.name,
            labels=dict(self.labels),
            version=own_version(),
            uptime_human=uptime_human(self.uptime()),
            uptime_seconds=int(self.uptime()),
            components=[c.describe() for c in self.components.running.values()],
            providers=[p.describe() for p in self.capabilities.running.values() if p.body is not None],
            wired=self.capabilities.wired,
        )

    def _told_to_policy(self) -> dict[str, Any]:
        return {"publicKey": self.id, "lattice": self.lattice.name, "labels": dict(self.labels)}

    def satisfies(self, constraints: dict[str, str]) -> bool:
        """Every constraint equals one of its labels, and nobody is emptying it."""
        return DRAINED not in self.labels and all(self.labels.get(key) == value for key, value in constraints.items())

    def _app(self, id: EntityId) -> str | None:
        """The app that a component or provider here belongs to."""
        running = self.components.running.get(id) or self.capabilities.running.get(id)
        return None if running is None else running.annotations.get(APPSPEC)

    def unready(self) -> list[str]:
        """Why it cannot do its work just now; empty when it can."""
        if not self._joined:
            return ["it is starting"]
        if self._stop.is_set():
            return ["it is stopping"]
        reasons = []
        if not (self.lattice.transport.connected and self.lattice.data.connected):
            reasons.append("there is no connection to the broker")
        if not (self.links.ready.is_set() and self.configs.ready.is_set()):
            reasons.append("it does not know all links and configurations")
        if DRAINED in self.labels:
            reasons.append("it is being emptied, or is empty")
        return reasons

    async def _let_watch(self) -> None:
        """Let those see what goes on here whom the configuration and the environment name."""

        def registered() -> CollectorRegistry:
            from host.exposition import HostCollector
            from lattice.monitor import registry

            return registry(HostCollector(self))

        if self.config.metrics is not None:
            from lattice.monitor import monitored

            await self._watched.enter_async_context(monitored(self.config.metrics, registered(), self.unready))
        who = {"service.name": "trellis-host", "service.instance.id": self.id, "service.version": own_version()}
        who |= {"host.name": self.name, "trellis.lattice": self.lattice.name}
        await self._watched.enter_async_context(exported(who, registered, self.journal, self.observing.observers))

    async def emit(self, event: Event) -> None:
        """Tell the lattice; a broker that is away is logged, since the next heartbeat says it all again."""
        try:
            await self.lattice.emit(event, self.id)
        except LatticeError as error:
            log.warning("event.unsent", name=event.name, error=error.message)

    async def _ask_for_registries(self) -> None:
        """The logins that a configuration service of v1 has for hosts of these labels; without its answer, none."""
        subject = subjects.config_service(self.lattice.name)
        asked = json.dumps({"labels": self.labels}).encode()
        try:
            answer = await self.lattice.transport.request(subject, asked, timeout=CONFIG_SERVICE)
            given = read_json(answer.data)["registryCredentials"]
            if not isinstance(given, dict):
                raise TypeError
        except (LatticeError, ValueError, TypeError, KeyError) as error:
            why = error.message if isinstance(error, LatticeError) else "its answer has no registryCredentials"
            log.warning("config_service.unanswered", subject=subject, error=why)
        else:
            self.registries = given

    async def _put_back(self) -> None:
        """A broker that lost its data keeps events again, and the images of what runs here for hosts that need them."""
        await self._keep_events()
        for running in list(self.components.running.values()):
            try:
                await self.images.put_back(running.reference)
            except (BadInput, LatticeError) as error:
                log.warning("image.not_put_back", component=running.id, error=failure(error))

    async def _keep_events(self) -> None:
        try:
            await events_of(self.lattice.name).keep(JetStream(self.lattice.transport))
        except LatticeError as error:
            log.warning("events.not_kept", reason=error.message)

    # -- signs of life

    async def _beat(self) -> None:
        """Between two times, too, when providers have taken or refused links: the manager waits for that."""
        rewired = self.capabilities.rewired
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.config.heartbeat):
                    await rewired.wait()
            rewired.clear()
            await self.emit(events.HostHeartbeat(inventory=self.inventory()))
            await asyncio.sleep(BETWEEN)

    async def _live(self) -> None:
        while True:
            await asyncio.sleep(self.config.alive)
            try:
                await self._say_alive()
            except LatticeError as error:
                log.warning("alive.unsent", error=error.message)

    async def _say_alive(self) -> None:
        await self.lattice.transport.publish(subjects.alive(self.lattice.name), self.id.encode())
