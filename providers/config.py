"""Configuration as people write it (strings by name) into a model, with every mistake named at once."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, TypeVar

import structlog
from pydantic import AliasChoices, BaseModel, ValidationError

from lattice import BadInput, Finding

Model = TypeVar("Model", bound=BaseModel)

log = structlog.get_logger("providers")


def _fold(key: str) -> str:
    return key.strip().lower().replace("-", "_")


def _names(model: type[BaseModel]) -> dict[str, str]:
    """Every accepted spelling, folded, to the one that pydantic wants."""
    names: dict[str, str] = {}
    for field, info in model.model_fields.items():
        alias = info.validation_alias
        spellings = [str(c) for c in alias.choices] if isinstance(alias, AliasChoices) else [alias or field]
        for spelling in spellings:
            names.setdefault(_fold(str(spelling)), str(spelling))
    return names


def parse_config(model: type[Model], config: Mapping[str, str], *, of: str) -> Model:
    """`config` as a `model`. Keys are taken in any case, with `-` for `_`. `of` says whose it is, for the error.

    Raises BadInput with one finding per mistake. A key that the model does not have, but nearly, is logged.
    """
    names = _names(model)
    values: dict[str, Any] = {}
    for key, value in config.items():
        folded = _fold(key)
        if folded not in names:
            near = difflib.get_close_matches(folded, names, n=1)
            if near:
                log.warning("config.key_unknown", of=of, key=key, meant=near[0])
        values[names.get(folded, key)] = value
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise BadInput(*(_finding(detail, of) for detail in error.errors(include_url=False))) from None


def _finding(detail: Any, of: str) -> Finding:
    key = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "missing":
        return Finding("TRL-CFG-002", f'{of}: "{key}" is missing', fix=f'set "{key}" in the configuration')
    message = detail["msg"].removeprefix("Value error, ")
    what = f' "{key}"' if key else ""
    got = f" (got {detail['input']!r})" if isinstance(detail["input"], str) else ""
    return Finding("TRL-CFG-002", f"{of}:{what} {message[0].lower()}{message[1:]}{got}")
