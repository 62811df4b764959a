"""`trellis secret`"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trellis.failures import failure
from trellis.options import Where, lattice_options, output_option, where
from trellis.output import Output
from trellis.running import run

if TYPE_CHECKING:
    from lattice.secrets import SecretValue


@click.group
def command() -> None:
    """Keep secrets on the lattice, sealed for the hosts that hold the key.

    Components name them in their manifest, with a policy whose backend is `nats-kv`.
    """


@command.command
@click.argument("file", type=click.Path(path_type=Path))
@output_option
def keygen(file: Path, output: Output) -> None:
    """Make a key. FILE is for hosts (--secrets-key); what is printed seals, and may be known to anybody."""
    from providers.secrets.nats import Keys

    made = Keys.generate()
    try:
        with open(file, "x", opener=_private) as opened:
            opened.write(made + "\n")
    except OSError as error:
        raise failure("TRL-CLI-001", f"cannot write {file}: {error.strerror}", fix="name a new file") from error
    public = Keys.parse(made).public
    output.answer({"file": str(file), "public": public}, [public])


def _private(path: str, flags: int) -> int:
    import os

    return os.open(path, flags, 0o600)


@command.command
@click.argument("name")
@click.option("--key", "public", required=True, envvar="TRELLIS_SECRETS_PUBLIC_KEY", help="What keygen printed.")
@click.option("--file", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Take the value from here.")
@click.option("--version", help="Keep this version, too, when the secret is put again.")
@output_option
@lattice_options
def put(
    name: str,
    public: str,
    file: Path | None,
    version: str | None,
    output: Output,
    nats: str | None,
    lattice: str | None,
) -> None:
    """Keep a secret. Its value is asked for, or comes from standard input: never from the command line."""
    if file is not None:
        data = file.read_bytes()
    elif sys.stdin.isatty():
        data = click.prompt("value", hide_input=True).encode()
    else:
        data = sys.stdin.buffer.read()
    try:
        value: SecretValue = data.decode()
    except UnicodeDecodeError:
        value = data
    run(_put(where(nats, lattice), public, name, value, version))
    output.answer({"name": name, "version": version}, [f"put {name}"])


@command.command
@output_option
@lattice_options
def ls(output: Output, nats: str | None, lattice: str | None) -> None:
    """List the names of the secrets."""
    names = run(_names(where(nats, lattice)))
    output.answer(names, names or ["no secrets"])


@command.command("del")
@click.argument("name")
@output_option
@lattice_options
def delete(name: str, output: Output, nats: str | None, lattice: str | None) -> None:
    """Forget a secret, with all its versions. One that is not there is no error."""
    run(_delete(where(nats, lattice), name))
    output.answer({"name": name, "deleted": True}, [f"deleted {name}"])


async def _put(place: Where, public: str, name: str, value: SecretValue, version: str | None) -> None:
    from providers.secrets.nats import put, secrets_of
    from trellis.session import joined

    async with joined(place) as lattice:
        await put(await secrets_of(lattice), public, name, value, version=version)


async def _names(place: Where) -> list[str]:
    from providers.secrets.nats import names, secrets_of
    from trellis.session import joined

    async with joined(place) as lattice:
        return await names(await secrets_of(lattice))


async def _delete(place: Where, name: str) -> None:
    from providers.secrets.nats import delete, secrets_of
    from trellis.session import joined

    async with joined(place) as lattice:
        await delete(await secrets_of(lattice), name)
