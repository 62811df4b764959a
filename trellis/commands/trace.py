"""`trellis trace`"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

import click

from trellis.failures import failure
from trellis.options import Where, lattice_options, output_option, where
from trellis.output import Output
from trellis.running import run

if TYPE_CHECKING:
    from lattice.lattice import Lattice
    from lattice.traces import Seen
    from trellis.waterfall import Node

WIDTH = 24
"""Characters of a bar."""

_PARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-.*")


@click.command
@click.argument("id", required=False)
@click.option("-n", "--number", type=click.IntRange(1, 1000), default=20, show_default=True, metavar="N",
              help="Without an ID: list so many requests.")  # fmt: skip
@click.option("--slowest", is_flag=True, help="Without an ID: the slowest that are remembered, not the latest.")
@click.option("--failed", is_flag=True, help="Without an ID: only those that failed.")
@output_option
@lattice_options
def command(
    id: str | None, number: int, slowest: bool, failed: bool, output: Output, nats: str | None, lattice: str | None
) -> None:
    """Show where the time of one request went, across hosts; without an ID, list the latest requests.

    The ID is in the response's `x-trellis-trace` header and in the logs; its first digits will do. Each host
    remembers its last 20,000 calls.
    """
    place = where(nats, lattice)
    if id is None:
        run(_list(place, number, slowest, failed, output))
    else:
        run(_show(place, _digits(id), output))


def _digits(id: str) -> str:
    """Of a trace id, or of the one in a traceparent."""
    text = id.strip().lower()
    whole = _PARENT.fullmatch(text)
    digits = whole[1] if whole else text
    if not re.fullmatch("[0-9a-f]{1,32}", digits):
        raise failure(
            "TRL-TRC-001",
            f"`{id}` is no trace id",
            why="it has 32 hex digits",
            fix="trellis trace  lists some",
        )
    return digits


async def _list(place: Where, number: int, slowest: bool, failed: bool, output: Output) -> None:
    from lattice.traces import Question, recent
    from trellis.hosts import LISTENING
    from trellis.session import joined
    from trellis.waterfall import described

    question = Question(recent=number, order="slowest" if slowest else "latest", failed=failed)
    async with joined(place) as lattice:
        found = await recent(lattice, question, LISTENING)
        if not found:
            await _somebody(lattice)
    output.answer([described(*seen) for seen in found], _lines(found))


def _lines(found: list[Seen]) -> Iterator[str]:
    from trellis.show import clock, columns
    from trellis.waterfall import outcome, styled, took, what

    if not found:
        yield "no requests are remembered"
        return
    rows = [
        [clock(span.at), took(span.seconds), styled(what(span), span.failed), name, span.trace[:8], outcome(span)]
        for _, name, span in found
    ]
    yield from columns(rows, right=frozenset({1}))
    yield f"next: trellis trace {found[0].span.trace[:8]}"


async def _show(place: Where, digits: str, output: Output) -> None:
    from lattice.traces import spans_of
    from trellis.hosts import LISTENING
    from trellis.session import joined
    from trellis.waterfall import document, trees

    async with joined(place) as lattice:
        found, more = await spans_of(lattice, digits, LISTENING)
        if not found:
            await _somebody(lattice)
            raise failure(
                "TRL-TRC-002",
                f"no host remembers a trace that begins with {digits}",
                why="each remembers its last 20,000 calls, until it stops",
                fix="trellis trace  lists the latest requests;  trellis logs --trace  shows what was logged for one",
            )
    several = sorted({seen.span.trace for seen in found})
    if len(several) > 1:
        raise failure(
            "TRL-TRC-003",
            f"more than one trace begins with {digits}",
            why=", ".join(several[:5]) + (", ..." if len(several) > 5 else ""),
            fix="give more of its digits",
        )
    tops = trees(found)
    output.answer(document(tops), _waterfall(tops))
    if more:
        click.echo("there are more spans than a host can tell at once; some are missing", err=True)


async def _somebody(lattice: Lattice) -> None:
    """Raises Failure when there is no host at all."""
    from trellis.hosts import every, none_there

    if not await every(lattice):
        raise none_there(lattice)


def _waterfall(tops: list[Node]) -> Iterator[str]:
    from trellis.show import columns
    from trellis.waterfall import outcome, rows, styled, took

    first = tops[0].span
    whole = max(node.end for top in tops for _, node in top.walk())
    yield f"trace {first.trace}  {datetime.fromtimestamp(first.at).astimezone():%Y-%m-%d %H:%M:%S}  {took(whole)}"
    lines = []
    for row in rows(tops):
        span = row.span
        said = click.style(row.what, dim=True) if span is None else styled(row.what, span.failed)
        notes = "  ".join(filter(None, (row.where, "" if span is None else outcome(span, told=row.blamed))))
        lines.append([row.tree + said, took(row.seconds), _bar(row.start, row.seconds, whole), notes])
    yield from columns(lines, right=frozenset({1}))


def _bar(start: float, seconds: float, whole: float) -> str:
    scale = WIDTH / whole if whole else 0.0
    before = min(WIDTH - 1, int(start * scale))
    long = max(1, min(WIDTH - before, round((start + seconds) * scale) - before))
    return " " * before + "━" * long + " " * (WIDTH - before - long)
