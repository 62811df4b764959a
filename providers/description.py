"""What a provider says of itself before it runs: the functions it answers, and the configuration it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from lattice.types import function_text
from providers.exports import declared
from providers.provider import Provider


@dataclass(frozen=True, slots=True)
class Description:
    """`functions` by interface: with types where the WIT is declared, else by name. The other two are JSON Schemas, or
    None where any keys are taken."""

    summary: str
    functions: dict[str, list[str]]
    config: dict[str, Any] | None
    link_config: dict[str, Any] | None


def describe(kind: type[Provider]) -> Description:
    wit = declared(kind) or {}
    functions: dict[str, list[str]] = {}
    for key in sorted(kind.exports):
        function = kind.exports[key].function
        interface = wit.get(function.interface)
        typed = function_text(function.name, interface.functions[function.name]) if interface else function.name
        functions.setdefault(function.interface, []).append(typed)
    return Description(_summary(kind), functions, _schema(kind.settings_model), _schema(kind.link_config))


def _summary(kind: type[Provider]) -> str:
    return (kind.__doc__ or kind.__name__).strip().partition("\n")[0]


def _schema(model: type[BaseModel] | None) -> dict[str, Any] | None:
    return None if model is None else model.model_json_schema()
