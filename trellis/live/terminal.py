"""One terminal for all: what is logged by whom, and keys."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any

import click
import structlog

from lattice import subjects
from lattice.journal import of_process
from lattice.lattice import Lattice
from lattice.transport import Message
from trellis.loglines import SHADES, Batches, Line, clock, coloured, said
from trellis.output import colourless

WIDTH = 16
"""Columns of a name."""

OWN = ("component.wrote", "provider.wrote", "guest.logged", "http.answered")
"""What is always shown: what actors and providers say themselves, and what was asked of them."""


def text(line: Line, least: int) -> str | None:
    """The time, whose line it is, and what it says; None for one that is not OWN and below the level `least`."""
    level = str(line.get("level"))
    if line["event"] not in OWN and getattr(logging, level.upper(), logging.ERROR) < least:
        return None
    who = str(line.get("component") or line.get("provider") or line.get("actor") or line.get("host") or "manager")
    words = (
        clock(line["time"], "seconds"),
        coloured(f"{who:<{WIDTH}}", who),
        click.style(said(line), fg=SHADES.get(level)),
    )
    return "\n".join([" ".join(words), *filter(None, [line.get("exception")])])


def renderer(least: int) -> Callable[[Any, str, MutableMapping[str, Any]], str]:
    """A structlog processor, the last one: each line as its `text`."""
    colours = sys.stdout.isatty() and not colourless()

    def rendered(_: Any, __: str, event: MutableMapping[str, Any]) -> str:
        shown = text(of_process(event) if event["event"] == "provider.wrote" else event, least)
        if shown is None:
            raise structlog.DropEvent
        return shown if colours else click.unstyle(shown)

    return rendered


async def show_logs(lattice: Lattice, least: int) -> None:
    """Print what its members log from now on, in processes of their own."""
    batches = Batches()

    def arrived(message: Message) -> None:
        for line in batches.lines(message.data):
            if shown := text(line, least):
                click.echo(shown)

    await lattice.transport.subscribe(subjects.logs(lattice.name, "*"), arrived)


def for_people() -> bool:
    """Whether somebody sits at this terminal, in front of this process."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()  # else it would stop us for touching it
    except OSError:
        return False  # a terminal that is not ours


@contextmanager
def keys(does: Mapping[str, Callable[[], object]]) -> Iterator[None]:
    """Within the block these keys do what they do, without Enter. The terminal is what it was when the block ends."""
    if not for_people():
        yield
        return
    import termios
    import tty

    loop, terminal = asyncio.get_running_loop(), sys.stdin.fileno()

    def read() -> None:
        data = os.read(terminal, 64)
        if not data:
            loop.remove_reader(terminal)  # it is gone
        for key in data.decode(errors="ignore"):
            if key in does:
                does[key]()

    before = termios.tcgetattr(terminal)
    tty.setcbreak(terminal)
    loop.add_reader(terminal, read)
    try:
        yield
    finally:
        loop.remove_reader(terminal)
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
