"""The lattice's own store of images, in memory and on a real broker."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator

import pytest
from servers import Broker

from lattice.images import KEPT_SECONDS, PART, UNTOUCHED_SECONDS, ImageStore, NoImage
from lattice.memory import MemoryBroker
from lattice.nats_transport import connect
from lattice.transport import Transport


@pytest.fixture(params=["memory", "nats"])
async def transport(request: pytest.FixtureRequest, broker: Broker) -> AsyncIterator[Transport]:
    opened = MemoryBroker().connect() if request.param == "memory" else await connect(broker.url)
    yield opened
    await opened.close()


@pytest.fixture
def store(transport: Transport, lattice_name: str) -> ImageStore:
    return ImageStore(transport, lattice_name)


def image(size: int = 10) -> tuple[str, bytes]:
    data = os.urandom(size)
    return hashlib.sha256(data).hexdigest(), data


async def whole(store: ImageStore, digest: str) -> bytes:
    return b"".join([part async for part in store.read(digest)])


@pytest.mark.parametrize("size", [0, 1, PART, 3 * PART + 7])
async def test_what_is_put_is_read_whatever_its_size(store: ImageStore, size: int):
    digest, data = image(size)
    told: list[int] = []
    assert await store.put(digest, data, "a.wasm", told.append)
    assert await whole(store, digest) == data
    assert told == sorted(told) and told[-1:] == ([size] if size else [])
    found = await store.find(digest)
    assert found is not None and (found.name, found.size) == ("a.wasm", size)


async def test_what_is_there_already_is_not_sent_again(store: ImageStore):
    digest, data = image()
    assert await store.put(digest, data)
    told: list[int] = []
    assert not await store.put(digest, data, progress=told.append)
    assert told == []


async def test_what_is_not_there_is_said_so_before_anything_was_ever_put(store: ImageStore):
    assert await store.find("0" * 64) is None
    assert await store.all() == []
    assert await store.tidy(()) == []
    await store.remove("0" * 64)
    with pytest.raises(NoImage, match="0000"):
        await whole(store, "0" * 64)


async def test_a_wrong_digest_is_not_kept(store: ImageStore):
    with pytest.raises(ValueError, match="is not sha256:0000"):
        await store.put("0" * 64, b"x")
    assert await store.all() == []


async def test_an_upload_that_was_broken_off_is_no_image_and_is_begun_again(store: ImageStore, lattice_name: str):
    digest, data = image(3 * PART)

    def break_off(sent: int) -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await store.put(digest, data, progress=break_off)
    assert await store.find(digest) is None
    assert await store.put(digest, data)
    assert await whole(store, digest) == data


async def test_two_who_put_the_same_at_once_both_succeed(store: ImageStore):
    digest, data = image(2 * PART)
    await asyncio.gather(store.put(digest, data), store.put(digest, data))
    assert await whole(store, digest) == data


async def test_only_old_images_that_nobody_needs_are_removed_for_their_age(store: ImageStore):
    (needed, a), (unused, b) = image(), image()
    await store.put(needed, a)
    await store.put(unused, b)
    assert await store.tidy({needed}) == []
    now = max(i.used for i in await store.all())
    removed = await store.tidy({needed}, now=now + KEPT_SECONDS + UNTOUCHED_SECONDS)
    assert [i.digest for i in removed] == [unused]
    assert [i.digest for i in await store.all()] == [needed]
    with pytest.raises(NoImage):
        await whole(store, unused)


async def test_when_it_is_too_much_the_longest_unused_go_first_and_the_newest_never(store: ImageStore):
    made = [image(100) for _ in range(3)]
    for digest, data in made:
        await store.put(digest, data)
    later = max(i.used for i in await store.all()) + UNTOUCHED_SECONDS + 1
    assert await store.tidy((), most_bytes=0, now=later - UNTOUCHED_SECONDS) == []
    removed = await store.tidy((), most_bytes=150, now=later)
    assert [i.digest for i in removed] == [digest for digest, _ in made[:2]]
