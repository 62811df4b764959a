"""A manifest next to the providers it names: would they take the configuration, and do they answer what is linked?

A provider's own class is asked, so the words are those with which it would refuse the link on a host. Where the class
is elsewhere, what the running provider says of itself stands in for it (`trellis.published`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from pydantic import BaseModel

from host.own_values import refers
from lattice import BadInput, Finding, Place
from lattice.types import InterfaceType, function_text
from providers import Provider
from providers.config import LinkLimits, limits_apart, read_config
from providers.description import Description, describe
from providers.load import is_python, resolve
from providers.schema import model_of
from wadm.images import answered_by, local_file
from wadm.manifest import LINK, Component, Config, Link, Manifest, Secret
from wadm.source import Document, Path

PLACEMENT = "placement"
"""A key that the host keeps for itself."""


@dataclass(frozen=True, slots=True)
class Known:
    """What a provider says of itself, and what its configurations are parsed with."""

    name: str
    description: Description
    settings: type[BaseModel] | None
    link: type[BaseModel] | None
    place: Callable[[Any, Any], str | None] = lambda settings, config: None
    certain: bool = True
    """What is found by it is so: it is not said by another version than the manifest's."""

    @classmethod
    def of_class(cls, kind: type[Provider]) -> Known:
        return cls(kind.__name__, describe(kind), kind.settings_model, kind.link_config, kind.place)

    @classmethod
    def of_running(cls, name: str, said: Description, image: str | None) -> Known:
        return cls(
            name, said, model_of(said.config), model_of(said.link_config), certain=image in (None, said.reference)
        )

    @property
    def exports(self) -> set[str]:
        """The interfaces that it answers."""
        return set(self.description.functions)


class Ends(NamedTuple):
    """What a component imports and exports, with types."""

    imports: Sequence[InterfaceType]
    exports: Sequence[InterfaceType]


def known_providers(manifest: Manifest, document: Document) -> tuple[dict[str, Known], list[Finding]]:
    """Each capability that is Python, by name, and why one could not be loaded here."""
    kinds: dict[str, Known] = {}
    findings: list[Finding] = []
    for index, component in enumerate(manifest.spec.components):
        try:
            kind = _class_of(component)
        except BadInput as error:  # another machine may have what is missing here
            place = document.place(("spec", "components", index, "properties", "image"))
            findings += (replace(finding, place=place, level="warning") for finding in error.findings)
            continue
        if kind is not None:
            kinds[component.name] = Known.of_class(kind)
    return kinds, findings


def misconfigured(
    manifest: Manifest,
    document: Document,
    kinds: Mapping[str, Known],
    ends: Mapping[str, Ends],
    configs: Mapping[str, Mapping[str, str]] | None = None,
) -> Iterator[Finding]:
    """Every value that a provider would refuse, and every link that it has nothing for.

    `ends` are those of the components at hand, by name: their types are held against a WIT that a provider declares.
    `configs` are those that are on the lattice already, by name; None where nobody asked it.
    """
    yield from _Checker(manifest, document, kinds, ends, configs).findings()


