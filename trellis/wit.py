"""The WIT of the standard interfaces, which comes with Trellis."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from trellis.failures import failure

_PACKAGE = re.compile(r"^package ([a-z0-9:-]+)@([^;\s]+);", re.MULTILINE)
_REFERENCE = re.compile(r"\b([a-z][a-z0-9-]*:[a-z][a-z0-9-]*)/[a-z][a-z0-9-]*@")
_INTERFACE = re.compile(r"^interface ([a-z0-9-]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Package:
    name: str
    """`wasi:keyvalue`"""
    version: str
    file: str
    text: str

    @property
    def interfaces(self) -> list[str]:
        return _INTERFACE.findall(self.text)

    @property
    def needs(self) -> set[str]:
        """The packages that it names."""
        return set(_REFERENCE.findall(self.text)) - {self.name}

    def interface(self, name: str) -> str:
        """The text of one interface, with the comments before it. Raises KeyError."""
        found = re.search(
            rf"^(?:///.*\n)*interface {re.escape(name)} \{{\n.*?^\}}\n", self.text, re.MULTILINE | re.DOTALL
        )
        if found is None:
            raise KeyError(name)
        return found[0]


@cache
def packages() -> Mapping[str, Package]:
    """By name, in alphabetical order."""
    found = {}
    for file in (files("actors") / "wit" / "deps").iterdir():
        text = file.read_text(encoding="utf-8")
        if head := _PACKAGE.search(text):
            found[head[1]] = Package(head[1], head[2], file.name, text)
    return dict(sorted(found.items()))


def package(asked: str) -> Package:
    """`wasi:keyvalue`, or `keyvalue` alone. Raises Failure with those that there are."""
    known = packages()
    matching = [one for name, one in known.items() if asked in (name, name.partition(":")[2])]
    if len(matching) == 1:
        return matching[0]
    raise failure("TRL-CLI-001", f"there is no WIT package `{asked}` here", fix=f"there is: {', '.join(known)}")


def with_all_it_needs(name: str) -> Iterator[Package]:
    """The package, and every one that it stands on."""
    waiting, seen = [name], set[str]()
    while waiting:
        one = packages()[waiting.pop()]
        if one.name not in seen:
            seen.add(one.name)
            waiting += one.needs
            yield one


def add(asked: str, folder: Path) -> list[Path]:
    """Put the package and all that it stands on into `folder`/deps; the files that were written.

    A file that says something else already is left alone, and raises Failure before anything is written.
    """
    wanted = {folder / "deps" / one.file: one.text for one in with_all_it_needs(package(asked).name)}
    for file, text in wanted.items():
        if file.exists() and file.read_text(encoding="utf-8") != text:
            raise failure(
                "TRL-NEW-001", f"{file} is there already, and says something else", fix="remove it, or keep it"
            )
    written = [file for file in wanted if not file.exists()]
    for file in written:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(wanted[file], encoding="utf-8")
    return sorted(written)
