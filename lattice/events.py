"""Lattice events: CloudEvents 1.0 in structured JSON on `wasmbus.evt.{lattice}.{name}` (wasmCloud v1)."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError

from lattice.control import Inventory, Wired
from lattice.names import EntityId, HostId, LinkName
from lattice.values import read_json

TYPE_PREFIX = "com.wasmcloud.lattice."


class Event(BaseModel):
    """The `data` of one event. Fields that a standard event does not have are left out when they are None."""

    # built when it is first used: a command needs few of them
    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)
    name: ClassVar[str]

    def data(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude_none=True)


class HostStarted(Event):
    name = "host_started"
    friendly_name: str
    labels: dict[str, str]
    uptime_seconds: int = 0
    version: str = ""


class HostHeartbeat(Event):
    name = "host_heartbeat"
    inventory: Inventory

    def data(self) -> dict[str, Any]:
        return self.inventory.encode()


class HostDraining(Event):
    """Our addition: the host takes nothing new, finishes what it has in hand, and will say `host_stopped`."""

    name = "host_draining"
    labels: dict[str, str] = {}


class HostStopped(Event):
    name = "host_stopped"
    labels: dict[str, str]


class LabelsChanged(Event):
    name = "labels_changed"
    host_id: HostId
    labels: dict[str, str]


class ComponentScaled(Event):
    """`public_key` and `claims` are there where the component is signed."""

    name = "component_scaled"
    component_id: EntityId
    host_id: HostId
    image_ref: str
    max_instances: int
    annotations: dict[str, str] = {}
    public_key: str | None = None
    claims: dict[str, Any] | None = None


class ComponentScaleFailed(ComponentScaled):
    name = "component_scale_failed"
    error: str


class ProviderStarted(Event):
    """`placement` and `wired` are our additions, as in the inventory."""

    name = "provider_started"
    provider_id: EntityId
    host_id: HostId
    image_ref: str
    annotations: dict[str, str] = {}
    placement: str | None = None
    wired: Wired | None = None


class ProviderStartFailed(Event):
    name = "provider_start_failed"
    provider_id: EntityId
    provider_ref: str
    host_id: HostId
    error: str
    link_name: str = "default"


class ProviderStopped(Event):
    name = "provider_stopped"
    provider_id: EntityId
    host_id: HostId
    annotations: dict[str, str] = {}
    reason: str = "stop"
    link_name: str = "default"


class HealthCheckPassed(Event):
    name = "health_check_passed"
    provider_id: EntityId
    host_id: HostId


class HealthCheckFailed(HealthCheckPassed):
    """`error` is our addition: what the provider says of itself."""

    name = "health_check_failed"
    error: str | None = None


class HealthCheckStatus(HealthCheckFailed):
    """As it was; `error` is there while it is not well."""

    name = "health_check_status"


class LinkSet(Event):
    name = "linkdef_set"
    source_id: EntityId
    target: EntityId
    name_: LinkName
    wit_namespace: str
    wit_package: str
    interfaces: tuple[str, ...]
    source_config: tuple[str, ...] = ()
    target_config: tuple[str, ...] = ()
    error: str | None = None

    def data(self) -> dict[str, Any]:
        return _rename(super().data())


class LinkSetFailed(LinkSet):
    name = "linkdef_set_failed"


class LinkDeleted(Event):
    name = "linkdef_deleted"
    source_id: EntityId
    name_: LinkName
    wit_namespace: str
    wit_package: str
    target: EntityId | None = None
    interfaces: tuple[str, ...] | None = None

    def data(self) -> dict[str, Any]:
        return _rename(super().data())


class ConfigSet(Event):
    name = "config_set"
    config_name: str


class ConfigDeleted(ConfigSet):
    name = "config_deleted"


class AppChanged(Event):
    """Our addition, told by the acting deployment manager: how an application stands now, and the first reason why."""

    name = "app_changed"
    app: str
    state: str
    version: str | None = None
    code: str | None = None
    message: str | None = None


def _rename(data: dict[str, Any]) -> dict[str, Any]:
    data["name"] = data.pop("name_")
    return data


def _all(cls: type[Event]) -> dict[str, type[Event]]:
    found: dict[str, type[Event]] = {}
    for sub in cls.__subclasses__():
        found[sub.name] = sub
        found |= _all(sub)
    return found


KINDS: dict[str, type[Event]] = _all(Event)
"""Every event type by its short name."""


def encode(event: Event, source: HostId) -> bytes:
    """The CloudEvent that says `event` happened just now at host `source`."""
    moment = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    envelope = {
        "specversion": "1.0",
        "id": str(uuid.uuid4()),
        "type": TYPE_PREFIX + event.name,
        "source": source,
        "datacontenttype": "application/json",
        "time": moment,
        "data": event.data(),
    }
    return json.dumps(envelope, separators=(",", ":")).encode()


def decode(raw: bytes) -> tuple[HostId, Event] | None:
    """(source host, event), or None for an event type that we do not know. Raises ValueError for a broken one."""
    try:
        envelope = read_json(raw)
        kind = KINDS.get(str(envelope["type"]).removeprefix(TYPE_PREFIX))
        if kind is None:
            return None
        source = HostId(str(envelope["source"]))
        data = dict(envelope["data"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"not a CloudEvent: {error}") from error
    if issubclass(kind, (LinkSet, LinkDeleted)) and "name" in data:
        data["name_"] = data.pop("name")
    if kind is HostHeartbeat:
        data = {"inventory": {"host_id": source, **data}}
    elif "host_id" in kind.model_fields:
        data.setdefault("host_id", source)
    try:
        return source, kind.model_validate(data)
    except ValidationError as error:
        raise ValueError(f"event {kind.name} from {source}: {error}") from error
