"""wasi:filesystem: every operation, and every way in which it says no."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import threading
import time
from pathlib import Path

import pytest
from folders import FOLLOW, READ, WRITE, create, granted, held_open, names, outcome, writable
from structlog.testing import capture_logs

from actors.grants import Grants, Preopen
from actors.guest import Guest
from actors.wasi.filesystem import handles
from actors.wasi.filesystem.errors import CODES, code_of
from actors.wasi.filesystem.metadata import stat_of
from actors.wasi.filesystem.preopens import Preopens
from actors.wasi.filesystem.types import Descriptor, Types
from actors.wasi.io import IoError, Poll
from lattice import EntityId, Trap, WitError
from lattice.streams import CHUNK


@pytest.fixture
def root(tmp_path):
    with granted(writable(tmp_path)) as (found,):
        yield found


@pytest.fixture
def file(root):
    return create(root, "file", b"0123456789")


async def drain(stream) -> bytes:
    data = b""
    while (chunk := await outcome(stream.blocking_read, 2**64 - 1)) != "closed":
        data += chunk
    stream.dropped()
    return data


# -- preopens


def test_a_guest_finds_the_granted_folders_under_their_names(tmp_path):
    guest = Guest(EntityId("reader"), grants=Grants(directories=(Preopen(tmp_path, "/in"), writable(tmp_path, "."))))
    found = Preopens.get_directories(guest)
    assert [name for _, name in found] == ["/in", "."]
    assert [descriptor.get_flags() for descriptor, _ in found] == [["read"], ["read", "mutate-directory"]]
    assert [descriptor.get_type() for descriptor, _ in found] == ["directory", "directory"]
    guest.end()


def test_a_guest_that_was_granted_nothing_finds_no_folders():
    assert Preopens.get_directories(Guest(EntityId("reader"))) == []


def test_a_granted_folder_that_is_not_there_stops_the_guest_with_a_sentence(tmp_path):
    grants = Grants(directories=(Preopen(tmp_path, "/here"), Preopen(tmp_path / "gone", "/gone")))
    guest = Guest(EntityId("reader"), grants=grants)
    before = held_open()
    with pytest.raises(Trap, match=r'granted to "reader" as "/gone" cannot be opened: .*No such file'):
        Preopens.get_directories(guest)
    assert held_open() == before


# -- reading and writing


async def test_what_was_written_is_read(root, tmp_path):
    file = create(root, "file")
    assert await file.write(b"hello", 0) == 5
    assert await file.write(b"HE", 7) == 2
    assert await file.read(100, 0) == (b"hello\0\0HE", False)
    assert await file.read(100, 9) == (b"", True)
    assert await file.read(0, 0) == (b"", False)
    assert await file.read(2, 1) == (b"el", False)
    assert (tmp_path / "file").read_bytes() == b"hello\0\0HE"


async def test_one_read_is_never_more_than_a_chunk(root, tmp_path):
    (tmp_path / "big").write_bytes(bytes(3 * CHUNK))
    file = root.open_at([], "big", [], READ)
    data, end = await file.read(2**64 - 1, 0)
    assert (len(data), end) == (CHUNK, False)


async def test_a_large_write_happens_in_a_thread_and_whole(root, tmp_path, monkeypatch):
    threads = []
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda *args: (threads.append(threading.current_thread()), write(*args))[1])
    data = os.urandom(5 * CHUNK + 1)
    assert await create(root, "big").write(data, 3) == len(data)
    assert (tmp_path / "big").read_bytes() == bytes(3) + data
    assert threads != [threading.main_thread()]


async def test_offsets_and_sizes_beyond_all_files_are_invalid(file):
    assert await outcome(file.read, 1, 2**64 - 1) == "invalid"
    assert await outcome(file.write, b"x", 2**63) == "invalid"
    assert await outcome(file.set_size, 2**63) == "invalid"
    assert await outcome(file.advise, 2**63, 1, "normal") == "invalid"


async def test_a_file_is_read_only_or_written_only_as_it_was_opened(root, file):
    reader, writer = root.open_at([], "file", [], READ), root.open_at([], "file", [], ["write"])
    assert (reader.get_flags(), writer.get_flags(), file.get_flags()) == (["read"], ["write"], ["read", "write"])
    assert root.open_at([], "file", [], []).get_flags() == ["read"]
    for function, *args in (
        (reader.write, b"x", 0),
        (reader.write_via_stream, 0),
        (reader.append_via_stream,),
        (reader.set_size, 0),
        (writer.read, 1, 0),
        (writer.read_via_stream, 0),
    ):
        assert await outcome(function, *args) == "bad-descriptor"


async def test_a_directory_has_no_bytes(root):
    for function, *args in (
        (root.read, 1, 0),
        (root.write, b"x", 0),
        (root.read_via_stream, 0),
        (root.write_via_stream, 0),
        (root.append_via_stream,),
        (root.set_size, 0),
        (root.advise, 0, 0, "normal"),
    ):
        assert await outcome(function, *args) == "bad-descriptor"


async def test_a_file_has_no_entries(file):
    for function, *args in (
        (file.read_directory,),
        (file.create_directory_at, "x"),
        (file.stat_at, [], "x"),
        (file.metadata_hash_at, [], "x"),
        (file.set_times_at, [], "x", "now", "now"),
        (file.link_at, [], "x", file, "y"),
        (file.open_at, [], "x", [], READ),
        (file.readlink_at, "x"),
        (file.remove_directory_at, "x"),
        (file.rename_at, "x", file, "y"),
        (file.symlink_at, "x", "y"),
        (file.unlink_file_at, "x"),
    ):
        assert await outcome(function, *args) == "not-directory"


async def test_a_size_can_be_set_both_ways(file):
    file.set_size(3)
    assert await file.read(100, 0) == (b"012", False)
    file.set_size(5)
    assert await file.read(100, 0) == (b"012\0\0", False)


async def test_sync_waits_for_the_disk_without_the_loop(root, file):
    assert await file.sync() is None
    assert await file.sync_data() is None
    assert await root.sync() is None
    assert await root.sync_data() is None


@pytest.mark.parametrize("advice", ["normal", "sequential", "random", "will-need", "dont-need", "no-reuse"])
def test_advice_is_taken(file, advice):
    assert file.advise(0, 10, advice) is None


# -- streams


async def test_a_stream_reads_from_its_offset_to_the_end_and_closes(file):
    stream = file.read_via_stream(4)
    assert stream.read(0) == b""
    assert stream.read(2) == b"45"
    assert stream.skip(1) == 1
    assert await stream.blocking_read(100) == b"789"
    assert await outcome(stream.blocking_read, 1) == "closed"
    assert await outcome(stream.read, 1) == "closed"


async def test_a_stream_of_a_file_is_always_ready(file):
    assert await Poll.poll(None, [file.read_via_stream(0).subscribe(), file.append_via_stream().subscribe()]) == [0, 1]
    await file.write_via_stream(0).subscribe().block()


async def test_streams_write_at_their_place_and_at_the_end(root, file, tmp_path):
    at, end, more = file.write_via_stream(2), file.append_via_stream(), file.append_via_stream()
    for stream, data in ((at, b"ab"), (end, b"X"), (more, b"Y"), (at, b"c"), (end, b"Z")):
        await stream.blocking_write_and_flush(data)
    end.flush()
    end.blocking_flush()
    assert (tmp_path / "file").read_bytes() == b"01abc56789XYZ"


async def test_a_stream_takes_no_more_than_it_permitted(file):
    stream = file.write_via_stream(0)
    assert stream.check_write() == CHUNK
    with pytest.raises(Trap):
        stream.write(bytes(CHUNK + 1))


async def test_a_file_is_spliced_into_another(root, file, tmp_path):
    (tmp_path / "from").write_bytes(bytes(range(256)) * 1000)
    source, sink = root.open_at([], "from", [], READ).read_via_stream(0), file.write_via_stream(0)
    while await outcome(sink.blocking_splice, source, 2**64 - 1) != "closed":
        pass
    assert (tmp_path / "file").read_bytes() == bytes(range(256)) * 1000


async def test_a_stream_goes_on_after_its_descriptor_was_dropped(file):
    stream = file.read_via_stream(0)
    file.dropped()
    assert await drain(stream) == b"0123456789"


async def test_a_stream_that_breaks_says_why_once_and_is_closed_then(file, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    stream = file.write_via_stream(0)
    monkeypatch.setattr(os, "pwrite", full)
    error = (await outcome(stream.blocking_write_and_flush, b"x"))["last-operation-failed"]
    assert Types.filesystem_error_code(None, error) == "insufficient-space"
    assert "No space left" in error.to_debug_string()
    for function, *args in ((stream.check_write,), (stream.flush,), (stream.blocking_write_and_flush, b"x")):
        assert await outcome(function, *args) == "closed"


async def test_a_stream_beyond_all_files_is_invalid(file):
    for stream, function, *args in (
        (file.read_via_stream(2**64 - 1), "blocking_read", 1),
        (file.write_via_stream(2**64 - 1), "blocking_write_and_flush", b"x"),
    ):
        error = (await outcome(getattr(stream, function), *args))["last-operation-failed"]
        assert Types.filesystem_error_code(None, error) == "invalid"
        assert await outcome(getattr(stream, function), *args) == "closed"


def test_the_error_of_another_stream_has_no_filesystem_code():
    assert Types.filesystem_error_code(None, IoError("cable cut")) is None


# -- open-at


async def test_open_creates_truncates_and_insists(root, tmp_path):
    assert await outcome(root.open_at, [], "new", [], READ) == "no-entry"
    assert await outcome(root.open_at, [], "new", ["exclusive"], READ) == "no-entry"
    root.open_at([], "new", ["create", "exclusive"], WRITE)
    assert await outcome(root.open_at, [], "new", ["create", "exclusive"], WRITE) == "exist"
    (tmp_path / "new").write_bytes(b"old")
    root.open_at([], "new", ["create"], WRITE)
    assert (tmp_path / "new").read_bytes() == b"old"
    assert root.open_at([], "new", ["truncate"], READ).get_flags() == ["read"]
    assert (tmp_path / "new").read_bytes() == b""


async def test_open_of_a_directory_and_of_what_is_none(root, file):
    root.create_directory_at("sub")
    for path in ("sub", "sub/", "sub/.", ".", "./", "sub/.."):
        assert root.open_at([], path, ["directory"], READ).get_type() == "directory"
        assert root.open_at([], path, [], READ).get_type() == "directory"
        assert await outcome(root.open_at, [], path, [], WRITE) == "is-directory"
        assert await outcome(root.open_at, [], path, ["create"], READ) == "is-directory"
    assert await outcome(root.open_at, [], "file", ["directory"], READ) == "not-directory"
    assert await outcome(root.open_at, [], "file/", [], READ) == "not-directory"
    assert await outcome(root.open_at, [], "file/.", [], READ) == "not-directory"
    assert await outcome(root.open_at, [], "file/x", [], READ) == "not-directory"
    assert await outcome(root.open_at, [], "file/..", [], READ) == "not-directory"
    assert await outcome(root.open_at, [], "gone/..", [], READ) == "no-entry"
    assert await outcome(root.open_at, [], "new/", ["create"], WRITE) == "is-directory"
    for flag in ("create", "truncate", "exclusive"):
        assert await outcome(root.open_at, [], "sub", ["directory", flag], READ) == "invalid"


async def test_open_follows_a_symlink_only_when_told(root, file):
    root.symlink_at("file", "link")
    assert await root.open_at(FOLLOW, "link", [], READ).read(3, 0) == (b"012", False)
    assert await outcome(root.open_at, [], "link", [], READ) == "loop"
    assert await outcome(root.open_at, [], "link", ["directory"], READ) == "loop"
    assert await outcome(root.open_at, FOLLOW, "link", ["create", "exclusive"], WRITE) == "exist"


async def test_open_creates_what_a_dangling_symlink_names(root, tmp_path):
    root.symlink_at("target", "link")
    assert await outcome(root.open_at, FOLLOW, "link", [], READ) == "no-entry"
    await root.open_at(FOLLOW, "link", ["create"], WRITE).write(b"x", 0)
    assert (tmp_path / "target").read_bytes() == b"x"


@pytest.mark.parametrize("flag", ["file-integrity-sync", "data-integrity-sync", "requested-write-sync"])
async def test_synchronous_writing_is_unsupported(root, file, flag):
    assert await outcome(root.open_at, [], "file", [], [*WRITE, flag]) == "unsupported"


async def test_a_fifo_keeps_nobody_waiting(root, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    fifo = root.open_at([], "fifo", [], READ)
    assert fifo.get_type() == "fifo"
    assert await outcome(fifo.read, 1, 0) == "invalid-seek"
    fifo.dropped()
    assert await outcome(root.open_at, [], "fifo", [], ["write"]) == "no-such-device"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("", "no-entry"),
        ("a\0b", "invalid"),
        ("x" * 256, "name-too-long"),
        ("x/" * 2048, "name-too-long"),
        ("gone", "no-entry"),
        ("gone/x", "no-entry"),
    ],
)
async def test_paths_that_can_be_no_file_are_refused_everywhere(root, path, code):
    for function, *args in (
        (root.open_at, [], path, [], READ),
        (root.stat_at, FOLLOW, path),
        (root.metadata_hash_at, [], path),
        (root.set_times_at, [], path, "now", "now"),
        (root.readlink_at, path),
        (root.remove_directory_at, path),
        (root.unlink_file_at, path),
        (root.rename_at, path, root, "y"),
        (root.link_at, [], path, root, "y"),
    ):
        assert await outcome(function, *args) == code
    if path != "gone":
        assert await outcome(root.create_directory_at, path) == code
        assert await outcome(root.symlink_at, "target", path) == code


async def test_a_path_too_deep_is_refused_before_it_costs_files(root, tmp_path):
    deep = tmp_path
    for _ in range(300):
        deep /= "d"
        deep.mkdir()
    assert await outcome(root.stat_at, [], "d/" * 300) == "name-too-long"
    assert root.stat_at([], "d/" * 200)["type"] == "directory"


# -- metadata


async def test_stat_tells_what_there_is(root, file, tmp_path):
    root.link_at([], "file", root, "again")
    root.symlink_at("file", "link")
    found = file.stat()
    real = (tmp_path / "file").stat()
    assert (found["type"], found["size"], found["link-count"]) == ("regular-file", 10, 2)
    modified = found["data-modification-timestamp"]
    assert modified["seconds"] * 10**9 + modified["nanoseconds"] == real.st_mtime_ns
    assert root.stat_at(FOLLOW, "link") == root.stat_at([], "file") == found
    assert root.stat_at([], "link")["type"] == "symbolic-link"
    assert root.stat_at([], ".")["type"] == root.stat()["type"] == "directory"
    assert await outcome(root.stat_at, [], "file/") == "not-directory"


def test_a_time_before_1970_is_left_out(tmp_path):
    (tmp_path / "old").touch()
    os.utime(tmp_path / "old", ns=(-1, 0))
    found = stat_of((tmp_path / "old").stat())
    assert found["data-access-timestamp"] is None
    assert found["data-modification-timestamp"] == {"seconds": 0, "nanoseconds": 0}


def stamp(seconds: int, nanoseconds: int = 0) -> dict:
    return {"timestamp": {"seconds": seconds, "nanoseconds": nanoseconds}}


async def test_times_are_set_kept_or_now(root, file, tmp_path):
    real = tmp_path / "file"
    file.set_times(stamp(5, 7), stamp(6))
    assert (real.stat().st_atime_ns, real.stat().st_mtime_ns) == (5_000_000_007, 6_000_000_000)
    root.set_times_at([], "file", "no-change", stamp(8))
    assert (real.stat().st_atime_ns, real.stat().st_mtime_ns) == (5_000_000_007, 8_000_000_000)
    file.set_times("no-change", "no-change")
    assert real.stat().st_mtime_ns == 8_000_000_000
    begun = time.time_ns() - 10**9
    file.set_times("now", "no-change")
    assert real.stat().st_atime_ns > begun > real.stat().st_mtime_ns
    root.set_times_at(FOLLOW, "file", "now", "now")
    assert real.stat().st_mtime_ns > begun
    assert await outcome(file.set_times, stamp(2**64 - 1), "now") == "overflow"


def test_the_times_of_a_symlink_are_its_own(root, file, tmp_path):
    root.symlink_at("file", "link")
    before = (tmp_path / "file").stat().st_mtime_ns
    root.set_times_at([], "link", stamp(1), stamp(2))
    assert (tmp_path / "link").lstat().st_mtime_ns == 2 * 10**9
    assert (tmp_path / "file").stat().st_mtime_ns == before
    root.set_times_at(FOLLOW, "link", stamp(1), stamp(3))
    assert (tmp_path / "file").stat().st_mtime_ns == 3 * 10**9


async def test_the_same_object_is_known_by_any_name(root, file):
    root.link_at([], "file", root, "again")
    again, other = root.open_at([], "again", [], READ), create(root, "other")
    assert file.is_same_object(again) and not file.is_same_object(other)
    assert file.metadata_hash() == again.metadata_hash() == root.metadata_hash_at([], "again")
    assert file.metadata_hash() != other.metadata_hash()
    before = file.metadata_hash()
    await file.write(b"changed", 0)
    assert file.metadata_hash() == before


# -- directories


def test_entries_are_listed_with_their_types(root, file, tmp_path):
    root.create_directory_at("sub")
    root.symlink_at("gone", "link")
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
    assert names(root) == {
        "file": "regular-file",
        "sub": "directory",
        "link": "symbolic-link",
        "fifo": "fifo",
        "socket": "socket",
    }
    assert names(root.open_at([], "sub", ["directory"], READ)) == {}


def test_two_listings_at_once_do_not_disturb_each_other(root):
    for number in range(50):
        create(root, str(number)).dropped()
    one, two = root.read_directory(), root.read_directory()
    seen = [[], []]
    for _ in range(50):
        for stream, found in zip((one, two), seen, strict=True):
            found.append(stream.read_directory_entry()["name"])
    assert one.read_directory_entry() is None and two.read_directory_entry() is None
    assert len(set(seen[0])) == len(set(seen[1])) == 50
    one.dropped(), two.dropped()


async def test_a_name_that_is_not_utf_8_is_an_error_between_the_others(root, tmp_path):
    try:
        os.close(os.open(os.fsencode(tmp_path) + b"/\xff\xfe", os.O_CREAT))
    except OSError:
        pytest.skip("this file system keeps names in UTF-8")
    create(root, "näme\n").dropped()
    stream = root.read_directory()
    seen = [await outcome(stream.read_directory_entry) for _ in range(3)]
    stream.dropped()
    assert "illegal-byte-sequence" in seen and seen[-1] is None
    assert {"type": "regular-file", "name": "näme\n"} in seen


async def test_directories_are_made_and_removed(root, file, tmp_path):
    root.create_directory_at("a")
    root.create_directory_at("a/b/")
    assert (tmp_path / "a" / "b").is_dir()
    root.symlink_at("a", "link")
    for path, code in (
        ("a", "exist"),
        (".", "exist"),
        ("file", "exist"),
        ("link", "exist"),
        ("file/x", "not-directory"),
    ):
        assert await outcome(root.create_directory_at, path) == code
    for path, code in (
        ("a", "not-empty"),
        ("file", "not-directory"),
        ("link", "not-directory"),
        ("link/", "not-directory"),
        (".", "invalid"),
    ):
        assert await outcome(root.remove_directory_at, path) == code
    root.remove_directory_at("link/b/")
    root.remove_directory_at("a/")
    assert sorted(names(root)) == ["file", "link"]


async def test_files_are_unlinked_and_directories_are_not(root, file):
    root.create_directory_at("sub")
    root.symlink_at("sub", "link")
    for path, code in (
        ("sub", "is-directory"),
        ("sub/", "is-directory"),
        (".", "is-directory"),
        ("file/", "not-directory"),
    ):
        assert await outcome(root.unlink_file_at, path) == code
    root.unlink_file_at("link")
    root.unlink_file_at("sub/../file")
    assert names(root) == {"sub": "directory"}
    assert await file.read(3, 0) == (b"012", False)


async def test_symlinks_say_where_they_lead(root, tmp_path):
    root.symlink_at("any/where", "link")
    assert root.readlink_at("link") == "any/where"
    for target, path, code in (
        ("/etc/passwd", "x", "not-permitted"),
        ("a\0b", "x", "invalid"),
        ("", "x", "no-entry"),
        ("x", "link", "exist"),
        ("x", "link/", "exist"),
        ("x", "new/", "no-entry"),
    ):
        assert await outcome(root.symlink_at, target, path) == code
    assert await outcome(root.readlink_at, ".") == "invalid"
    (tmp_path / "out").symlink_to("/etc")
    assert await outcome(root.readlink_at, "out") == "not-permitted"
    (tmp_path / "bytes").symlink_to(os.fsdecode(b"\xff"))
    assert await outcome(root.readlink_at, "bytes") == "illegal-byte-sequence"


async def test_links_share_a_file(root, file, tmp_path):
    root.create_directory_at("sub")
    root.link_at([], "file", root.open_at([], "sub", [], READ), "again")
    assert (tmp_path / "sub" / "again").samefile(tmp_path / "file")
    for flags, old, new, code in (
        (FOLLOW, "file", "x", "invalid"),
        ([], "file", "sub/again", "exist"),
        ([], "file", "x/", "no-entry"),
        ([], "file", "sub/", "exist"),
        ([], "file/", "x", "not-directory"),
        ([], "sub", "x", "not-permitted"),
    ):
        assert await outcome(root.link_at, flags, old, root, new) == code
    root.symlink_at("file", "link")
    root.link_at([], "link", root, "other-link")
    assert root.readlink_at("other-link") == "file"


async def test_things_are_renamed(root, file, tmp_path):
    root.create_directory_at("sub")
    root.create_directory_at("full")
    create(root, "full/x")
    sub = root.open_at([], "sub", [], READ)
    for old, new, code in (
        ("file", "sub", "is-directory"),
        ("sub", "file", "not-directory"),
        ("sub", "full", "not-empty"),
        ("file/", "other", "not-directory"),
        ("file", "other/", "not-directory"),
        ("full", "full/inside", "invalid"),
    ):
        assert await outcome(root.rename_at, old, root, new) == code
    root.rename_at("file", sub, "moved")
    root.rename_at("full/", root, "filled/")
    assert names(root) == {"sub": "directory", "filled": "directory"}
    assert (tmp_path / "sub" / "moved").read_bytes() == b"0123456789"


async def test_a_rename_onto_another_device_says_so(root, file, monkeypatch):
    def other(*_, **__):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "rename", other)
    assert await outcome(root.rename_at, "file", root, "x") == "cross-device"


# -- read-only grants


async def test_a_read_only_folder_refuses_every_change_and_says_what_would_allow_it(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "file").write_bytes(b"0123")
    (tmp_path / "other").mkdir()
    kept = sorted(tmp_path.rglob("*"))
    with granted(Preopen(tmp_path, "/in"), writable(tmp_path / "other", "/out")) as (root, out):
        file = root.open_at([], "file", [], READ)
        sub = root.open_at([], "sub", ["directory"], READ)
        changes = [
            (file.write, b"x", 0),
            (file.write_via_stream, 0),
            (file.append_via_stream,),
            (file.set_size, 0),
            (file.set_times, "now", "now"),
            (root.set_times, "now", "now"),
            (root.set_times_at, [], "file", "now", "now"),
            (root.create_directory_at, "x"),
            (sub.create_directory_at, "x"),
            (root.remove_directory_at, "sub"),
            (root.unlink_file_at, "file"),
            (root.symlink_at, "file", "x"),
            (root.link_at, [], "file", root, "x"),
            (root.link_at, [], "file", out, "x"),
            (out.link_at, [], "x", root, "x"),
            (root.rename_at, "file", root, "x"),
            (root.rename_at, "file", out, "x"),
            (out.rename_at, "x", root, "x"),
            (root.open_at, [], "file", [], ["write"]),
            (root.open_at, [], "file", ["truncate"], READ),
            (root.open_at, [], "x", ["create"], READ),
            (root.open_at, [], "sub", ["directory"], ["read", "mutate-directory"]),
        ]
        with capture_logs() as logs:
            assert [await outcome(function, *args) for function, *args in changes] == ["read-only"] * len(changes)
        assert await file.read(10, 0) == (b"0123", False)
    assert sorted(tmp_path.rglob("*")) == kept
    assert (tmp_path / "file").read_bytes() == b"0123"
    assert len(logs) == len(changes)
    assert {(log["event"], log["actor"], log["interface"]) for log in logs} == {
        ("guest.denied", "reader", "wasi:filesystem/types")
    }
    assert logs[0]["function"] == "[method]descriptor.write"
    assert logs[0]["grant"] == f'the folder "/in" writable: {tmp_path}::/in:rw'


# -- handles


def test_files_close_when_the_guest_drops_them(root, file):
    before = len(held_open())
    stream = file.read_via_stream(0)
    listing = root.read_directory()
    listing.dropped()
    file.dropped()
    assert len(held_open()) == before
    stream.dropped()
    assert len(held_open()) == before - 1


def test_files_close_when_the_instance_ends(tmp_path):
    before = len(held_open())
    with granted(writable(tmp_path)) as (root,):
        for number in range(20):
            create(root, f"f{number}", b"x").read_via_stream(0)
        assert len(held_open()) >= before + 21
    assert len(held_open()) == before


async def test_one_guest_cannot_open_files_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(handles, "MOST_OPEN", 5)
    with granted(writable(tmp_path)) as (root,):
        files = [create(root, "file") for _ in range(4)]
        assert await outcome(root.open_at, [], "file", [], READ) == "quota"
        assert await outcome(root.read_directory) == "quota"
        files[0].dropped()
        assert isinstance(await outcome(root.open_at, [], "file", [], READ), Descriptor)


async def test_a_thread_at_work_keeps_its_file_open_when_the_guest_is_gone(tmp_path):
    begun, go, ended = threading.Event(), threading.Event(), threading.Event()

    def work(fd: int) -> None:
        begun.set()
        go.wait(10)
        os.write(fd, b"done")
        ended.set()

    guest = Guest(EntityId("reader"), grants=Grants(directories=(writable(tmp_path),)))
    ((root, _),) = Preopens.get_directories(guest)
    before = len(held_open())
    file = create(root, "file")._file
    working = asyncio.create_task(file.in_thread(work))
    await asyncio.to_thread(begun.wait, 10)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    guest.end()
    assert file.fd >= 0
    go.set()
    await asyncio.to_thread(ended.wait, 10)
    async with asyncio.timeout(10):
        while file.fd >= 0:
            await asyncio.sleep(0)
    assert (tmp_path / "file").read_bytes() == b"done"
    assert len(held_open()) <= before


async def test_work_that_never_began_leaves_its_file_closed(root, file):
    loop = asyncio.get_running_loop()
    gate = threading.Event()
    hogs = [loop.run_in_executor(None, gate.wait, 10) for _ in range(64)]
    try:
        waiting = asyncio.create_task(file.sync())
        await asyncio.sleep(0)
        file.dropped()
        assert file._file.fd >= 0
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert file._file.fd == -1
    finally:
        gate.set()
        await asyncio.gather(*hogs)


# -- error codes


def test_every_code_is_one_that_wit_knows():
    wit = (Path(handles.__file__).parents[2] / "wit" / "deps" / "filesystem.wit").read_text()
    listed = wit.partition("enum error-code {")[2].partition("}")[0]
    known = {name.strip() for name in listed.split(",") if name.strip()}
    assert set(CODES.values()) == known
    assert code_of(OSError(99999, "?")) == "io"


async def test_what_the_system_forbids_is_said_in_its_own_words(root, file, monkeypatch):
    for number, code in ((errno.EACCES, "access"), (errno.EBUSY, "busy"), (errno.EMFILE, "quota"), (errno.EIO, "io")):

        def refuse(*_, number=number, **__):
            raise OSError(number, os.strerror(number))

        with monkeypatch.context() as patched:
            patched.setattr(os, "mkdir", refuse)
            assert await outcome(root.create_directory_at, "x") == code


def test_a_value_of_the_host_never_becomes_an_answer(file):
    file.dropped()
    with pytest.raises(WitError) as closed:
        file.stat()
    assert closed.value.payload == "bad-descriptor"
