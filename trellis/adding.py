"""Capabilities that are added to a manifest by name: a provider, and the link between it and an actor.

Lines are put in; those that are there stay as they are, comments included.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from textwrap import indent

from lattice import Finding
from trellis.failures import USER_ERROR, Failure, failure
from trellis.wit import packages
from wadm.images import answered_by
from wadm.manifest import Component, Manifest
from wadm.source import Document, Path
from wadm.validate import check


@dataclass(frozen=True, slots=True)
class Capability:
    provider: str
    """What the provider is called in the manifest."""
    image: str
    package: str
    imports: tuple[str, ...] = ()
    """Interfaces that the provider answers: the actor is linked to it."""
    exports: tuple[str, ...] = ()
    """Interfaces that the provider calls: it is linked to the actor."""
    config: Mapping[str, str] = field(default_factory=dict)
    """Of the link. `{app}` and `{actor}` are their names."""
    needs: str = ""
    """What has to be installed where hosts run."""


CAPABILITIES: Mapping[str, Capability] = {
    "http": Capability(
        "http",
        "builtin:http-server",
        "wasi:http",
        exports=("incoming-handler",),
        config={"address": "127.0.0.1:8000"},
    ),
    "http-client": Capability("http-client", "builtin:http-client", "wasi:http", imports=("outgoing-handler",)),
    "kv": Capability(
        "store",
        "builtin:keyvalue-nats",
        "wasi:keyvalue",
        imports=("store", "atomics"),
        config={"bucket": "{app}", "enable_bucket_auto_create": "true"},
    ),
    "blobstore": Capability("blobs", "builtin:blobstore-nats", "wasi:blobstore", imports=("blobstore",)),
    "messaging": Capability("messaging", "builtin:messaging-nats", "wasmcloud:messaging", imports=("consumer",)),
    "subscription": Capability(
        "messaging",
        "builtin:messaging-nats",
        "wasmcloud:messaging",
        exports=("handler",),
        config={"subscriptions": "{app}.>"},
    ),
    "cron": Capability(
        "cron",
        "builtin:cron",
        "wasmcloud:cron",
        exports=("scheduler",),
        config={"cronjobs": "minutely=* * * * *:"},
        needs="pip install 'trellis-lattice[cron]'",
    ),
}


@dataclass(frozen=True, slots=True)
class Added:
    """A manifest with a capability. `said` has a line for each thing that was added; none when all was there."""

    text: str
    said: list[str]
    actor: str
    capability: Capability

    @property
    def wit(self) -> list[str]:
        """What the actor's world needs to have."""
        package = packages()[self.capability.package]
        return [
            f"{verb} {package.name}/{name}@{package.version};"
            for verb, names in (("import", self.capability.imports), ("export", self.capability.exports))
            for name in names
        ]


def add(text: str, file: str, capability: Capability, actor: str | None) -> Added:
    """`text` with `capability` for the component called `actor`, which may be missing where there is only one.

    Raises Failure for a manifest with errors, an actor that is not there, and a form of YAML that is not edited.
    """
    checked = check(text, file)
    manifest, document = checked.manifest, checked.document
    if manifest is None or document is None:
        raise Failure(USER_ERROR, *checked.findings)
    index = _index(manifest, actor)
    component = manifest.spec.components[index]
    existing = next(
        (
            c
            for c in manifest.spec.components
            if c.capability and answered_by(c.properties.image or "") == capability.image
        ),
        None,
    )
    provider = existing.name if existing else _free(capability.provider, manifest)
    said = []
    if existing is None:
        said.append(f"provider `{provider}` ({capability.image})")
    traits: dict[str, str] = {}
    if capability.imports and not _linked(component, provider, capability):
        traits[component.name] = _link(provider, capability, component.name, manifest)
        said.append(f"link of `{component.name}` to `{provider}`")
    if capability.exports and not (existing and _linked(existing, component.name, capability)):
        traits[provider] = _link(component.name, capability, component.name, manifest)
        said.append(f"link of `{provider}` to `{component.name}`")

    lines = document.lines
    insertions = []
    if existing is None:
        insertions.append(_component_into(document, provider, capability.image, traits.get(provider)))
    for at, each in enumerate(manifest.spec.components):
        if each.name in traits:
            insertions.append(_trait_into(document, at, traits[each.name]))
    for line, new in sorted(insertions, key=lambda one: one[0], reverse=True):  # from below: the lines above stay
        lines = [*lines[:line], *new.splitlines(), *lines[line:]]
    added = Added("\n".join(lines) + "\n", said, component.name, capability)
    if (after := check(added.text, file)).manifest is None:
        raise Failure(USER_ERROR, *after.findings)
    return added


