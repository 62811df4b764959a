"""`trellis tap`"""

from __future__ import annotations

import itertools
from contextlib import AsyncExitStack

import click

from trellis.options import Where, lattice_options, output_option, where
from trellis.output import Output
from trellis.running import run


class _Tap(click.Command):
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """What begins with an arrow is no option."""
        return super().parse_args(ctx, [f" {word}" if word.startswith("->") else word for word in args])


@click.command(cls=_Tap)
@click.argument("calls", required=False, default="", metavar="[SOURCE->TARGET]")
@click.option("--values", is_flag=True, help="Arguments and answers, too, cut short; secrets are hidden.")
@click.option("-n", "--count", type=click.IntRange(min=1), metavar="N", help="End after so many calls.")
@output_option
@lattice_options
def command(calls: str, values: bool, count: int | None, output: Output, nats: str | None, lattice: str | None) -> None:
    """Show calls as they end, on all hosts, until Ctrl-C: all, or those of one link.

    `api->redis` shows those whose source's id contains api and whose target's contains redis; `api->`, `->redis` and
    `redis` (on either side) leave out a part. As JSON, each is a line.
    """
    run(_tap(where(nats, lattice), calls, values, count, output))


async def _tap(place: Where, calls: str, values: bool, count: int | None, output: Output) -> None:
    from lattice.errors import Unreachable
    from lattice.tap import tapped
    from trellis.hosts import none_there
    from trellis.session import joined
    from trellis.tapping import Merged, Printer

    printer, shown = Printer(), itertools.count(1)
    async with joined(place, staying=True) as lattice, AsyncExitStack() as stack:
        try:
            told = await stack.enter_async_context(tapped(lattice, calls, values=values))
        except Unreachable as error:
            raise none_there(lattice) from error
        if output.text:
            click.echo(f"watching lattice {lattice.name} at {lattice.transport.url}", err=True)
        merged = Merged(told)
        try:
            async for call in merged:
                output.next(call.document(), printer.text(call))
                if next(shown) == count:
                    break
        finally:
            if merged.dropped:
                click.echo(f"{merged.dropped} more calls were not told: too many for a host to tell at once", err=True)
