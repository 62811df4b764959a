"""Several calls of one instance: `CALL ARG... then CALL ARG...`, where the argument `@1` is what the first returned.

`@2.name` and `@2[0]` are parts of what the second returned. None of it is JSON, so nothing else can be meant.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from lattice import Value
from trellis.failures import failure

THEN = "then"
_REFERENCE = re.compile(r"@(?P<step>[1-9]\d*)(?P<path>(?:\.[a-z0-9-]+|\[\d+\])*)")
_PART = re.compile(r"\.([a-z0-9-]+)|\[(\d+)\]")


@dataclass(frozen=True, slots=True)
class Step:
    """One call, as it is written: of `function`, with these arguments."""

    function: str
    texts: tuple[str, ...]


def steps(words: Iterable[str]) -> list[Step]:
    """The calls of a chain. Raises Failure when the last is missing."""
    calls: list[list[str]] = [[]]
    for word in words:
        if word == THEN and calls[-1]:
            calls.append([])
        else:
            calls[-1].append(word)
    if not calls[-1]:
        raise failure("TRL-CLI-001", f"no function is named behind the last `{THEN}`")
    return [Step(function, tuple(texts)) for function, *texts in calls]


def earlier(text: str, results: Sequence[Value]) -> Value:
    """What `text`, which begins with `@`, refers to among the results so far. Raises Failure."""
    reference = _REFERENCE.fullmatch(text)
    if reference is None:
        raise failure("TRL-CAL-002", f"`{text}` is not a result: write @1, @1[0] or @1.name")
    step = int(reference["step"])
    if step > len(results):
        raise failure("TRL-CAL-002", f"`{text}` is not there yet: {len(results)} calls come before this one")
    found: Any = results[step - 1]
    for name, index in _PART.findall(reference["path"]):
        try:
            found = found[name] if name else found[int(index)]
        except (LookupError, TypeError):
            raise failure("TRL-CAL-002", f"`{text}` is not there: what call {step} returned has no such part") from None
    return found
