"""The lattice's events are kept, beside whoever else keeps them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from servers import Broker

from lattice import events
from lattice.history import STREAM, events_of
from lattice.jetstream import JetStream, NotFound
from lattice.lattice import Lattice
from lattice.names import HostId
from lattice.nats_transport import connect

pytestmark = pytest.mark.nats

HOST = HostId("N" * 56)


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[str]:
    """A nats-server that nothing was kept on."""
    broker = Broker(tmp_path)
    broker.start()
    yield broker.url
    broker.stop()


async def told(jetstream: JetStream, lattice: str, since: datetime) -> list[str]:
    raw = [one async for one in events_of(lattice).past(jetstream, since)]
    return [event.config_name for _, event in map(events.decode, raw) if isinstance(event, events.ConfigSet)]  # type: ignore[misc]


async def test_events_are_found_by_lattice_and_time(empty: str):
    async with Lattice("ours", await connect(empty)) as ours, Lattice("theirs", await connect(empty)) as theirs:
        jetstream = JetStream(ours.transport)
        begin = datetime.now(UTC)
        with pytest.raises(NotFound):
            await told(jetstream, "ours", begin)
        await events_of("ours").keep(jetstream)
        await events_of("ours").keep(jetstream)
        for lattice, name in ((ours, "a"), (theirs, "b"), (ours, "c")):
            await lattice.emit(events.ConfigSet(config_name=name), HOST)
            await lattice.transport.flush()
        assert await told(jetstream, "ours", begin - timedelta(seconds=5)) == ["a", "c"]
        assert await told(jetstream, "theirs", begin - timedelta(seconds=5)) == ["b"]
        assert await told(jetstream, "ours", datetime.now(UTC) + timedelta(seconds=5)) == []


async def test_a_stream_that_others_keep_events_in_is_used_and_left_as_it_is(empty: str):
    async with Lattice("ours", await connect(empty)) as ours:
        jetstream = JetStream(ours.transport)
        settings = {"name": "somebodys", "subjects": ["wasmbus.evt.>"], "max_age": 70_000_000_000}
        await jetstream.ask("STREAM.CREATE.somebodys", settings)
        await events_of("ours").keep(jetstream)
        await ours.emit(events.ConfigSet(config_name="a"), HOST)
        assert await told(jetstream, "ours", datetime.now(UTC) - timedelta(seconds=5)) == ["a"]
        with pytest.raises(NotFound):
            await jetstream.ask(f"STREAM.INFO.{STREAM}")
