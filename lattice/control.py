"""Messages of the wasmCloud control interface v1: what clients send to hosts, and what hosts answer.

Requests accept every spelling that known clients send; answers are always `{"success", "message"[, "response"]}`.
"""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, Field

from lattice.names import EntityId, HostId, entity_id

UNBOUNDED = 4294967295
"""`count` by which clients say "as many instances as you like" (u32 max)."""

APPSPEC = "wasmcloud.dev/appspec"
"""Annotation of managers: the app that a component or provider belongs to."""

DRAINED = "trellis.dev/drained"
"""Label of a host that gets no more work, and loses what a manager of ours runs there. Its value says why."""


class Wire(BaseModel):
    # built when it is first used: a command needs few of them
    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True, defer_build=True)


# -- answers


class Reply(Wire):
    """The envelope of every answer. `message` is always there; `response` is left out when there is none."""

    success: bool
    message: str = ""
    response: Any = None

    def encode(self) -> bytes:
        body: dict[str, Any] = {"success": self.success, "message": self.message}
        if self.response is not None:
            body["response"] = self.response
        return json.dumps(body, separators=(",", ":")).encode()


def ack(message: str = "") -> Reply:
    return Reply(success=True, message=message)


def answer(response: Any) -> Reply:
    """`response` is JSON data, or a model."""
    plain = response.model_dump(mode="json", exclude_none=True) if isinstance(response, BaseModel) else response
    return Reply(success=True, response=plain)


def refuse(message: str) -> Reply:
    return Reply(success=False, message=message)


class HostInfo(Wire):
    """Answer to `host.ping`."""

    id: HostId
    friendly_name: str
    labels: dict[str, str]
    lattice: str
    uptime_seconds: int
    uptime_human: str | None = None
    version: str | None = None
    ctl_host: str | None = None
    rpc_host: str | None = None
    js_domain: str | None = None


class ComponentDescription(Wire):
    id: EntityId
    image_ref: str
    name: str | None = None
    annotations: dict[str, str] = {}
    revision: int = 0
    max_instances: int
    limits: dict[str, str] | None = None


class ProviderDescription(Wire):
    """`placement` is our addition: "host" (in the host's process) or "process" (in its own)."""

    id: EntityId
    image_ref: str = ""
    name: str | None = None
    revision: int = 0
    annotations: dict[str, str] = {}
    placement: str | None = None


class Wired(Wire):
    """Revisions of LATTICEDATA and CONFIGDATA up to which a host's providers have taken or refused their links."""

    links: int = 0
    configs: int = 0

    def covers(self, other: Wired) -> bool:
        return self.links >= other.links and self.configs >= other.configs


class Inventory(Wire):
    """Answer to `host.get`, and the data of every heartbeat. `wired` is our addition."""

    host_id: HostId
    friendly_name: str
    labels: dict[str, str]
    version: str
    uptime_human: str
    uptime_seconds: int
    components: list[ComponentDescription] = Field([], validation_alias=AliasChoices("components", "actors"))
    providers: list[ProviderDescription] = []
    wired: Wired | None = None

    def encode(self) -> dict[str, Any]:
        """JSON data as clients expect it: `limits` is null when unset, other empty optionals are left out."""
        data = self.model_dump(mode="json", exclude_none=True)
        for plain, component in zip(data["components"], self.components, strict=True):
            plain["limits"] = component.limits
        return data


# -- requests

Id = Annotated[EntityId, AfterValidator(entity_id)]
"""What would be a wildcard, or several tokens of a subject, is refused at the door."""

LIMIT_KEYS = {
    "memory": "max_memory_limit",  # bytes; this one and the next as v1 hosts take them
    "time": "max_execution_time",  # milliseconds
    **{
        name: f"max_{name}"
        for name in (
            *("fuel", "handles", "buffered", "output", "queue"),
            *("memories", "tables", "table_elements", "core_instances"),
        )
    },
}
"""How `component_limits` has each limit of a component: whole numbers above zero, as text."""


class ScaleComponent(Wire):
    """`component.scale.{host}`: run `count` instances at a time at most; 0 stops it.

    `config_data` is our addition: what configurations of `config` said that say something else by now, for a version
    that needs them as they were.
    """

    component_id: Id
    component_ref: str = ""
    annotations: dict[str, str] | None = None
    count: int = Field(0, ge=0, le=UNBOUNDED, validation_alias=AliasChoices("count", "max_instances"))
    component_limits: dict[str, str] | None = None
    host_id: str = ""
    config: list[str] = []
    allow_update: bool = False
    config_data: dict[str, dict[str, str]] = {}


class UpdateComponent(Wire):
    """`component.update.{host}`: the same component from another image, the old one serving until then."""

    component_id: Id
    new_component_ref: str = ""
    annotations: dict[str, str] | None = None
    host_id: str = ""


class StartProvider(Wire):
    """`provider.start.{host}`. `replace` is our addition: in place of the one of that id that runs there."""

    provider_id: Id
    provider_ref: str = ""
    annotations: dict[str, str] | None = None
    host_id: str = ""
    config: list[str] = []
    replace: bool = False


class StopProvider(Wire):
    """`provider.stop.{host}`."""

    provider_id: Id = Field(validation_alias=AliasChoices("provider_id", "provider_ref"))
    host_id: str = ""


class StopHost(Wire):
    """`host.stop.{host}`; `timeout` in milliseconds, for work in hand."""

    host_id: str = ""
    timeout: int | None = Field(None, ge=0)


class ComponentAuction(Wire):
    component_id: Id
    component_ref: str = ""
    constraints: dict[str, str]


class ProviderAuction(Wire):
    provider_id: Id
    provider_ref: str = ""
    constraints: dict[str, str]


class PutLabel(Wire):
    key: str
    value: str


class DeleteLabel(Wire):
    key: str


def uptime_human(seconds: float) -> str:
    """Whole seconds the way clients print them: `1m 30s`, `2h 3s`."""
    left = int(seconds)
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts) or "0s"
