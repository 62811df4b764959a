"""One contract for every blob store: containers and objects, streams within bounds, ranges, any name."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from blobs import MEGABYTE, MOST, Blobs, consumed, id_of, link, noise, produce, refusal

from lattice import BadValue, ByteStream, EntityId, Function, Invocation, Unreachable
from lattice.jetstream import JetStream
from lattice.lattice import Lattice
from lattice.nats_transport import connect
from lattice.streams import CHUNK
from providers.blobstore import fs, store
from providers.blobstore.fs import FsBlobStore
from providers.blobstore.nats import NatsBlobStore
from providers.blobstore.store import BlobStore
from providers.testing import running


async def orphans(jetstream: JetStream, stream: str) -> set[str]:
    """The pieces in a container that no object has."""
    state = (await jetstream.ask(f"STREAM.INFO.{stream}", {"subjects_filter": "$O.*.C.>"}))["state"]
    pieces = {subject.rpartition(".")[2] for subject in state.get("subjects") or ()}
    bucket = stream.removeprefix("OBJ_")
    entries = jetstream.walk(stream, f"$O.{bucket}.M.>", deliver_policy="last_per_subject")
    return pieces - {json.loads(entry.message.data)["nuid"] async for entry in entries}


@pytest.fixture(params=["files", pytest.param("nats", marks=pytest.mark.nats)])
async def blobs(request: pytest.FixtureRequest, tmp_path: Path, lattice_name: str) -> AsyncIterator[Blobs]:
    config: dict[str, str] = {"root": str(tmp_path)}
    provider: BlobStore = FsBlobStore()

    async def leftovers() -> int:
        return len(list((tmp_path / ".parts").iterdir()))

    if request.param == "nats":
        transport = await connect(request.getfixturevalue("nats_url"))
        jetstream = JetStream(transport)
        config = {"prefix": lattice_name, "storage_type": "memory"}
        provider = NatsBlobStore(transport)

        async def leftovers() -> int:
            """Objects' pieces that no object has."""
            return len(await orphans(jetstream, f"OBJ_{lattice_name}box"))

    async with running(provider, [link(**config)]) as started:
        made = Blobs(started, leftovers)
        await made("create-container", "box")
        yield made
        assert await made.leftovers() == 0
    if request.param == "nats":
        for name in (await jetstream.ask("STREAM.NAMES", {"subject": f"$O.{lattice_name}*.M.>"}))["streams"] or ():
            await jetstream.ask(f"STREAM.DELETE.{name}")
        await transport.close()


# -- containers


async def test_a_container_is_there_until_it_is_deleted(blobs: Blobs):
    assert not await blobs("container-exists", "new")
    await blobs("create-container", "new")
    await blobs("create-container", "new")
    assert await blobs("container-exists", "new")
    info = await blobs("get-container-info", "new")
    assert info["name"] == "new"
    assert abs(info["created-at"] - time.time()) < 60
    await blobs.put("a", b"1", "new")
    await blobs("delete-container", "new")
    await blobs("delete-container", "new")
    assert not await blobs("container-exists", "new")
    assert "no container" in await refusal(blobs("get-container-info", "new"))


async def test_clearing_a_container_leaves_it_empty(blobs: Blobs):
    for name in "abc":
        await blobs.put(name, b"x")
    await blobs("clear-container", "box")
    assert await blobs.names() == []
    assert await blobs("container-exists", "box")


@pytest.mark.parametrize(
    "call",
    [
        ("clear-container", "nowhere"),
        ("list-container-objects", "nowhere", None, None),
        ("write-container-data", id_of("a", "nowhere"), b"x"),
        ("get-container-data", id_of("a", "nowhere"), 0, MOST),
        ("get-object-info", id_of("a", "nowhere")),
        ("has-object", id_of("a", "nowhere")),
        ("delete-object", id_of("a", "nowhere")),
        ("copy-object", id_of("a"), id_of("a", "nowhere")),
        ("move-object", id_of("a"), id_of("a", "nowhere")),
    ],
    ids=lambda call: call[0],
)
async def test_a_container_that_is_not_there_is_an_answer(blobs: Blobs, call):
    await blobs.put("a", b"x")
    assert await refusal(blobs(*call)) == 'there is no container "nowhere"'
    assert await blobs.get("a") == b"x"


