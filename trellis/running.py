"""Running a verb's coroutine, and being told to stop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from trellis.failures import DETACHED
from trellis.logs import configure

T = TypeVar("T")

SLOW = 1.0
"""Seconds after which it is said what takes so long."""

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a verb that speaks for itself: of what is logged beneath it, only errors show.

    Ctrl-C cancels it, and is raised as KeyboardInterrupt when its cleanup is done.
    """
    configure("text", "error")
    return asyncio.run(work)


def run_detachable(work: Coroutine[Any, Any, T]) -> T:
    """Run a verb that waits for what goes on without it: Ctrl-C lets go, and says how to look at it again."""
    try:
        return run(work)
    except KeyboardInterrupt:
        click.echo("detached: the manager goes on. next: trellis status -w", err=True)
        raise click.exceptions.Exit(DETACHED) from None


def run_for_long(work: Coroutine[Any, Any, T]) -> T:
    """Run a process that stays and has much to do: on uvloop where that is installed (the extra `fast`)."""
    try:
        from uvloop import new_event_loop
    except ImportError:
        return asyncio.run(work)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(work)


@contextmanager
def told_if_slow(tell: Callable[[], object]) -> Iterator[None]:
    """Have it told what is being done when the block is still at it after SLOW seconds."""
    timer = asyncio.get_running_loop().call_later(SLOW, tell)
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def told_to_stop(stop: Callable[[], None]) -> Iterator[None]:
    """Within the block, these signals call `stop`. A second one while stopping ends the process at once.

    SIGHUP is that the terminal is gone, unless whoever started us said not to mind it, as nohup does.
    """
    loop = asyncio.get_running_loop()
    heeded = [number for number in STOPPING if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]

    def heed_none() -> None:
        for number in heeded:
            loop.remove_signal_handler(number)

    def first() -> None:
        heed_none()
        stop()

    for number in heeded:
        loop.add_signal_handler(number, first)
    try:
        yield
    finally:
        heed_none()
