"""Configuration as people write it (strings by name) into a model, with every mistake named at once."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import structlog
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretBytes, SecretStr, ValidationError

from lattice import BadInput, Finding

Model = TypeVar("Model", bound=BaseModel)

NEAR = 0.75
"""How alike (0 to 1) an unknown key must be to a known one to be a slip of the pen."""

log = structlog.get_logger("providers")


class LinkLimits(BaseModel):
    """Keys that every link's configuration has, whatever the provider."""

    model_config = ConfigDict(frozen=True)

    link_concurrency: int | None = Field(None, ge=1)
    """Calls answered at a time through this link, in place of what the provider's class says."""


@dataclass(frozen=True, slots=True)
class Read(Generic[Model]):
    """`model` is None when one of the findings is an error. Each finding goes with the key as it was written."""

    model: Model | None
    findings: tuple[tuple[str, Finding], ...]


def parse_config(model: type[Model], config: Mapping[str, str], *, of: str) -> Model:
    """`config` as a `model`. Keys are taken in any case, with `-` for `_`. `of` says whose it is, for the error.

    Raises BadInput with one finding per mistake. See `read_config` for keys that the model does not have.
    """
    read = read_config(model, config, of=of)
    if read.model is None:
        raise BadInput(*(finding for _, finding in read.findings if finding.level == "error"))
    for key, finding in read.findings:
        log.warning("config.key_unknown", of=of, key=key, said=finding.message)
    return read.model


def limits_apart(config: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """A link's configuration without what LinkLimits has, and that."""
    limits = {key: value for key, value in config.items() if _fold(key) in LinkLimits.model_fields}
    return {key: value for key, value in config.items() if key not in limits}, limits


def read_config(model: type[Model], config: Mapping[str, str], *, of: str) -> Read[Model]:
    """`config` as a `model`, or what is wrong with it.

    A key that the model does not have is an error; a warning when the model says `extra="ignore"` (as ours do, whose
    keys are wasmCloud's) and the key is not nearly one of its own; nothing when it says `extra="allow"`. The value of
    a secret is never repeated.
    """
    names = _names(model)
    lenient = model.model_config.get("extra")
    written: dict[str, str] = {}
    values: dict[str, Any] = {}
    findings: list[tuple[str, Finding]] = []
    for key, value in config.items():
        known = names.get(_fold(key))
        if known is None and lenient != "allow":
            findings.append((key, _unknown(key, config, names, of, lenient == "ignore")))
            continue
        values[known or key] = value
        written[known or key] = key
    made = None
    try:
        made = model.model_validate(values)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            key = ".".join(str(part) for part in detail["loc"])
            findings.append((written.get(key, key), _finding(detail, key, of, key in _secrets(model))))
    if any(finding.level == "error" for _, finding in findings):
        made = None
    return Read(made, tuple(findings))


def _fold(key: str) -> str:
    return key.strip().lower().replace("-", "_")


def _names(model: type[BaseModel]) -> dict[str, str]:
    """Every accepted spelling, folded, to the one that pydantic wants."""
    return {_fold(spelling): spelling for field in model.model_fields for spelling in reversed(spellings(model, field))}


def spellings(model: type[BaseModel], field: str) -> list[str]:
    """What a field may be called in a configuration; the first is its own name there."""
    alias = model.model_fields[field].validation_alias
    return [str(choice) for choice in alias.choices] if isinstance(alias, AliasChoices) else [str(alias or field)]


def _secrets(model: type[BaseModel]) -> set[str]:
    """The spellings of fields whose values must not be shown."""

    def secret(hint: Any) -> bool:
        return hint in (SecretStr, SecretBytes) or any(map(secret, typing.get_args(hint)))

    hidden = [name for name, info in model.model_fields.items() if not info.repr or secret(info.annotation)]
    return {spelling for field in hidden for spelling in (field, *spellings(model, field))}


def _unknown(key: str, config: Mapping[str, str], names: Mapping[str, str], of: str, lenient: bool) -> Finding:
    given = {_fold(other) for other in config}
    near = difflib.get_close_matches(_fold(key), [name for name in names if name not in given], n=1, cutoff=NEAR)
    return Finding(
        "TRL-CFG-002",
        f'{of}: "{key}" is not a key that it knows',
        hint=f'did you mean "{near[0]}"?' if near else "",
        why=f"it knows {', '.join(sorted(set(names.values())))}" if names else "it has no configuration",
        fix="correct the key" if near else "remove it",
        level="warning" if lenient and not near else "error",
    )


def _finding(detail: Any, key: str, of: str, secret: bool) -> Finding:
    if detail["type"] == "missing":
        return Finding("TRL-CFG-002", f'{of}: "{key}" is missing', fix=f'set "{key}" in the configuration')
    message = detail["msg"].removeprefix("Value error, ")
    what = f' "{key}"' if key else ""
    got = f" (got {detail['input']!r})" if isinstance(detail["input"], str) and not secret else ""
    return Finding("TRL-CFG-002", f"{of}:{what} {message[0].lower()}{message[1:]}{got}")