# -- objects


async def test_an_object_is_kept_as_it_was_written(blobs: Blobs):
    assert not await blobs("has-object", id_of("a"))
    await blobs.put("a", b"one")
    await blobs.put("a", b"three")
    assert await blobs.get("a") == b"three"
    assert await blobs("has-object", id_of("a"))
    info = await blobs("get-object-info", id_of("a"))
    assert (info["name"], info["container"], info["size"]) == ("a", "box", 5)
    assert abs(info["created-at"] - time.time()) < 60
    await blobs("delete-object", id_of("a"))
    await blobs("delete-object", id_of("a"))
    assert not await blobs("has-object", id_of("a"))


@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1, 3 * fs.PIECE + 7])
async def test_objects_of_any_size_come_back_whole(blobs: Blobs, size: int):
    data = noise(size)
    await blobs.put("whole", data)
    await blobs.put("streamed", ByteStream.of(data))
    assert await blobs.get("whole") == data
    assert await blobs.get("streamed") == data


@pytest.mark.parametrize(
    ("start", "end", "wanted"),
    [
        (0, 0, slice(0, 1)),
        (2, 4, slice(2, 5)),
        (9, 9, slice(9, 10)),
        (5, MOST, slice(5, None)),
        (10, 20, slice(0, 0)),
        (MOST, MOST, slice(0, 0)),
    ],
)
@pytest.mark.parametrize("scale", [1, 100_000])
async def test_a_range_has_both_its_ends(blobs: Blobs, start: int, end: int, wanted: slice, scale: int):
    data = noise(10 * scale)
    await blobs.put("a", data)
    from_, to = min(start * scale, MOST), min((end + 1) * scale - 1, MOST)
    begin, stop = wanted.start * scale, None if wanted.stop is None else wanted.stop * scale
    assert await blobs.get("a", from_, to) == data[begin:stop]


async def test_a_range_that_ends_before_it_begins_is_an_answer(blobs: Blobs):
    await blobs.put("a", b"0123456789")
    assert "begins at 5, after its end at 4" in await refusal(blobs.get("a", 5, 4))


async def test_names_are_listed_in_pages(blobs: Blobs):
    for n in range(10):
        await blobs.put(f"o{n}", b"")
    assert await blobs.names() == [f"o{n}" for n in range(10)]
    assert await blobs.names(limit=4, offset=8) == ["o8", "o9"]
    assert await blobs.names(limit=0) == []
    assert await blobs.names(limit=MOST, offset=MOST) == []


async def test_a_copy_is_apart_and_a_move_leaves_nothing(blobs: Blobs):
    await blobs("create-container", "other")
    data = noise(MEGABYTE)
    await blobs.put("a", data)
    await blobs.put("b", b"old")
    await blobs("copy-object", id_of("a"), id_of("b"))
    await blobs("copy-object", id_of("a"), id_of("a"))
    await blobs.put("a", b"new")
    assert await blobs.get("b") == data
    await blobs("move-object", id_of("b"), id_of("c", "other"))
    assert await blobs.names() == ["a"]
    assert await blobs.get("c", container="other") == data
    for function in ("copy-object", "move-object"):
        assert "no object" in await refusal(blobs(function, id_of("b"), id_of("d")))
    assert not await blobs("has-object", id_of("d"))


async def test_many_are_deleted_at_once(blobs: Blobs):
    for name in "abc":
        await blobs.put(name, b"x")
    await blobs("delete-objects", "box", ["a", "x", "c"])
    assert await blobs.names() == ["b"]


async def test_what_is_not_there_is_an_answer(blobs: Blobs):
    for call in (blobs.get("x"), blobs("get-object-info", id_of("x"))):
        assert await refusal(call) == 'there is no object "x" in container "box"'


@pytest.mark.parametrize("id", [None, "a", {}, {"container": "box"}, {"container": 1, "object": "a"}])
async def test_what_is_no_id_is_refused(blobs: Blobs, id):
    with pytest.raises(BadValue):
        await blobs("has-object", id)


# -- names


