"""A manifest next to the components it names: does everything that they import have somebody to answer it?

The manifest alone says which links there are; only the components say which they need. What is found here would
otherwise show as a call that fails, on some host, later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import actors.wasi  # noqa: F401  the interfaces that a host serves are registered by importing them
from actors import ComponentDescription, Engine, InterfaceDescription
from actors.component import of_another_wasi
from host.claims import read_claims
from lattice import BadInput, Finding, Place
from trellis.archives import archives, uncertain
from trellis.configuring import misconfigured
from trellis.known import Known, known_providers
from trellis.mismatches import Ends
from trellis.project import text_of
from trellis.show import megabytes
from wadm.images import local_file
from wadm.manifest import Component, Link
from wadm.resolve import resolve_images
from wadm.validate import Checked, check

if TYPE_CHECKING:
    from host.images import Images

NOT_PROVIDED = "TRL-LNK-001"
NOT_LINKED = "TRL-LNK-003"
NOT_CARRIED = "TRL-LNK-004"
NOT_EXPORTED = "TRL-LNK-005"
NOT_IMPORTED = "TRL-LNK-006"
SERVED_OTHERWISE = "TRL-LNK-010"

ELSEWHERE = ("TRL-IMG-003", "TRL-IMG-006", "TRL-IMG-008", "TRL-IMG-009")
"""What may be wrong with an image here and not on a host: another network, other credentials, another kind of host."""

THROUGH_LINKS = ("wasi:keyvalue/", "wasi:http/outgoing-handler")
"""Interfaces whose resources the host holds, but whose calls go through a link."""


@dataclass(frozen=True, slots=True)
class Examined:
    """A manifest and its components. `checked` has every finding; its manifest is None when one is an error."""

    checked: Checked
    components: Mapping[str, ComponentDescription]
    images: Mapping[str, str] = field(default_factory=dict)
    """What each of them was loaded from, by digest: another content is another image, although its name stays."""
    ends: Mapping[str, Ends] = field(default_factory=dict)
    """Of each of them."""
    providers: Mapping[str, Known] = field(default_factory=dict)
    """Those whose class is at hand."""

    def with_findings(self, findings: Iterable[Finding]) -> Examined:
        """With those as well; an error takes the manifest away."""
        checked = replace(self.checked, findings=(*self.checked.findings, *findings))
        if checked.errors:
            checked = replace(checked, manifest=None, data=None)
        return replace(self, checked=checked)


def read(path: Path, instead: Mapping[Path, Path] | None = None) -> Checked:
    """The manifest at `path`, checked, its files (or those `instead`) made absolute and there.

    Raises Failure when it cannot be read.
    """
    return resolve_images(check(text_of(path), str(path)), path.parent.resolve(), instead=instead)


SLOW = 0.5
"""Seconds after which loading a component is worth a word: it is being compiled."""


async def examine(
    checked: Checked,
    engine: Engine,
    say: Callable[[str, str, str], None] = lambda *_: None,
    images: Images | None = None,
) -> Examined:
    """Load every component that is a local file, and hold imports and exports against the links.

    With `images`, those of registries and the web as well; one that cannot be had from here is a warning, since hosts
    may be let in where we are not. `say(stage, component, text)` is told what takes its time.
    """
    manifest, document = checked.manifest, checked.document
    if manifest is None or document is None:
        return Examined(checked, {})
    findings: list[Finding] = []
    loaded: dict[str, _Loaded] = {}
    places: dict[str, Place] = {}
    for index, component in enumerate(manifest.spec.components):
        image = component.properties.image
        place = places[component.name] = document.place(("spec", "components", index, "properties", "image"))
        if component.capability or image is None:
            continue
        try:
            one = await _load(engine, image, component.name, say, images)
        except BadInput as error:
            findings += [_softened(replace(wrong, place=wrong.place or place)) for wrong in error.findings]
        else:
            if one is not None:
                loaded[component.name] = one
    if images is not None:
        certain = [finding async for finding in archives(manifest, document, images)]
        findings += certain
        told = {finding.place for finding in certain}
        checked = replace(checked, findings=tuple(f for f in checked.findings if f.place not in told))
    found = {name: one.description for name, one in loaded.items()}
    ends = {name: one.ends for name, one in loaded.items()}
    kinds, unloaded = known_providers(manifest, document)
    findings += [*unloaded, *misconfigured(manifest, document, kinds, ends)]
    offers = _offers(found, {name: kind.exports for name, kind in kinds.items()})
    for index, component in enumerate(manifest.spec.components):
        if component.name in found:
            links = list(component.links())
            findings += _imports(component.name, found[component.name], links, offers, places[component.name])
        for trait, link in component.link_traits():
            at = document.place(("spec", "components", index, "traits", trait, "properties", "interfaces"))
            findings += _ends(component.name, link, found, at)
    pinned = {name: one.image for name, one in loaded.items()}
    return Examined(checked, found, pinned, ends, kinds).with_findings(findings)


def remote(component: Component) -> bool:
    """Whether a registry, or the web, has to be asked about its image."""
    image = component.properties.image
    elsewhere = image is not None and not component.capability and local_file(image) is None
    return elsewhere or uncertain(component)


def _softened(finding: Finding) -> Finding:
    """Not to be had from here, for now, with our credentials, is no reason why a host should not have it."""
    if finding.code not in ELSEWHERE:
        return finding
    why = f"{finding.why}; hosts will fetch it themselves, and its tag may mean something else by then"
    return replace(finding, level="warning", why=why.removeprefix("; "))


@dataclass(frozen=True, slots=True)
class _Loaded:
    """What a component says of itself. `ends` are with their types, `image` is with its digest."""

    description: ComponentDescription
    ends: Ends
    image: str


async def _load(
    engine: Engine, image: str, name: str, say: Callable[[str, str, str], None], images: Images | None
) -> _Loaded | None:
    """None for one that is elsewhere, without `images` to fetch it. Raises BadInput."""
    reference, file = image, local_file(image)
    if file is None:
        if images is None:
            return None
        reference, file = await images.pinned(image)
        if reference != image:
            say("pinned", name, f"{image} is {reference.removeprefix(image)[1:20]}")
    await asyncio.to_thread(read_claims, file, image)
    loading = asyncio.ensure_future(engine.load(file, image))
    done, _ = await asyncio.wait({loading}, timeout=SLOW)
    if not done:
        say("compiling", name, "once; the compiled code is kept")
    component = await loading
    description = component.describe()
    say("compiled", name, f"{megabytes(description.size)}  sha256:{description.digest[:12]}")
    if local_file(image) is not None:
        reference = f"{image}#sha256:{description.digest}"
    return _Loaded(description, Ends(list(component.imports), list(component.exports)), reference)


def _offers(found: Mapping[str, ComponentDescription], provided: Mapping[str, set[str]]) -> dict[str, list[str]]:
    """Interface, without its version -> who of the manifest answers it."""
    exports = {name: {_key(e.name) for e in its.exports} for name, its in found.items()}
    offers: dict[str, list[str]] = {}
    for name, interfaces in {**exports, **provided}.items():
        for interface in sorted(interfaces):
            offers.setdefault(interface, []).append(name)
    return offers


def _imports(
    name: str, description: ComponentDescription, links: list[Link], offers: Mapping[str, list[str]], place: Place
) -> Iterable[Finding]:
    linked = {f"{link.namespace}:{link.package}/{interface}" for link in links for interface in link.interfaces}
    for interface in description.imports:
        key = _key(interface.name)
        if interface.how == "other version":
            yield replace(of_another_wasi(f"`{name}`", interface.name), place=place)
            continue
        if interface.how == "refused":
            yield Finding(
                NOT_CARRIED,
                f"`{name}` imports {interface.name}, which no link can carry",
                place,
                why="resources pass through it, and no host implements it",
                fix="give the interface plain functions and values, and build again",
            )
            continue
        for function in interface.functions:
            if function.how == "differs":
                yield Finding(
                    SERVED_OTHERWISE,
                    f"`{name}` imports {interface.name}#{function.text}",
                    place,
                    why="hosts serve it with other types",
                    fix="build it against the WIT that hosts serve",
                )
        if key in linked or not interface.functions:
            continue
        if interface.how == "linked":
            others = [other for other in offers.get(key, ()) if other != name]
            yield Finding(
                NOT_PROVIDED,
                f"`{name}` imports {interface.name}, and nothing provides it",
                place,
                why=f"hosts do not implement it, and `{name}` has no link for it"
                + (f"; `{others[0]}` exports it" if others else ""),
                fix=f"add to the traits of `{name}`:\n{_trait(key, others[0] if others else 'PROVIDER')}"
                + ("" if others else "\n       where PROVIDER is a capability or component that exports it"),
            )
    yield from _forgotten(name, description, linked, offers, place)


def _forgotten(
    name: str, description: ComponentDescription, linked: set[str], offers: Mapping[str, list[str]], place: Place
) -> Iterable[Finding]:
    """Imports that the host serves through a link, and somebody for them in this manifest, but no link.

    Where nobody offers them it says nothing, nor where a part of the package is linked: worlds import much that a
    program may never call.
    """
    for_whom: dict[tuple[str, str], list[str]] = {}
    for interface in description.imports:
        package, _, word = _key(interface.name).partition("/")
        others = [other for other in offers.get(_key(interface.name), ()) if other != name]
        if others and interface.how != "linked" and not any(key.startswith(f"{package}/") for key in linked):
            for_whom.setdefault((package, others[0]), []).append(word)
    for (package, other), words in for_whom.items():
        names = ", ".join(words)
        yield Finding(
            NOT_LINKED,
            f"`{name}` imports {package} ({names}) and is not linked to `{other}`: a call would fail",
            place,
            fix=f"add to the traits of `{name}`:\n{_trait(f'{package}/{names}', other)}",
            level="warning",
        )


def _ends(name: str, link: Link, found: Mapping[str, ComponentDescription], place: Place) -> Iterable[Finding]:
    source, target = found.get(name), found.get(link.target.name)
    for interface in link.interfaces:
        key = f"{link.namespace}:{link.package}/{interface}"
        if target is not None and not _has(target.exports, key):
            offers = [e.name for e in target.exports if e.name] or ["nothing"]
            yield Finding(
                NOT_EXPORTED,
                f"`{name}` is linked to `{link.target.name}` for {key}, which `{link.target.name}` does not export",
                place,
                why=f"it exports {', '.join(offers)}",
                fix="correct the interface, or link to another component",
            )
        elif source is not None and not _has(source.imports, key):
            yield Finding(
                NOT_IMPORTED,
                f"`{name}` is linked to `{link.target.name}` for {key}, which `{name}` does not import",
                place,
                why="toolchains leave out what a program never uses",
                level="warning",
            )


def _has(interfaces: Iterable[InterfaceDescription], key: str) -> bool:
    return any(_key(interface.name) == key for interface in interfaces)


def _key(interface: str) -> str:
    """Its name without the version."""
    return interface.partition("@")[0]


def _trait(interface: str, target: str) -> str:
    package, _, name = interface.partition("/")
    namespace, _, package = package.partition(":")
    return (
        "         - type: link\n"
        "           properties:\n"
        f"             target: {target}\n"
        f"             namespace: {namespace}\n"
        f"             package: {package}\n"
        f"             interfaces: [{name}]"
    )
