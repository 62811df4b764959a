"""Brokers and back ends that several provider tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from servers import PostgresServer, RedisServer

from lattice.memory import MemoryBroker
from lattice.nats_transport import connect
from lattice.transport import Transport


@pytest.fixture(params=["memory", pytest.param("nats", marks=pytest.mark.nats)])
async def transport(request: pytest.FixtureRequest) -> AsyncIterator[Transport]:
    """A connection to a broker in memory, and one to a real nats-server."""
    made: Transport = MemoryBroker().connect()
    if request.param == "nats":
        made = await connect(request.getfixturevalue("nats_url"))
    yield made
    await made.close()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One redis-server for all tests of this process. Do not stop it: make a RedisServer of your own for that."""
    folder: Path = tmp_path_factory.mktemp("redis")
    started = RedisServer(folder)
    started.start()
    yield started
    started.stop()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One PostgreSQL for all tests of this process. One that stops it starts it again."""
    started = PostgresServer()
    try:
        started.make()
        started.start()
        yield started
    finally:
        started.remove()
