"""An engine, actors made from WAT, and the promise that no test leaves an instance behind."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from tests_support import MakeActor

from actors import Actor, Engine, EngineConfig
from actors.callbacks import CALLERS
from lattice import EntityId


@pytest.fixture(scope="session")
def wat_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """On-demand allocation: what tests of behaviour need of an engine, made once."""
    engine = Engine(EngineConfig(pool=0, cache=tmp_path_factory.mktemp("compiled")))
    yield engine
    engine.close()


@pytest.fixture
async def actor_of(wat_engine: Engine) -> AsyncIterator[MakeActor]:
    """`await actor_of(wat, **Actor's arguments)`; at the end, nothing of it may still be running."""

    async def make(wat: str, **options: Any) -> Actor:
        return Actor(EntityId("subject"), await wat_engine.load(wat.encode()), **options)

    yield make
    gc.collect()
    assert not CALLERS, "instances were left behind"
