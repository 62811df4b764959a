"""`trellis context`"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from trellis import contexts
from trellis.options import DEFAULT_LATTICE, DEFAULT_NATS, given, output_option, place_options
from trellis.output import Output


@click.group
def command() -> None:
    """Keep the lattices that --context NAME reaches, and choose one to be meant where none is named.

    Each is a file, contexts/NAME.toml in the folder of Trellis's settings, of the form that --nats-config takes: where
    NATS is, how to log in there, and the name of the lattice.
    """


@command.command
@output_option
def ls(output: Output) -> None:
    """List them; the one in use has a star."""
    found = [_described(name) for name in contexts.names()]
    output.answer(found, _lines(found))


@command.command
@click.argument("name")
@click.option("--force", is_flag=True, help="Take the place of the one that has this name.")
@output_option
@place_options
def add(name: str, force: bool, output: Output, nats: str | None, lattice: str | None) -> None:
    """Keep what the options say as NAME.

    \b
    trellis context add prod --nats tls://nats.example.com --nats-creds prod.creds --lattice prod
    """
    from lattice.login import settings

    said = settings({**given(), "nats": nats, "lattice": lattice}, {})
    if said.nats.url is None:
        raise click.UsageError("--nats URL is missing: a context says where its NATS server is")
    file = contexts.write(name, said, force=force)
    output.answer(_described(name), [f"wrote {file}", f"next: trellis context use {name}"])


@command.command
@click.argument("name", metavar="NAME|-", shell_complete=contexts.complete)
@output_option
def use(name: str, output: Output) -> None:
    """Let verbs mean this one where neither options, nor the environment, nor a `trellis up` here name a lattice.

    `-` goes back to what was in use before.
    """
    now = contexts.use(name)
    said = f"{now} is in use" if now else "none is in use"
    output.answer({"in_use": now}, [said, "next: trellis status"])


@command.command
@click.argument("name", shell_complete=contexts.complete)
@output_option
def rm(name: str, output: Output) -> None:
    """Forget one."""
    contexts.remove(name)
    output.answer({"name": name, "removed": True}, [f"removed {name}"])


def _described(name: str) -> dict[str, Any]:
    """Without secrets. Raises BadInput for a file that cannot be used."""
    from lattice.login import from_file
    from lattice.nats_transport import plain

    said = from_file(contexts.file_of(name))
    login = said.nats.login
    ways = {"user": login.user, "token": login.token and "...", "creds": login.creds, "nkey": login.nkey}
    return {
        "name": name,
        "in_use": name == contexts.in_use(),
        "lattice": said.lattice or DEFAULT_LATTICE,
        "nats": plain(said.nats.url or DEFAULT_NATS),
        "login": ", ".join(f"{way} {value}" for way, value in ways.items() if value),
    }


def _lines(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    from trellis.show import columns

    rows = [["*" if one["in_use"] else "", one["name"], one["lattice"], one["nats"], one["login"]] for one in found]
    yield from columns(rows)
    if not found:
        yield "there is none. next: trellis context add NAME --nats URL"
