"""`trellis doctor`"""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path

import click

from trellis.failures import NOT_CONVERGED
from trellis.options import Where, lattice_options, output_option, where
from trellis.output import Output
from trellis.running import run

COLOURS = {"ok": "green", "absent": "bright_black", "problem": "red"}


@click.command
@click.option(
    "--fix", is_flag=True, help="Mend first what can be: install what actors here are built with, `cache gc`."
)
@output_option
@lattice_options
def command(fix: bool, nats: str | None, lattice: str | None, output: Output) -> int:
    """Look for what can be wrong with this machine, the project here and its lattice, and say what helps.

    Ends with 2 when there is a problem. What is absent is no problem: nothing here needs it.
    """
    return run(_examine(where(nats, lattice), output, fix))


async def _examine(place: Where, output: Output, fix: bool) -> int:
    from trellis.doctor import examined

    if fix:
        await _mend(place)
    lines = []
    async for line in examined(Path(), place):
        lines.append(line)
        if output.form != "json":
            said = f"{click.style(f'{line.state:<8}', fg=COLOURS[line.state])} {line.check:<18} {line.text}"
            output.next(asdict(line), f"{said}\n{'':<28}fix: {line.fix}" if line.fix else said)
    if output.form == "json":
        output.answer([asdict(line) for line in lines])
    return NOT_CONVERGED if any(line.state == "problem" for line in lines) else 0


async def _mend(place: Where) -> None:
    from trellis.doctor import examined, mend

    done: list[list[str]] = []
    async for line in examined(Path(), place):
        if line.mend and line.mend not in done:
            done.append(line.mend)
            click.echo(f"mending  {line.check}: {shlex.join(line.mend)}", err=True)
            if said := await mend(line):
                click.echo(said, err=True)
