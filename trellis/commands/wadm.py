"""`trellis wadm start`"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import click

from trellis.logs import Format, configure, log_options
from trellis.options import Where, lattice_options, liveness_option, metrics_option, sign_every, where
from trellis.running import run_for_long, told_to_stop

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from wadm import Manager


@click.group
def command() -> None:
    """Run the deployment manager, which makes the lattice what its apps' manifests say."""


@command.command
@lattice_options
@liveness_option
@metrics_option()
@log_options
def start(
    nats: str | None, lattice: str | None, dead_after: float, metrics: str | None, log_format: Format, log_level: str
) -> None:
    """Manage a lattice, until SIGTERM or Ctrl-C."""
    configure(log_format, log_level, to_lattice=True)
    run_for_long(_manager(where(nats, lattice), dead_after, metrics))


async def _manager(place: Where, dead_after: float, metrics: str | None) -> None:
    stopping = asyncio.Event()
    with told_to_stop(stopping.set):
        async with managing(place, dead_after, metrics=metrics):
            await stopping.wait()


@asynccontextmanager
async def managing(
    place: Where, dead_after: float, *, discovery: float = 1.0, metrics: str | None = None
) -> AsyncIterator[None]:
    """A deployment manager, and its `metrics` at that address. Raises Failure when there is no broker."""
    from lattice.journal import Journal
    from lattice.lattice import Lattice
    from lattice.otel import exported
    from trellis.session import connected
    from wadm import Manager

    async with connected(place, "wadm") as transport, AsyncExitStack() as stack:
        lattice = Lattice(place.lattice, transport)
        manager = Manager(lattice, dead_after=dead_after, tick=sign_every(dead_after), discovery=discovery)
        journal = Journal(manager.id, "wadm")
        await stack.enter_async_context(journal.sending(lattice))
        if metrics is not None:
            from lattice.monitor import monitored

            await stack.enter_async_context(monitored(metrics, _registered(manager), manager.unready))
        who = {"service.name": "trellis-wadm", "service.instance.id": manager.id, "trellis.lattice": lattice.name}
        await stack.enter_async_context(exported(who, lambda: _registered(manager), journal))
        await stack.enter_async_context(manager)
        yield


def _registered(manager: Manager) -> CollectorRegistry:
    from lattice.monitor import registry
    from wadm.exposition import ManagerCollector

    return registry(ManagerCollector(manager))
