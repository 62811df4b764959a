"""One terminal for all: what is logged by whom, and keys."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any

import click
import structlog

COLOURS = ("cyan", "green", "magenta", "blue", "bright_cyan", "bright_green", "bright_magenta", "bright_blue")
LEVELS = {"warning": "yellow", "error": "red", "critical": "red"}
WIDTH = 16
"""Columns of a name."""

OWN = {"component.wrote": "line", "provider.wrote": "line", "guest.logged": "message"}
"""What actors and providers say themselves, by event: where it is."""


def renderer(least: int) -> Callable[[Any, str, MutableMapping[str, Any]], str]:
    """A structlog processor, the last one: the time, whose line it is, and what it says.

    Of what is not said by an actor or a provider itself, lines below the level `least` are dropped.
    """
    colours = sys.stdout.isatty()

    def rendered(_: Any, method: str, event: MutableMapping[str, Any]) -> str:
        said = str(event.pop("event"))
        if said not in OWN and getattr(logging, method.upper(), logging.ERROR) < least:
            raise structlog.DropEvent
        time, host, trace = event.pop("timestamp", ""), event.pop("host", ""), event.pop("exception", "")
        whose = [event.pop(kind, None) for kind in ("component", "provider", "actor")]
        who = next(filter(None, (*whose, host)), "manager")
        level = event.pop("level", "info")
        if said in OWN:
            said = str(event[OWN[said]])
        else:
            said = " ".join([said, *(f"{key}={value}" for key, value in event.items())])
        line = f"{time} {named(str(who))} {click.style(said, fg=LEVELS.get(level))}"
        line = f"{line}\n{trace}" if trace else line
        return line if colours else click.unstyle(line)

    return rendered


def named(who: str) -> str:
    """In a column, and in a colour that is the same each time."""
    return click.style(f"{who:<{WIDTH}}", fg=COLOURS[zlib.crc32(who.encode()) % len(COLOURS)])


def for_people() -> bool:
    """Whether somebody sits at this terminal, in front of this process."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()  # else it would stop us for touching it


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
