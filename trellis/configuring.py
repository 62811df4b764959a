"""A manifest next to the providers it names: would they take the configuration, and do they answer what is linked?

A provider's own class is asked, so the words are those with which it would refuse the link on a host.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from pydantic import BaseModel

from lattice import BadInput, Finding
from lattice.types import InterfaceType, function_text
from providers import Provider
from providers.config import read_config
from providers.exports import declared
from providers.load import resolve
from wadm.images import answered_by, local_file
from wadm.manifest import LINK, Component, Config, Link, Manifest, Secret
from wadm.source import Document, Path

PLACEMENT = "placement"
"""A key that the host keeps for itself."""


def provider_classes(manifest: Manifest, document: Document) -> tuple[dict[str, type[Provider]], list[Finding]]:
    """The class behind each capability that is Python, by name, and why one could not be loaded here."""
    kinds: dict[str, type[Provider]] = {}
    findings: list[Finding] = []
    for index, component in enumerate(manifest.spec.components):
        try:
            kind = _class_of(component)
        except BadInput as error:  # another machine may have what is missing here
            place = document.place(("spec", "components", index, "properties", "image"))
            findings += (replace(finding, place=place, level="warning") for finding in error.findings)
            continue
        if kind is not None:
            kinds[component.name] = kind
    return kinds, findings


def exported(kind: type[Provider]) -> set[str]:
    """The interfaces that it answers."""
    return {export.function.interface for export in kind.exports.values()}


def misconfigured(
    manifest: Manifest,
    document: Document,
    kinds: Mapping[str, type[Provider]],
    imports: Mapping[str, Sequence[InterfaceType]],
) -> Iterator[Finding]:
    """Every value that a provider would refuse, and every link that it has nothing for.

    `imports` are those of the components at hand, by name: their types are held against a WIT that a provider declares.
    """
    yield from _Checker(manifest, document, kinds, imports).findings()


class _Checker:
    def __init__(
        self,
        manifest: Manifest,
        document: Document,
        kinds: Mapping[str, type[Provider]],
        imports: Mapping[str, Sequence[InterfaceType]],
    ) -> None:
        self.manifest = manifest
        self.document = document
        self.kinds = kinds
        self.imports = imports
        self.settings: dict[str, BaseModel | None] = {}
        """Of each provider, as far as the manifest has them and they can be used."""
        self.taken: dict[tuple[str, str], str] = {}
        """Whose link has which place of which provider."""

    def findings(self) -> Iterator[Finding]:
        for index, component in enumerate(self.manifest.spec.components):
            if component.name in self.kinds:
                at: Path = ("spec", "components", index, "properties")
                properties = component.properties
                own = _Values(self.document, properties.config, (*at, "config"), properties.secrets)
                model = self.kinds[component.name].settings_model
                self.settings[component.name], found = own.against(model, f"provider `{component.name}`")
                yield from found
        for index, component in enumerate(self.manifest.spec.components):
            for trait, raw in enumerate(component.traits):
                if raw.type == LINK:
                    at = ("spec", "components", index, "traits", trait, "properties")
                    yield from self._link(component.name, Link.model_validate(raw.properties), at)

    def _link(self, name: str, link: Link, at: Path) -> Iterator[Finding]:
        of = f"link of `{name}` to `{link.target.name}`"
        if name in self.kinds:
            configs = (*at, "source", "config") if link.source else (*at, "source_config")
            values = _Values(self.document, link.for_source(), configs, link.source.secrets if link.source else [])
            config, found = values.against(self.kinds[name].link_config, of)
            yield from found
            yield from self._clash(name, link.target.name, config, configs)
        elif link.target.name in self.kinds:
            target = self.kinds[link.target.name]
            configs = (*at, "target", "config") if link.target.config else (*at, "target_config")
            values = _Values(self.document, link.for_target(), configs, link.target.secrets)
            yield from values.against(target.link_config, of)[1]
            yield from _unanswered(name, link, target, self.imports, self.document, (*at, "interfaces"))

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
    """The class behind a provider's image; None for what is not one of ours, a Python file or a module."""
    image = component.properties.image or ""
    file = local_file(image)
    ours = answered_by(image) is not None
    if not component.capability or not (ours or image.startswith("python:") or (file and file.suffix == ".py")):
        return None
    made = resolve(image)
    return made if isinstance(made, type) else None


class _Values:
    """The configurations that are merged for one provider or link, each key with its place."""

    def __init__(self, document: Document, configs: list[Config], at: Path, secrets: list[Secret]) -> None:
        self.document = document
        self.at = at
        self.values: dict[str, str] = {}
        self.places: dict[str, Path] = {}
        self.secrets = {secret.name for secret in secrets}
        self.whole = all(config.properties is not None for config in configs)
        """Nothing comes from configurations that are on the lattice already."""
        for index, config in enumerate(configs):
            for key, value in (config.properties or {}).items():
                self.values[key] = value
                self.places[key] = (*at, index, "properties", key)

    def against(self, model: type[BaseModel] | None, of: str) -> tuple[BaseModel | None, list[Finding]]:
        """The values as `model`, when nothing is wrong or missing; and all that is wrong for certain."""
        if model is None:
            return None, []
        values = {key: value for key, value in self.values.items() if key != PLACEMENT}
        read = read_config(model, values, of=of)
        certain: list[Finding] = []
        for key, finding in read.findings:
            from_elsewhere = not self.whole or key in self.secrets or (not key and self.secrets)
            if key in self.places or not from_elsewhere:
                certain.append(replace(finding, place=self.document.place(self.places.get(key, self.at))))
        return read.model if self.whole else None, certain


def _unanswered(
    name: str,
    link: Link,
    target: type[Provider],
    imports: Mapping[str, Sequence[InterfaceType]],
    document: Document,
    at: Path,
) -> Iterator[Finding]:
    answered = exported(target)
    linked = [f"{link.namespace}:{link.package}/{interface}" for interface in link.interfaces]
    if not answered.intersection(linked):
        yield Finding(
            "TRL-LNK-005",
            f"`{name}` is linked to `{link.target.name}` for {', '.join(linked)}, "
            f"which {target.__name__} does not export",
            document.place(at),
            why=f"it exports {', '.join(sorted(answered)) or 'nothing'}",
            fix="correct the interfaces, or link to another provider",
        )
        return
    wit = declared(target) or {}
    for interface in imports.get(name, ()):
        if interface.key in linked and interface.key in wit and not _held_by_hosts(interface):
            yield from _different(name, link, interface, wit[interface.key], document, at)


def _held_by_hosts(interface: InterfaceType) -> bool:
    """It passes resources: hosts keep those, and have a form without them for its provider."""
    return any(signature.handles() for signature in interface.functions.values())


def _different(
    name: str, link: Link, wanted: InterfaceType, offered: InterfaceType, document: Document, at: Path
) -> Iterable[Finding]:
    for function, signature in wanted.functions.items():
        other = offered.functions.get(function)
        if other == signature:
            continue
        has = "has no such function" if other is None else f"has {function_text(function, other)}"
        yield Finding(
            "TRL-LNK-009",
            f"`{name}` imports {function_text(function, signature)} of {wanted.key}, and `{link.target.name}` {has}",
            document.place(at),
            why="both were written against a WIT of that name, but not the same one",
            fix="give both the same WIT, and build again",
        )
