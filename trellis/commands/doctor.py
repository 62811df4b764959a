"""`trellis doctor`"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from trellis.failures import NOT_CONVERGED
from trellis.options import Where, lattice_options, output_option, where
from trellis.running import run

COLOURS = {"ok": "green", "absent": "bright_black", "problem": "red"}


@click.command
@output_option
@lattice_options
def command(nats: str | None, lattice: str | None, output: str) -> int:
    """Look for what can be wrong with this machine, the project here and its lattice, and say what helps.

    Ends with 2 when there is a problem. What is absent is no problem: nothing here needs it.
    """
    return run(_examine(where(nats, lattice), output))


async def _examine(place: Where, output: str) -> int:
    from trellis.doctor import examined

    lines = []
    async for line in examined(Path(), place):
        lines.append(line)
        if output == "text":
            click.echo(f"{click.style(f'{line.state:<8}', fg=COLOURS[line.state])} {line.check:<18} {line.text}")
            if line.fix:
                click.echo(f"{'':<28}fix: {line.fix}")
    if output == "json":
        click.echo(json.dumps([asdict(line) for line in lines], indent=1))
    return NOT_CONVERGED if any(line.state == "problem" for line in lines) else 0