def _index(manifest: Manifest, name: str | None) -> int:
    actors = {c.name: i for i, c in enumerate(manifest.spec.components) if not c.capability}
    if name is None and len(actors) == 1:
        return next(iter(actors.values()))
    if name is None:
        raise failure("TRL-APP-003", "which component is it for?", fix=f"--to NAME: {', '.join(actors)}")
    if name not in actors:
        raise failure("TRL-APP-003", f"there is no component `{name}`", fix=f"there is: {', '.join(actors)}")
    return actors[name]


def _free(name: str, manifest: Manifest) -> str:
    taken = {component.name for component in manifest.spec.components}
    return next(each for each in (name, *(f"{name}-{n}" for n in range(2, len(taken) + 3))) if each not in taken)


def _linked(source: Component, target: str, capability: Capability) -> bool:
    wanted = {*capability.imports, *capability.exports}
    return any(
        link.target.name == target and f"{link.namespace}:{link.package}" == capability.package
        and wanted.intersection(link.interfaces)
        for link in source.links()
    )  # fmt: skip


# -- what is written


def _link(target: str, capability: Capability, actor: str, manifest: Manifest) -> str:
    namespace, _, package = capability.package.partition(":")
    lines = ["- type: link", "  properties:"]
    config = [
        "config:",
        f"  - name: {actor}-{package}" + ("" if capability.imports else f"-{capability.exports[0]}"),
        "    properties:",
        *(
            f"      {key}: {json.dumps(value.format(app=manifest.metadata.name, actor=actor))}"
            for key, value in capability.config.items()
        ),
    ]
    if capability.config and capability.imports:
        lines += ["    target:", f"      name: {target}", *(f"      {line}" for line in config)]
    else:
        lines.append(f"    target: {target}")
    lines += [
        f"    namespace: {namespace}",
        f"    package: {package}",
        f"    interfaces: [{', '.join(capability.imports or capability.exports)}]",
    ]
    if capability.config and capability.exports:
        lines += ["    source:", *(f"      {line}" for line in config)]
    return "\n".join(lines)


def _trait_into(document: Document, component: int, trait: str) -> tuple[int, str]:
    """After which line what is to be put in, for one more trait."""
    at: Path = ("spec", "components", component)
    traits = (*at, "traits")
    if traits in document.values:
        return _end(document, traits), indent(trait, _dash(document, traits))
    column = document.values[at].column - 1
    if document.lines[document.values[at].line - 1][column] == "{":
        raise _not_block(document, at)
    return _end(document, at), indent(f"traits:\n{indent(trait, '  ')}", " " * column)


def _component_into(document: Document, name: str, image: str, trait: str | None) -> tuple[int, str]:
    at: Path = ("spec", "components")
    lines = [f"- name: {name}", "  type: capability", "  properties:", f"    image: {image}"]
    if trait is not None:
        lines += ["  traits:", indent(trait, "    ")]
    return _end(document, at), "\n" + indent("\n".join(lines), _dash(document, at))


def _dash(document: Document, at: Path) -> str:
    """The indentation of a list's items. Raises Failure for a list in brackets."""
    span = document.values[at]
    line = document.lines[span.line - 1]
    if line[span.column - 1] != "-":
        raise _not_block(document, at)
    return " " * (span.column - 1)


def _end(document: Document, at: Path) -> int:
    """The number of the last line of what is at `at`, without the blank lines and comments after it."""
    inner = {path[:-1] for path in document.values}
    last = 0
    for path, span in document.values.items():
        if path[: len(at)] != at or (path in inner and document.lines[span.line - 1][span.column - 1] not in "[{"):
            continue  # where a list or map of several lines ends, its values say
        last = max(last, span.end_line if span.end_column > 1 else span.end_line - 1)
    return last


def _not_block(document: Document, at: Path) -> Failure:
    return Failure(
        USER_ERROR,
        Finding(
            "TRL-NEW-002",
            "a list in brackets is not edited",
            document.place(at),
            fix="write it with a line for each item:  - ...",
        ),
    )
