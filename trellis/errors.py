"""What the error codes mean: the tables of `docs/errors.md`, which the package brings along."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.resources import files

_ROW = re.compile(r"^\| (?P<code>TRL-[A-Z]+-\d{3}) \| (?P<meaning>.*?) \| (?P<fix>.*?) ?\|$")
_LINK = re.compile(r"\[([^]]+)\]\([^)]*\)")


@dataclass(frozen=True, slots=True)
class Explained:
    code: str
    meaning: str
    fix: str
    where: str
    """What one is doing when it comes: the heading that it is listed under."""


def explanations() -> dict[str, Explained]:
    """Every code that there is, in the order of the document."""
    found: dict[str, Explained] = {}
    heading = ""
    for line in (files("trellis") / "errors.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            heading = line.removeprefix("## ")
        elif row := _ROW.match(line):
            meaning, fix = (_LINK.sub(r"\1", row[column]) for column in ("meaning", "fix"))
            found[row["code"]] = Explained(row["code"], meaning, fix, heading)
    return found
