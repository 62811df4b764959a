"""Options that several verbs share, and where a verb finds its lattice."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_NATS = "nats://127.0.0.1:4222"
DEFAULT_LATTICE = "default"
STATE = Path(".trellis") / "up.json"
"""Written by `trellis up` into the project's folder, so that commands in other terminals find the lattice."""


def lattice_options(function: F) -> F:
    """`--lattice` and `--nats`."""
    function = click.option(
        "--nats",
        metavar="URL",
        help="The NATS server.  [default: $TRELLIS_NATS, else the running `trellis up`, else " + DEFAULT_NATS + "]",
    )(function)
    return click.option(
        "--lattice", metavar="NAME", help="The lattice.  [default: $TRELLIS_LATTICE, else `trellis up`'s, else default]"
    )(function)


def output_option(function: F) -> F:
    return click.option(
        "-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True, help="How to print."
    )(function)


def timeout_option(seconds: float) -> Callable[[F], F]:
    return click.option(
        "--timeout", type=click.FloatRange(min=0), default=seconds, show_default=True, metavar="SECONDS",
        help="How long to wait.",
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Where:
    """A lattice to talk to, and what said so."""

    nats: str
    lattice: str
    said: str
    """`--nats`, `$TRELLIS_NATS`, the state file of `trellis up`, or "" for the default."""


def where(nats: str | None, lattice: str | None, start: Path | None = None) -> Where:
    """The options, else the environment, else the nearest running `trellis up`, else the defaults."""
    running = find_state(start or Path.cwd())
    lattice = lattice or os.environ.get("TRELLIS_LATTICE") or None
    if nats:
        return Where(nats, lattice or DEFAULT_LATTICE, "--nats")
    if url := os.environ.get("TRELLIS_NATS"):
        return Where(url, lattice or DEFAULT_LATTICE, "$TRELLIS_NATS")
    if running is not None:
        file, state = running
        return Where(state["nats"], lattice or state["lattice"], str(file))
    return Where(DEFAULT_NATS, lattice or DEFAULT_LATTICE, "")


def find_state(start: Path) -> tuple[Path, dict[str, Any]] | None:
    """The state file of a `trellis up` that still runs: in `start`, or the nearest folder above it that has one."""
    for folder in (start, *start.parents):
        file = folder / STATE
        try:
            state = json.loads(file.read_text())
            alive(int(state["pid"]))
            if isinstance(state["nats"], str) and isinstance(state["lattice"], str):
                return file, state
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def alive(pid: int) -> None:
    """Raises OSError when no process has this id."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        pass  # somebody else's: it is there
