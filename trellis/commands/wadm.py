"""`trellis wadm start`"""

from __future__ import annotations

import asyncio

import click

from trellis.logs import Format, configure, log_options
from trellis.options import Where, lattice_options, liveness_option, sign_every, where
from trellis.running import run_for_long, told_to_stop


@click.group
def command() -> None:
    """Run the deployment manager, which makes the lattice what its apps' manifests say."""


@command.command
@lattice_options
@liveness_option
@log_options
def start(nats: str | None, lattice: str | None, dead_after: float, log_format: Format, log_level: str) -> None:
    """Manage a lattice, until SIGTERM or Ctrl-C."""
    configure(log_format, log_level, to_lattice=True)
    run_for_long(_manager(where(nats, lattice), dead_after))


async def _manager(place: Where, dead_after: float) -> None:
    from lattice.journal import Journal
    from lattice.lattice import Lattice
    from trellis.session import connected
    from wadm import Manager

    stopping = asyncio.Event()
    with told_to_stop(stopping.set):
        async with connected(place, "wadm") as transport:
            lattice = Lattice(place.lattice, transport)
            manager = Manager(lattice, dead_after=dead_after, tick=sign_every(dead_after))
            async with Journal(manager.id, "wadm").sending(lattice), manager:
                await stopping.wait()
