"""What the lattice tells a manager: signs of life, events, inventories, and its buckets of links and configurations."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import structlog
from pydantic import ValidationError

from lattice import EntityId, HostId, LatticeError, read_json, subjects
from lattice.control import HostInfo, Inventory
from lattice.events import Event
from lattice.lattice import Lattice
from lattice.links import ComponentRecord
from lattice.transport import Entry, Message, Subscription
from wadm.commands import link_key
from wadm.observed import Alive, ConfigSeen, Forgiven, LinksSeen, Refused, Seen
from wadm.telling import publish, utc
from wadm.world import World

log = structlog.get_logger("wadm")

RECORD = "COMPONENT_"
HEALTH = ("health_check_status", "health_check_passed", "health_check_failed")
"""Events that are no command's effect."""


class Hearing:
    """Folds what is heard into `world`. `id` is the manager's; `discovery` how long hosts have to answer (seconds)."""

    def __init__(self, lattice: Lattice, world: World, id: str, discovery: float) -> None:
        self.lattice = lattice
        self.world = world
        self.id = id
        self.discovery = discovery
        self.complete = asyncio.Event()
        """Everybody was asked: before, and after a lost connection, there is nothing to plan from."""
        self.seen_at: dict[str, str] = {}
        self._asking: set[HostId] = set()
        self._tasks: asyncio.TaskGroup | None = None

    async def listen(self, tasks: asyncio.TaskGroup) -> list[Subscription]:
        """What is to be asked for is asked in `tasks`, until `deafen`."""
        self._tasks = tasks
        transport, name = self.lattice.transport, self.lattice.name
        transport.on_reconnect(self._reconnected)
        heard = [
            await transport.subscribe(subjects.alive(name), self._alive),
            await transport.subscribe(subjects.manager(name, "refusal"), self._refusal_told),
            await self.lattice.on_events(self._event),
        ]
        tasks.create_task(self._discover())
        return heard

    def deafen(self) -> None:
        """What is still heard starts nothing any more."""
        self._tasks = None

    def _alive(self, message: Message) -> None:
        host = HostId(message.data.decode(errors="replace"))
        before = self.world.observed.hosts.get(host)
        new = before is None or not before.known or not self.world.observed.is_alive(before, self.world.clock())
        self.world.fold(Alive(host))
        self.seen_at[host] = utc()
        if new:
            self.ask(host)

    def _event(self, source: HostId, event: Event) -> None:
        self.world.fold(event, source)
        self.seen_at[source] = utc()
        about = getattr(event, "component_id", None) or getattr(event, "provider_id", None)
        if about is not None and event.name not in HEALTH:
            self.world.settle(("entity", str(getattr(event, "host_id", source)), str(about)))
        host = self.world.observed.hosts.get(source)
        if host is not None and not host.known:
            self.ask(source)
        self.world.wake()

    # -- refusals

    def refused(self, refused: Refused) -> None:
        """A host said no to us. Only who asked hears that, so the other managers are told."""
        self.world.fold(refused)
        told = {
            "by": self.id,
            "host": refused.host,
            "id": refused.id,
            "image": refused.image,
            "error": refused.error,
        }
        if self._tasks is not None:
            self._tasks.create_task(publish(self.lattice, subjects.manager(self.lattice.name, "refusal"), told))

    def _refusal_told(self, message: Message) -> None:
        try:
            told = read_json(message.data)
            if told["by"] == self.id:
                return
            refused = Refused(HostId(told["host"]), str(told["id"]), str(told["image"]), str(told["error"]))
        except (ValueError, KeyError, TypeError) as error:
            log.warning("refusal.undecodable", error=str(error))
            return
        self.world.fold(refused)
        self.world.wake()

    # -- asking

    def _reconnected(self) -> None:
        """While the connection was lost nobody could be heard: no plans until everybody was asked."""
        self.world.fold(Forgiven())
        if self._tasks is not None:
            self.complete.clear()
            self._tasks.create_task(self._discover())

    async def _discover(self) -> None:
        """Ask who is there, then each host what it runs."""
        try:
            answers = await self.lattice.control_all("host", "ping", seconds=self.discovery)
        except LatticeError as error:
            log.warning("discovery.failed", error=error.message)
            answers = []
        found = []
        for answer in answers:
            try:
                found.append(HostInfo.model_validate(answer.response).id)
            except ValidationError as error:
                log.warning("host.undecodable", error=str(error))
        await asyncio.gather(*(self._inventory(host) for host in found))
        self.complete.set()
        self.world.wake()

    def ask(self, host: HostId) -> None:
        """Our picture of it is old."""
        if host not in self._asking and self._tasks is not None:
            self._tasks.create_task(self._inventory(host))

    async def _inventory(self, host: HostId) -> None:
        if host in self._asking:
            return
        self._asking.add(host)
        try:
            reply = await self.lattice.control("host", "get", host)
            self.world.fold(Seen(Inventory.model_validate(reply.response)))
            self.seen_at[host] = utc()
            log.info("host.seen", host=host)
        except (LatticeError, ValidationError) as error:
            log.warning("inventory.failed", host=host, error=str(error))
        finally:
            self._asking.discard(host)
            self.world.wake()

    # -- buckets

    def record(self, entry: Entry) -> None:
        """Links of one source."""
        if not entry.key.startswith(RECORD):
            return
        id = EntityId(entry.key.removeprefix(RECORD))
        links: tuple[Any, ...] = ()
        if entry.value is not None:
            try:
                links = tuple(ComponentRecord.model_validate_json(entry.value).links)
            except ValidationError as error:
                log.warning("record.undecodable", id=id, error=str(error))
        before = self.world.observed.links.get(id, ())
        self.world.fold(LinksSeen(id, links, entry.revision))
        for link in {*before, *links}:
            self.world.settle(link_key(link))

    def config(self, entry: Entry) -> None:
        """A named configuration."""
        data: dict[str, str] | None = None
        if entry.value is not None:
            try:
                data = {str(k): v if isinstance(v, str) else json.dumps(v) for k, v in read_json(entry.value).items()}
            except (ValueError, AttributeError) as error:
                log.warning("config.undecodable", name=entry.key, error=str(error))
                data = {}
        self.world.fold(ConfigSeen(entry.key, data, entry.revision))
        self.world.settle(("config", entry.key))
