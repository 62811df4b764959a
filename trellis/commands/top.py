"""`trellis top`"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from trellis.options import Seconds, Where, lattice_options, output_option, where
from trellis.output import Output, redrawn
from trellis.running import run

if TYPE_CHECKING:
    from lattice.lattice import Lattice
    from trellis.rates import Moment

LISTENING = 0.3
"""Seconds that hosts have to answer, at most half of the interval."""


@click.command
@click.argument("app", required=False)
@click.option("-n", "--count", type=click.IntRange(min=1), metavar="N", help="End after so many looks.")
@click.option(
    "--interval", type=Seconds(min=0.1), default=1.0, show_default=True, metavar="SECONDS",
    help="Between two looks.",
)  # fmt: skip
@output_option
@lattice_options
def command(
    app: str | None, count: int | None, interval: float, output: Output, nats: str | None, lattice: str | None
) -> None:
    """Show what goes on: the load of each host, and the calls of each component and provider, of an app or of all.

    At a terminal, each look takes the place of the one before. As JSON, each is a line.
    """
    run(_top(where(nats, lattice), app, count, interval, output))


async def _top(place: Where, app: str | None, count: int | None, interval: float, output: Output) -> None:
    from trellis.hosts import none_there
    from trellis.rates import rates
    from trellis.session import joined

    loop = asyncio.get_running_loop()
    redraw = output.text and redrawn()
    async with joined(place, staying=True) as lattice:
        next_look = loop.time()
        before = await look(lattice, interval)
        if not before:
            raise none_there(lattice)
        for number in itertools.count(1):
            next_look += interval
            await asyncio.sleep(next_look - loop.time())
            now = await look(lattice, interval)
            found = {"lattice": lattice.name, **rates(before, now, app)}
            if redraw:
                click.clear()
            elif output.text and number > 1:
                click.echo()
            output.next(found, "\n".join(_lines(found)))
            if number == count:
                return
            before = now


async def look(lattice: Lattice, interval: float = 1.0) -> Moment:
    """What each host has counted so far, by name; of those that answer in time."""
    from pydantic import ValidationError

    from lattice import subjects
    from lattice.figures import Figures

    answers = await lattice.transport.gather(subjects.figures(lattice.name), b"", seconds=min(LISTENING, interval / 2))
    found = []
    for answer in answers:
        try:
            found.append(Figures.model_validate_json(answer.data))
        except ValidationError:
            continue  # of another version
    return {figures.id: figures for figures in sorted(found, key=lambda figures: (figures.name, figures.id))}


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    from trellis.show import columns

    yield click.style(f"lattice {found['lattice']}", bold=True)
    hosts = [["HOST", "CPU", "MEMORY", "CALLS/S", "IN HAND", "UP"], *map(_host, found["hosts"])]
    yield from columns(hosts, right=frozenset(range(1, 6)))
    if not found["parts"]:
        return
    yield ""
    head = ["", "KIND", "INSTANCES", "HOSTS", "CALLS/S", "FAILED", "P50", "P99", "IN HAND"]
    parts = [head, *map(_part, found["parts"])]
    yield from columns(parts, right=frozenset(range(2, 9)))


def _host(host: Mapping[str, Any]) -> list[str]:
    from trellis.show import megabytes, seconds

    cpu = "-" if host["cpu"] is None else f"{host['cpu']:.0%}"
    return [
        host["name"], cpu, megabytes(host["memory"]), _rate(host["rate"]), _in_hand(host), seconds(host["uptime"])
    ]  # fmt: skip


def _part(part: Mapping[str, Any]) -> list[str]:
    failed = f"{part['failed'] / part['calls']:.1%}" if part["calls"] else "-"
    return [
        part["id"],
        part["kind"],
        str(part["instances"]),
        str(len(part["hosts"])),
        _rate(part["rate"]),
        click.style(failed, fg="red") if part["failed"] else failed,
        _duration(part["p50"]),
        _duration(part["p99"]),
        _in_hand(part),
    ]


def _rate(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}"


def _in_hand(of: Mapping[str, Any]) -> str:
    """`3`, or `3+2` where two more wait in line."""
    if of["busy"] is None:
        return "-"
    return f"{of['busy']}+{of['waiting']}" if of["waiting"] else str(of["busy"])


def _duration(seconds: float | None) -> str:
    """`40 us`, `3.2 ms`, `1.2 s`"""
    if seconds is None:
        return "-"
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} us"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"
