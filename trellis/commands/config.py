"""`trellis config`"""

from __future__ import annotations

import re

import click

from trellis.failures import failure
from trellis.options import Where, lattice_options, output_option, where
from trellis.output import Output
from trellis.running import run

NAME = re.compile(r"[A-Za-z0-9_=/-]+")


@click.group
def command() -> None:
    """Show and change the lattice's named configurations.

    They are stored in plain text and readable by everybody on the lattice: passwords belong elsewhere.
    """


@command.command
@click.argument("name", required=False)
@output_option
@lattice_options
def get(name: str | None, output: Output, nats: str | None, lattice: str | None) -> None:
    """Show one configuration, or the names of all."""
    if name is None:
        names = run(_names(where(nats, lattice)))
        output.answer(names, names or ["no configurations"])
        return
    from trellis.hosts import ask

    wanted = named(name)
    values = run(ask(where(nats, lattice), lambda client: client.config(wanted)))
    if values is None:
        raise failure("TRL-CFG-001", f"configuration `{name}` is not on the lattice", fix="trellis config get")
    output.answer(values, [f"{key}={value}" for key, value in values.items()])


@command.command
@click.argument("name")
@click.argument("pairs", metavar="KEY=VALUE", nargs=-1, required=True)
@output_option
@lattice_options
def put(name: str, pairs: tuple[str, ...], output: Output, nats: str | None, lattice: str | None) -> None:
    """Set a configuration as a whole: keys that are not given are gone."""
    values: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key or key in values:
            raise failure("TRL-CLI-001", f"`{pair}` is not KEY=VALUE, or says a key twice", fix="such as level=debug")
        values[key] = value
    from trellis.hosts import ask

    named(name)
    run(ask(where(nats, lattice), lambda client: client.put_config(name, values)))
    output.answer({"name": name, "values": values}, [f"put {name}: {', '.join(values)}"])


@command.command("del")
@click.argument("name")
@output_option
@lattice_options
def delete(name: str, output: Output, nats: str | None, lattice: str | None) -> None:
    """Delete a configuration. One that is not there is no error."""
    from trellis.hosts import ask

    named(name)
    run(ask(where(nats, lattice), lambda client: client.delete_config(name)))
    output.answer({"name": name, "deleted": True}, [f"deleted {name}"])


def named(name: str) -> str:
    """`name`, which must be one token of a subject. Raises Failure."""
    if not NAME.fullmatch(name):
        raise failure("TRL-CLI-001", f"`{name}` cannot name a configuration", fix="use letters, digits, - and _")
    return name


async def _names(place: Where) -> list[str]:
    from trellis.session import joined

    async with joined(place) as lattice:
        return sorted(await (await lattice.config_data()).keys())
