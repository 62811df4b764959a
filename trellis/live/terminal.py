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

from lattice.journal import of_process
from trellis.loglines import SHADES, coloured, said
from trellis.output import colourless

WIDTH = 16
"""Columns of a name."""

OWN = ("component.wrote", "provider.wrote", "guest.logged", "http.answered")
"""What is always shown: what actors and providers say themselves, and what was asked of them."""


def renderer(least: int) -> Callable[[Any, str, MutableMapping[str, Any]], str]:
    """A structlog processor, the last one: the time, whose line it is, and what it says.

    Of what is not OWN, lines below the level `least` are dropped.
    """
    colours = sys.stdout.isatty() and not colourless()

    def rendered(_: Any, method: str, event: MutableMapping[str, Any]) -> str:
        if event["event"] not in OWN and getattr(logging, method.upper(), logging.ERROR) < least:
            raise structlog.DropEvent
        if event["event"] == "provider.wrote":
            event = of_process(event)
        who = event.get("component") or event.get("provider") or event.pop("actor", "") or event.get("host", "manager")
        text = click.style(said(event), fg=SHADES.get(event["level"]))
        line = "\n".join([f"{event['time']} {named(str(who))} {text}", *filter(None, [event.get("exception")])])
        return line if colours else click.unstyle(line)

    return rendered


def named(who: str) -> str:
    """In a column, and in a colour that is the same each time."""
    return coloured(f"{who:<{WIDTH}}", who)


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
