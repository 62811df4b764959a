"""Shared components that outlive their application's deployment, because other applications use them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from wadm.desired import Desired, desired_from
from wadm.manifest import Manifest


def users(app: str, manifests: Iterable[Manifest]) -> dict[str, tuple[str, ...]]:
    """The components of `app` that other applications refer to: name -> those applications, both in order."""
    found: dict[str, set[str]] = {}
    for manifest in manifests:
        for component in manifest.spec.components:
            reference = component.properties.application
            if reference is not None and reference.name == app and manifest.name != app:
                found.setdefault(reference.component, set()).add(manifest.name)
    return {name: tuple(sorted(apps)) for name, apps in sorted(found.items())}


def kept_part(manifest: Manifest, used: Iterable[str]) -> Desired:
    """What of an undeployed application stays: its components in `used`, the links between them, their settings.

    It is wanted by no application (`apps` is empty), and marked as the one that began it.
    """
    names = set(used)
    whole = desired_from(manifest)
    wanted = tuple(w for w in whole.wanted if w.name in names)
    links = tuple(link for link in whole.links if {link.source, link.target} <= names)
    needed = {c for w in wanted for c in w.config}
    needed |= {c for link in links for c in (*link.link.source_config, *link.link.target_config)}
    return replace(
        whole,
        apps=frozenset(),
        wanted=wanted,
        links=links,
        configs={name: data for name, data in whole.configs.items() if name in needed},
        owners={name: owner for name, owner in whole.owners.items() if name in needed},
        external=whole.external & needed,
    )


def kept_parts(kept: Mapping[str, Manifest], deployed: Mapping[str, Manifest]) -> dict[str, Desired]:
    """By application that is not deployed: what of it is still used, where there is anything."""
    parts = {}
    for name, manifest in kept.items():
        used = users(name, deployed.values()) if name not in deployed else {}
        if used:
            parts[name] = kept_part(manifest, used)
    return parts
