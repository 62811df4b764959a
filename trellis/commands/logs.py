"""`trellis logs`"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from trellis.commands.events import USUAL, moment
from trellis.failures import failure
from trellis.logs import LEVELS
from trellis.options import Where, lattice_options, output_option, where
from trellis.output import Output
from trellis.running import run

if TYPE_CHECKING:
    from lattice.lattice import Lattice
    from trellis.loglines import Batches, Line, Wanted

TOGETHER = 5000
"""Lines that are held back to be put in order: those of several hosts arrive in batches."""


@click.command
@click.argument("app", required=False)
@click.option("-c", "--component", metavar="NAME", help="Only of this component or provider: its name, or its id.")
@click.option("--host", metavar="HOST", help="Only of this host: its name, or its id.")
@click.option(
    "--since", metavar="TIME", help="From then on: 90s, 10m, 2h, 1d ago, or a time. [default: 1h, none with -f]"
)
@click.option("--level", type=click.Choice(LEVELS), default="debug", help="The least that is shown.  [default: all]")
@click.option("--trace", metavar="ID", help="Only what belongs to this request: its trace id, or how that begins.")
@click.option("-f", "--follow", is_flag=True, help="Show what is logged from now on, until Ctrl-C.")
@click.option("-n", "--number", type=click.IntRange(min=1), metavar="N", help="End after so many lines.")
@output_option
@lattice_options
def command(
    app: str | None,
    component: str | None,
    host: str | None,
    since: str | None,
    level: str,
    trace: str | None,
    follow: bool,
    number: int | None,
    output: Output,
    nats: str | None,
    lattice: str | None,
) -> None:
    """Show what was logged on all hosts, of an app or of all; as JSON, each line is one.

    That is what components print and log, what providers' processes write, requests and their answers (where the HTTP
    server's access_log is on), and what hosts and managers say themselves. The lattice keeps it for a day.
    """
    from trellis.loglines import Wanted

    begin = moment(since) if since else None if follow else datetime.now(UTC) - USUAL
    run(_logs(where(nats, lattice), begin, follow, number, Wanted(app, component, host, level, trace), output))


async def _logs(
    place: Where, since: datetime | None, follow: bool, number: int | None, wanted: Wanted, output: Output
) -> None:
    from lattice import subjects
    from trellis.loglines import Batches, Printer
    from trellis.session import joined

    batches, printer, shown = Batches(), Printer(), itertools.count(1)
    arrived: asyncio.Queue[bytes] = asyncio.Queue()

    def enough(line: Line) -> bool:
        """Show it, if it is wanted; whether that was the last one."""
        if line not in wanted:
            return False
        output.next(line, printer.text(line))
        return next(shown) == number

    async with joined(place, staying=follow) as lattice:
        if follow:
            await lattice.transport.subscribe(subjects.logs(lattice.name, "*"), lambda m: arrived.put_nowait(m.data))
            await lattice.transport.flush()
        if since is not None:
            async for line in _in_order(lattice, since, batches):
                if enough(line):
                    return
        if output.text and (follow or next(shown) == 1):
            here = f"lattice {lattice.name} at {lattice.transport.url}"
            click.echo(
                f"listening to {here}" if follow else f"nothing that was asked for was logged on {here}", err=True
            )
        while follow:
            if any(enough(line) for line in batches.lines(await arrived.get())):
                return


async def _in_order(lattice: Lattice, since: datetime, batches: Batches) -> AsyncIterator[Line]:
    """What is kept since then, the oldest first. Raises Failure when nothing is kept."""
    from lattice.errors import LatticeError
    from lattice.history import logs_of
    from lattice.jetstream import JetStream, NotFound

    held: list[tuple[str, int, Line]] = []
    numbers = itertools.count()
    try:
        async for raw in logs_of(lattice.name).past(JetStream(lattice.transport), since):
            for line in batches.lines(raw):
                heapq.heappush(held, (line["time"], next(numbers), line))
                if len(held) > TOGETHER:
                    yield heapq.heappop(held)[2]
    except (NotFound, LatticeError) as error:
        raise failure(
            "TRL-LOG-001",
            f"nothing keeps what is logged on lattice `{lattice.name}`",
            why=f"hosts make the stream that does, where their NATS server has JetStream and their login may: {error}",
            fix="trellis logs -f  shows what is logged from now on",
        ) from error
    while held:
        yield heapq.heappop(held)[2]
