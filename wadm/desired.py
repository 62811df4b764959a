"""What a lattice should look like: the applications that are deployed, as plain values.

Ids and config names follow wadm's rules, so that a manifest means the same objects on the lattice here and there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from lattice import EntityId, LinkName
from lattice.control import APPSPEC
from lattice.links import LinkDefinition
from wadm.manifest import (
    DAEMONSCALER,
    Component,
    Config,
    Link,
    Manifest,
    Rollout,
    Secret,
    component_id,
    config_name,
    secret_name,
)

MANAGED_BY = "wasmcloud.dev/managed-by"
SCALER = "wasmcloud.dev/scaler"
SPREAD = "wasmcloud.dev/spread_name"
STRICT_LINKS = "trellis.dev/strict-links"
SETTINGS = "trellis.dev/settings"
MANAGER = "wadm"


class Kind(StrEnum):
    COMPONENT = "component"
    PROVIDER = "provider"


class Rule(StrEnum):
    SPREAD = "spreadscaler"
    DAEMON = "daemonscaler"


@dataclass(frozen=True, slots=True)
class Spread:
    """A share of the instances, for hosts that have every one of the required labels."""

    name: str
    requirements: tuple[tuple[str, str], ...] = ()
    weight: int = 100

    def fits(self, labels: Mapping[str, str]) -> bool:
        return all(labels.get(key) == value for key, value in self.requirements)

    def __str__(self) -> str:
        return ", ".join(f"{key}={value}" for key, value in self.requirements) or "any host"


EVERYWHERE = Spread("default")


@dataclass(frozen=True, slots=True)
class Wanted:
    """One component or provider of one application.

    `instances` is the number wanted in all (components) or of hosts (providers); under a daemon rule, the number on
    every eligible host.
    """

    app: str
    name: str
    id: EntityId
    kind: Kind
    image: str
    instances: int = 1
    rule: Rule = Rule.SPREAD
    spreads: tuple[Spread, ...] = (EVERYWHERE,)
    config: tuple[str, ...] = ()
    limits: tuple[tuple[str, str], ...] = ()
    """As the control interface takes them, by name; none means the host's own."""
    settings: str = ""
    """Stands for the configuration and the limits: what runs with another value has to take others."""
    rollout: Rollout = field(default_factory=Rollout)

    def with_values(self, values: Mapping[str, Mapping[str, str]]) -> Wanted:
        """With settings that stand for what these configurations say, too."""
        said = (f"{name}.{key}={value}" for name in sorted(values) for key, value in sorted(values[name].items()))
        return replace(self, settings=_digest(self.settings, *said)[:16])

    @property
    def scaler(self) -> str:
        """The id that marks what this scaler started: the same for every version of the application."""
        return _digest("scaler", self.app, self.kind, self.name, self.id)

    def annotations(self, spread: str) -> dict[str, str]:
        """Of an instance started for `spread`."""
        marks = {
            MANAGED_BY: MANAGER,
            APPSPEC: self.app,
            SCALER: self.scaler,
            SPREAD: spread,
            SETTINGS: self.settings,
        }
        if self.kind is Kind.COMPONENT:
            marks[STRICT_LINKS] = "true"
        return marks

    def counts(self) -> dict[str, int]:
        """Instances per spread: by weight, the remainder one by one in order of weight."""
        if self.rule is Rule.DAEMON:
            return {spread.name: self.instances for spread in self.spreads}
        return compute_spread(self.instances, self.spreads)


@dataclass(frozen=True, slots=True)
class WantedLink:
    """A link, and the names its ends have in the application."""

    app: str
    link: LinkDefinition
    source: str
    target: str

    @property
    def called(self) -> str:
        """What people name it by."""
        return f"{self.source} -> {self.target}"


@dataclass(frozen=True, slots=True)
class Claim:
    """Two applications want one id: the second is not touched."""

    id: EntityId
    app: str
    name: str
    by: str


@dataclass(frozen=True, slots=True)
class Leftovers:
    """What an application once put on the lattice and may have to take away: links and configs carry no owner."""

    links: frozenset[LinkDefinition] = frozenset()
    configs: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Proven:
    """A component or provider as it was in the last version that was ready, and what its configurations said."""

    wanted: Wanted
    configs: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    version: str = ""


