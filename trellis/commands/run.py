"""`trellis run`"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from trellis.failures import USER_ERROR
from trellis.local import Granted, alone, exports_or_fail, grant_options, guest_failed, run_locally, wasm_argument


@click.command
@wasm_argument
@click.argument("arguments", metavar="[-- ARG...]", nargs=-1, type=click.UNPROCESSED)
@grant_options(None)
def command(file: Path, arguments: tuple[str, ...], granted: Granted) -> int:
    """Run a command (a component of wasi:cli) in this terminal, and exit with its exit code.

    It has the standard streams of this process, and of everything else only what is granted.

    \b
    trellis run app.wasm -- --verbose input.txt
    trellis run app.wasm --dir .::/:rw --env LANG=en < input.txt
    """
    return run_locally(run_command(file, replace(granted, arguments=(file.name, *arguments))))


async def run_command(file: Path, granted: Granted) -> int:
    """Run it to its end; its exit code. Raises Failure or BadInput, and BrokenPipeError when nobody listens to it."""
    from actors.stdio import FileSink, Stdio
    from actors.wasi import Exited
    from lattice import EntityId, Function, Invocation, LatticeError, WitError

    stdio = Stdio.of()
    async with alone(file, granted, on_line=None, stdio=stdio) as actor:
        exports_or_fail(
            actor,
            file,
            "wasi:cli/run",
            what="a command",
            otherwise={"wasi:http/incoming-handler": f"trellis serve {file}"},
        )
        try:
            await actor.handle(Invocation(EntityId(actor.id), Function("wasi:cli/run", "run")))
        except WitError as error:
            exited = error.__cause__ and error.__cause__.__cause__
            return exited.code if isinstance(exited, Exited) else USER_ERROR
        except LatticeError as error:
            if isinstance(stdio.stdout, FileSink) and stdio.stdout.broken:
                raise BrokenPipeError from error
            raise guest_failed(error) from error
    return 0
