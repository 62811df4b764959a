"""What is known of the providers that a manifest names: from their own classes, or from those of them that run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel

from lattice import BadInput, Finding
from providers import Provider
from providers.description import Description, describe
from providers.load import is_python, resolve
from providers.schema import model_of
from wadm.images import answered_by, local_file
from wadm.manifest import Component, Manifest
from wadm.source import Document


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


def _class_of(component: Component) -> type[Provider] | None:
    """The class behind a provider's image; None for what is not one of ours, a Python file, package or module."""
    image = component.properties.image or ""
    file = local_file(image)
    ours = answered_by(image) is not None
    if not component.capability or not (ours or image.startswith("python:") or (file and is_python(str(file)))):
        return None
    made = resolve(image)
    return made if isinstance(made, type) else None
