"""What the thumbnails promise."""

from __future__ import annotations

import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import aiohttp
import pytest

ACTOR = Path(__file__).parents[2] / "examples" / "thumbnails" / "actor"


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


@pytest.mark.nats
@pytest.mark.toolchain
async def test_pictures_are_kept_with_their_thumbnails(deployed: Any):
    async with aiohttp.ClientSession(await deployed("thumbnails")) as client:

        async def get(path: str) -> tuple[int, bytes]:
            async with client.get(path) as response:
                return response.status, await response.read()

        async def post(data: bytes) -> tuple[int, str]:
            async with client.post("/pictures", data=data) as response:
                return response.status, (await response.text()).strip()

        status, name = await post(gradient(200, 100))
        assert (status, await post(gradient(200, 100))) == (201, (201, name)), "the same picture is one"
        assert await get(f"/pictures/{name}") == (200, gradient(200, 100))
        status, small = await get(f"/thumbnails/{name}")
        assert (status, struct.unpack(">II", small[16:24])) == (200, (50, 25))
        assert (await get("/pictures"))[1] == b'["%b"]\n' % name.encode()
        assert (await get("/pictures/absent"))[0] == 404
        assert await post(b"GIF89a") == (415, "this is not a PNG")
        assert (await post(bytes(1_000_001)))[0] == 413
