"""A verb's connection to its lattice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace

from lattice import login
from lattice.errors import Unreachable
from lattice.lattice import Lattice
from lattice.nats_transport import NatsOptions, NatsTransport, connect, plain
from trellis.failures import UNREACHABLE, failure
from trellis.options import Where


@contextmanager
def reaching(place: Where) -> Iterator[None]:
    """Say where no NATS server answered or which let nobody in, who named that place, and what helps."""
    try:
        yield
    except Unreachable as error:
        said = f" (from {place.said})" if place.said else ""
        if error.details.get("because") == "login":
            raise failure(
                "TRL-NET-005",
                f"the NATS server at {plain(place.nats)}{said} refuses the login",
                why=error.message,
                fix="say who you are:  --nats-user and $TRELLIS_NATS_PASSWORD, --nats-creds, --nats-nkey, or a token",
                exit_code=UNREACHABLE,
            ) from error
        if error.details.get("because") == "tls":
            raise failure(
                "TRL-NET-006",
                f"no TLS connection to the NATS server at {plain(place.nats)}{said}",
                why=error.message,
                fix="--nats-ca names the CA to trust; --nats-cert and --nats-key are for a server that asks for one",
                exit_code=UNREACHABLE,
            ) from error
        raise failure(
            "TRL-NET-001",
            f"no NATS server answers at {plain(place.nats)}{said}",
            why=error.message.partition(": ")[2] or error.message,
            fix="start a lattice here with  trellis up  or name a server with  --nats nats://HOST:PORT",
            exit_code=UNREACHABLE,
        ) from error


def nats_options(place: Where, name: str) -> NatsOptions:
    """How a process called `name` connects to `place`. Raises BadInput for a file that cannot be used."""
    options = login.options(_settings(place).nats, name)
    return options if place.patience is None else replace(options, connect_timeout=place.patience)


def data_options(place: Where, name: str) -> NatsOptions | None:
    """The connection for calls, where it is another one. Raises BadInput for a file that cannot be used."""
    return login.data_options(_settings(place), name)


def _settings(place: Where) -> login.Settings:
    settings = place.settings or login.Settings()
    return replace(settings, nats=replace(settings.nats, url=place.nats))


@asynccontextmanager
async def connected(place: Where, name: str = "trellis") -> AsyncIterator[NatsTransport]:
    """A connection to the broker. Raises Failure when there is none."""
    with reaching(place):
        transport = await connect(nats_options(place, name))
    try:
        yield transport
    finally:
        await transport.close()


@asynccontextmanager
async def _within(seconds: float | None, place: Where) -> AsyncIterator[None]:
    """Raises Failure when the block takes longer."""
    try:
        async with asyncio.timeout(seconds) as timer:
            yield
    except TimeoutError as error:
        if not timer.expired():
            raise
        raise failure(
            "TRL-NET-007",
            f"lattice `{place.lattice}` at {plain(place.nats)} has not answered within {seconds:g} s",
            fix="--timeout SECONDS  gives it more",
            exit_code=UNREACHABLE,
        ) from error


@asynccontextmanager
async def joined(place: Where, *, calling: bool = False, staying: bool = False) -> AsyncIterator[Lattice]:
    """The lattice, as a client: it serves nothing. Raises Failure when there is no broker.

    `calling` also makes the connection for calls, where that is another one. Unless `staying`, all must be done within
    `place.patience`.
    """
    async with _within(None if staying else place.patience, place), connected(place) as transport:
        options = data_options(place, "trellis") if calling else None
        if options is None:
            yield Lattice(place.lattice, transport)
            return
        with reaching(replace(place, nats=options.url, said="its connection for calls")):
            data = await connect(options)
        try:
            yield Lattice(place.lattice, transport, data)
        finally:
            await data.close()
