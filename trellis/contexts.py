"""Contexts: files that say how to reach a lattice (`lattice.login`), each called by its name."""

from __future__ import annotations

import difflib
from pathlib import Path

import click


def folder() -> Path:
    """Where they are: the user's folder for settings, `~/.config/trellis/contexts` on Linux."""
    return Path(click.get_app_dir("trellis")) / "contexts"


def names() -> list[str]:
    return sorted(file.stem for file in folder().glob("*.toml"))


def file_of(name: str) -> Path:
    """Raises UsageError when there is no such context."""
    known = names()
    if name in known:
        return folder() / f"{name}.toml"
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean `{close[0]}`?" if close else f": there is no {folder() / f'{name}.toml'}"
    raise click.UsageError(f"there is no context `{name}`{hint}")
