"""A manifest next to the providers it names: would they take the configuration, and do they answer what is linked?

The words are those with which a provider would refuse the link on a host.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from pydantic import BaseModel

from host.own_values import refers
from host.provided import PLACEMENT
from lattice import Finding
from providers.config import LinkLimits, limits_apart, read_config
from trellis.known import Known
from trellis.mismatches import Ends, unanswered, uncalled
from wadm.manifest import Config, Link, Manifest, Secret
from wadm.source import Document, Path


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
            for trait, link in component.link_traits():
                at = ("spec", "components", index, "traits", trait, "properties")
                yield from self._link(component.name, link, at)

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
                *uncalled(name, link, kind, peer, place),
            ]
            yield from _as_certain(kind, found)
        elif link.target.name in self.kinds:
            kind = self.kinds[link.target.name]
            found = [*target.of_link(kind.link, of)[1], *unanswered(name, link, kind, self.ends.get(name), place)]
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
