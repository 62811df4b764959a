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
    """text; a number or a truth value counts as it is written"""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return getattr(value, "raw", None) or str(value)
    return value


# What a validator's docstring says of the type is in docs/manifest.md.
Text = Annotated[str, BeforeValidator(_text), WithJsonSchema({"type": ["string", "number", "boolean"]})]
TextMap = dict[str, Text]


class Part(BaseModel):
    """A part of a manifest that upstream reads leniently: unknown fields are warned about, not refused.

    The text below a field is its description in the JSON Schema, and in docs/manifest.md.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=False, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _without_extensions(cls, data: Any) -> Any:
        if isinstance(data, dict):
            ours = [i.validation_alias for i in cls.model_fields.values() if isinstance(i.validation_alias, str)]
            return {key: value for key, value in data.items() if key in ours or not str(key).startswith("x-")}
        return data


class Strict(Part):
    """A part whose fields are all known."""

    model_config = ConfigDict(extra="forbid")


class Config(Strict):
    """Named configuration: ours when it has `properties`, somebody else's (by its plain name) when it has none."""

    name: str
    """Its name; on the lattice `{app}-{name}` where it has `properties`, and as it is where it has none."""
    properties: TextMap | None = None
    """The keys and their values; `${env:KEY}` and `${file:KEY}` in one are for each host to fill in. Left out: a
    configuration that was put on the lattice by `trellis config put`."""


class SecretProperties(Part):
    """Where a secret is kept. The manifest only refers to it: its value never passes through the manager."""

    policy: str
    """The name of one of the application's `policies`, which says which back end keeps the secret."""
    key: str
    """The secret's name in that back end."""
    field: str | None = None
    """A member of a secret that is a JSON object."""
    version: Text | None = None
    """A version of the secret, in a back end that has versions."""


class Secret(Part):
    """A secret that a component, a provider or one side of a link is given."""

    name: str
    """What the component asks for it by; for a provider and a link, the configuration key that it becomes."""
    properties: SecretProperties
    """Where it is kept."""


class Shared(Strict):
    """A component of another application, which that application shares."""

    name: str
    """The application. It has to be deployed, and to be annotated as shared."""
    component: str
    """The component's name there."""


_SIZE = re.compile(r"([1-9]\d*)(Ki|Mi|Gi|)")
_PORTION = re.compile(r"(\d{1,10})(%?)")
_PAUSE_SCHEMA = WithJsonSchema({"type": ["string", "boolean"], "pattern": r"^(true|[0-9]+(\.[0-9]+)?(ms|s|m))$"})
_PORTION_SCHEMA = WithJsonSchema({"type": ["string", "integer"], "pattern": "^[0-9]+%?$", "minimum": 0})
_TIME = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m)")


def _bytes(value: Any) -> int:
    """size: `64Mi`, or a number of bytes"""
    match = _SIZE.fullmatch(str(value).strip()) if isinstance(value, (str, int)) else None
    if match is None or isinstance(value, bool):
        raise PydanticCustomError("size", "`{given}` is not a size; write 64Mi, 512Ki, 1Gi or bytes", {"given": value})
    return int(match[1]) << {"": 0, "Ki": 10, "Mi": 20, "Gi": 30}[match[2]]


def _milliseconds(value: Any) -> int:
    """time: `250ms`, `1.5s`, `2m`"""
    match = _TIME.fullmatch(value.strip()) if isinstance(value, str) else None
    found = 0 if match is None else round(float(match[1]) * {"ms": 1, "s": 1000, "m": 60_000}[match[2]])
    if found <= 0:
        raise PydanticCustomError("span", "`{given}` is not a time; write 250ms, 5s or 2m", {"given": value})
    return found


def _count(value: Any) -> int:
    """whole number above zero"""
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
    """What one invocation of a component may use. One that is missing is the host's, which is the ceiling, too."""

    memory: Size | None = None
    """Bytes of each linear memory."""
    time: Span | None = None
    """How long a call may take, waiting included."""
    fuel: Count | None = None
    """Wasm instructions, roughly; only on hosts that were started with a limit of fuel."""
    handles: Count | None = None
    """Streams, files, requests and other resources of the host that the guest holds at a time."""
    buffered: Size | None = None
    """Bytes that the guest has written into streams and nobody has read."""
    output: Size | None = None
    """Bytes printed to stdout, and to stderr."""
    queue: Count | None = None
    """Calls that wait for an instance; more are refused as busy."""
    memories: Count | None = None
    """Linear memories of the component."""
    tables: Count | None = None
    """Tables of the component."""
    table_elements: Count | None = None
    """Elements of each table."""
    core_instances: Count | None = None
    """Core modules that the component instantiates."""

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
    """number of instances, or share: `2`, `25%`"""
    match = _PORTION.fullmatch(str(_text(value)))
    if match is None:
        raise PydanticCustomError(
            "portion", "`{given}` is not a number of instances, nor a share such as 25%", {"given": value}
        )
    return Portion(int(match[1]), match[2] == "%")


