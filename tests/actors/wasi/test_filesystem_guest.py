"""A Python program and its granted folders: plain `open`, `os`, `pathlib` and `shutil`, refused outside."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from folders import held_open, writable
from structlog.testing import capture_logs

from actors.actor import Actor
from actors.grants import Grants, Preopen
from actors.limits import Limits
from actors.wasi.filesystem.handles import MOST_OPEN
from lattice import EntityId, Function, Invocation, Trap

pytestmark = pytest.mark.toolchain

Attempt = Callable[..., Awaitable[Any]]


@pytest.fixture
def data(tmp_path) -> Path:
    found = tmp_path / "data"
    found.mkdir()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "given").write_text("given")
    (tmp_path / "outside").write_text("secret")
    return found


@pytest.fixture
async def attempt(engine, deployed, python_guest, data) -> Attempt:
    grants = Grants(directories=(writable(data), Preopen(data.parent / "in", "/in")))
    component = await engine.load(python_guest)

    async def run(name: str, grants: Grants = grants) -> Any:
        actor: Actor = deployed(EntityId("files"), component, grants=grants, limits=Limits(execution=60.0))
        before = len(held_open())
        answer = json.loads(await actor.handle(Invocation(actor.id, Function("", "attempt"), (f"files.{name}",))))
        assert len(held_open()) == before
        return answer

    return run


async def test_files_are_written_appended_sought_and_read(attempt, data):
    size = len("grüße\n".encode()) * 1000 + 3
    assert await attempt("open") == {"lines": 1001, "last": "en", "size": size}
    assert (data / "text").stat().st_size == size - 1
    assert (data / "text").read_bytes()[:3] == b"grU"


async def test_a_megabyte_goes_there_and_back(attempt):
    assert await attempt("big") is True


async def test_os_knows_its_files(attempt):
    assert await attempt("os") == {
        "listdir": ["again", "link", "renamed"],
        "scandir": [["again", False], ["link", True], ["renamed", False]],
        "readlink": "renamed",
        "mtime": 2_000_000_009,
        "links": 2,
        "same": True,
        "rmdir": "OSError",
        "gone": True,
    }


async def test_pathlib_walks_what_it_made(attempt, data):
    assert await attempt("pathlib") == [["a/b/c/x.txt", 1], ["a/z.txt", 2]]
    assert (data / "a" / "b" / "c" / "x.txt").read_text() == "x"


async def test_shutil_copies_moves_and_removes_trees(attempt):
    assert await attempt("shutil") == {"same": True, "left": ["copy", "moved", "one"], "copied": 30}


async def test_a_read_only_folder_is_read_and_nothing_else(attempt, data):
    with capture_logs() as logs:
        answer = await attempt("read_only")
    assert answer.pop("read") == "given"
    assert set(answer.values()) == {"OSError"}
    assert [path.name for path in (data.parent / "in").iterdir()] == ["given"]
    assert {log["event"] for log in logs} == {"guest.denied"}


async def test_nothing_outside_is_there_for_the_guest(attempt, data):
    (data / "host-link").symlink_to(data.parent / "outside")
    (data / "host-root").symlink_to("/")
    answer = await attempt("outside")
    assert "done" not in answer.values()
    assert set(answer.values()) <= {"PermissionError", "FileNotFoundError"}


async def test_the_host_says_not_permitted_to_what_leads_outside(attempt, data):
    (data / "host-link").symlink_to(data.parent / "outside")
    (data / "a").mkdir()
    with capture_logs() as logs:
        codes = await attempt("codes")
    assert codes == ["NOT_PERMITTED"] * 4 + ["NO_ENTRY"]
    assert [log["function"] for log in logs] == ["[method]descriptor.open-at"] * 4


async def test_a_guest_runs_out_of_files_before_the_host_does(attempt):
    assert 10 < await attempt("many") < MOST_OPEN


async def test_a_guest_without_grants_has_no_files(attempt):
    answer = await attempt("outside_only", Grants())
    assert answer == "FileNotFoundError"


async def test_a_guest_that_leaves_files_alone_is_not_denied_any(attempt):
    with capture_logs() as logs:
        assert await attempt("nothing", Grants()) is None
    assert logs == []


async def test_a_granted_folder_that_vanished_ends_the_call_with_a_sentence(attempt, data):
    gone = Grants(directories=(Preopen(data / "gone", "/data"),))
    with pytest.raises(Trap, match=r'the folder granted to "files" as "/data" cannot be opened'):
        await attempt("pathlib", gone)
