"""The blob store on the file system: containers and objects, streams within bounds, names that cannot leave."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import time
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lattice import BadInput, BadValue, Body, ByteStream, EntityId, Function, Invocation, Unreachable, WitError
from lattice.lattice import Lattice
from lattice.nats_transport import connect
from lattice.streams import CHUNK, StreamClosed
from providers.blobstore import fs, store
from providers.blobstore.fs import FsBlobStore, escaped, unescaped
from providers.blobstore.store import Refused
from providers.link import LinkRecord, link_between
from providers.load import builtin_name, resolve
from providers.testing import PROVIDER, Running, running

MOST = 2**64 - 1
MEGABYTE = 1024 * 1024


def link(source: str = "actor", **config: str) -> LinkRecord:
    return link_between(source, PROVIDER, "wasi:blobstore/blobstore", target_config=config)


def id_of(name: str, container: str = "box") -> dict[str, str]:
    return {"container": container, "object": name}


class Blobs:
    """The store as an actor calls it."""

    def __init__(self, running: Running, root: Path) -> None:
        self.running = running
        self.root = root

    async def __call__(self, function: str, *args: Any) -> Any:
        return await self.running.call(f"wasi:blobstore/blobstore#{function}", *args)

    async def put(self, name: str, data: Body, container: str = "box") -> None:
        await self("write-container-data", id_of(name, container), data)

    async def get(self, name: str, start: int = 0, end: int = MOST, container: str = "box") -> bytes:
        body = await self("get-container-data", id_of(name, container), start, end)
        return await body.read_all() if isinstance(body, ByteStream) else body

    async def names(self, container: str = "box", limit: int | None = None, offset: int | None = None) -> list[str]:
        return await self("list-container-objects", container, limit, offset)

    def parts(self) -> list[Path]:
        """What is being written, or was left behind."""
        return list((self.root / ".parts").iterdir())


@pytest.fixture
async def blobs(tmp_path: Path) -> AsyncIterator[Blobs]:
    async with running(FsBlobStore(), [link(root=str(tmp_path / "root"))]) as started:
        made = Blobs(started, tmp_path / "root")
        await made("create-container", "box")
        yield made
        assert made.parts() == []
    assert open_files(tmp_path) == []


def open_files(root: Path) -> list[str]:
    """The files below `root` that this process holds open, where the system can tell."""
    found = []
    for number in Path("/proc/self/fd").iterdir() if Path("/proc/self/fd").is_dir() else ():
        try:
            found.append(os.readlink(number))  # noqa: PTH115
        except OSError:
            continue  # the listing's own
    return [path for path in found if path.startswith(str(root))]


async def refusal(call: Any) -> str:
    with pytest.raises(WitError) as error:
        await call
    return error.value.payload


def noise(size: int) -> bytes:
    return (hashlib.sha256(b"noise").digest() * (size // 32 + 1))[:size]


@pytest.mark.parametrize("ref", ["builtin:blobstore-fs", "ghcr.io/wasmcloud/blobstore-fs:0.11.1"])
def test_it_answers_to_wasmclouds_references(ref):
    assert builtin_name(ref) == "blobstore-fs"
    assert resolve(ref) is FsBlobStore


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


async def test_a_container_is_as_old_as_when_it_was_made(blobs: Blobs):
    os.utime(blobs.root / "box" / ".created", (1_000_000, 1_000_000))
    await blobs.put("a", b"1")
    assert (await blobs("get-container-info", "box"))["created-at"] == 1_000_000


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
async def test_any_string_is_a_name_and_none_leads_out(blobs: Blobs, name: str):
    await blobs("create-container", name)
    await blobs.put(name, b"v")
    await blobs.put(name, b"w", name)
    assert await blobs.get(name) == b"v"
    assert await blobs.names() == [name]
    assert await blobs.names(name) == [name]
    assert {path.name for path in blobs.root.parent.iterdir()} == {"root"}
    await blobs("delete-container", name)
    await blobs("delete-object", id_of(name))
    assert await blobs.names() == []


@given(st.text(max_size=60))
def test_names_come_back_from_their_files(name: str):
    file = escaped(name)
    assert unescaped(file) == name
    assert b"/" not in file
    assert b"\0" not in file
    assert not file.startswith(b".")


@given(st.binary(min_size=1, max_size=20))
def test_a_file_is_an_object_only_by_the_name_that_finds_it_again(file: bytes):
    name = unescaped(file)
    assert name is None or escaped(name) == file


def test_ordinary_names_are_the_files_names():
    for name in ("photo 1.jpg", "straße.txt", "a=b&c.tar.gz", "~x", "..."[1:] + "x"):
        assert escaped(name) == name.replace("..x", "%2E.x").encode()


async def test_a_name_that_is_too_long_is_an_answer(blobs: Blobs):
    await blobs.put("a" * 255, b"x")
    assert "a name of 256 bytes is too long" in await refusal(blobs.put("a" * 256, b"x"))
    with pytest.raises(Refused):
        escaped("/" * 100)


async def test_files_that_somebody_put_there_are_objects_and_nothing_else_is(blobs: Blobs):
    box = blobs.root / "box"
    (box / "ordinary file.txt").write_bytes(b"hello")
    (box / "100%").write_bytes(b"no name leads here")
    (box / "folder").mkdir()
    (box / "link").symlink_to("/etc/passwd")
    os.mkfifo(box / "pipe")
    assert await blobs.names() == ["ordinary file.txt"]
    assert await blobs.get("ordinary file.txt") == b"hello"
    for name in ("folder", "link", "pipe"):
        assert "no object" in await refusal(blobs.get(name))
        assert not await blobs("has-object", id_of(name))


async def test_links_are_not_followed_anywhere(blobs: Blobs, tmp_path: Path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"s")
    (blobs.root / "away").symlink_to(outside)
    (blobs.root / "box" / "secret").symlink_to(outside / "secret")
    assert not await blobs("container-exists", "away")
    for call in (blobs.get("secret", container="away"), blobs.put("secret", b"", "away"), blobs.names("away")):
        assert "no container" in await refusal(call)
    await blobs("delete-container", "away")
    assert "no object" in await refusal(blobs.get("secret"))
    await blobs.put("secret", b"mine")
    assert (outside / "secret").read_bytes() == b"s"


# -- streams


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
    upload = ByteStream()
    writing = asyncio.create_task(blobs.put("a", upload))
    await upload.write(b"new")
    await upload.drained()
    assert await blobs.get("a") == b"old"
    assert len(blobs.parts()) == 1
    upload.finish()
    await writing
    assert await blobs.get("a") == b"new"


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


async def test_a_reader_keeps_what_it_opened(blobs: Blobs):
    data = noise(5 * MEGABYTE)
    await blobs.put("a", data)
    body = await blobs("get-container-data", id_of("a"), 0, MOST)
    assert await body.read(10) == data[:10]
    await blobs("delete-container", "box")
    assert await body.read_all() == data[10:]


async def test_a_reader_that_leaves_closes_the_file(blobs: Blobs):
    await blobs.put("a", bytes(5 * MEGABYTE))
    body = await blobs("get-container-data", id_of("a"), 0, MOST)
    assert len(open_files(blobs.root)) == 1
    body.close()
    async with asyncio.timeout(5):
        while open_files(blobs.root):
            await asyncio.sleep(0)


async def test_a_stopping_provider_breaks_bodies_off_and_closes_their_files(tmp_path):
    async with running(FsBlobStore(), [link(root=str(tmp_path))], grace=0.1) as started:
        blobs = Blobs(started, tmp_path)
        await blobs("create-container", "box")
        await blobs.put("a", bytes(5 * MEGABYTE))
        body = await blobs("get-container-data", id_of("a"), 0, MOST)
    with pytest.raises(StreamClosed, match="the provider stopped"):
        await body.read_all()
    assert open_files(tmp_path) == []


async def test_bodies_on_their_way_are_bounded(blobs: Blobs, monkeypatch):
    monkeypatch.setattr(store, "READERS", 2)
    await blobs.put("a", bytes(MEGABYTE))
    bodies = [await blobs("get-container-data", id_of("a"), 0, MOST) for _ in range(2)]
    with pytest.raises(Exception, match="2 objects are being read already"):
        await blobs("get-container-data", id_of("a"), 0, MOST)
    for body in bodies:
        assert len(await body.read_all()) == MEGABYTE
    assert len(await blobs.get("a")) == MEGABYTE


async def test_a_file_that_shrinks_under_a_reader_breaks_the_body_off(blobs: Blobs):
    await blobs.put("a", bytes(5 * MEGABYTE))
    body = await blobs("get-container-data", id_of("a"), 0, MOST)
    os.truncate(blobs.root / "box" / "a", 10)
    with pytest.raises(StreamClosed, match="became shorter"):
        await body.read_all()


# -- the file system says no


async def test_a_full_disk_is_an_answer_and_leaves_the_old_object(blobs: Blobs, monkeypatch):
    await blobs.put("a", b"old")

    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(fs.os, "write", full)
        assert "the disk is full" in await refusal(blobs.put("a", b"new"))
    assert await blobs.get("a") == b"old"


async def test_what_a_writer_left_long_ago_is_cleared_away(tmp_path):
    parts = tmp_path / ".parts"
    parts.mkdir()
    (parts / "old").write_bytes(b"x")
    (parts / "new").write_bytes(b"x")
    os.utime(parts / "old", (0, 0))
    async with running(FsBlobStore(), [link(root=str(tmp_path))]):
        assert [part.name for part in parts.iterdir()] == ["new"]


@pytest.mark.parametrize("root", ["relative/path", "/proc/nowhere", "/dev/null"])
async def test_a_root_that_cannot_be_used_refuses_the_link(root):
    async with running(FsBlobStore(), []) as started:
        with pytest.raises(BadInput, match=f'"root" {root} cannot be used') as refused:
            await started.runtime.put_link(link(root=root))
        assert refused.value.findings[0].code == "TRL-PRV-011"


async def test_without_a_root_each_component_has_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(fs.tempfile, "tempdir", str(tmp_path))
    async with running(FsBlobStore(), [link("mine"), link("yours")]) as started:
        await started.call("wasi:blobstore/blobstore#create-container", "box", source="mine")
        assert not await started.call("wasi:blobstore/blobstore#container-exists", "box", source="yours")
    assert (tmp_path / "mine" / "box").is_dir()
    assert (tmp_path / "mine").stat().st_mode & 0o077 == 0


async def test_a_default_root_that_is_a_link_is_not_trusted(tmp_path, monkeypatch):
    monkeypatch.setattr(fs.tempfile, "tempdir", str(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "actor").symlink_to(tmp_path / "elsewhere")
    async with running(FsBlobStore(), []) as started:
        with pytest.raises(BadInput, match="belongs to somebody else"):
            await started.runtime.put_link(link())
