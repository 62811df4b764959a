"""What of a manifest can be read: fields that are missing, unknown, or hold something else than they should."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, get_args, get_origin

from pydantic import AliasChoices, BaseModel, ValidationError
from pydantic.fields import FieldInfo

from wadm.checker import Checker, did_you_mean, quoted
from wadm.manifest import (
    COMPONENT_TYPES,
    LINK,
    ROLLOUT,
    TRAITS,
    Component,
    Link,
    Manifest,
    Metadata,
    Properties,
    Rollout,
    Scaler,
    Spec,
    Strict,
    Trait,
)
from wadm.source import Path

M = TypeVar("M", bound=BaseModel)

_WANTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "dict_type": "a map (`key: value` lines)",
    "list_type": "a list (lines that begin with `- `)",
    "model_type": "a map (`key: value` lines)",
    "model_attributes_type": "a map (`key: value` lines)",
}


@dataclass(slots=True)
class Part:
    """One entry of `spec.components`: the raw data, and what of it could be understood."""

    path: Path
    raw: dict[str, Any]
    name: str
    type: str
    properties: Properties | None = None
    scalers: list[tuple[Path, str, Scaler | None]] = field(default_factory=list)
    links: list[tuple[Path, Link]] = field(default_factory=list)


class Shape(Checker):
    """Holds data against the models of `wadm.manifest`."""

    def shape(self, model: type[M], data: Any, path: Path, *, skip: bool = False) -> M | None:
        """`data` as `model`, or None and findings. With `skip`, `spec.components` is somebody else's to report."""
        self.unknown(model, data, path, skip=skip)
        try:
            return model.model_validate(data)
        except ValidationError as error:
            for problem in error.errors():
                loc = tuple(problem["loc"])
                if problem["type"] == "extra_forbidden" or (
                    skip and loc[:2] == ("spec", "components") and len(loc) > 2
                ):
                    continue
                self.misshapen(model, path, loc, problem["type"], problem.get("input"), str(problem["msg"]))
            return None

    def misshapen(self, model: type[BaseModel], base: Path, loc: Path, kind: str, given: Any, message: str) -> None:
        path = (*base, *loc)
        name = str(path[-1]) if path else "this"
        if kind == "missing":
            owner = _model_at(model, loc[:-1])
            self.report(
                "006",
                f"missing field `{name}`",
                path[:-1],
                key=True,
                why=_accepts(owner, path[:-1]) if owner else "",
                fix=f"add `{name}:` here",
            )
        elif kind == "literal_error":
            self.report(
                "013",
                f"unknown component type `{given}`",
                path,
                hint=did_you_mean(str(given), COMPONENT_TYPES),
                why="a component is a `component` (or `actor`: Wasm) or a `capability` (a provider)",
            )
        else:
            where = f"item {int(name) + 1} of `{path[-2]}`" if name.isdigit() and len(path) > 1 else f"`{name}`"
            wanted = _WANTED.get(kind)
            if wanted is None:
                self.report("007", f"{where}: {message}", path)
            else:
                fix = "put it in quotes" if wanted == "text" and isinstance(given, (int, float)) else ""
                self.report("007", f"{where} must be {wanted}, not {_called(given)}", path, fix=fix)

    def unknown(self, model: type[BaseModel], data: Any, path: Path, *, skip: bool = False) -> None:
        if not isinstance(data, dict):
            return
        fields = _fields(model)
        for key, value in data.items():
            if key.startswith("x-") and key not in fields:
                continue
            info = fields.get(key)
            if info is None:
                self.unknown_field(model, key, path, list(fields))
                continue
            if skip and model is Spec and key == "components":
                continue
            inner = _inner(info.annotation)
            if inner is None:
                continue
            for where, item in _items(value, (*path, key)):
                self.unknown(inner, item, where, skip=skip)

    def unknown_field(self, model: type[BaseModel], key: str, path: Path, fields: list[str]) -> None:
        strict = issubclass(model, Strict)
        hint = did_you_mean(key, fields)
        fix = "rename it" if hint else "remove it, or name it `x-...` to keep it as a note"
        if model in (Component, Trait):
            inner = Properties if model is Component else None
            deeper = set(_fields(inner)) if inner else {*_fields(Link), *_fields(Scaler)}
            if key in deeper:
                strict, hint, fix = True, "belongs under `properties`", "move it under `properties:`"
            elif model is Component and key in {"instances", "replicas", "spread"}:
                strict, hint = True, "belongs in a `spreadscaler` trait"
                fix = "add a trait with `type: spreadscaler` and put it under its `properties:`"
        self.report(
            "005",
            f"unknown field `{key}`",
            (*path, key),
            key=True,
            hint=hint,
            why=_accepts(model, path),
            fix=fix,
            level="error" if strict or hint else "warning",
        )

    def rollout(self, data: dict[str, Any]) -> Rollout | None:
        """What the annotations say of it; None where they cannot be read."""
        metadata = data.get("metadata")
        annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
        if not isinstance(annotations, dict):
            return None
        said = {key: value for key, value in annotations.items() if key.startswith(ROLLOUT)}
        return self.shape(Rollout, said, ("metadata", "annotations"))

    def parts(self, data: dict[str, Any]) -> list[Part] | None:
        """Each component that is at least a map; shape findings of every one of them."""
        spec = data.get("spec")
        listed = spec.get("components") if isinstance(spec, dict) else None
        if not isinstance(listed, list):
            return None
        found: list[Part] = []
        for index, raw in enumerate(listed):
            path: Path = ("spec", "components", index)
            component = self.shape(Component, raw, path)
            if not isinstance(raw, dict):
                continue
            part = Part(path, raw, str(raw.get("name") or ""), str(raw.get("type") or ""))
            part.properties = component.properties if component else quiet(Properties, raw.get("properties"))
            self.traits(part)
            found.append(part)
        return found

    def traits(self, part: Part) -> None:
        listed = part.raw.get("traits")
        for index, raw in enumerate(listed if isinstance(listed, list) else ()):
            path: Path = (*part.path, "traits", index)
            if not isinstance(raw, dict) or not isinstance(raw.get("type"), str):
                continue
            kind, properties = raw["type"], raw.get("properties")
            if kind not in TRAITS:
                if not kind.startswith("x-"):
                    hint = did_you_mean(kind, TRAITS)
                    self.report(
                        "014",
                        f"unknown trait `{kind}`; it is kept and does nothing",
                        (*path, "type"),
                        hint=hint,
                        why=f"the manager acts on {quoted(TRAITS)}",
                        fix="correct the name" if hint else "",
                        level="warning",
                    )
                continue
            if not isinstance(properties, dict):
                continue
            inside = (*path, "properties")
            if kind == LINK:
                link = self.shape(Link, properties, inside)
                if link is not None:
                    part.links.append((inside, link))
            else:
                part.scalers.append((inside, kind, self.shape(Scaler, properties, inside)))


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    found: dict[str, FieldInfo] = {}
    for name, info in model.model_fields.items():
        if isinstance(info.validation_alias, AliasChoices):
            for alias in info.validation_alias.choices:
                found[str(alias)] = info
        elif isinstance(info.validation_alias, str):
            found[info.validation_alias] = info
        else:
            found[name] = info
    return found


