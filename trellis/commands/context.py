"""`trellis context`"""

from __future__ import annotations

import json

import click

from trellis.options import output_option


@click.group
def command() -> None:
    """Show the lattices that `--context NAME` reaches.

    Each is a file, contexts/NAME.toml in the folder of Trellis's settings, of the form that --nats-config takes.
    """


@command.command
@output_option
def ls(output: str) -> None:
    """List them."""
    from lattice.login import from_file
    from lattice.nats_transport import plain
    from trellis.contexts import file_of, folder, names
    from trellis.options import DEFAULT_LATTICE, DEFAULT_NATS
    from trellis.show import columns

    found = []
    for name in names():
        said = from_file(file_of(name))
        nats = plain(said.nats.url or DEFAULT_NATS)
        found.append({"name": name, "lattice": said.lattice or DEFAULT_LATTICE, "nats": nats})
    if output == "json":
        click.echo(json.dumps(found))
    elif found:
        click.echo("\n".join(columns([list(one.values()) for one in found])))
    else:
        click.echo(f"there is none: {folder()} has no file NAME.toml")
