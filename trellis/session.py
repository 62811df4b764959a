"""A verb's connection to its lattice."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from lattice.errors import Unreachable
from lattice.lattice import Lattice
from lattice.nats_transport import NatsOptions, NatsTransport, connect, plain
from trellis.failures import UNREACHABLE, failure
from trellis.options import Where


@contextmanager
def reaching(place: Where) -> Iterator[None]:
    """Say where no NATS server answered, who named that place, and how to start one."""
    try:
        yield
    except Unreachable as error:
        said = f" (from {place.said})" if place.said else ""
        raise failure(
            "TRL-NET-001",
            f"no NATS server answers at {plain(place.nats)}{said}",
            why=error.message.partition(": ")[2] or error.message,
            fix="start a lattice here with  trellis up  or name a server with  --nats nats://HOST:PORT",
            exit_code=UNREACHABLE,
        ) from error


@asynccontextmanager
async def connected(place: Where, name: str = "trellis") -> AsyncIterator[NatsTransport]:
    """A connection to the broker. Raises Failure when there is none."""
    with reaching(place):
        transport = await connect(NatsOptions(place.nats, name=name))
    try:
        yield transport
    finally:
        await transport.close()


@asynccontextmanager
async def joined(place: Where) -> AsyncIterator[Lattice]:
    """The lattice, as a client: it serves nothing. Raises Failure when there is no broker."""
    async with connected(place) as transport:
        yield Lattice(place.lattice, transport)
