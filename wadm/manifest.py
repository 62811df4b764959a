"""The OAM manifest as typed values (protocol: wadm, `core.oam.dev/v1beta1` Application).

The models say what shape a manifest has; `wadm.validate` says everything else that can be wrong with one. Keys that
begin with `x-` are anybody's and are kept out of the models, but for those that are our own extensions: `x-limits`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from lattice.control import LIMIT_KEYS

API_VERSION = "core.oam.dev/v1beta1"
KIND = "Application"
VERSION = "version"
DESCRIPTION = "description"
SHARED = "experimental.wasmcloud.dev/shared"
ROLLOUT = "rollout.trellis.dev/"
"""What the annotations that say how a new version takes over begin with."""
SECRET_POLICY = "policy.secret.wasmcloud.dev/v1alpha1"

COMPONENT = "component"
CAPABILITY = "capability"
COMPONENT_TYPES = (COMPONENT, CAPABILITY, "actor")
SPREADSCALER = "spreadscaler"
DAEMONSCALER = "daemonscaler"
LINK = "link"
TRAITS = (SPREADSCALER, DAEMONSCALER, LINK)


def _text(value: Any) -> Any:
    """Maps of text to text take numbers and truth values as they were written."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return getattr(value, "raw", None) or str(value)
    return value


Text = Annotated[str, BeforeValidator(_text), WithJsonSchema({"type": ["string", "number", "boolean"]})]
TextMap = dict[str, Text]


class Part(BaseModel):
    """A part of a manifest that upstream reads leniently: unknown fields are warned about, not refused."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=False)

    @model_validator(mode="before")
    @classmethod
    def _without_extensions(cls, data: Any) -> Any:
        if isinstance(data, dict):
            ours = [i.validation_alias for i in cls.model_fields.values() if isinstance(i.validation_alias, str)]
            return {key: value for key, value in data.items() if key in ours or not str(key).startswith("x-")}
        return data


class Strict(Part):
    """A part whose fields are all known."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=False)


class Config(Strict):
    """Named configuration: ours when it has `properties`, somebody else's (by its plain name) when it has none."""

    name: str
    properties: TextMap | None = None


class SecretProperties(Part):
    policy: str
    key: str
    field: str | None = None
    version: Text | None = None


class Secret(Part):
    name: str
    properties: SecretProperties


class Shared(Strict):
    """A component of another, shared application."""

    name: str
    component: str


_SIZE = re.compile(r"([1-9]\d*)(Ki|Mi|Gi|)")
_PORTION = re.compile(r"(\d{1,10})(%?)")
_PAUSE_SCHEMA = WithJsonSchema({"type": ["string", "boolean"], "pattern": r"^(true|[0-9]+(\.[0-9]+)?(ms|s|m))$"})
_PORTION_SCHEMA = WithJsonSchema({"type": ["string", "integer"], "pattern": "^[0-9]+%?$", "minimum": 0})
_TIME = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m)")


def _bytes(value: Any) -> int:
    """`64Mi`, or a number of bytes."""
    match = _SIZE.fullmatch(str(value).strip()) if isinstance(value, (str, int)) else None
    if match is None or isinstance(value, bool):
        raise PydanticCustomError("size", "`{given}` is not a size; write 64Mi, 512Ki, 1Gi or bytes", {"given": value})
    return int(match[1]) << {"": 0, "Ki": 10, "Mi": 20, "Gi": 30}[match[2]]


def _milliseconds(value: Any) -> int:
    """`250ms`, `1.5s`, `2m`."""
    match = _TIME.fullmatch(value.strip()) if isinstance(value, str) else None
    found = 0 if match is None else round(float(match[1]) * {"ms": 1, "s": 1000, "m": 60_000}[match[2]])
    if found <= 0:
        raise PydanticCustomError("span", "`{given}` is not a time; write 250ms, 5s or 2m", {"given": value})
    return found


