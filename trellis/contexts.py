"""Contexts: files that say how to reach a lattice (`lattice.login`), each called by its name, and which is in use."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trellis.failures import failure

if TYPE_CHECKING:
    from lattice.login import Settings

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_IN_USE = "in-use"
"""The file with the name of the one in use, and in its second line that of the one before; each may be empty."""


def folder() -> Path:
    """Where they are: the user's folder for settings, `~/.config/trellis/contexts` on Linux."""
    return Path(click.get_app_dir("trellis")) / "contexts"


def names() -> list[str]:
    return sorted(file.stem for file in folder().glob("*.toml"))


def file_of(name: str) -> Path:
    """Raises Failure when there is no such context."""
    known = names()
    if name in known:
        return folder() / f"{name}.toml"
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean `{close[0]}`?" if close else f": there is no {folder() / f'{name}.toml'}"
    raise failure("TRL-CLI-001", f"there is no context `{name}`{hint}", fix="trellis context ls")


def complete(_: click.Context, __: click.Parameter, begun: str) -> list[str]:
    """For shells."""
    return [name for name in names() if name.startswith(begun)]


def write(name: str, said: Settings, *, force: bool) -> Path:
    """Make a context, readable by its owner alone: it may hold a password. Raises Failure."""
    from lattice.login import to_text

    file = folder() / f"{name}.toml"
    if not _NAME.fullmatch(name):
        raise failure("TRL-CLI-001", f"`{name}` cannot name a context", fix="use letters, digits, `.`, `-` and `_`")
    if file.exists() and not force:
        raise failure("TRL-NEW-001", f"{file} is there already", fix="choose another name, or give --force")
    _write(file, to_text(said))
    return file


def remove(name: str) -> None:
    """Raises Failure when there is no such context."""
    file_of(name).unlink()
    now, before = _used()
    _write(folder() / _IN_USE, f"{'' if now == name else now}\n{'' if before == name else before}\n")


def in_use() -> str | None:
    return _used()[0] or None


def use(name: str) -> str | None:
    """Use a context, or with `-` what was in use before; which is now. Raises Failure when there is no such one."""
    now, before = _used()
    chosen = before if name == "-" else name
    if chosen:
        file_of(chosen)
    if chosen != now:
        _write(folder() / _IN_USE, f"{chosen}\n{now}\n")
    return chosen or None


def _used() -> tuple[str, str]:
    try:
        now, before, *_ = [*(folder() / _IN_USE).read_text(encoding="utf-8").splitlines(), "", ""]
    except OSError:
        return "", ""
    return now, before


def _write(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(file, "w", encoding="utf-8", opener=_private) as opened:
            opened.write(text)
    except OSError as error:
        raise failure("TRL-CLI-002", f"{file} cannot be written: {error.strerror}") from error


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
