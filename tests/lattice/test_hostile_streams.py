"""Nonsense on the subject of a stream that is under way: it ends whole or with an error, and others do not notice."""

import asyncio
import random
import struct

import pytest

from lattice import ByteStream
from lattice.flow import Flow
from lattice.memory import MemoryBroker
from lattice.streams import StreamClosed

BODY = bytes(range(256)) * 4000


def word(dice: random.Random) -> bytes:
    """Something that an end of a stream may take for a word of the other."""
    first = dice.choice((b"o", b"c", b"q", b"p", b"d", b"e", b"x", b"", b"\x00"))
    number = dice.choice((b"", b"\x00", struct.pack(">I", dice.choice((0, 1, 2, 3, 2**31, 2**32 - 1)))))
    rest = dice.choice((b"", b"\xc1", b"\x90", b"\x93\x01\x02\x03", b"\x91" * 9000, dice.randbytes(40)))
    return first + number + rest


@pytest.fixture
async def ends():
    broker = MemoryBroker()
    transports = [broker.connect() for _ in range(3)]
    flows = [Flow(transport) for transport in transports[:2]]
    for flow in flows:
        await flow.start()
    yield (*flows, transports[2])
    for flow in flows:
        await flow.stop()
    for transport in transports:
        await transport.close()


@pytest.mark.parametrize("seed", range(20))
async def test_a_stream_is_whole_or_says_why_not_and_its_neighbour_is_whole(ends, seed):
    dice = random.Random(seed)
    writer, reader, stranger = ends
    begun = [reader.pull(writer.offer(ByteStream.of(BODY))) for _ in range(2)]
    attacked = (next(iter(writer._ends)), next(iter(reader._ends)))  # both ends of the first

    async def attack() -> None:
        for _ in range(60):
            await stranger.publish(dice.choice(attacked), word(dice), reply=dice.choice((None, "nobody.listens")))
            await asyncio.sleep(0)

    async def outcome(stream: ByteStream) -> bytes | None:
        try:
            return await stream.read_all(len(BODY) + 1)
        except StreamClosed as broken:
            assert broken.__cause__ is not None  # with its reason
            return None

    async with asyncio.timeout(20):
        first, second, _ = await asyncio.gather(*(outcome(stream) for stream in begun), attack())
    assert first is None or len(first) <= len(BODY)
    assert second == BODY
