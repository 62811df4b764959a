"""Nothing a guest does with paths, and nothing anybody does to them meanwhile, leads out of a granted folder."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest
from folders import FOLLOW, READ, WRITE, create, granted, names, outcome, writable
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from actors.grants import Preopen
from actors.wasi.filesystem import sandbox
from actors.wasi.filesystem.types import Descriptor

SECRET = b"secret"


@pytest.fixture
def world(tmp_path) -> Path:
    """A granted folder `in`, and beside it what must not be reached."""
    (tmp_path / "in" / "sub" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "file").write_bytes(b"inside")
    (tmp_path / "in" / "sub" / "file").write_bytes(b"inside")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").write_bytes(SECRET)
    return tmp_path


@pytest.fixture
def root(world):
    with granted(writable(world / "in")) as (found,):
        yield found


def everything(root: Descriptor, path: str) -> list[tuple[Any, ...]]:
    """Every operation that takes a path, at this path."""
    return [
        (root.open_at, FOLLOW, path, [], READ),
        (root.open_at, FOLLOW, path, ["create"], WRITE),
        (root.open_at, FOLLOW, path, ["directory"], READ),
        (root.stat_at, FOLLOW, path),
        (root.metadata_hash_at, FOLLOW, path),
        (root.set_times_at, FOLLOW, path, "now", "now"),
        (root.create_directory_at, path),
        (root.remove_directory_at, path),
        (root.unlink_file_at, path),
        (root.readlink_at, path),
        (root.symlink_at, "x", path),
        (root.link_at, [], path, root, "x"),
        (root.link_at, [], "file", root, path),
        (root.rename_at, path, root, "x"),
        (root.rename_at, "file", root, path),
    ]


@pytest.mark.parametrize(
    "path",
    [
        "..",
        "../",
        "../out/file",
        "../in/file",
        "sub/../../out/file",
        "sub/deep/../../../out/file",
        "./.././in/file",
        "/",
        "//",
        "/etc/passwd",
        "///etc/passwd",
    ],
)
async def test_a_path_that_leads_out_is_not_permitted_for_any_operation(root, world, path):
    with capture_logs() as logs:
        for function, *args in everything(root, path):
            assert await outcome(function, *args) == "not-permitted"
    assert len(logs) == len(everything(root, path))
    assert {log["event"] for log in logs} == {"guest.denied"}
    assert 'it leaves the one granted as "/data"' in logs[0]["grant"]
    assert sorted(path.name for path in world.iterdir()) == ["in", "out"]
    assert (world / "out" / "file").read_bytes() == SECRET


@pytest.mark.parametrize(
    "target", ["../out", "../../../../../../etc", "sub/../../out", "sub/deep/../../../out", "/etc", "..", "up/out"]
)
async def test_a_symlink_that_leads_out_is_not_permitted_wherever_it_stands(root, world, target):
    (world / "in" / "up").symlink_to("..")
    (world / "in" / "link").symlink_to(target)
    (world / "in" / "sub" / "chain").symlink_to("../link")
    (world / "in" / "first").symlink_to("sub/chain")
    for name in ("link", "sub/chain", "first"):
        for path in (f"{name}/file", f"{name}/"):
            assert await outcome(root.open_at, FOLLOW, path, [], READ) == "not-permitted"
            assert await outcome(root.open_at, [], path, [], READ) == "not-permitted"
            assert await outcome(root.stat_at, [], path) == "not-permitted"
        assert await outcome(root.open_at, FOLLOW, name, [], READ) == "not-permitted"
        assert await outcome(root.unlink_file_at, f"{name}/file") == "not-permitted"
        assert await outcome(root.create_directory_at, f"{name}/new") == "not-permitted"
        assert await outcome(root.rename_at, "file", root, f"{name}/new") == "not-permitted"
        assert await outcome(root.link_at, [], f"{name}/file", root, "stolen") == "not-permitted"
    assert [path.name for path in (world / "out").iterdir()] == ["file"]


async def test_a_symlink_that_stays_within_is_followed_even_by_way_of_dots(root, world):
    (world / "in" / "sub" / "deep" / "link").symlink_to("../../sub/./deep/../file")
    (world / "in" / "again").symlink_to("sub/deep/link")
    assert await root.open_at(FOLLOW, "again", [], READ).read(10, 0) == (b"inside", False)
    assert await root.open_at([], "sub/deep/.././/file", [], READ).read(10, 0) == (b"inside", False)


async def test_a_dangling_symlink_that_leads_out_creates_nothing_there(root, world):
    (world / "in" / "link").symlink_to("../out/new")
    (world / "in" / "absolute").symlink_to(world / "out" / "new")
    for name in ("link", "absolute"):
        for flags in (["create"], ["create", "truncate"], []):
            assert await outcome(root.open_at, FOLLOW, name, flags, WRITE) == "not-permitted"
    assert not (world / "out" / "new").exists()


async def test_what_the_guest_links_itself_leads_no_further(root):
    root.symlink_at("../out/file", "link")
    assert root.readlink_at("link") == "../out/file"
    assert await outcome(root.open_at, FOLLOW, "link", [], READ) == "not-permitted"
    root.rename_at("link", root, "sub/deep/link")
    assert await outcome(root.open_at, FOLLOW, "sub/deep/link", [], READ) == "no-entry"
    root.symlink_at("../../file", "sub/deep/fine")
    assert await root.open_at(FOLLOW, "sub/deep/fine", [], READ).read(10, 0) == (b"inside", False)
    root.rename_at("sub/deep/fine", root, "sub/up")
    assert await outcome(root.open_at, FOLLOW, "sub/up", [], READ) == "not-permitted"


async def test_links_that_go_round_are_a_loop(root, world):
    root.symlink_at("b", "a")
    root.symlink_at("a", "b")
    root.symlink_at("self/x", "self")
    for path in ("a", "b/x", "self", "self/y"):
        assert await outcome(root.open_at, FOLLOW, path, [], READ) == "loop"
    assert root.stat_at([], "a")["type"] == "symbolic-link"


async def test_forty_links_are_followed_and_not_one_more(root):
    root.symlink_at("file", "l0")
    for number in range(1, 41):
        root.symlink_at(f"l{number - 1}", f"l{number}")
    assert root.stat_at(FOLLOW, "l39")["type"] == "regular-file"
    assert await outcome(root.stat_at, FOLLOW, "l40") == "loop"


async def test_links_that_unfold_into_very_many_steps_are_a_loop(root, world):
    long = "sub/../" * 580
    previous = "sub"
    for number in range(30):
        os.symlink(f"{previous}/../{long}{'sub' if number == 0 else previous}", world / "in" / f"s{number}")  # noqa: PTH211
        previous = f"s{number}"
    assert await outcome(root.stat_at, FOLLOW, f"{previous}/file") == "loop"


async def test_a_subdirectory_is_a_root_of_its_own(root):
    sub = root.open_at([], "sub", ["directory"], READ)
    assert names(sub) == {"deep": "directory", "file": "regular-file"}
    assert await outcome(sub.open_at, FOLLOW, "../file", [], READ) == "not-permitted"
    assert await outcome(sub.rename_at, "file", root, "../x") == "not-permitted"
    root.rename_at("sub", root, "moved")
    assert await outcome(sub.open_at, FOLLOW, "../file", [], READ) == "not-permitted"
    assert await sub.open_at(FOLLOW, "file", [], READ).read(10, 0) == (b"inside", False)


async def test_no_read_only_file_becomes_writable_by_way_of_another_folder(world):
    with granted(Preopen(world / "in", "/in"), writable(world / "out", "/out")) as (read_only, out):
        assert await outcome(read_only.link_at, [], "file", out, "stolen") == "read-only"
        assert await outcome(read_only.rename_at, "file", out, "stolen") == "read-only"
        assert await outcome(out.rename_at, "file", read_only, "file") == "read-only"
        out.symlink_at("../in/file", "link")
        assert await outcome(out.open_at, FOLLOW, "link", [], WRITE) == "not-permitted"
    assert (world / "in" / "file").read_bytes() == b"inside"


async def test_things_move_between_writable_folders_but_never_beside_them(world):
    with granted(writable(world / "in", "/in"), writable(world / "out", "/out")) as (one, other):
        one.rename_at("file", other, "moved")
        one.link_at([], "sub/file", other, "linked")
        assert set(names(other)) == {"file", "moved", "linked"}
        assert await outcome(one.rename_at, "sub", other, "../sub") == "not-permitted"
        assert await outcome(one.rename_at, "../out/file", other, "x") == "not-permitted"


async def test_a_link_swapped_in_between_the_look_and_the_use_is_not_followed(world, monkeypatch):
    """At every single system call, somebody replaces what is looked at by a symlink that leads out."""
    for operation in range(12):
        for call in ("open", "stat", "readlink"):
            shutil.rmtree(world / "in")
            (world / "in" / "sub").mkdir(parents=True)
            (world / "in" / "file").write_bytes(b"inside")
            (world / "in" / "sub" / "file").write_bytes(b"inside")
            (world / "in" / "link").symlink_to("sub")
            real = getattr(os, call)

            def swap(*args, real=real, **kwargs):
                if kwargs.get("dir_fd") is not None:
                    shutil.rmtree(world / "in" / "sub", ignore_errors=True)
                    (world / "in" / "sub").unlink(missing_ok=True) if (world / "in" / "sub").is_symlink() else None
                    (world / "in" / "sub").symlink_to("../out")
                return real(*args, **kwargs)

            with granted(writable(world / "in")) as (root,), monkeypatch.context() as patched:
                function, *args = [*everything(root, "link/file"), *everything(root, "sub/file")][2 * operation]
                patched.setattr(os, call, swap)
                answer = await outcome(function, *args)
                if isinstance(answer, Descriptor) and answer.get_type() == "regular-file":
                    assert (await answer.read(10, 0))[0] != SECRET
            assert (world / "out" / "file").read_bytes() == SECRET
            assert [path.name for path in (world / "out").iterdir()] == ["file"]


async def test_a_folder_and_a_link_that_change_places_all_the_time_let_nothing_through(root, world):
    inside = world / "in"
    (inside / "trap").symlink_to("../out")
    stop = threading.Event()

    def exchange() -> None:
        while not stop.is_set():
            (inside / "sub").rename(inside / "kept")
            (inside / "trap").rename(inside / "sub")
            (inside / "sub").rename(inside / "trap")
            (inside / "kept").rename(inside / "sub")

    thread = threading.Thread(target=exchange)
    thread.start()
    seen = set()
    try:
        for _ in range(3000):
            answer = await outcome(root.open_at, FOLLOW, "sub/file", [], READ)
            if isinstance(answer, Descriptor):
                seen.add((await answer.read(10, 0))[0])
                answer.dropped()
            else:
                assert answer in ("no-entry", "not-permitted", "not-directory")
    finally:
        stop.set()
        thread.join()
    assert seen <= {b"inside"}


async def test_going_up_from_a_folder_that_was_moved_away_meanwhile_leads_back_the_way_it_came(
    root, world, monkeypatch
):
    real, moved = os.open, []

    def move(name, *args, **kwargs):
        opened = real(name, *args, **kwargs)
        if name == b"deep" and not moved:
            moved.append((world / "in" / "sub" / "deep").rename(world / "out" / "deep"))
        return opened

    monkeypatch.setattr(os, "open", move)
    found = root.open_at([], "sub/deep/../file", [], READ)
    assert moved
    assert await found.read(10, 0) == (b"inside", False)


def test_weird_names_are_names(root):
    weird = [
        "...",
        "..a",
        "a..",
        " ",
        "\n",
        "\t",
        "~",
        "-rf",
        "*",
        "C:",
        "a\\b",
        "..\\x",
        "%2e%2e",
        "näme",
        "名前",
        "🦑",
        "a\u202eb",
    ]
    for name in weird:
        create(root, name, b"x").dropped()
    assert set(weird) <= set(names(root))
    for name in weird:
        root.unlink_file_at(name)
    assert set(names(root)) == {"file", "sub"}


async def test_a_guest_of_systems_without_o_path_is_held_as_well(root, world, monkeypatch):
    monkeypatch.setattr(sandbox, "_THROUGH", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    (world / "in" / "link").symlink_to("sub")
    (world / "in" / "out").symlink_to("../out")
    assert await root.open_at(FOLLOW, "link/file", [], READ).read(10, 0) == (b"inside", False)
    assert await outcome(root.open_at, FOLLOW, "out/file", [], READ) == "not-permitted"
    assert await outcome(root.open_at, FOLLOW, "file/x", [], READ) == "not-directory"


# -- whatever the path, whatever the links

PARTS = st.sampled_from(["..", ".", "", "a", "b", "l", "m", "n", "f", "in", "out", "secret", "gone"])
PATHS = st.lists(PARTS, min_size=1, max_size=8).map("/".join)
LINKS = st.fixed_dictionaries({place: PATHS.filter(bool) for place in ("l", "a/m", "a/b/n")})


@settings(max_examples=400, deadline=None)
@given(path=PATHS, links=LINKS, follow=st.booleans())
def test_no_walk_ends_outside_its_folder(path, links, follow):
    with tempfile.TemporaryDirectory() as folder:
        outside = Path(folder).resolve()
        inside = outside / "in"
        (inside / "a" / "b").mkdir(parents=True)
        (outside / "out").mkdir()
        for place in ("f", "a/f", "a/b/f"):
            (inside / place).write_bytes(b"inside")
        for place in ("secret", "out/f", "f"):
            (outside / place).write_bytes(SECRET)
        for place, target in links.items():
            (inside / place).symlink_to(target)
        allowed = {
            (found.stat().st_dev, found.stat().st_ino)
            for found in [inside, *inside.glob("**/*")]
            if not found.is_symlink()
        }
        for directory in (inside, inside / "a"):
            fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            try:
                opened = sandbox.open_at(fd, path, os.O_RDONLY, follow=follow)
            except OSError:
                continue
            finally:
                os.close(fd)
            found = os.fstat(opened)
            os.close(opened)
            assert (found.st_dev, found.st_ino) in allowed


@settings(max_examples=300, deadline=None)
@given(path=PATHS, links=LINKS)
def test_a_walk_within_ends_where_the_system_itself_would_end(path, links):
    with tempfile.TemporaryDirectory() as folder:
        inside = Path(folder).resolve()
        (inside / "a" / "b").mkdir(parents=True)
        for place in ("f", "a/f", "a/b/f"):
            (inside / place).write_bytes(b"inside")
        for place, target in links.items():
            (inside / place).symlink_to(target)
        fd = os.open(inside, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with sandbox.Walk(fd, path) as walk:
                _, ours = sandbox.look(walk, follow=True)
        except sandbox.Escape:
            return
        except OSError as error:
            with pytest.raises(type(error)):
                os.stat(path, dir_fd=fd)
            return
        finally:
            os.close(fd)
        theirs = (inside / path).stat() if not path.endswith("/") else os.stat(f"{inside}/{path}")  # noqa: PTH116
        assert os.path.samestat(ours, theirs)