class _Checker:
    def __init__(
        self,
        manifest: Manifest,
        document: Document,
        kinds: Mapping[str, Known],
        ends: Mapping[str, Ends],
        configs: Mapping[str, Mapping[str, str]] | None,
    ) -> None:
        self.manifest = manifest
        self.document = document
        self.kinds = kinds
        self.ends = ends
        self.configs = configs
        self.settings: dict[str, BaseModel | None] = {}
        """Of each provider, as far as they are known and can be used."""
        self.taken: dict[tuple[str, str], str] = {}
        """Whose link has which place of which provider."""

    def findings(self) -> Iterator[Finding]:
        for index, component in enumerate(self.manifest.spec.components):
            at: Path = ("spec", "components", index, "properties")
            own = self._values(component.properties.config, (*at, "config"), component.properties.secrets)
            yield from own.missing()
            if component.name in self.kinds:
                kind = self.kinds[component.name]
                self.settings[component.name], found = own.against(kind.settings, f"provider `{component.name}`")
                yield from _as_certain(kind, found)
        for index, component in enumerate(self.manifest.spec.components):
            for trait, raw in enumerate(component.traits):
                if raw.type == LINK:
                    at = ("spec", "components", index, "traits", trait, "properties")
                    yield from self._link(component.name, Link.model_validate(raw.properties), at)

    def _values(self, configs: list[Config], at: Path, secrets: list[Secret]) -> _Values:
        return _Values(self.document, configs, at, secrets, self.configs)

    def _link(self, name: str, link: Link, at: Path) -> Iterator[Finding]:
        of = f"link of `{name}` to `{link.target.name}`"
        source_at = (*at, "source", "config") if link.source else (*at, "source_config")
        target_at = (*at, "target", "config") if link.target.config else (*at, "target_config")
        source = self._values(link.for_source(), source_at, link.source.secrets if link.source else [])
        target = self._values(link.for_target(), target_at, link.target.secrets)
        yield from (*source.missing(), *target.missing())
        place = self.document.place((*at, "interfaces"))
        if name in self.kinds:
            kind = self.kinds[name]
            config, found = source.of_link(kind.link, of)
            peer = self.ends.get(link.target.name)
            found += [
                *self._clash(name, link.target.name, config, source_at),
                *_uncalled(name, link, kind, peer, place),
            ]
            yield from _as_certain(kind, found)
        elif link.target.name in self.kinds:
            kind = self.kinds[link.target.name]
            found = [*target.of_link(kind.link, of)[1], *_unanswered(name, link, kind, self.ends.get(name), place)]
            yield from _as_certain(kind, found)

    def _clash(self, name: str, target: str, config: BaseModel | None, at: Path) -> Iterator[Finding]:
        """A link that wants the place of one before it."""
        settings = self.settings[name]
        place = None if settings is None or config is None else self.kinds[name].place(settings, config)
        if place is None:
            return
        other = self.taken.setdefault((name, place), target)
        if other != target:
            yield Finding(
                "TRL-PRV-006",
                f"link of `{name}` to `{target}`: {place} belongs to `{other}` already",
                self.document.place(at),
                fix="give one of them another place",
            )


def _class_of(component: Component) -> type[Provider] | None:
    """The class behind a provider's image; None for what is not one of ours, a Python file, package or module."""
    image = component.properties.image or ""
    file = local_file(image)
    ours = answered_by(image) is not None
    if not component.capability or not (ours or image.startswith("python:") or (file and is_python(str(file)))):
        return None
    made = resolve(image)
    return made if isinstance(made, type) else None


def _as_certain(kind: Known, found: Iterable[Finding]) -> Iterator[Finding]:
    """What another version says of itself is worth a warning."""
    for finding in found:
        if kind.certain:
            yield finding
        else:
            why = f"so says the one that runs, from {kind.description.reference or 'elsewhere'}; {finding.why}"
            yield replace(finding, level="warning", why=why.removesuffix("; "))


class _Values:
    """The configurations that are merged for one provider or link, each key with its place."""

    def __init__(
        self,
        document: Document,
        configs: list[Config],
        at: Path,
        secrets: list[Secret],
        lattices: Mapping[str, Mapping[str, str]] | None,
    ) -> None:
        self.document = document
        self.at = at
        self.values: dict[str, str] = {}
        self.places: dict[str, Path] = {}
        self.elsewhere = {secret.name for secret in secrets}
        """Keys whose values are not here: secrets, and what is left to the hosts."""
        self.unknown: dict[str, Path] = {}
        """Configurations that are on the lattice, or should be, and are not known here."""
        self.asked = lattices is not None
        for index, config in enumerate(configs):
            place: Path = (*at, index)
            values: Mapping[str, str] | None = config.properties
            if values is None:
                values = (lattices or {}).get(config.name)
            else:
                place = (*place, "properties")
            if values is None:
                self.unknown[config.name] = place
            for key, value in (values or {}).items():
                if refers(value):
                    self.elsewhere.add(key)
                    continue
                self.values[key] = value
                self.places[key] = place if config.properties is None else (*place, key)

    def missing(self) -> Iterator[Finding]:
        """What the lattice was asked for, and does not have."""
        for name, place in self.unknown.items() if self.asked else ():
            yield Finding(
                "TRL-CFG-001",
                f"configuration `{name}` is not on the lattice",
                self.document.place(place),
                why="without `properties`, it is one that somebody put there",
                fix=f"put it there:  trellis config put {name} KEY=VALUE  or give it properties",
                level="warning",
            )

    def against(self, model: type[BaseModel] | None, of: str) -> tuple[BaseModel | None, list[Finding]]:
        """The values as `model`, when nothing is wrong or missing; and all that is wrong for certain."""
        return self._read(model, {key: value for key, value in self.values.items() if key != PLACEMENT}, of)

    def of_link(self, model: type[BaseModel] | None, of: str) -> tuple[BaseModel | None, list[Finding]]:
        """The same for a link, which has limits besides."""
        own, limits = limits_apart(self.values)
        config, found = self._read(model, own, of)
        return config, [*found, *self._read(LinkLimits, limits, of)[1]]

    def _read(
        self, model: type[BaseModel] | None, values: Mapping[str, str], of: str
    ) -> tuple[BaseModel | None, list[Finding]]:
        if model is None:
            return None, []
        read = read_config(model, values, of=of)
        certain: list[Finding] = []
        for key, finding in read.findings:
            from_elsewhere = bool(self.unknown) or key in self.elsewhere or (not key and self.elsewhere)
            if key in self.places or not from_elsewhere:
                certain.append(replace(finding, place=self.document.place(self.places.get(key, self.at))))
        return None if self.unknown else read.model, certain


