"""Providers of a manifest that a registry has as something else than what hosts here run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from lattice import BadInput, Finding
from wadm.images import native_code, native_problem
from wadm.manifest import Component, Manifest
from wadm.source import Document

if TYPE_CHECKING:
    from host.images import Images

NATIVE = "TRL-MAN-031"
NOT_A_PROVIDER = "TRL-MAN-029"
NOT_FOUND = "TRL-IMG-001"


def uncertain(component: Component) -> bool:
    """Whether only its registry can say what this provider is."""
    image = component.properties.image
    problem = native_problem(image) if component.capability and image is not None else None
    return problem is not None and problem[1] == "warning"


async def archives(manifest: Manifest, document: Document, images: Images) -> AsyncIterator[Finding]:
    """An error for each that its registry's media types tell apart from a provider, or that is not there."""
    from host.images import media

    for index, component in enumerate(manifest.spec.components):
        image = component.properties.image
        if image is None or not uncertain(component):
            continue
        place = document.place(("spec", "components", index, "properties", "image"))
        try:
            kinds = await images.media_types(image)
        except BadInput as error:
            for finding in error.findings:
                if finding.code == NOT_FOUND:
                    yield Finding(NOT_FOUND, finding.message, place, why=finding.why, fix=finding.fix)
            continue
        if kinds & {media.PROVIDER_CONFIG, media.PROVIDER_LAYER}:
            message, why, fix = native_code(image)
            yield Finding(NATIVE, message, place, why=why, fix=fix)
        elif kinds & {media.WASM_CONFIG, media.WASM_LAYER, media.OLD_CONFIG, media.OLD_LAYER}:
            message = f"`{image}` is a Wasm component, not a provider"
            yield Finding(NOT_A_PROVIDER, message, place, fix="write  type: component")
