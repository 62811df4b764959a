"""What is particular to the blob store on the file system. The contract that it shares is in test_blobstore."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from blobs import MEGABYTE, MOST, Blobs, id_of, link, noise, refusal
from hypothesis import given
from hypothesis import strategies as st
from openfiles import open_files

from lattice import BadInput
from lattice.streams import StreamClosed
from providers.blobstore import fs
from providers.blobstore.fs import FsBlobStore, escaped, unescaped
from providers.blobstore.store import Refused
from providers.load import builtin_name, resolve
from providers.testing import running


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
async def blobs(root: Path) -> AsyncIterator[Blobs]:
    async def leftovers() -> int:
        return len(list((root / ".parts").iterdir()))

    async with running(FsBlobStore(), [link(root=str(root))]) as started:
        made = Blobs(started, leftovers)
        await made("create-container", "box")
        yield made
        assert await made.leftovers() == 0
    assert open_files(root) == []


@pytest.mark.parametrize("ref", ["builtin:blobstore-fs", "ghcr.io/wasmcloud/blobstore-fs:0.11.1"])
def test_it_answers_to_wasmclouds_references(ref):
    assert builtin_name(ref) == "blobstore-fs"
    assert resolve(ref) is FsBlobStore


async def test_a_container_is_as_old_as_when_it_was_made(blobs: Blobs, root: Path):
    os.utime(root / "box" / ".created", (1_000_000, 1_000_000))
    await blobs.put("a", b"1")
    assert (await blobs("get-container-info", "box"))["created-at"] == 1_000_000


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


async def test_files_that_somebody_put_there_are_objects_and_nothing_else_is(blobs: Blobs, root: Path):
    box = root / "box"
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


async def test_links_are_not_followed_anywhere(blobs: Blobs, root: Path, tmp_path: Path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"s")
    (root / "away").symlink_to(outside)
    (root / "box" / "secret").symlink_to(outside / "secret")
    assert not await blobs("container-exists", "away")
    for call in (blobs.get("secret", container="away"), blobs.put("secret", b"", "away"), blobs.names("away")):
        assert "no container" in await refusal(call)
    await blobs("delete-container", "away")
    assert "no object" in await refusal(blobs.get("secret"))
    await blobs.put("secret", b"mine")
    assert (outside / "secret").read_bytes() == b"s"


async def test_a_reader_keeps_what_it_opened(blobs: Blobs):
    data = noise(5 * MEGABYTE)
    await blobs.put("a", data)
    body = await blobs("get-container-data", id_of("a"), 0, MOST)
    assert await body.read(10) == data[:10]
    await blobs("delete-container", "box")
    assert await body.read_all() == data[10:]


async def test_a_reader_that_leaves_closes_the_file(blobs: Blobs, root: Path):
    await blobs.put("a", bytes(5 * MEGABYTE))
    body = await blobs("get-container-data", id_of("a"), 0, MOST)
    assert len(open_files(root)) == 1
    body.close()
    async with asyncio.timeout(5):
        while open_files(root):
            await asyncio.sleep(0)


async def test_a_stopping_provider_breaks_bodies_off_and_closes_their_files(tmp_path):
    async with running(FsBlobStore(), [link(root=str(tmp_path))], grace=0.1) as started:
        blobs = Blobs(started)
        await blobs("create-container", "box")
        await blobs.put("a", bytes(5 * MEGABYTE))
        body = await blobs("get-container-data", id_of("a"), 0, MOST)
    with pytest.raises(StreamClosed, match="the provider stopped"):
        await body.read_all()
    assert open_files(tmp_path) == []


async def test_a_file_that_shrinks_under_a_reader_breaks_the_body_off(blobs: Blobs, root: Path):
    await blobs.put("a", bytes(5 * MEGABYTE))
    body = await blobs("get-container-data", id_of("a"), 0, MOST)
    os.truncate(root / "box" / "a", 10)
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


@pytest.mark.parametrize("name", ["..", "../out", "/etc/passwd", "a/b", ".hidden"])
async def test_no_name_leads_out_of_the_root(blobs: Blobs, root: Path, name: str):
    await blobs("create-container", name)
    await blobs.put(name, b"v")
    await blobs.put(name, b"w", name)
    assert {path.name for path in root.parent.iterdir()} == {"root"}


async def test_a_root_that_goes_away_is_an_answer_until_it_is_back(blobs: Blobs, root: Path):
    await blobs("create-container", "box")
    await blobs.put("a", b"kept")
    root.rename(root.with_name("unmounted"))
    assert "box" in await refusal(blobs.get("a"))
    assert await refusal(blobs.put("b", b"x"))
    root.with_name("unmounted").rename(root)
    assert await blobs.get("a") == b"kept"


async def test_a_root_without_permission_refuses_the_link(tmp_path: Path, monkeypatch):
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(fs.os, "mkdir", denied)  # root, whom tests may run as, may write anywhere
    async with running(FsBlobStore(), []) as started:
        with pytest.raises(BadInput, match="Permission denied") as refused:
            await started.runtime.put_link(link(root=str(tmp_path / "theirs")))
        assert refused.value.findings[0].code == "TRL-PRV-011"
