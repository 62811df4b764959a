"""What the chat promises."""

from __future__ import annotations

import asyncio
import json
import struct
import sys
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from lattice.nats_transport import NatsTransport

ACTOR = Path(__file__).parents[2] / "examples" / "chat" / "actor"


@pytest.fixture
def png(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The actor's own module."""
    monkeypatch.syspath_prepend(str(ACTOR))
    import png

    yield png
    del sys.modules["png"]


def gradient(width: int, height: int, filters: int = 5) -> bytes:
    """An RGB picture whose rows use one filter after the other."""
    rows, above = b"", bytes(width * 3)
    for y in range(height):
        row = bytes(value for x in range(width) for value in (x * 7 & 255, y * 5 & 255, (x + y) & 255))
        kind = y % filters
        written = bytearray()
        for i, value in enumerate(row):
            left, up, corner = (row[i - 3] if i > 2 else 0), above[i], (above[i - 3] if i > 2 else 0)
            guess = left + up - corner
            paeth = min((abs(guess - left), 0, left), (abs(guess - up), 1, up), (abs(guess - corner), 2, corner))[2]
            written.append(value - (0, left, up, (left + up) // 2, paeth)[kind] & 255)
        rows, above = rows + bytes([kind]) + bytes(written), row
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def test_a_thumbnail_has_every_nth_pixel_whatever_the_filters(png: Any):
    width, height, colour, rows = png.read(gradient(100, 60))
    assert (width, height, colour) == (100, 60, 2)
    small = png.read(png.thumbnail(gradient(100, 60), 25))
    assert small[:3] == (25, 15, 2)
    assert small[3][2] == b"".join(rows[8][x * 12 : x * 12 + 3] for x in range(25))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"GIF89a", "this is not a PNG"),
        (b"\x89PNG\r\n\x1a\n", "has no header"),
        (gradient(3, 3).replace(b"IDAT", b"IDAX"), "not as long as its header says"),
        (gradient(3, 3)[:-30] + b"\0" * 30, "damaged|not as long"),
    ],
)
def test_what_is_no_picture_says_so(png: Any, data: bytes, says: str):
    with pytest.raises(png.NotReadable, match=says):
        png.thumbnail(data, 10)


@asynccontextmanager
async def listening(
    client: aiohttp.ClientSession, url: str, **headers: str
) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
    """The room's events: `await heard()` is the next one, (id, data)."""
    async with client.get(url, headers=headers) as response:
        assert response.headers["content-type"] == "text/event-stream"
        await response.content.readuntil(b"\n\n")  # when to come back

        async def heard() -> tuple[str, Any]:
            async with asyncio.timeout(20):
                lines = (await response.content.readuntil(b"\n\n")).decode().splitlines()
            event = dict(line.split(": ", 1) for line in lines if line)
            return event["id"], json.loads(event["data"])

        yield heard


@pytest.mark.nats
@pytest.mark.toolchain
async def test_what_is_said_and_shown_reaches_everybody_who_listens(deployed: Any, nats: NatsTransport):
    url = await deployed("chat")
    async with aiohttp.ClientSession() as client:

        async def post(path: str, data: bytes) -> tuple[int, str]:
            async with client.post(f"{url}/{path}", data=data) as response:
                return response.status, await response.text()

        async with (
            listening(client, f"{url}/rooms/lobby/events") as one,
            listening(client, f"{url}/rooms/lobby/events") as two,
        ):
            assert await post("rooms/lobby", "hällo".encode()) == (202, "said\n")
            assert await one() == await two() == ("1", {"text": "hällo"})
            await nats.publish("chat.lobby", b"from any program")
            assert await one() == ("2", {"text": "from any program"})
            status, path = await post("rooms/lobby/pictures", gradient(200, 100))
            shown = (await one())[1]
            assert (status, path.strip()) == (201, shown["text"])
        async with client.get(url + shown["text"]) as response:
            assert await response.read() == gradient(200, 100)
        async with client.get(url + shown["thumbnail"]) as response:
            assert response.headers["content-type"] == "image/png"
            assert struct.unpack(">II", (await response.read())[16:24]) == (50, 25)
        async with listening(client, f"{url}/rooms/lobby/events", **{"last-event-id": "1"}) as again:
            assert (await again())[0] == "2"
        assert (await post("rooms/lobby", b""))[0] == 400
        assert (await post("rooms/lobby", b"x" * 5000))[0] == 413
        assert (await post("rooms/NO ROOM", b"x"))[0] == 400
        assert await post("rooms/lobby/pictures", b"GIF89a") == (415, "this is not a PNG\n")
        async with client.get(f"{url}/pictures/absent") as response:
            assert response.status == 404
