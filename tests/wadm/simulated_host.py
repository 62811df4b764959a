"""A host on a lattice in memory: answers the control interface, tells events, runs nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any

from lattice import EntityId, HostId, LatticeError, subjects
from lattice import control as ctl
from lattice.control import ComponentDescription, Inventory, ProviderDescription, Reply
from lattice.events import (
    ComponentScaled,
    ComponentScaleFailed,
    Event,
    HostStarted,
    HostStopped,
    LabelsChanged,
    ProviderStarted,
    ProviderStartFailed,
    ProviderStopped,
)
from lattice.lattice import Lattice
from lattice.links import ComponentRecord, LinkDefinition, LinkKey
from lattice.transport import Message, Subscription


class SimulatedHost:
    """`beat` is how often it gives a sign of life, in seconds; `changed` is called when it runs something else."""

    def __init__(
        self,
        lattice: Lattice,
        id: str,
        *,
        beat: float = 0.05,
        changed: Callable[[SimulatedHost], None] = lambda _: None,
        **labels: str,
    ) -> None:
        self.lattice = lattice
        self.id = HostId(id)
        self.labels = labels
        self.beat = beat
        self.changed = changed
        self.components: dict[str, ComponentDescription] = {}
        self.providers: dict[str, ProviderDescription] = {}
        self.broken: dict[str, str] = {}
        self.endless: set[str] = set()
        """Images that it takes, and never has ready."""
        self.commands: list[str] = []
        self._subscriptions: list[Subscription] = []
        self._beating: asyncio.Task[None] | None = None

    async def __aenter__(self) -> SimulatedHost:
        root = subjects.control(self.lattice.name)
        for pattern in ("component.*", "provider.*", "host.*"):
            await self._on(f"{root}.{pattern}.{self.id}")
        await self._on(f"{root}.host.ping")
        for entity in ("link", "config"):
            await self._on(f"{root}.{entity}.>", subjects.control_queue(self.lattice.name, entity))
        await self.emit(HostStarted(friendly_name=f"host-{self.id}", labels=self.labels, version="1.0.0"))
        self._beating = asyncio.create_task(self._beat())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._beating is not None:
            with contextlib.suppress(LatticeError):  # it is cut off
                await self.emit(HostStopped(labels=self.labels))
            await self.die()

    async def die(self) -> None:
        """Fall silent without a word."""
        if self._beating is not None:
            self._beating.cancel()
            self._beating = None
        for subscription in self._subscriptions:
            await subscription.unsubscribe()

    async def _on(self, subject: str, queue: str | None = None) -> None:
        self._subscriptions.append(await self.lattice.transport.subscribe(subject, self._command, queue=queue))

    async def _beat(self) -> None:
        while True:
            with contextlib.suppress(LatticeError):  # it is cut off
                await self.lattice.transport.publish(subjects.alive(self.lattice.name), self.id.encode())
            await asyncio.sleep(self.beat)

    async def emit(self, event: Event) -> None:
        await self.lattice.emit(event, self.id)

    async def label(self, **labels: str | None) -> None:
        """Set these, or take them away."""
        self.labels = {key: value for key, value in {**self.labels, **labels}.items() if value is not None}
        with contextlib.suppress(LatticeError):  # it is cut off
            await self.emit(LabelsChanged(host_id=self.id, labels=self.labels))

    def inventory(self) -> Inventory:
        return Inventory(
            host_id=self.id,
            friendly_name=f"host-{self.id}",
            labels=self.labels,
            version="1.0.0",
            uptime_human="1s",
            uptime_seconds=1,
            components=list(self.components.values()),
            providers=list(self.providers.values()),
        )

    async def _command(self, message: Message) -> None:
        tokens = message.subject.split(".")[4:]
        body: Any = json.loads(message.data) if message.data else {}
        self.commands.append(".".join(tokens[:2]))
        after: Event | None = None
        try:
            reply, after = await self._handle(tokens, body)
        except LatticeError as error:
            reply = ctl.refuse(error.message)
        self.changed(self)
        with contextlib.suppress(LatticeError):  # it was cut off meanwhile
            if message.reply is not None:
                await self.lattice.transport.publish(message.reply, reply.encode())
            if after is not None:
                await self.emit(after)

    async def _handle(self, tokens: list[str], body: Any) -> tuple[Reply, Event | None]:
        match tokens[:2]:
            case ["host", "ping"]:
                info = ctl.HostInfo(
                    id=self.id, friendly_name="", labels=self.labels, lattice=self.lattice.name, uptime_seconds=1
                )
                return ctl.answer(info), None
            case ["host", "get"]:
                return ctl.answer(self.inventory().encode()), None
            case ["component", "scale"]:
                scale = ctl.ScaleComponent.model_validate(body)
                return ctl.ack(), None if scale.component_ref in self.endless else self._scale(scale)
            case ["provider", "start"]:
                start = ctl.StartProvider.model_validate(body)
                if start.provider_id in self.providers and not start.replace:
                    return ctl.refuse("provider with that ID is already running"), None
                return ctl.ack("successfully started provider"), self._start(start)
            case ["provider", "stop"]:
                stop = ctl.StopProvider.model_validate(body)
                if self.providers.pop(stop.provider_id, None) is None:
                    return ctl.refuse("provider with that ID is not running"), None
                return ctl.ack(), ProviderStopped(provider_id=stop.provider_id, host_id=self.id)
            case ["config", verb]:
                bucket = await self.lattice.config_data()
                if verb == "put":
                    await bucket.put(tokens[2], json.dumps(body).encode())
                elif verb == "del":
                    await bucket.purge(tokens[2])
                return ctl.ack(), None
            case ["link", "put"]:
                link = LinkDefinition.model_validate(body)
                record = await self._record(link.source_id)
                record.links = [old for old in record.links if not link.replaces(old)] + [link]
                await self._save(link.source_id, record)
                return ctl.ack("successfully set link"), None
            case ["link", "del"]:
                key = LinkKey.model_validate(body)
                record = await self._record(key.source_id)
                record.links = [old for old in record.links if not key.matches(old)]
                await self._save(key.source_id, record)
                return ctl.ack(), None
        return ctl.refuse("unsupported subject"), None

    async def _record(self, id: EntityId) -> ComponentRecord:
        entry = await (await self.lattice.lattice_data()).get(f"COMPONENT_{id}")
        return ComponentRecord.model_validate_json(entry.value) if entry and entry.value else ComponentRecord()

    async def _save(self, id: EntityId, record: ComponentRecord) -> None:
        await (await self.lattice.lattice_data()).put(f"COMPONENT_{id}", record.model_dump_json().encode())

    def _scale(self, scale: ctl.ScaleComponent) -> Event:
        if scale.count == 0:
            self.components.pop(scale.component_id, None)
            return ComponentScaled(
                component_id=scale.component_id,
                host_id=self.id,
                image_ref=scale.component_ref,
                max_instances=0,
                annotations=scale.annotations or {},
            )
        return self._run(scale.component_id, scale.component_ref, scale.count, scale.annotations or {})

    def _run(self, id: EntityId, image: str, count: int, annotations: dict[str, str]) -> Event:
        values = {
            "component_id": id,
            "host_id": self.id,
            "image_ref": image,
            "max_instances": count,
            "annotations": annotations,
        }
        if image in self.broken:
            return ComponentScaleFailed.model_validate({**values, "error": self.broken[image]})
        self.components[id] = ComponentDescription(id=id, image_ref=image, max_instances=count, annotations=annotations)
        return ComponentScaled.model_validate(values)

    def _start(self, start: ctl.StartProvider) -> Event:
        id, image = start.provider_id, start.provider_ref
        if image in self.broken:
            return ProviderStartFailed(provider_id=id, provider_ref=image, host_id=self.id, error=self.broken[image])
        annotations = start.annotations or {}
        self.providers[id] = ProviderDescription(id=id, image_ref=image, annotations=annotations)
        return ProviderStarted(provider_id=id, host_id=self.id, image_ref=image, annotations=annotations)