NAMES = ["", ".", "..", "../out", "/etc/passwd", "a/b", ".hidden", ".created", "%", "%2E", "a b", "ü.txt", "\0", "a\nb"]


@pytest.mark.parametrize("name", NAMES)
async def test_any_string_is_a_name(blobs: Blobs, name: str):
    await blobs("create-container", name)
    await blobs.put(name, b"v")
    await blobs.put(name, b"w", name)
    assert await blobs.get(name) == b"v"
    assert await blobs.names() == [name]
    assert await blobs.names(name) == [name]
    await blobs("delete-container", name)
    await blobs("delete-object", id_of(name))
    assert await blobs.names() == []


# -- streams


async def test_fifty_megabytes_go_in_and_out_within_a_few(blobs: Blobs):
    size = 50 * MEGABYTE
    wanted = hashlib.sha256(noise(CHUNK) * (size // CHUNK)).hexdigest()
    tracemalloc.start()
    try:
        upload = ByteStream()
        async with asyncio.TaskGroup() as group:
            group.create_task(produce(upload, size))
            group.create_task(blobs.put("big", upload))
        assert await consumed(await blobs("get-container-data", id_of("big"), 0, MOST)) == (size, wanted)
        await blobs("copy-object", id_of("big"), id_of("copy"))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5 * MEGABYTE
    assert (await blobs("get-object-info", id_of("copy")))["size"] == size


@pytest.mark.nats
async def test_objects_cross_the_lattice_as_streams(blobs: Blobs, nats_url: str, lattice_name: str):
    size = 10 * MEGABYTE
    provider = EntityId("blobs")
    one, other = await connect(nats_url), await connect(nats_url)
    async with Lattice(lattice_name, one) as here, Lattice(lattice_name, other) as there:
        serving = await there.serve(provider, blobs.running.runtime.handle)
        await other.flush()

        async def call(function: str, *args: Any) -> Any:
            wanted = Function("wasi:blobstore/blobstore", function)
            return await here.invoke(Invocation(provider, wanted, args, EntityId("actor")))

        upload = ByteStream()
        async with asyncio.TaskGroup() as group:
            group.create_task(produce(upload, size))
            group.create_task(call("write-container-data", id_of("far"), upload))
        body = await call("get-container-data", id_of("far"), 0, MOST)
        assert (await consumed(body))[0] == size
        assert await call("list-container-objects", "box", None, None) == ["far"]
        await serving.drain()


async def test_a_reader_sees_the_old_object_until_the_new_one_is_complete(blobs: Blobs):
    await blobs.put("a", b"old")
    upload, data = ByteStream(), noise(MEGABYTE)
    writing = asyncio.create_task(blobs.put("a", upload))
    await upload.write(data)
    async with asyncio.timeout(5):
        while not await blobs.leftovers():
            await asyncio.sleep(0)
    assert await blobs.get("a") == b"old"
    upload.finish()
    await writing
    assert await blobs.get("a") == data


async def test_a_body_that_breaks_off_leaves_the_old_object(blobs: Blobs):
    await blobs.put("a", b"old")
    upload = ByteStream()
    upload.write_now(b"half")
    upload.fail(Unreachable("the sender is gone"))
    assert "broke off: the sender is gone" in await refusal(blobs.put("a", upload))
    assert await blobs.get("a") == b"old"


async def test_a_cancelled_write_leaves_nothing(blobs: Blobs):
    upload = ByteStream()
    writing = asyncio.create_task(blobs.put("a", upload))
    await upload.write(bytes(CHUNK))
    await upload.drained()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert not await blobs("has-object", id_of("a"))
    assert upload.reader_gone


async def test_bodies_on_their_way_are_bounded(blobs: Blobs, monkeypatch):
    monkeypatch.setattr(store, "READERS", 2)
    await blobs.put("a", bytes(MEGABYTE))
    bodies = [await blobs("get-container-data", id_of("a"), 0, MOST) for _ in range(2)]
    with pytest.raises(Exception, match="2 objects are being read already"):
        await blobs("get-container-data", id_of("a"), 0, MOST)
    for body in bodies:
        assert len(await body.read_all()) == MEGABYTE
    assert len(await blobs.get("a")) == MEGABYTE
