"""A lattice of its own for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from servers import Broker
from worlds import World, world_on


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[Broker]:
    """A nats-server that the test may end."""
    folder = tmp_path / "broker"
    folder.mkdir()
    broker = Broker(folder)
    broker.start()
    yield broker
    if broker.process is not None:
        broker.stop()


@pytest.fixture
async def world(nats_url: str, lattice_name: str, tmp_path: Path) -> AsyncIterator[World]:
    async with world_on(nats_url, lattice_name, tmp_path) as made:
        yield made
