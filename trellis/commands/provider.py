"""`trellis provider attach`"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trellis.failures import failure
from trellis.options import Where, lattice_options, output_option, where
from trellis.output import Output
from trellis.running import run, told_to_stop

if TYPE_CHECKING:
    from lattice import EntityId
    from lattice.lattice import Lattice


@click.group
def command() -> None:
    """Work on a capability provider."""


@command.command
@click.argument("file", metavar="FILE.py|FOLDER[:CLASS]")
@click.option("--id", "name", metavar="ID", help="Its id on the lattice.  [default: from the name of its class]")
@click.option("--config", multiple=True, metavar="NAME", help="A named configuration of the lattice, for the provider.")
@output_option
@lattice_options
def attach(
    file: str, name: str | None, config: tuple[str, ...], output: Output, nats: str | None, lattice: str | None
) -> None:
    """Run a provider here as a part of the lattice, until Ctrl-C; start it anew when its code changes.

    FOLDER is that of a package, with an __init__.py. Every Python file below it, or beside the FILE, is watched.

    Every link of the lattice that names its id is its own, with the configuration that the link has: links of a
    deployed app whose provider has `instances: 0`, or those made with `trellis link put`.
    """
    run(_attach(where(nats, lattice), file, name, list(config), output))


async def _attach(place: Where, file: str, name: str | None, config: list[str], output: Output) -> None:
    from structlog.contextvars import bind_contextvars

    from lattice.lattice import Lattice
    from providers.load import is_python, split_class
    from trellis.attaching import Attached
    from trellis.logs import configure
    from trellis.session import connected

    configure("merged" if output.text else "json", "info")  # what the provider writes is why people attach it
    path, _ = split_class(file)
    if not (Path(path).exists() and is_python(path)):
        raise failure("TRL-CLI-002", f"there is no provider at {path}: neither a Python file, nor a package's folder")
    source = Path(path).resolve()
    id = _id(file, name)
    bind_contextvars(provider=id)  # what is logged here is about it
    stopping = asyncio.Event()

    def say(what: str, text: str) -> None:
        output.next({"what": what, "text": text}, f"{what:<8} {text}")

    with told_to_stop(stopping.set):
        async with connected(place, f"attached {id}") as transport, Lattice(place.lattice, transport) as lattice:
            folder = source if source.is_dir() else source.parent
            provider = Attached(lattice, f"file://{source}{file[len(path) :]}", folder, id, config, say)
            async with provider.joined():
                await _tell(lattice, id, say)
                for link in provider.taken:
                    say("linked", str(link))
                click.echo("Ctrl-C ends it", err=True)
                following = asyncio.create_task(provider.follow())
                await stopping.wait()
                following.cancel()


def _id(file: str, name: str | None) -> EntityId:
    from lattice.names import entity_id
    from providers.load import default_id, resolve

    if name is None:
        kind = resolve(file)
        assert isinstance(kind, type)
        name = default_id(kind)
    try:
        return entity_id(name)
    except ValueError as error:
        raise failure("TRL-CLI-001", str(error)) from None


async def _tell(lattice: Lattice, id: EntityId, say: Callable[[str, str], None]) -> None:
    """Say which hosts run it as well, since they take some of the calls, or all."""
    from trellis.hosts import every, inventories

    hosts = await every(lattice)
    for host, inventory in (await inventories(lattice, hosts)).items():
        if any(one.id == id for one in inventory.providers):
            say("also on", f"{inventory.friendly_name} ({host}), where calls go, too; `instances: 0` ends that")