def _inner(annotation: Any) -> type[BaseModel] | None:
    """The model inside `Model`, `Model | None` or `list[Model]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (list, types.UnionType, typing.Union):
        return next((m for m in map(_inner, get_args(annotation)) if m is not None), None)
    return None


def _model_at(model: type[BaseModel], loc: Path) -> type[BaseModel] | None:
    found: type[BaseModel] | None = model
    for step in loc:
        if isinstance(step, int):
            continue
        info = _fields(found).get(step) if found else None
        found = _inner(info.annotation) if info else None
    return found


def _items(value: Any, path: Path) -> Iterable[tuple[Path, Any]]:
    if isinstance(value, list):
        return [((*path, index), item) for index, item in enumerate(value)]
    return [(path, value)]


_CALLED: Mapping[type[BaseModel], str] = {
    Manifest: "an application",
    Metadata: "`metadata`",
    Component: "a component",
    Trait: "a trait",
    Link: "a link",
    Scaler: "a scaler",
    Rollout: "a rollout",
}


def _accepts(model: type[BaseModel], path: Path) -> str:
    called = _CALLED.get(model)
    if called is None:
        names = [str(step) for step in path if isinstance(step, str)]
        called = f"`{names[-1]}`" if names else "this"
    return f"{called} accepts {', '.join(_fields(model))}"


def quiet(model: type[M], data: Any) -> M | None:
    try:
        return model.model_validate(data)
    except ValidationError:
        return None


def _called(value: Any) -> str:
    match value:
        case None:
            return "empty"
        case bool():
            return "a truth value"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
        case _:
            return "a map"
