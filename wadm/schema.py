"""The manifest's JSON Schema, for editors: generated from the models, so that it cannot say anything else than they do.

It accepts what the models accept, the deprecated spellings too (marked as such). What needs more than one place to see,
such as whether a link's target exists, only `wadm.validate` can say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from wadm.interfaces import KNOWN_INTERFACES
from wadm.manifest import (
    API_VERSION,
    DAEMONSCALER,
    KIND,
    LINK,
    SPREADSCALER,
    TRAITS,
    Link,
    LinkTarget,
    Manifest,
    Rollout,
    Scaler,
)

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def manifest_schema(
    components: Iterable[str] | None = None, interfaces: Mapping[tuple[str, str], Iterable[str]] | None = None
) -> dict[str, Any]:
    """The schema. With `components`, a link's target must be one of those names; `interfaces` ((namespace, package) ->
    names) are suggested besides the well-known ones."""
    schema = Manifest.model_json_schema()
    definitions: dict[str, Any] = schema["$defs"]
    for model in (Link, Scaler):
        its = model.model_json_schema()
        definitions |= its.pop("$defs", {})
        definitions[model.__name__] = its
    for part in (schema, *definitions.values()):
        _plain(part)
        part["patternProperties"] = {"^x-": True}
    annotations = definitions["Metadata"]["properties"]["annotations"]
    annotations["properties"] = {
        name: {key: value for key, value in field.items() if key not in ("default", "title")}
        for name, field in Rollout.model_json_schema()["properties"].items()
    }
    _accept_old_spellings(definitions)
    _read_traits(definitions)
    _suggest(definitions, interfaces or {})
    if components is not None:
        names = {"enum": sorted(components)}
        definitions["Link"]["properties"]["target"]["anyOf"][0] = names
        definitions["LinkTarget"]["properties"]["name"] = names
    schema["properties"]["apiVersion"]["default"] = API_VERSION
    schema["properties"]["kind"]["default"] = KIND
    return {"$schema": DIALECT, "title": "wasmCloud application manifest", **schema}


def _plain(part: dict[str, Any]) -> None:
    """Without pydantic's titles, which only repeat the fields' names, and its defaults, which are not worth writing."""
    part.pop("title", None)
    for field in part.get("properties", {}).values():
        field.pop("title", None)
        if field.get("default", ...) in (None, [], {}):
            del field["default"]


def _accept_old_spellings(definitions: dict[str, Any]) -> None:
    scaler = definitions["Scaler"]
    instances = scaler["properties"]["instances"]
    scaler["properties"]["replicas"] = {**instances, "deprecated": True, "description": "write `instances`"}
    scaler["required"] = [name for name in scaler["required"] if name != "instances"]
    scaler["oneOf"] = [{"required": ["instances"]}, {"required": ["replicas"]}]
    link = definitions["Link"]["properties"]
    target = link["target"]["description"]
    link["target"] = {"anyOf": [{"type": "string"}, {"$ref": f"#/$defs/{LinkTarget.__name__}"}], "description": target}
    for old, new in (("target_config", "target"), ("source_config", "source")):
        link[old] |= {"deprecated": True, "description": f"write `config` below `{new}`"}
    traits = definitions["Component"]["properties"]["traits"]
    said = traits.pop("description")
    definitions["Component"]["properties"]["traits"] = {"anyOf": [traits, {"type": "null"}], "description": said}


def _read_traits(definitions: dict[str, Any]) -> None:
    """A trait's properties depend on its type; one of a type that nobody knows is kept and does nothing."""
    trait = definitions["Trait"]
    trait["properties"]["type"] |= {"anyOf": [{"enum": list(TRAITS)}, {"type": "string"}]}
    homes: dict[str, type[BaseModel]] = {SPREADSCALER: Scaler, DAEMONSCALER: Scaler, LINK: Link}
    trait["allOf"] = [
        {
            "if": {"properties": {"type": {"const": kind}}},
            "then": {"properties": {"properties": {"$ref": f"#/$defs/{model.__name__}"}}},
        }
        for kind, model in homes.items()
    ]


def _suggest(definitions: dict[str, Any], more: Mapping[tuple[str, str], Iterable[str]]) -> None:
    """Names of WIT packages and interfaces: an unknown one is allowed, a known one is offered."""
    known: dict[tuple[str, str], set[str]] = {}
    for namespace, packages in KNOWN_INTERFACES.items():
        for package, names in packages.items():
            known.setdefault((namespace, package), set()).update(names)
    for key, added in more.items():
        known.setdefault(key, set()).update(added)
    link = definitions["Link"]

    def offer(names: Iterable[str]) -> dict[str, Any]:
        return {"anyOf": [{"enum": sorted(set(names))}, {"type": "string"}]}

    link["properties"]["namespace"] |= offer(namespace for namespace, _ in known)
    link["properties"]["package"] |= offer(package for _, package in known)
    link["allOf"] = [
        {
            "if": {"properties": {"namespace": {"const": namespace}, "package": {"const": package}}},
            "then": {"properties": {"interfaces": {"items": offer(names)}}},
        }
        for (namespace, package), names in sorted(known.items())
    ]
