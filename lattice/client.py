"""A client of the control interface v1: each verb as a method, for hosts of ours and of others.

Where an answer only says that work has begun, an event tells how it went: listen first (`Lattice.on_events`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from lattice.control import (
    ComponentAuction,
    DeleteLabel,
    HostInfo,
    Inventory,
    ProviderAuction,
    PutLabel,
    Reply,
    ScaleComponent,
    StartProvider,
    StopHost,
    StopProvider,
    UpdateComponent,
)
from lattice.errors import LatticeError, ProtocolError
from lattice.lattice import CONTROL_TIMEOUT, Lattice
from lattice.links import LinkDefinition, LinkKey
from lattice.names import EntityId, HostId

T = TypeVar("T")

_INVENTORY = TypeAdapter(Inventory)
_LINKS = TypeAdapter(list[LinkDefinition])
_CLAIMS = TypeAdapter(list[dict[str, str]])
_CONFIG = TypeAdapter(dict[str, str])


class Refused(LatticeError):
    """A host answered, and its answer is no: the message is its sentence."""

    code = "refused"


class ControlClient:
    """Talks to the hosts of one lattice. `timeout` is in seconds, for each request.

    Every method raises Unreachable when nobody listens, DeadlineExceeded when nobody answers in time, Refused, and
    ProtocolError for an answer that is not what the verb answers.
    """

    def __init__(self, lattice: Lattice, *, timeout: float = CONTROL_TIMEOUT) -> None:
        self.lattice = lattice
        self.timeout = timeout

    # -- hosts

    async def hosts(self, seconds: float = CONTROL_TIMEOUT, most: int | None = None) -> list[HostInfo]:
        """Every host that answers within `seconds`, or the first `most`; what cannot be read is left out."""
        found = []
        for reply in await self.lattice.control_all("host", "ping", seconds=seconds, most=most):
            try:
                found.append(HostInfo.model_validate(reply.response))
            except ValidationError:
                continue  # another kind of host
        return found

    async def inventory(self, host: HostId) -> Inventory:
        return _parsed(_INVENTORY, await self._ask("host", "get", host))

    async def inventories(self, hosts: Iterable[HostId]) -> dict[HostId, Inventory]:
        """What each of `hosts` runs; one that left in between is not there."""

        async def one(host: HostId) -> Inventory | None:
            try:
                return await self.inventory(host)
            except LatticeError:
                return None

        found = await asyncio.gather(*(one(host) for host in hosts))
        return {inventory.host_id: inventory for inventory in found if inventory is not None}

    async def stop_host(self, host: HostId, grace: float | None = None) -> None:
        """`grace` is seconds for work in hand."""
        timeout = None if grace is None else round(grace * 1000)
        await self._ask("host", "stop", host, body=StopHost(host_id=host, timeout=timeout))

    async def put_label(self, host: HostId, key: str, value: str) -> None:
        await self._ask("label", "put", host, body=PutLabel(key=key, value=value))

    async def delete_label(self, host: HostId, key: str) -> None:
        await self._ask("label", "del", host, body=DeleteLabel(key=key))

    # -- components and providers

    async def auction_component(
        self, id: EntityId, reference: str, constraints: Mapping[str, str], seconds: float = CONTROL_TIMEOUT
    ) -> list[HostId]:
        """The hosts that would run it."""
        asked = ComponentAuction(component_id=id, component_ref=reference, constraints=dict(constraints))
        return await self._bids("component", asked, seconds)

    async def auction_provider(
        self, id: EntityId, reference: str, constraints: Mapping[str, str], seconds: float = CONTROL_TIMEOUT
    ) -> list[HostId]:
        """The hosts that would run it."""
        asked = ProviderAuction(provider_id=id, provider_ref=reference, constraints=dict(constraints))
        return await self._bids("provider", asked, seconds)

    async def scale(self, host: HostId, request: ScaleComponent) -> str:
        """What the host says to it, "" in the usual case. `component_scaled` or `component_scale_failed` follows."""
        return (await self._ask("component", "scale", host, body=request)).message

    async def update(self, host: HostId, request: UpdateComponent) -> str:
        """What the host says to it. `component_scaled` or `component_scale_failed` follows, unless nothing changes."""
        return (await self._ask("component", "update", host, body=request)).message

    async def start_provider(self, host: HostId, request: StartProvider) -> None:
        """`provider_started` or `provider_start_failed` follows."""
        await self._ask("provider", "start", host, body=request)

    async def stop_provider(self, host: HostId, id: EntityId) -> None:
        """`provider_stopped` follows (hosts of v1 send it first)."""
        await self._ask("provider", "stop", host, body=StopProvider(provider_id=id, host_id=host))

    # -- links and configurations

    async def links(self) -> list[LinkDefinition]:
        return _parsed(_LINKS, await self._ask("link", "get"))

    async def put_link(self, link: LinkDefinition) -> None:
        await self._ask("link", "put", body=link)

    async def delete_link(self, key: LinkKey) -> bool:
        """False when there was none."""
        return "doesn't exist" not in (await self._ask("link", "del", body=key)).message

    async def config(self, name: str) -> dict[str, str] | None:
        reply = await self._ask("config", "get", name)
        return None if reply.response is None else _parsed(_CONFIG, reply)

    async def put_config(self, name: str, values: Mapping[str, str]) -> None:
        await self._ask("config", "put", name, body=dict(values))

    async def delete_config(self, name: str) -> None:
        await self._ask("config", "del", name)

    # -- the rest

    async def claims(self) -> list[dict[str, str]]:
        return _parsed(_CLAIMS, await self._ask("claims", "get"))

    async def put_registries(self, registries: Mapping[str, Any], seconds: float = CONTROL_TIMEOUT) -> int:
        """Tell every host its logins, by registry; how many hosts took them within `seconds`."""
        replies = await self.lattice.control_all("registry", "put", body=dict(registries), seconds=seconds)
        return sum(reply.success for reply in replies)

    async def _ask(self, *tokens: str, body: BaseModel | dict[str, Any] | None = None) -> Reply:
        reply = await self.lattice.control(*tokens, body=body, timeout=self.timeout)
        if not reply.success:
            raise Refused(reply.message or "the host refused, and gave no reason")
        return reply

    async def _bids(self, kind: str, asked: BaseModel, seconds: float) -> list[HostId]:
        replies = await self.lattice.control_all(kind, "auction", body=asked, seconds=seconds)
        bids = [reply.response for reply in replies if reply.success and isinstance(reply.response, dict)]
        return [HostId(bid["host_id"]) for bid in bids if isinstance(bid.get("host_id"), str)]


def _parsed(adapter: TypeAdapter[T], reply: Reply) -> T:
    try:
        return adapter.validate_python(reply.response)
    except ValidationError as error:
        raise ProtocolError(f"not what was asked for: {error.errors()[0]['msg']}") from error
