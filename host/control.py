"""The control interface v1: from a subject and a JSON body to an answer. Acks come first, work after."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import structlog
from pydantic import BaseModel, ValidationError

from host.links import LinkRefused
from lattice import LatticeError, events, read_json, subjects
from lattice import control as ctl
from lattice.links import LinkDefinition, LinkKey
from lattice.names import entity_id
from lattice.transport import Message, Subscription

if TYPE_CHECKING:
    from host.host import Host

log = structlog.get_logger("host")

Model = TypeVar("Model", bound=BaseModel)
Answer = ctl.Reply | None
Verb = Callable[[bytes, str], Awaitable[Answer]]
"""(body, last token of the subject, "" when there is none) -> the answer; None: say nothing."""


class Undecodable(Exception):
    """A request body that is not what the verb takes."""


class Control:
    """Answers for one host."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._tasks: set[asyncio.Task[None]] = set()
        self._subscriptions: list[Subscription] = []
        self._verbs: dict[tuple[str, str], Verb] = {
            ("host", "ping"): self._ping,
            ("host", "get"): self._inventory,
            ("host", "stop"): self._stop_host,
            ("component", "auction"): self._component_auction,
            ("component", "scale"): self._scale,
            ("component", "update"): self._update,
            ("provider", "auction"): self._provider_auction,
            ("provider", "start"): self._start_provider,
            ("provider", "stop"): self._stop_provider,
            ("label", "put"): self._put_label,
            ("label", "del"): self._delete_label,
            ("link", "put"): self._put_link,
            ("link", "del"): self._delete_link,
            ("link", "get"): self._links,
            ("claims", "get"): self._claims,
            ("config", "put"): self._put_config,
            ("config", "get"): self._get_config,
            ("config", "del"): self._delete_config,
            ("registry", "put"): self._put_registries,
        }

    async def listen(self) -> None:
        """Subscribe to everything a host answers (protocol: subjects and delivery mode)."""
        lattice, id = self._host.lattice, self._host.id

        async def on(queue: str | None, *tokens: str) -> None:
            subject = subjects.control(lattice.name, *tokens)
            group = None if queue is None else subjects.control_queue(lattice.name, queue)
            self._subscriptions.append(await lattice.transport.subscribe(subject, self._arrived, queue=group))

        for tokens in (
            ("registry", "put"),
            ("host", "ping"),
            ("component", "auction"),
            ("provider", "auction"),
            ("provider", "start"),  # without a host id, as the JavaScript client sends it
            ("component", "*", id),
            ("provider", "*", id),
            ("label", "*", id),
            ("host", "*", id),
        ):
            await on(None, *tokens)
        await on("link", "link", "*")
        await on("claims", "claims", "get")
        await on("config", "config", ">")

    async def deafen(self) -> None:
        """Take no more requests; finish the answers that are due."""
        for subscription in self._subscriptions:
            await subscription.unsubscribe()
        tasks = self._tasks - {asyncio.current_task()}
        if tasks:
            await asyncio.wait(tasks, timeout=2.0)

    def _arrived(self, message: Message) -> None:
        self.later(self._answer(message))

    def later(self, work: Awaitable[None]) -> None:
        """Work that goes on after the answer was sent."""

        async def run() -> None:
            try:
                await work
            except Exception:
                log.exception("control.work_failed")

        task = asyncio.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, message: Message) -> None:
        prefix = subjects.control(self._host.lattice.name, "")
        entity, _, rest = message.subject.removeprefix(prefix).partition(".")
        verb, _, arg = rest.partition(".")
        handler = self._verbs.get((entity, verb))
        reply: Answer
        if handler is None or "." in arg:
            reply = ctl.refuse("unsupported subject")
        else:
            try:
                reply = await handler(message.data, arg)
            except Undecodable as error:
                reply = ctl.refuse(f"failed to deserialize {entity} {verb} command: {error}")
            except LatticeError as error:
                reply = ctl.refuse(error.message)
            except Exception as error:
                log.exception("control.failed", subject=message.subject)
                reply = ctl.refuse(f"{type(error).__name__}: {error}")
        if reply is not None and message.reply is not None:
            transport = self._host.lattice.transport
            raw = reply.encode()
            if len(raw) > transport.max_payload:
                limit = f"the broker takes {transport.max_payload} at most; raise its max_payload"
                raw = ctl.refuse(f"the answer has {len(raw)} bytes, and {limit}").encode()
            await transport.publish(message.reply, raw)

    # -- host

    async def _ping(self, body: bytes, arg: str) -> Answer:
        return ctl.answer(self._host.info())

    async def _inventory(self, body: bytes, arg: str) -> Answer:
        return ctl.answer(self._host.inventory().encode())

    async def _stop_host(self, body: bytes, arg: str) -> Answer:
        request = _decode(ctl.StopHost, body or b"{}")
        if request.host_id and request.host_id != self._host.id:
            return ctl.refuse(f"invalid host_id [{request.host_id}]")
        self._host.stop_soon(None if request.timeout is None else request.timeout / 1000)
        return ctl.ack("successfully handled stop host")

    # -- components

    async def _component_auction(self, body: bytes, arg: str) -> Answer:
        request = _decode(ctl.ComponentAuction, body)
        if not self._host.satisfies(request.constraints) or request.component_id in self._host.components.running:
            return None
        return ctl.answer({**request.model_dump(), "host_id": self._host.id})

    async def _scale(self, body: bytes, arg: str) -> Answer:
        request = _decode(ctl.ScaleComponent, body)
        running = self._host.components.running.get(request.component_id)
        self.later(self._host.components.scale(request))
        if running is None or request.component_ref in ("", running.reference) or request.count == 0:
            return ctl.ack()
        change = f"{running.reference} != {request.component_ref}"
        if request.allow_update:
            return ctl.ack(
                f"Requested to scale existing component, with a changed image reference: {change}. "
                "The component will be scaled, and the image reference will be updated afterwards."
            )
        return ctl.ack(
            f"Requested to scale existing component to a different image reference: {change}. The component will be "
            "scaled but the image reference will not be updated. If you meant to update this component to a new image "
            "ref, use the update command."
        )

    async def _update(self, body: bytes, arg: str) -> Answer:
        request = _decode(ctl.UpdateComponent, body)
        running = self._host.components.running.get(request.component_id)
        if running is None:
            return ctl.refuse(f"component {request.component_id} not found")
        if running.reference == request.new_component_ref:
            return ctl.ack(f"component {running.id} already updated to {running.reference}")
        self.later(self._host.components.update(request))
        return ctl.ack(f"component {running.id} updating from {running.reference} to {request.new_component_ref}")

    # -- providers

    async def _provider_auction(self, body: bytes, arg: str) -> Answer:
        request = _decode(ctl.ProviderAuction, body)
        if not self._host.satisfies(request.constraints) or request.provider_id in self._host.capabilities.running:
            return None
        return ctl.answer({**request.model_dump(), "host_id": self._host.id})

    async def _start_provider(self, body: bytes, arg: str) -> Answer:
        request = _decode(ctl.StartProvider, body)
        if not arg and request.host_id != self._host.id:
            return None
        if request.provider_id in self._host.capabilities.running and not request.replace:
            return ctl.refuse("provider with that ID is already running")
        self.later(self._host.capabilities.start(request))
        return ctl.ack("successfully started provider")

    async def _stop_provider(self, body: bytes, arg: str) -> Answer:
        request = _decode(ctl.StopProvider, body)
        if request.provider_id not in self._host.capabilities.running:
            return ctl.refuse("provider with that ID is not running")
        # the ack must be there within a client's second; draining goes on after it
        self.later(self._stopped(request))
        return ctl.ack("successfully stopped provider")

    async def _stopped(self, request: ctl.StopProvider) -> None:
        await self._host.capabilities.stop(request.provider_id)

    # -- labels

    async def _put_label(self, body: bytes, arg: str) -> Answer:
        request = _decode(ctl.PutLabel, body)
        if request.key.lower().startswith("hostcore."):
            return ctl.refuse("hostcore.* labels cannot be set dynamically")
        self._host.labels[request.key] = request.value
        await self._labels_changed()
        return ctl.ack("successfully put label")

    async def _delete_label(self, body: bytes, arg: str) -> Answer:
        request = _decode(ctl.DeleteLabel, body)
        if request.key.lower().startswith("hostcore."):
            return ctl.refuse("hostcore.* labels cannot be deleted")
        if self._host.labels.pop(request.key, None) is None:
            return ctl.ack("successfully deleted label (no such label)")
        await self._labels_changed()
        return ctl.ack("successfully deleted label")

    async def _labels_changed(self) -> None:
        await self._host.emit(events.LabelsChanged(host_id=self._host.id, labels=dict(self._host.labels)))

    # -- links

    async def _put_link(self, body: bytes, arg: str) -> Answer:
        link = _decode(LinkDefinition, body)
        for id in (link.source_id, link.target):
            try:
                entity_id(id)
            except ValueError as error:
                raise Undecodable(str(error)) from error
        data = {"name_": link.name, **link.model_dump(exclude={"name"})}
        try:
            await self._host.links.put(link)
        except LinkRefused as error:
            await self._host.emit(events.LinkSetFailed(**data, error=str(error)))
            return ctl.refuse(str(error))
        await self._host.emit(events.LinkSet(**data))
        return ctl.ack("successfully set link")

    async def _delete_link(self, body: bytes, arg: str) -> Answer:
        key = _decode(LinkKey, body)
        removed = await self._host.links.delete(key)
        await self._host.emit(
            events.LinkDeleted(
                source_id=key.source_id,
                name_=key.name,
                wit_namespace=key.wit_namespace,
                wit_package=key.wit_package,
                target=None if removed is None else removed.target,
                interfaces=None if removed is None else removed.interfaces,
            )
        )
        return ctl.ack("successfully deleted link" if removed else "successfully deleted link (spec doesn't exist)")

    async def _links(self, body: bytes, arg: str) -> Answer:
        return ctl.answer([link.model_dump(mode="json") for link in self._host.links.all()])

    async def _claims(self, body: bytes, arg: str) -> Answer:
        return ctl.answer(self._host.claims.answers())

    # -- configuration

    async def _put_config(self, body: bytes, arg: str) -> Answer:
        values = _object(body)
        if not arg or values is None or not all(isinstance(v, str) for v in values.values()):
            return ctl.refuse("config data should be a map of string -> string")
        await self._host.configs.put(arg, values)
        await self._host.emit(events.ConfigSet(config_name=arg))
        return ctl.ack("successfully put config")

    async def _get_config(self, body: bytes, arg: str) -> Answer:
        values = await self._host.configs.get(arg)
        return ctl.ack("Configuration not found") if values is None else ctl.answer(values)

    async def _delete_config(self, body: bytes, arg: str) -> Answer:
        await self._host.configs.delete(arg)
        await self._host.emit(events.ConfigDeleted(config_name=arg))
        return ctl.ack("successfully deleted config")

    async def _put_registries(self, body: bytes, arg: str) -> Answer:
        registries = _object(body)
        if registries is None:
            raise Undecodable("expected an object of registry credentials")
        self._host.registries = registries
        return ctl.ack("successfully put registries")


def _decode(model: type[Model], body: bytes) -> Model:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        given = _object(body) or {}
        if None in given.values():  # clients in Go write an empty list as null: it counts as left out
            return _decode(model, json.dumps({k: v for k, v in given.items() if v is not None}).encode())
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "body"
        raise Undecodable(f"{where}: {first['msg']}") from error


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        values = read_json(body)
    except ValueError:
        return None
    return values if isinstance(values, dict) else None
