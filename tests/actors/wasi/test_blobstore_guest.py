"""A Python actor and its objects, on the blob store of the file system."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import structlog
from openfiles import open_files

from actors.actor import Actor
from actors.limits import Limits
from actors.wasi.blobstore import AT_ONCE, UNSENT
from lattice import ByteStream, Denied, EntityId, Function, Handler, Invocation, Trap, Value, WitError
from providers.blobstore.fs import FsBlobStore
from providers.link import link_between
from providers.testing import PROVIDER, running

pytestmark = pytest.mark.toolchain

ACTOR = EntityId("archive")
MEGABYTE = 1024 * 1024
Attempt = Callable[..., Awaitable[Any]]


@pytest.fixture
async def store(tmp_path) -> AsyncIterator[Handler]:
    """The provider, linked to the actor."""
    link = link_between(ACTOR, PROVIDER, "wasi:blobstore/blobstore", target_config={"root": str(tmp_path)})
    async with running(FsBlobStore(), [link]) as started:
        yield started.runtime.handle
        async with asyncio.timeout(5):
            while open_files(tmp_path) or list((tmp_path / ".parts").iterdir()):
                await asyncio.sleep(0)


@pytest.fixture
async def attempt(engine, deployed, python_guest) -> Attempt:
    component = await engine.load(python_guest)

    async def run(name: str, **options: Any) -> Any:
        actor: Actor = deployed(ACTOR, component, limits=Limits(execution=120.0), **options)
        return json.loads(await actor.handle(Invocation(actor.id, Function("", "attempt"), (f"blobs.{name}",))))

    return run


async def test_every_operation_does_what_it_says(attempt, store):
    assert await attempt("objects", imports=store) == {
        "name": "box",
        "made": True,
        "info": ["a", "box", 11, True],
        "has": [False, True, True],
        "whole": "hello world",
        "part": "wor",
        "size": [11, 3],
        "one": [["b"], False],
        "rest": [["c"], True],
        "skipped": [2, True],
        "left": [[], True],
        "cleared": False,
        "gone": False,
    }


async def test_a_body_may_be_written_before_it_is_said_where_it_goes(attempt, store):
    assert await attempt("body_first", imports=store) == MEGABYTE


async def test_a_body_that_goes_nowhere_ends_at_a_limit(attempt, store):
    written, said = await attempt("unsaid", imports=store)
    assert UNSENT <= written < UNSENT + 10_000
    assert "call container.write-data" in said


async def test_a_value_that_is_not_finished_is_not_stored(attempt, store):
    assert await attempt("unfinished", imports=store) == "old"


async def test_what_cannot_be_is_an_error_that_says_why(attempt, store):
    assert await attempt("refused", imports=store) == {
        "twice": None,
        "missing": 'there is no object "x" in container "box"',
        "nowhere": 'there is no container "nowhere"',
        "backwards": "the range begins at 5, after its end at 1",
        "lost": 'there is no container "box"',
    }


async def test_fifty_megabytes_pass_through_the_host_a_piece_at_a_time(attempt, store):
    held: list[int] = []

    async def watch(stream: ByteStream) -> None:
        while not stream.ended and not stream.reader_gone:
            held.append(stream.buffered)
            await stream.changed()

    async def watched(invocation: Invocation) -> Value:
        for body in invocation.args:
            if isinstance(body, ByteStream):
                watching.create_task(watch(body))
        answer = await store(invocation)
        if isinstance(answer, ByteStream):
            watching.create_task(watch(answer))
        return answer

    async with asyncio.TaskGroup() as watching:
        assert await attempt("big", imports=watched) == [50 * MEGABYTE, True]
    assert len(held) > 200
    assert max(held) < MEGABYTE


async def test_what_is_too_large_for_one_list_is_an_error_before_it_is_a_trap(attempt, store, tmp_path):
    (tmp_path / "box").mkdir()
    (tmp_path / "box" / "largest").write_bytes(bytes(AT_ONCE))
    (tmp_path / "box" / "larger").write_bytes(bytes(AT_ONCE + 1))
    size, said = await attempt("at_once", imports=store)
    assert size == AT_ONCE
    assert "incoming-value-consume-async" in said


async def test_a_guest_that_leaves_in_the_middle_of_reading_leaves_nothing_open(attempt, store, tmp_path):
    (tmp_path / "box").mkdir()
    (tmp_path / "box" / "big").write_bytes(bytes(5 * 1024 * 1024))
    assert await attempt("leave_reading", imports=store) == 10


async def test_a_guest_that_fails_while_writing_stores_nothing(attempt, store, tmp_path):
    (tmp_path / "box").mkdir()
    with pytest.raises(Trap, match="RuntimeError: the guest fails here"):
        await attempt("crash_writing", imports=store)
    assert list((tmp_path / "box").iterdir()) == []


async def test_without_a_link_the_guest_is_told_and_the_grant_is_logged(attempt):
    with structlog.testing.capture_logs() as events:
        assert "not linked" in await attempt("unlinked")
    [event] = [e for e in events if e["event"] == "guest.denied"]
    assert (event["actor"], event["interface"]) == ("archive", "wasi:blobstore/blobstore")
    assert "wasi:blobstore/blobstore" in event["grant"]


@pytest.mark.parametrize("error", [Denied("reads only"), WitError("reads only")])
async def test_a_write_that_is_refused_at_once_is_the_answer_of_write_data(attempt, error):
    async def reads_only(invocation: Invocation) -> Value:
        if invocation.function.name == "container-exists":
            return True
        raise error

    assert await attempt("unlinked_write", imports=reads_only) == "reads only"