def _count(value: Any) -> int:
    """`1000`."""
    if isinstance(value, bool) or not isinstance(value, (str, int)) or not re.fullmatch(r"[1-9]\d*", str(value)):
        raise PydanticCustomError("count", "`{given}` is not a whole number above zero", {"given": value})
    return int(value)


Size = Annotated[
    int,
    BeforeValidator(_bytes),
    WithJsonSchema({"type": ["string", "integer"], "pattern": "^[1-9][0-9]*(Ki|Mi|Gi)?$", "minimum": 1}),
]
Span = Annotated[
    int,
    BeforeValidator(_milliseconds),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(ms|s|m)$"}),
]


Count = Annotated[
    int,
    BeforeValidator(_count),
    WithJsonSchema({"type": ["string", "integer"], "pattern": "^[1-9][0-9]*$", "minimum": 1}),
]


class Limits(Strict):
    """Of each invocation of a component; one that is missing is the host's. Sizes in bytes, `time` in milliseconds."""

    memory: Size | None = None
    time: Span | None = None
    fuel: Count | None = None
    handles: Count | None = None
    buffered: Size | None = None
    output: Size | None = None
    queue: Count | None = None
    memories: Count | None = None
    tables: Count | None = None
    table_elements: Count | None = None
    core_instances: Count | None = None

    def on_the_wire(self) -> dict[str, str]:
        """`component_limits` of the control interface."""
        return {LIMIT_KEYS[name]: str(value) for name, value in self.model_dump(exclude_none=True).items()}


