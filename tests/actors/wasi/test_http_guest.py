"""wasi:http through real components, written by hand so that each does exactly one thing."""

from __future__ import annotations

import asyncio
import time

import pytest
import structlog

from actors.actor import Actor
from actors.limits import Limits
from lattice import BadValue, ByteStream, DeadlineExceeded, EntityId, Invocation, Trap, WitError
from lattice.http import HANDLE
from lattice.streams import StreamClosed, read_body

WEB = EntityId("web")
REQUEST = {
    "method": "GET",
    "path-with-query": "/",
    "scheme": "http",
    "authority": "example.com",
    "headers": [("accept", b"*/*")],
    "body": b"",
}
LINE = b"Hello from WebAssembly!\n"

OPEN = """
  (local.set $body (call $head (local.get $out)))
  (call $write (local.get $body) (i32.const 0))
  (local.set $stream (i32.load (i32.const 4)))
"""
CLOSE = """
  (call $drop-stream (local.get $stream))
  (call $finish (local.get $body) (i32.const 0) (i32.const 0) (i32.const 32))
"""
HELLO = OPEN + "(call $hello (local.get $stream))" + CLOSE
SEVERAL_MEGABYTES = (
    OPEN
    + """
  (local.set $n (i32.const 1000))
  (loop $again
    (call $put (local.get $stream) (i32.const 1024) (i32.const 4096) (i32.const 16))
    (local.set $n (i32.sub (local.get $n) (i32.const 1)))
    (br_if $again (local.get $n)))
"""
    + CLOSE
)
FOREVER = "(loop $again (br $again))"


def call(deadline: float = 10.0) -> Invocation:
    return Invocation(WEB, HANDLE, (REQUEST,), deadline=time.monotonic() + deadline)


@pytest.fixture
def web(engine, deployed, wat):
    async def load(body: str, **options) -> Actor:
        return deployed(WEB, await engine.load(wat(body)), **options)

    return load


async def test_a_response_that_is_complete_comes_as_bytes(web):
    actor = await web(HELLO)
    assert await actor.handle(call()) == {"status": 201, "headers": [("content-type", b"text/plain")], "body": LINE}


async def test_a_thousand_requests_leave_nothing_behind(web):
    actor = await web(HELLO, limits=Limits(concurrent=10))
    for _ in range(20):
        answers = await asyncio.gather(*[actor.handle(call()) for _ in range(50)])
        assert {await read_body(answer["body"]) for answer in answers} == {LINE}
    await actor.drain()
    assert not actor.running
    assert actor.permits.free == 10


async def test_a_large_body_streams_while_the_guest_writes_it(web):
    actor = await web(SEVERAL_MEGABYTES)
    answer = await actor.handle(call())
    body = answer["body"]
    assert isinstance(body, ByteStream)
    for _ in range(20):
        await asyncio.sleep(0)
    assert body.buffered <= body.capacity, "the guest waits while nobody reads"
    assert actor.running, "the guest has not ended when its answer leaves"
    assert len(await body.read_all()) == 4096 * 1000


async def test_a_guest_whose_reader_leaves_is_not_kept_waiting(web):
    actor = await web(SEVERAL_MEGABYTES)
    answer = await actor.handle(call())
    answer["body"].close()
    async with asyncio.timeout(5):
        await actor.drain()


async def test_an_error_code_instead_of_a_response_is_an_answer(web):
    actor = await web("(call $fail (local.get $out) (i32.const 2))")
    with pytest.raises(WitError) as answer:
        await actor.handle(call())
    assert answer.value.payload == "destination-not-found"


async def test_a_guest_that_ends_without_an_answer_trapped(web):
    actor = await web("(drop (local.get $out))")
    with pytest.raises(Trap, match="without"):
        await actor.handle(call())


async def test_dropping_the_outparam_is_no_answer(web):
    actor = await web("(call $drop-outparam (local.get $out))")
    with pytest.raises(Trap, match="response-outparam"):
        await actor.handle(call())


async def test_a_trap_before_the_answer_is_the_callers_error(web):
    actor = await web("unreachable")
    with pytest.raises(Trap, match="unreachable"):
        await actor.handle(call())


async def test_a_trap_after_the_head_breaks_the_body_off_and_is_logged(web):
    actor = await web(OPEN + "(call $hello (local.get $stream)) unreachable")
    with structlog.testing.capture_logs() as events:
        answer = await actor.handle(call())
        with pytest.raises(StreamClosed, match="unreachable"):
            await answer["body"].read_all()
    await actor.drain()
    assert [event["actor"] for event in events if event["event"] == "guest.failed_after_answer"] == ["web"]


async def test_a_body_dropped_half_way_is_not_taken_for_a_whole_one(web):
    half = "(call $hello (local.get $stream)) (call $drop-stream (local.get $stream))"
    actor = await web(OPEN + half + "(call $drop-body (local.get $body))")
    answer = await actor.handle(call())
    with pytest.raises(StreamClosed, match="without finishing"):
        await answer["body"].read_all()


async def test_a_guest_that_never_answers_is_stopped_at_the_deadline(web):
    actor = await web(FOREVER)
    begun = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        await actor.handle(call(0.05))
    assert time.monotonic() - begun < 2


async def test_a_guest_that_goes_on_forever_after_its_answer_is_stopped_too(web):
    actor = await web(OPEN + "(call $hello (local.get $stream))" + FOREVER)
    answer = await actor.handle(call(0.2))
    assert answer["status"] == 201
    with pytest.raises(StreamClosed):
        await answer["body"].read_all()
    async with asyncio.timeout(5):
        await actor.drain()


async def test_cancelling_the_caller_stops_the_guest(web):
    actor = await web(FOREVER)
    calling = asyncio.create_task(actor.handle(call()))
    await asyncio.sleep(0.02)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    async with asyncio.timeout(5):
        await actor.drain()


async def test_more_than_4096_bytes_at_once_trap_with_a_sentence(web):
    actor = await web(OPEN + "(call $put (local.get $stream) (i32.const 0) (i32.const 4097) (i32.const 16))")
    answer = await actor.handle(call())
    with pytest.raises(StreamClosed, match="4096 at most"):
        await answer["body"].read_all()


async def test_something_that_is_no_request_is_refused(web):
    actor = await web(HELLO)
    for args in ((), ({"method": "GET"},), (b"GET / HTTP/1.1",)):
        with pytest.raises(BadValue, match="request"):
            await actor.handle(Invocation(WEB, HANDLE, args))


async def test_headers_that_crossed_the_lattice_as_lists_are_fine(web):
    actor = await web(HELLO)
    request = REQUEST | {"headers": [["accept", b"*/*"]]}
    assert (await actor.handle(Invocation(WEB, HANDLE, (request,))))["body"] == LINE
