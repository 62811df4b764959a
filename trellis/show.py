"""How values are printed: columns, sizes, durations, paths."""

from __future__ import annotations

import math
import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

import click

STATE_COLOURS = {
    "ready": "green",
    "progressing": "cyan",
    "degraded": "yellow",
    "blocked": "red",
    "failed": "red",
    "stopped": "bright_black",
}


def columns(rows: Sequence[Sequence[str]], *, indent: str = "", right: frozenset[int] = frozenset()) -> list[str]:
    """Rows as lines with aligned columns, those numbered in `right` to the right; colours do not count.

    At a terminal that is too narrow, a row goes on below, further in.
    """
    widths: list[int] = []
    for row in rows:
        for index, cell in enumerate(row):
            if index == len(widths):
                widths.append(0)
            widths[index] = max(widths[index], len(click.unstyle(cell)))
    lines = []
    for row in rows:
        cells = []
        for index, cell in enumerate(row):
            gap = " " * (widths[index] - len(click.unstyle(cell)))
            cells.append(gap + cell if index in right else cell + gap)
        lines += folded((indent + "  ".join(cells)).rstrip(), indent + "    ")
    return lines


def width(stream: TextIO | None = None) -> float:
    """Columns of the terminal that `stream`, else stdout, is; without end where it is none."""
    stream = stream or sys.stdout  # None where it is closed
    return shutil.get_terminal_size().columns if stream is not None and stream.isatty() else math.inf


def folded(line: str, indent: str, stream: TextIO | None = None) -> list[str]:
    """`line`, broken where the terminal of `stream` ends; what follows is behind `indent`.

    It is broken between words, but not in what stands behind two spaces, a cell or a command, if a line can hold that.
    """
    room = width(stream)
    lines = [""]
    for cell in re.split(r"(?<=\S)(?=\s{2,}\S)", line):
        whole = len(click.unstyle(indent + cell.lstrip())) <= room
        for word in [cell] if whole else re.findall(r"\s*\S+", cell):
            if lines[-1] and len(click.unstyle(lines[-1] + word)) > room:
                lines.append(indent + word.lstrip())
            else:
                lines[-1] += word
    return lines


def state(word: str) -> str:
    return click.style(word, fg=STATE_COLOURS.get(word))


def indented(text: str, indent: str) -> str:
    """`text` with each line but its first behind `indent`: what was printed last comes in several."""
    return f"\n{indent}".join(text.splitlines())


def megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{size / 1e3:.1f} KB"


def clock(at: float) -> str:
    """`12:58:03.120` here, of seconds since 1970."""
    return datetime.fromtimestamp(at).astimezone().strftime("%H:%M:%S.%f")[:-3]


def seconds(duration: float) -> str:
    """`85 ms`, `1.24 s`, `2 m 05 s`"""
    if duration < 1:
        return f"{duration * 1000:.0f} ms"
    if duration < 60:
        return f"{duration:.2f} s"
    return f"{int(duration) // 60} m {int(duration) % 60:02} s"


def relative(path: Path) -> str:
    """`path` from the current folder when it is below it, else absolute."""
    try:
        return os.fspath(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return os.fspath(path)


def placed(component: Mapping[str, Any]) -> str:
    """`4/4  host-a 2  host-b 2`"""
    there = sorted((h["name"], h["running"]) for h in component["hosts"] if h["running"])
    hosts = [name if component["kind"] == "provider" else f"{name} {number}" for name, number in there]
    return "  ".join([f"{component['running']}/{component['wanted']}", *hosts])


def ends(link: Mapping[str, Any]) -> str:
    """`api -> store`: what people name a link by."""
    return f"{link['source']} -> {link['target']}"


def way(link: Mapping[str, Any]) -> str:
    """How the calls of a link travel, by the host they come from; "" where there is none."""
    ways = []
    if link["local"]:
        ways.append(f"in process on {', '.join(sorted(link['local']))}")
    if link["remote"]:
        ways.append(f"over the lattice from {', '.join(sorted(link['remote']))}")
    return "; ".join(ways)


def short(image: str) -> str:
    """`ghcr.io/acme/hello:0.1.0@sha256:...`, or a line that names some, with the first 12 digits of each digest."""
    return re.sub(r"(sha256:[0-9a-f]{12})[0-9a-f]{52}\b", r"\1", image)