@dataclass(frozen=True, slots=True)
class Desired:
    """Everything that should be there, of every deployed application.

    `configs` are ours to write; `external` configs only have to exist. `leftovers` hold, by application, what was
    put earlier (deployed or not); what of it nobody wants now is taken away. `proven` is what may be started while it
    is not known whether what is wanted runs.
    """

    apps: frozenset[str] = frozenset()
    wanted: tuple[Wanted, ...] = ()
    links: tuple[WantedLink, ...] = ()
    configs: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    owners: Mapping[str, str] = field(default_factory=dict)
    external: frozenset[str] = frozenset()
    claims: tuple[Claim, ...] = ()
    leftovers: Mapping[str, Leftovers] = field(default_factory=dict)
    proven: Mapping[EntityId, Proven] = field(default_factory=dict)

    def of(self, app: str) -> tuple[Wanted, ...]:
        return tuple(w for w in self.wanted if w.app == app)

    def links_of(self, app: str) -> tuple[WantedLink, ...]:
        return tuple(link for link in self.links if link.app == app)


def compute_spread(instances: int, spreads: Iterable[Spread]) -> dict[str, int]:
    """`instances` shared out by weight: the floor to each, then one more to each in order of weight."""
    ordered = sorted(spreads, key=lambda s: -s.weight)
    total = sum(s.weight for s in ordered)
    if total == 0:
        return {s.name: 0 for s in ordered}
    counts = {s.name: instances * s.weight // total for s in ordered}
    left = instances - sum(counts.values())
    weighted = [s for s in ordered if s.weight > 0]
    for index in range(left):
        counts[weighted[index % len(weighted)].name] += 1
    return counts


def desired_from(
    manifest: Manifest,
    overrides: Mapping[str, int] | None = None,
    shared: Mapping[str, Manifest] | None = None,
) -> Desired:
    """What one application wants.

    `overrides` are recorded instance counts by component name; `shared` are the applications that an `application:`
    reference may name. A component without a scaler runs once, as if it had a spreadscaler with `instances: 1`
    (wadm v1 never starts such a component, which nobody has ever wanted); a provider without one runs on one host.
    """
    reading = _Reading(manifest, overrides or {}, shared or {})
    wanted = tuple(
        reading.wanted(component, image)
        for component in manifest.spec.components
        if (image := component.properties.image) is not None
    )
    links: dict[tuple[str, ...], WantedLink] = {}
    for component in manifest.spec.components:
        for link in component.links():
            _merge(links, reading.link(component, link))
    return Desired(
        apps=frozenset({manifest.name}),
        wanted=wanted,
        links=tuple(links.values()),
        configs=reading.configs,
        owners=dict.fromkeys(reading.configs, manifest.name),
        external=frozenset(reading.external),
    )


class _Reading:
    """Of one manifest. `configs` and `external` are the configurations that it used so far."""

    def __init__(self, manifest: Manifest, overrides: Mapping[str, int], shared: Mapping[str, Manifest]) -> None:
        self.configs: dict[str, Mapping[str, str]] = {}
        self.external: set[str] = set()
        self._manifest = manifest
        self._overrides = overrides
        self._rollout = manifest.rollout
        self._ids = {c.name: EntityId(_id_of(manifest, c, shared)) for c in manifest.spec.components}

    def wanted(self, component: Component, image: str) -> Wanted:
        rule, instances, spreads = _scaling(component)
        config = self._names(component.properties.config, component.properties.secrets)
        limits = _limits(component)
        one = Wanted(
            app=self._manifest.name,
            name=component.name,
            id=self._ids[component.name],
            kind=Kind.PROVIDER if component.capability else Kind.COMPONENT,
            image=image,
            instances=self._overrides.get(component.name, instances),
            rule=rule,
            spreads=spreads,
            config=config,
            limits=limits,
            settings=_digest("settings", *config, *(f"{key}={value}" for key, value in limits))[:16],
            rollout=self._rollout,
        )
        own = {} if component.capability else {name: self.configs[name] for name in config if name in self.configs}
        return one.with_values(own) if own else one

    def link(self, source: Component, link: Link) -> WantedLink:
        definition = LinkDefinition(
            source_id=self._ids[source.name],
            target=self._ids.get(link.target.name, EntityId(link.target.name)),
            name=LinkName(link.name),
            wit_namespace=link.namespace,
            wit_package=link.package,
            interfaces=tuple(dict.fromkeys(link.interfaces)),
            source_config=self._names(link.for_source(), link.source.secrets if link.source else ()),
            target_config=self._names(link.for_target(), link.target.secrets),
        )
        return WantedLink(self._manifest.name, definition, source.name, link.target.name)

    def _names(self, configs: Iterable[Config], secrets: Iterable[Secret]) -> tuple[str, ...]:
        """What these are called on the lattice."""
        found: list[str] = []
        for config in configs:
            name = config_name(self._manifest.name, config)
            if config.properties is None:
                self.external.add(name)
            else:
                self.configs[name] = dict(config.properties)
            found.append(name)
        for secret in secrets:
            name = secret_name(self._manifest.name, secret)
            self.configs[name] = _secret_record(self._manifest, secret)
            found.append(name)
        return tuple(found)


def with_proven(desired: Desired, before: Desired, version: str = "") -> Desired:
    """One application's, and how it was in the last version that was ready."""

    def said(one: Wanted) -> dict[str, Mapping[str, str]]:
        return {name: before.configs[name] for name in one.config if name in before.configs}

    return replace(desired, proven={w.id: Proven(w, said(w), version) for w in before.wanted})


def together(parts: Iterable[Desired], leftovers: Mapping[str, Leftovers] | None = None) -> Desired:
    """Several applications on one lattice.

    An id belongs to the application that is first by name; another that wants it too gets a Claim instead. What
    belongs to none (`wadm.keeping`) was there before them.
    """
    apps: set[str] = set()
    wanted: dict[EntityId, Wanted] = {}
    links: list[WantedLink] = []
    configs: dict[str, Mapping[str, str]] = {}
    owners: dict[str, str] = {}
    external: set[str] = set()
    claims: list[Claim] = []
    proven: dict[EntityId, Proven] = {}
    for part in sorted(parts, key=lambda p: (sorted(p.apps), [w.id for w in p.wanted])):
        apps |= part.apps
        for one in part.wanted:
            other = wanted.setdefault(one.id, one)
            if other is not one:
                claims.append(Claim(one.id, one.app, one.name, other.app))
        links += part.links
        for name, data in part.configs.items():
            configs.setdefault(name, data)
            owners.setdefault(name, part.owners.get(name, ""))
        external |= part.external
        proven |= {id: one for id, one in part.proven.items() if id in wanted and wanted[id].app == one.wanted.app}
    return Desired(
        apps=frozenset(apps),
        wanted=tuple(sorted(wanted.values(), key=lambda w: (w.app, w.name))),
        links=tuple(sorted(links, key=lambda link: (link.app, str(link.link)))),
        configs=configs,
        owners=owners,
        external=frozenset(external - set(configs)),
        claims=tuple(claims),
        leftovers=leftovers or {},
        proven=proven,
    )


def _scaling(component: Component) -> tuple[Rule, int, tuple[Spread, ...]]:
    found = component.scaler()
    if found is None:
        return Rule.SPREAD, 1, (EVERYWHERE,)
    kind, scaler = found
    spreads = tuple(
        Spread(s.name, tuple(sorted(s.requirements.items())), 100 if s.weight is None else s.weight)
        for s in scaler.spread
    )
    return Rule.DAEMON if kind == DAEMONSCALER else Rule.SPREAD, scaler.instances, spreads or (EVERYWHERE,)


def _limits(component: Component) -> tuple[tuple[str, str], ...]:
    limits = component.properties.limits
    return () if limits is None or component.capability else tuple(sorted(limits.on_the_wire().items()))


def _id_of(manifest: Manifest, component: Component, shared: Mapping[str, Manifest]) -> str:
    reference = component.properties.application
    if reference is None:
        return component_id(manifest.name, component)
    owner = shared.get(reference.name)
    there = owner.component(reference.component) if owner else None
    if owner is None or there is None:
        return component_id(
            reference.name, Component.model_construct(name=reference.component, properties=component.properties)
        )
    return component_id(owner.name, there)


def _merge(links: dict[tuple[str, ...], WantedLink], new: WantedLink) -> None:
    """Two link traits with the same ends, package and name are one link on the lattice with both their interfaces."""
    key = (new.link.source_id, new.link.target, new.link.wit_namespace, new.link.wit_package, new.link.name)
    old = links.get(key)
    if old is None:
        links[key] = new
        return
    both = tuple(dict.fromkeys((*old.link.interfaces, *new.link.interfaces)))
    links[key] = WantedLink(new.app, old.link.model_copy(update={"interfaces": both}), old.source, old.target)


def _secret_record(manifest: Manifest, secret: Secret) -> dict[str, str]:
    """The reference by which a host fetches the secret; the secret itself never passes through here."""
    policy = next((p for p in manifest.spec.policies if p.name == secret.properties.policy), None)
    properties = dict(policy.properties) if policy else {}
    backend = properties.pop("backend", "")
    record = {
        "name": secret.name,
        "type": "secret.wasmcloud.dev/v1alpha1",
        "backend": backend,
        "key": secret.properties.key,
        "policy": json.dumps({"type": "properties.secret.wasmcloud.dev/v1alpha1", "properties": properties}),
    }
    if secret.properties.field is not None:
        record["field"] = secret.properties.field
    if secret.properties.version is not None:
        record["version"] = secret.properties.version
    return record


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
