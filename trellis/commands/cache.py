"""`trellis cache`"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trellis.options import output_option
from trellis.output import Output
from trellis.size import size

if TYPE_CHECKING:
    from actors.cache import Entry

SHORT = 12
"""Digits of a digest that are shown to people."""


@click.group
def command() -> None:
    """Show and clean up the cache of compiled code.

    Components are compiled once per machine, and kept. The cache stays below its limit by itself; nothing in it is
    needed: what is missing is compiled again.
    """


@command.command
@output_option
def ls(output: Output) -> None:
    """List what is kept, the last used first."""
    from actors.cache import default_directory, entries

    folder = default_directory()
    kept = [_described(entry) for entry in reversed(entries(folder))]
    total = sum(entry["size"] for entry in kept)
    output.answer({"directory": str(folder), "size": total, "entries": kept}, _lines(folder, total, kept))


def _lines(folder: Path, total: int, kept: Sequence[dict[str, Any]]) -> Iterator[str]:
    from trellis.show import columns, megabytes

    if not kept:
        yield f"nothing is kept in {folder}"
        return
    rows = [
        (
            entry["digest"][:SHORT],
            megabytes(entry["size"]),
            _age(entry["used"]),
            _compiler(entry),
            entry["source"],
        )
        for entry in kept
    ]
    yield from columns([("component", "size", "used", "wasmtime", "from"), *rows], right=frozenset({1, 2}))
    yield f"\n{len(kept)} in {folder}, {megabytes(total)}"
    if any(entry["stale"] for entry in kept):
        yield "next: trellis cache gc  removes what this wasmtime cannot load"


@command.command
@click.option("--max-size", type=size, metavar="SIZE", help="Keep no more than this, such as 2G.  [default: 4G]")
@click.option("--all", "everything", is_flag=True, help="Keep nothing.")
@output_option
def gc(max_size: int | None, everything: bool, output: Output) -> None:
    """Remove what this wasmtime cannot load, and then the longest unused until the rest fits.

    Components that run at this moment are not disturbed.
    """
    from actors.cache import LIMIT, collect, default_directory, entries
    from trellis.show import megabytes

    if everything and max_size is not None:
        raise click.UsageError("--all and --max-size are two different wishes; give one of them")
    folder = default_directory()
    removed = collect(0 if everything else LIMIT if max_size is None else max_size, folder)
    freed = sum(entry.size for entry in removed)
    left = entries(folder)
    rest = sum(entry.size for entry in left)
    digests = [entry.digest for entry in removed]
    said = f"{len(removed)} removed, {megabytes(freed)} freed; {len(left)} left, {megabytes(rest)}"
    output.answer({"removed": digests, "freed": freed, "left": len(left), "size": rest}, [said])


def _described(entry: Entry) -> dict[str, Any]:
    about = entry.about()
    return {
        "digest": entry.digest,
        "source": about.source,
        "size": entry.size,
        "used": round(entry.used, 3),
        "wasmtime": about.wasmtime,
        "stale": about.wasmtime != version("wasmtime"),
    }


def _compiler(entry: dict[str, Any]) -> str:
    text = entry["wasmtime"] or "unknown"
    return click.style(text, fg="yellow") if entry["stale"] else text


def _age(used: float) -> str:
    """`40 s`, `5 m`, `3 h`, `2 d`: how long ago."""
    seconds = max(0.0, time.time() - used)
    for unit, name in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} s"
