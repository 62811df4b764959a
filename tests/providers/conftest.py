"""Back ends that several provider tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import RedisServer


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One redis-server for all tests of this process. Do not stop it: make a RedisServer of your own for that."""
    folder: Path = tmp_path_factory.mktemp("redis")
    started = RedisServer(folder)
    started.start()
    yield started
    started.stop()
