"""What every part of the check has: the manifest's text, the findings so far, and words for them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any

from lattice import Finding
from wadm.source import Document, Path

NAME = re.compile(r"^[A-Za-z0-9_-]+\Z")


class Checker:
    """Adds to the findings of one manifest."""

    def __init__(self, document: Document, findings: list[Finding]) -> None:
        self.document = document
        self.findings = findings

    def report(
        self,
        code: str,
        message: str,
        path: Path,
        *,
        key: bool = False,
        hint: str = "",
        why: str = "",
        fix: str = "",
        level: str = "error",
    ) -> None:
        place = self.document.place(path, key=key)
        self.findings.append(Finding(f"TRL-MAN-{code}", message, place, hint=hint, why=why, fix=fix, level=level))

    def line(self, path: Path) -> int:
        return self.document.place(path).line

    def value(self, path: Path) -> Any:
        """What is written at `path`, which is there."""
        data = self.document.data
        for step in path:
            data = data[step]
        return data

    def bad_name(self, what: str, name: str, path: Path) -> None:
        better = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")
        self.report(
            "009",
            f"{what} name `{name}` has characters that it cannot have" if name else f"the {what} name is empty",
            path,
            hint=f"perhaps `{better}`?" if better else "",
            why="a name is letters, digits, `-` and `_`",
            fix="rename it",
        )


def is_name(text: str) -> bool:
    """Whether an application, a component or a configuration can be called so."""
    return NAME.match(text) is not None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The hint for a name that is nearly right, or ""."""
    names = list(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6) or [n for n in names if n.lower() == word.lower()]
    return f"did you mean `{close[0]}`?" if close else ""


def quoted(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)