def _pause(value: Any) -> float:
    """time, or `true`"""
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
    """From one host's change to the next host's; `true`: the first host changes, and nothing goes on by itself."""


class Properties(Strict):
    """What a component is. Either `image` or `application` is there."""

    image: str | None = None
    """The component's file or image; of a capability, `builtin:NAME` or a Python file."""
    application: Shared | None = None
    """In place of an image: a component of another application."""
    id: str | None = None
    """Its id on the lattice. Left out: `{app}-{name}`, in lower case, with `_` for what is no letter or digit."""
    config: list[Config] = []
    """What it may read as configuration. Of several that say the same key, the last counts."""
    secrets: list[Secret] = []
    """What it is trusted with."""
    limits: Limits | None = Field(None, validation_alias="x-limits")
    """What one invocation may use. An extension of Trellis; components only."""


class Trait(Strict):
    """How a component is scaled, or what it is linked to."""

    type: str
    """`spreadscaler`, `daemonscaler` or `link`; a trait of another type is kept and does nothing."""
    properties: dict[str, Any]
    """Those of a scaler or of a link, by the type."""


class Spread(Strict):
    """A share of the instances, for hosts with certain labels."""

    name: str
    """Its name, for messages and annotations."""
    requirements: TextMap = {}
    """The labels that a host must have. None: every host fits."""
    weight: StrictInt | None = None
    """Its share beside the other spreads' weights; 100 if not given. A daemonscaler does not use it."""


class Scaler(Strict):
    """Of a spreadscaler: `instances` in all. Of a daemonscaler: on every host that fits."""

    instances: StrictInt = Field(validation_alias=AliasChoices("instances", "replicas"))
    """How many calls it may answer at a time; of a capability, on how many hosts it runs."""
    spread: list[Spread] = []
    """Where they go. None: any host."""


class LinkSource(Strict):
    """The side of a link that calls."""

    config: list[Config] = []
    """Configuration for this side; a provider reads it, a component does not."""
    secrets: list[Secret] = []
    """Secrets for this side, which become configuration under their own names."""


class LinkTarget(LinkSource):
    """The side of a link that is called."""

    name: str
    """The component of this manifest that answers."""


class Link(Strict):
    """The component that carries this trait imports the interfaces; `target` exports them."""

    namespace: str
    """Of the WIT package: `wasi` in `wasi:keyvalue/store`."""
    package: str
    """The WIT package: `keyvalue` in `wasi:keyvalue/store`."""
    interfaces: list[str]
    """The interfaces of that package: `store` in `wasi:keyvalue/store`."""
    target: LinkTarget
    """Who answers; its name alone is enough where it needs no configuration."""
    source: LinkSource | None = None
    """What this component's side of the link is given."""
    name: str = "default"
    """Keeps two links of one interface apart."""
    target_config: list[Config] = []
    """The older form of `config` below `target`."""
    source_config: list[Config] = []
    """The older form of `config` below `source`."""

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
    """One part of the application: a Wasm component, or a capability provider."""

    name: str
    """Its name in this application."""
    type: Literal["component", "actor", "capability"]
    """`component` for Wasm (`actor` is an older word for it), `capability` for a provider."""
    properties: Properties
    """What it is."""
    traits: list[Trait] = []
    """How it is scaled, and its links."""

    @property
    def capability(self) -> bool:
        return self.type == CAPABILITY

    def links(self) -> Iterator[Link]:
        for _, link in self.link_traits():
            yield link

    def link_traits(self) -> Iterator[tuple[int, Link]]:
        """Its links, each with its place among the traits."""
        for index, trait in enumerate(self.traits):
            if trait.type == LINK:
                yield index, Link.model_validate(trait.properties)

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
    """Where secrets are kept."""

    name: str
    """What secrets name it by."""
    type: str
    """`policy.secret.wasmcloud.dev/v1alpha1`; a policy of another type is kept and does nothing."""
    properties: TextMap = {}
    """`backend`: `env`, `files` or `nats-kv`."""


class Metadata(Part):
    """What the application is called, and what is said of it."""

    name: str
    """Its name, of letters, digits, `-` and `_`; there is one application of that name on a lattice."""
    annotations: TextMap = {}
    """`version`, `description`, whether it is shared, and how a new version takes over."""
    labels: TextMap = {}
    """Anything, for whoever reads the manifest."""


class Spec(Part):
    """What it consists of."""

    components: list[Component]
    """Its components and capabilities."""
    policies: list[Policy] = []
    """Where its secrets are kept."""


class Manifest(Strict):
    """One application."""

    apiVersion: str
    """`core.oam.dev/v1beta1`."""
    kind: str
    """`Application`."""
    metadata: Metadata
    """Its name and annotations."""
    spec: Spec
    """Its parts."""

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
