"""A lattice of its own for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from worlds import World, world_on


@pytest.fixture
async def world(nats_url: str, lattice_name: str, tmp_path: Path) -> AsyncIterator[World]:
    async with world_on(nats_url, lattice_name, tmp_path) as made:
        yield made
