"""The cache of compiled code: shared by processes, kept in bounds, and never trusted further than its checksum."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from importlib.metadata import version
from pathlib import Path

import pytest

from actors.cache import About, CompiledCache, collect, entries, evict

ONE, TWO, THREE = "1" * 64, "2" * 64, "3" * 64


@pytest.fixture
def cache(tmp_path: Path) -> CompiledCache:
    return CompiledCache(tmp_path / "compiled", "engine")


def kept(cache: CompiledCache, digest: str, size: int = 1000, used: float | None = None) -> Path:
    cache.keep(digest, b"x" * size)
    path = cache.path(digest)
    assert path is not None
    if used is not None:
        os.utime(path, (used, used))
    return path


def digests(cache: CompiledCache) -> list[str]:
    return [entry.digest for entry in entries(cache.directory)]


def test_what_was_kept_is_found_and_listed(cache: CompiledCache) -> None:
    path = kept(cache, ONE, used=1000.0)
    (entry,) = entries(cache.directory)
    assert (entry.path, entry.digest, entry.environment) == (path, ONE, cache.environment)
    assert entry.size == path.stat().st_size >= 1000
    assert entry.used == 1000.0
    assert cache.find(ONE) == path
    assert entries(cache.directory)[0].used > time.time() - 60, "finding an entry counts as use"
    assert cache.find(TWO) is None


def test_a_missing_directory_has_no_entries(tmp_path: Path) -> None:
    assert entries(tmp_path / "absent") == []
    assert evict(0, tmp_path / "absent") == []


@pytest.mark.parametrize("damage", ["a bit", "the end", "everything", "all but nothing"])
def test_a_damaged_entry_is_not_found_and_goes(cache: CompiledCache, damage: str) -> None:
    path = kept(cache, ONE)
    data = bytearray(path.read_bytes())
    match damage:
        case "a bit":
            data[500] ^= 1
        case "the end":
            del data[-1]
        case "everything":
            data.clear()
        case _:
            del data[5:]
    path.write_bytes(data)
    assert cache.find(ONE) is None
    assert not path.exists()


def test_the_longest_unused_go_first(cache: CompiledCache) -> None:
    for digest, used in ((ONE, 300.0), (TWO, 100.0), (THREE, 200.0)):
        kept(cache, digest, used=used)
    one = entries(cache.directory)[0].size
    assert [entry.digest for entry in evict(2 * one, cache.directory)] == [TWO]
    assert digests(cache) == [THREE, ONE]
    assert [entry.digest for entry in evict(0, cache.directory)] == [THREE, ONE]
    assert digests(cache) == []


def test_what_is_kept_makes_room_for_itself(tmp_path: Path) -> None:
    cache = CompiledCache(tmp_path, "engine", limit=2500)
    kept(cache, ONE, used=100.0)
    kept(cache, TWO, used=200.0)
    kept(cache, THREE)
    assert digests(cache) == [TWO, THREE]


def test_what_dead_processes_left_is_swept_away(cache: CompiledCache) -> None:
    assert cache.directory is not None
    stale = [cache.directory / ".new-stale", cache.directory / f"{ONE}.lock"]
    for path in (*stale, cache.directory / ".new-fresh"):
        path.touch()
    for path in stale:
        os.utime(path, (0, 0))
    evict(10**9, cache.directory)
    assert [path.name for path in cache.directory.iterdir()] == [".new-fresh"]


def test_entries_differ_by_engine(tmp_path: Path) -> None:
    one, other = CompiledCache(tmp_path, "engine"), CompiledCache(tmp_path, "another engine")
    kept(one, ONE)
    assert other.find(ONE) is None
    kept(other, ONE)
    assert len(entries(tmp_path)) == 2


def test_entries_are_for_their_owner_alone(cache: CompiledCache) -> None:
    assert kept(cache, ONE).stat().st_mode & 0o077 == 0


# -- one compiler at a time

needs_locks = pytest.mark.skipif(sys.platform == "win32", reason="files are not locked there")


@needs_locks
def test_one_waits_while_another_compiles_and_then_finds_what_it_made(cache: CompiledCache) -> None:
    inside, order = threading.Event(), []

    def compiles() -> None:
        with cache.alone(ONE):
            inside.set()
            time.sleep(0.05)
            order.append("kept")
            kept(cache, ONE)

    thread = threading.Thread(target=compiles)
    thread.start()
    inside.wait()
    with cache.alone(ONE):
        order.append("entered")
        assert cache.find(ONE) is not None
    thread.join()
    assert order == ["kept", "entered"]
    assert cache.directory is not None
    assert not list(cache.directory.glob("*.lock"))


@needs_locks
def test_others_do_not_wait(cache: CompiledCache) -> None:
    with cache.alone(ONE), cache.alone(TWO, patience=0):
        pass


HOLDER = """
import sys, time
from importlib.metadata import version
from pathlib import Path
from actors.cache import CompiledCache
with CompiledCache(Path(sys.argv[1]), "engine").alone(sys.argv[2]):
    print("inside", flush=True)
    time.sleep(60)
"""


@needs_locks
def test_nobody_waits_for_a_process_that_died(cache: CompiledCache) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(cache.directory), ONE], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "inside\n"
        begun = time.monotonic()
        threading.Timer(0.1, holder.send_signal, [signal.SIGKILL]).start()
        with cache.alone(ONE, patience=30):
            assert time.monotonic() - begun < 10
    finally:
        holder.kill()
        holder.communicate()


@needs_locks
def test_patience_with_a_process_that_is_stuck_has_an_end(cache: CompiledCache) -> None:
    with cache.alone(ONE), cache.alone(ONE, patience=0.05):
        pass


def test_without_a_directory_nothing_is_kept_and_nobody_waits() -> None:
    cache = CompiledCache(None, "engine")
    cache.keep(ONE, b"x")
    cache.discard(ONE)
    assert cache.find(ONE) is None
    with cache.alone(ONE):
        pass


def test_an_entry_says_what_it_was_compiled_from_and_by_which_wasmtime(cache: CompiledCache) -> None:
    cache.keep(ONE, b"code", "actors/grüße.wasm")
    (entry,) = entries(cache.directory)
    assert entry.about() == About("actors/grüße.wasm", version("wasmtime"))
    assert cache.find(ONE) == entry.path


def test_an_entry_that_does_not_say_so_is_still_an_entry(cache: CompiledCache) -> None:
    path = kept(cache, ONE)
    (entry,) = entries(cache.directory)
    for content in (b"", b"short", b"x" * 1000):
        path.write_bytes(content)
        assert entry.about() == About()
    path.unlink()
    assert entry.about() == About()


def test_what_this_wasmtime_cannot_load_is_collected_before_anything_else(
    cache: CompiledCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept(cache, ONE, used=1000.0)
    monkeypatch.setattr("actors.cache.version", lambda _: "1.0.0")
    kept(CompiledCache(cache.directory, "engine"), TWO, used=3000.0)
    monkeypatch.undo()
    kept(cache, THREE, used=2000.0)
    size = entries(cache.directory)[0].size
    assert [e.digest for e in collect(2 * size, cache.directory)] == [TWO]
    assert [e.digest for e in collect(size, cache.directory)] == [ONE]
    assert digests(cache) == [THREE]