@dataclass(frozen=True, slots=True)
class Portion:
    """A number of instances, or a percentage of those wanted."""

    number: int
    percent: bool = False

    def of(self, wanted: int, *, up: bool) -> int:
        """In instances, a part of one rounded up or down."""
        if not self.percent:
            return self.number
        return -(-wanted * self.number // 100) if up else wanted * self.number // 100


def _portion(value: Any) -> Portion:
    """`2`, `25%`."""
    match = _PORTION.fullmatch(str(_text(value)))
    if match is None:
        raise PydanticCustomError(
            "portion", "`{given}` is not a number of instances, nor a share such as 25%", {"given": value}
        )
    return Portion(int(match[1]), match[2] == "%")


def _pause(value: Any) -> float:
    """`30s`, or `true`."""
    if _text(value) == "true":
        return math.inf
    try:
        return _milliseconds(value) / 1000
    except PydanticCustomError:
        raise PydanticCustomError(
            "pause", "`{given}` is neither a time, such as 30s, nor `true`", {"given": value}
        ) from None


class Rollout(Strict):
    """How a new image, configuration or limits take over from the old: annotations of the application.

    In instances (a provider has one on each host it runs on). A host changes all of its instances at once, and one host
    may always change.
    """

    max_surge: Annotated[Portion, BeforeValidator(_portion), _PORTION_SCHEMA] = Field(
        default=Portion(25, percent=True), validation_alias=f"{ROLLOUT}max-surge"
    )
    """How many may be there beyond those wanted: new ones beside the old ones that they replace."""
    max_unavailable: Annotated[Portion, BeforeValidator(_portion), _PORTION_SCHEMA] = Field(
        default=Portion(0), validation_alias=f"{ROLLOUT}max-unavailable"
    )
    """How many may be missing of those wanted: old ones that leave before what replaces them is there."""
    pause: Annotated[float, BeforeValidator(_pause), _PAUSE_SCHEMA] = Field(
        default=0.0, validation_alias=f"{ROLLOUT}pause"
    )
    """Seconds from one host's change to the next host's; infinite: after the first one, nothing goes on by itself."""


class Properties(Strict):
    image: str | None = None
    application: Shared | None = None
    id: str | None = None
    config: list[Config] = []
    secrets: list[Secret] = []
    limits: Limits | None = Field(None, validation_alias="x-limits")


class Trait(Strict):
    """`properties` is read by the trait's type, see `parse_trait`."""

    type: str
    properties: dict[str, Any]


class Spread(Strict):
    name: str
    requirements: TextMap = {}
    weight: StrictInt | None = None


class Scaler(Strict):
    """Of a spreadscaler: `instances` in all. Of a daemonscaler: on every eligible host."""

    instances: StrictInt = Field(validation_alias=AliasChoices("instances", "replicas"))
    spread: list[Spread] = []


class LinkSource(Strict):
    config: list[Config] = []
    secrets: list[Secret] = []


class LinkTarget(LinkSource):
    name: str


class Link(Strict):
    """The component that carries this trait imports the interfaces; `target` exports them."""

    namespace: str
    package: str
    interfaces: list[str]
    target: LinkTarget
    source: LinkSource | None = None
    name: str = "default"
    target_config: list[Config] = []
    source_config: list[Config] = []

    @model_validator(mode="before")
    @classmethod
    def _target_by_name(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("target"), str):
            return {**data, "target": {"name": data["target"]}}
        return data

    def for_target(self) -> list[Config]:
        return [*self.target.config, *self.target_config]

    def for_source(self) -> list[Config]:
        return [*(self.source.config if self.source else []), *self.source_config]


class Component(Part):
    name: str
    type: Literal["component", "actor", "capability"]
    properties: Properties
    traits: list[Trait] = []

    @property
    def capability(self) -> bool:
        return self.type == CAPABILITY

    def links(self) -> Iterator[Link]:
        for trait in self.traits:
            if trait.type == LINK:
                yield Link.model_validate(trait.properties)

    def scaler(self) -> tuple[str, Scaler] | None:
        """(trait type, properties) of its scaler trait, if it has one."""
        for trait in self.traits:
            if trait.type in (SPREADSCALER, DAEMONSCALER):
                return trait.type, Scaler.model_validate(trait.properties)
        return None

    @model_validator(mode="before")
    @classmethod
    def _no_traits(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("traits", ...) is None:
            return {key: value for key, value in data.items() if key != "traits"}
        return data


class Policy(Part):
    name: str
    type: str
    properties: TextMap = {}


class Metadata(Part):
    name: str
    annotations: TextMap = {}
    labels: TextMap = {}


class Spec(Part):
    components: list[Component]
    policies: list[Policy] = []


class Manifest(Strict):
    """One application."""

    apiVersion: str
    kind: str
    metadata: Metadata
    spec: Spec

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def version(self) -> str | None:
        return self.metadata.annotations.get(VERSION)

    @property
    def description(self) -> str | None:
        return self.metadata.annotations.get(DESCRIPTION)

    @property
    def rollout(self) -> Rollout:
        """Raises ValidationError."""
        return Rollout.model_validate({k: v for k, v in self.metadata.annotations.items() if k.startswith(ROLLOUT)})

    @property
    def shared(self) -> bool:
        return self.metadata.annotations.get(SHARED) == "true"

    def component(self, name: str) -> Component | None:
        return next((c for c in self.spec.components if c.name == name), None)


def escape(text: str) -> str:
    """Lower case, and `_` for everything but letters and digits: one half of a derived name."""
    return "".join(c if c.isascii() and c.isalnum() else "_" for c in text.lower())


def derived(app: str, name: str) -> str:
    """`{app}-{name}` with `-` only between the two: ids and managed configs that nobody named."""
    return f"{escape(app)}-{escape(name)}"


def component_id(app: str, component: Component) -> str:
    """Its id on the lattice: the one it asks for, or one derived from its name."""
    return component.properties.id or derived(app, component.name)


def config_name(app: str, config: Config) -> str:
    """The name on the lattice: derived for our own configs, as written for somebody else's."""
    return config.name if config.properties is None else derived(app, config.name)


def secret_name(app: str, secret: Secret) -> str:
    """The name of the secret's reference on the lattice."""
    return f"SECRET_{derived(app, secret.name)}"
