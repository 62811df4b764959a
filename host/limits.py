"""What a component may use: what it asks for, and never more than its host has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import structlog

from actors import Limits
from lattice import BadInput, EntityId, Finding
from lattice.control import LIMIT_KEYS

log = structlog.get_logger("host")


def with_limits(limits: Limits, numbers: Mapping[str, int]) -> Limits:
    """`limits` with some of them replaced: by their names in manifests, `time` in milliseconds."""
    fields: dict[str, Any] = dict(numbers)
    if (milliseconds := fields.pop("time", None)) is not None:
        fields["execution"] = milliseconds / 1000
    return replace(limits, **fields)


def limited(id: EntityId, asked: Mapping[str, str], ceilings: Limits) -> Limits:
    """`ceilings`, lowered by what `asked` (`component_limits` of the control interface) has of them.

    Raises BadInput for a limit that is none, and for one of fuel where the host counts none.
    """
    numbers: dict[str, int] = {}
    findings: list[Finding] = []
    for name, key in LIMIT_KEYS.items():
        text = asked.get(key)
        if text is None:
            continue
        if not text.isdecimal() or int(text) == 0:
            why = "it must be a whole number above zero"
            findings.append(Finding("TRL-LIM-001", f"{key} is {text!r}", why=why))
            continue
        number = int(text)
        ceiling = round(ceilings.execution * 1000) if name == "time" else getattr(ceilings, name)
        if ceiling is None:
            what = f'"{id}" has a limit of {name}, which this host does not count'
            fix = f"start the host with  --limit {name}={text}  or leave the limit out"
            findings.append(Finding("TRL-LIM-001", what, fix=fix))
            continue
        if number > ceiling:
            log.warning("component.limit_lowered", component=id, limit=name, asked=number, ceiling=ceiling)
        numbers[name] = min(number, ceiling)
    if findings:
        raise BadInput(*findings)
    return with_limits(ceilings, numbers)
