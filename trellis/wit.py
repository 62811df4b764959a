"""The WIT of the standard interfaces, which comes with Trellis, and what a project has put beside its own."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from lattice import Finding
from trellis.failures import failure
from trellis.project import text_of

LOCK = "deps.lock"
"""Beside the folder deps: which packages are in it, and the digests of their files (TOML)."""

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


def package_in(file: Path) -> Package:
    """The package of somebody else's WIT. Raises Failure when the file names none, or cannot be read."""
    text = text_of(file)
    head = _PACKAGE.search(text)
    if head is None:
        raise failure("TRL-WIT-001", f"{file} names no package", fix="begin it with  package NAMESPACE:NAME@VERSION;")
    return Package(head[1], head[2], f"{head[1].replace(':', '-')}.wit", text)


def with_all_it_needs(first: Package) -> Iterator[Package]:
    """The package, and every one that it stands on, of those that come with Trellis."""
    waiting, seen = [first], set[str]()
    while waiting:
        one = waiting.pop()
        if one.name not in seen:
            seen.add(one.name)
            waiting += [packages()[name] for name in one.needs if name in packages()]
            yield one


def add(asked: str, folder: Path) -> list[Path]:
    """Put a package (its name, or a file) and all that it stands on into `folder`/deps; the files that were written.

    Their digests go into `folder`/deps.lock. A file that says something else already is left alone, and raises Failure
    before anything is written.
    """
    file = Path(asked)
    wanted = list(with_all_it_needs(package_in(file) if file.suffix == ".wit" and file.is_file() else package(asked)))
    texts = {folder / "deps" / one.file: one.text for one in wanted}
    for file, text in texts.items():
        if file.exists() and file.read_bytes() != text.encode():
            raise failure(
                "TRL-NEW-001", f"{file} is there already, and says something else", fix="remove it, or keep it"
            )
    written = [file for file in texts if not file.exists()]
    for file in written:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(texts[file], encoding="utf-8")
    (folder / LOCK).write_text(_lock({**_locked(folder), **_as_locked(wanted)}), encoding="utf-8")
    return sorted(written)


def named_by(world: str) -> dict[str, str]:
    """What `add` would write for the standard packages that the text of a world names: texts by path below wit/."""
    _, *wanted = with_all_it_needs(Package("", "", "", world))
    return {f"deps/{one.file}": one.text for one in wanted} | {LOCK: _lock(_as_locked(wanted))}


# -- the lock


@dataclass(frozen=True, slots=True)
class Locked:
    """What `deps.lock` says of a file in deps/."""

    package: str
    version: str
    sha256: str


def changed(folder: Path) -> list[Finding]:
    """What in `folder`/deps is not as `folder`/deps.lock says; without a lock there is nothing to hold it against.

    Raises Failure for a lock that cannot be read.
    """
    if not (folder / LOCK).is_file():
        return []
    locked, found = _locked(folder), []
    for name, one in locked.items():
        file = folder / "deps" / name
        again = f"remove it, then  trellis wit add {one.package}"
        if not file.is_file():
            found.append(Finding("TRL-WIT-001", f"{file} is missing; {folder / LOCK} has {one.package}", fix=again))
        elif _digest(file.read_bytes()) != one.sha256:
            found.append(Finding("TRL-WIT-001", f"{file} is not the {one.package}@{one.version} of {LOCK}", fix=again))
    for file in sorted((folder / "deps").glob("*.wit")):
        if file.name not in locked:
            fix = f"trellis wit add {file}  locks it"
            found.append(Finding("TRL-WIT-001", f"{file} is not in {folder / LOCK}", fix=fix, level="warning"))
    return found


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


def _locked(folder: Path) -> dict[str, Locked]:
    """By the name of the file."""
    file = folder / LOCK
    try:
        return {name: Locked(**one) for name, one in tomllib.loads(file.read_text(encoding="utf-8")).items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError) as error:
        fix = "remove it, then add the packages again"
        raise failure("TRL-WIT-001", f"{file} is not a lock file: {error}", fix=fix) from error


def _as_locked(wanted: Iterable[Package]) -> dict[str, Locked]:
    return {one.file: Locked(one.name, one.version, _digest(one.text.encode())) for one in wanted}


def _lock(locked: Mapping[str, Locked]) -> str:
    tables = [
        f'["{name}"]\npackage = "{one.package}"\nversion = "{one.version}"\nsha256 = "{one.sha256}"\n'
        for name, one in sorted(locked.items())
    ]
    head = "# What `trellis wit add` has put into deps/; `trellis wit check` holds the files against it.\n\n"
    return head + "\n".join(tables)
