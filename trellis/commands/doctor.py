"""`trellis doctor`"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from trellis.failures import NOT_CONVERGED
from trellis.options import Where, lattice_options, output_option, where
from trellis.output import Output
from trellis.running import run

COLOURS = {"ok": "green", "absent": "bright_black", "problem": "red"}


@click.command
@output_option
@lattice_options
def command(nats: str | None, lattice: str | None, output: Output) -> int:
    """Look for what can be wrong with this machine, the project here and its lattice, and say what helps.

    Ends with 2 when there is a problem. What is absent is no problem: nothing here needs it.
    """
    return run(_examine(where(nats, lattice), output))


async def _examine(place: Where, output: Output) -> int:
    from trellis.doctor import examined

    lines = []
    async for line in examined(Path(), place):
        lines.append(line)
        if output.form != "json":
            said = f"{click.style(f'{line.state:<8}', fg=COLOURS[line.state])} {line.check:<18} {line.text}"
            output.next(asdict(line), f"{said}\n{'':<28}fix: {line.fix}" if line.fix else said)
    if output.form == "json":
        output.answer([asdict(line) for line in lines])
    return NOT_CONVERGED if any(line.state == "problem" for line in lines) else 0
