"""What the tests of blob stores share: the store as an actor calls it, and bodies to send through it."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from lattice import Body, ByteStream, WitError
from lattice.streams import CHUNK
from providers.link import LinkRecord, link_between
from providers.testing import PROVIDER, Running

MOST = 2**64 - 1
MEGABYTE = 1024 * 1024


def link(source: str = "actor", **config: str) -> LinkRecord:
    return link_between(source, PROVIDER, "wasi:blobstore/blobstore", target_config=config)


def id_of(name: str, container: str = "box") -> dict[str, str]:
    return {"container": container, "object": name}


async def _none() -> int:
    return 0


class Blobs:
    """The store as an actor calls it. `leftovers` counts what writers began and did not end."""

    def __init__(self, running: Running, leftovers: Callable[[], Awaitable[int]] = _none) -> None:
        self.running = running
        self.leftovers = leftovers

    async def __call__(self, function: str, *args: Any) -> Any:
        return await self.running.call(f"wasi:blobstore/blobstore#{function}", *args)

    async def put(self, name: str, data: Body, container: str = "box") -> None:
        await self("write-container-data", id_of(name, container), data)

    async def get(self, name: str, start: int = 0, end: int = MOST, container: str = "box") -> bytes:
        body = await self("get-container-data", id_of(name, container), start, end)
        return await body.read_all() if isinstance(body, ByteStream) else body

    async def names(self, container: str = "box", limit: int | None = None, offset: int | None = None) -> list[str]:
        return await self("list-container-objects", container, limit, offset)


async def refusal(call: Any) -> str:
    with pytest.raises(WitError) as error:
        await call
    return error.value.payload


def noise(size: int) -> bytes:
    return (hashlib.sha256(b"noise").digest() * (size // 32 + 1))[:size]


async def produce(stream: ByteStream, size: int) -> None:
    piece = noise(CHUNK)
    for _ in range(size // CHUNK):
        await stream.write(piece)
    stream.finish()


async def consumed(body: ByteStream) -> tuple[int, str]:
    size, digest = 0, hashlib.sha256()
    async for chunk in body:
        size += len(chunk)
        digest.update(chunk)
    return size, digest.hexdigest()