def _unanswered(name: str, link: Link, target: Known, ends: Ends | None, place: Place) -> Iterator[Finding]:
    linked = _linked(link)
    if not target.exports.intersection(linked):
        yield Finding(
            "TRL-LNK-005",
            f"`{name}` is linked to `{link.target.name}` for {', '.join(linked)}, which {target.name} does not export",
            place,
            why=f"it exports {', '.join(sorted(target.exports)) or 'nothing'}",
            fix="correct the interfaces, or link to another provider",
        )
        return
    for interface in ends.imports if ends else ():
        if interface.key not in linked or _held_by_hosts(interface):
            continue
        for wanted, other in _different(interface, target.description.functions.get(interface.key, [])):
            has = f"has {other}" if other else "does not answer it"
            said = f"`{name}` imports {wanted} of {interface.key}, and `{link.target.name}` {has}"
            yield _mismatch(said, place, level="error" if other else "warning")  # it may never be called


def _uncalled(name: str, link: Link, source: Known, ends: Ends | None, place: Place) -> Iterator[Finding]:
    calls, linked = source.description.calls, _linked(link)
    if calls is not None and not calls.keys() & set(linked):
        yield Finding(
            "TRL-LNK-005",
            f"`{name}` is linked to `{link.target.name}` for {', '.join(linked)}, which {source.name} does not call",
            place,
            why=f"it calls {', '.join(sorted(calls)) or 'nothing'}",
            fix="correct the interfaces; a component that calls the provider has the link among its own traits",
        )
    for interface in ends.exports if ends else ():
        if interface.key not in linked or _held_by_hosts(interface):
            continue
        for offered, other in _different(interface, (calls or {}).get(interface.key, [])):
            if other:
                said = f"`{link.target.name}` exports {offered} of {interface.key}, and `{name}` calls {other}"
                yield _mismatch(said, place)


def _linked(link: Link) -> list[str]:
    return [f"{link.namespace}:{link.package}/{interface}" for interface in link.interfaces]


def _held_by_hosts(interface: InterfaceType) -> bool:
    """It passes resources: hosts keep those, and have a form without them for its provider."""
    return any(signature.handles() for signature in interface.functions.values())


def _different(interface: InterfaceType, theirs: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Functions that a component and a provider see differently: as the component has it, and as the provider has it.

    The latter is "" for one that the provider does not have. Where its functions have no types, nothing is known.
    """
    texts = {text.partition(":")[0]: text for text in theirs if ":" in text}
    for function, signature in interface.functions.items() if texts else ():
        own, other = function_text(function, signature), texts.get(function, "")
        if other != own:
            yield own, other


def _mismatch(message: str, place: Place, level: str = "error") -> Finding:
    return Finding(
        "TRL-LNK-009",
        message,
        place,
        why="both were written against a WIT of that name, but not the same one",
        fix="give both the same WIT, and build again",
        level=level,
    )
