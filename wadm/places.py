"""Where a part of an application stands in its manifest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from wadm.manifest import DAEMONSCALER, LINK, SPREADSCALER
from wadm.source import Path


@dataclass(frozen=True, slots=True)
class Part:
    """A component by name; in it a spread, and one of its requirements, or the link to `target`.

    Without a component, a configuration of that name, wherever it is.
    """

    component: str
    spread: str = ""
    requirement: str = ""
    target: str = ""
    config: str = ""


def path_of(data: Any, part: Part) -> Path | None:
    """The path of `part` in a manifest's data, or of the nearest thing around it; None when it is not there."""
    if part.config:
        return next(_configs(data, (), part.config), None)
    for index, component in enumerate(_list(_get(_get(data, "spec"), "components"))):
        if _get(component, "name") != part.component:
            continue
        path: Path = ("spec", "components", index)
        for number, trait in enumerate(_list(_get(component, "traits"))):
            properties = _get(trait, "properties")
            at: Path = (*path, "traits", number, "properties")
            kind = _get(trait, "type")
            if part.target and kind == LINK and _target(properties) == part.target:
                return (*at, "target")
            if part.spread and kind in (SPREADSCALER, DAEMONSCALER):
                return _spread(properties, at, part)
        return (*path, "name")
    return None


def component_of(data: Any, name: str) -> Any:
    """What a manifest says of one component, but for its image; None when it has none of that name."""
    for component in _list(_get(_get(data, "spec"), "components")):
        if _get(component, "name") == name:
            properties = {k: v for k, v in (_get(component, "properties") or {}).items() if k != "image"}
            return {**component, "properties": properties}
    return None


def _spread(properties: Any, path: Path, part: Part) -> Path:
    for index, spread in enumerate(_list(_get(properties, "spread"))):
        if _get(spread, "name") == part.spread:
            at: Path = (*path, "spread", index)
            has = part.requirement and part.requirement in (_get(spread, "requirements") or {})
            return (*at, "requirements", part.requirement) if has else (*at, "name")
    return path


def _configs(data: Any, path: Path, name: str) -> Iterator[Path]:
    """Every place where a configuration of that name is listed."""
    if isinstance(data, dict):
        for key, value in data.items():
            if key in ("config", "source_config", "target_config"):
                for index, one in enumerate(_list(value)):
                    if _get(one, "name") == name:
                        yield (*path, key, index, "name")
            yield from _configs(value, (*path, key), name)
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from _configs(value, (*path, index), name)


def _target(properties: Any) -> Any:
    target = _get(properties, "target")
    return _get(target, "name") if isinstance(target, dict) else target


def _get(data: Any, key: str) -> Any:
    return data.get(key) if isinstance(data, dict) else None


def _list(data: Any) -> list[Any]:
    return data if isinstance(data, list) else []
