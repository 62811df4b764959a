"""Invocations over a broker: values, errors, deadlines, sizes, streams, draining."""

import asyncio
import os
import subprocess
import sys
import time

import pytest

from lattice import ByteStream, EntityId, Function, Invocation, WitError
from lattice.errors import Busy, DeadlineExceeded, LatticeError, NotLinked, Trap, Unreachable
from lattice.flow import WINDOW
from lattice.lattice import Lattice
from lattice.memory import MemoryBroker
from lattice.names import HostId
from lattice.nats_transport import connect
from lattice.streams import StreamClosed

F = Function.parse("demo:text/transform@0.1.0#shout")
TARGET = EntityId("shouter")
TRACE = {"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01", "tracestate": "vendor=1"}


@pytest.fixture(params=["memory", pytest.param("nats", marks=pytest.mark.nats)])
async def pair(request, lattice_name):
    """Two members of one lattice."""
    if request.param == "memory":
        broker = MemoryBroker()
        transports = [broker.connect(), broker.connect()]
    else:
        url = request.getfixturevalue("nats_url")
        transports = [await connect(url), await connect(url)]
    async with Lattice(lattice_name, transports[0]) as a, Lattice(lattice_name, transports[1]) as b:
        yield a, b


def call(*args, **more) -> Invocation:
    return Invocation(TARGET, F, args, **more)


async def serve(lattice, handler, **more):
    serving = await lattice.serve(TARGET, handler, **more)
    await lattice.transport.flush()
    return serving


async def test_an_invocation_carries_everything_to_the_other_side(pair):
    a, b = pair
    seen = []

    async def handler(invocation):
        seen.append(invocation)
        return {"text": invocation.args[0].upper(), "bytes": b"\x00\xff", "none": None, "big": 2**64 - 1}

    await serve(b, handler)
    sent = call("hi", source=EntityId("me"), link="other", trace=TRACE).within(5)
    assert await a.invoke(sent) == {"text": "HI", "bytes": b"\x00\xff", "none": None, "big": 2**64 - 1}
    got = seen[0]
    assert (got.target, got.function, got.source, got.link) == (TARGET, F, "me", "other")
    assert got.function.version == "0.1.0"
    assert got.trace == TRACE
    assert 0 < got.remaining() <= 5.01


async def test_the_err_side_of_a_result_is_an_answer(pair):
    a, b = pair

    async def handler(invocation):
        raise WitError({"other": "no"})

    await serve(b, handler)
    with pytest.raises(WitError) as error:
        await a.invoke(call())
    assert error.value.payload == {"other": "no"}


@pytest.mark.parametrize(
    "raised", [Trap("boom", output="last line"), NotLinked("not linked"), Unreachable("the store is gone")]
)
async def test_a_failure_is_raised_as_the_same_class_with_its_details(pair, raised):
    a, b = pair

    async def handler(invocation):
        raise raised

    await serve(b, handler)
    with pytest.raises(type(raised), match=raised.message) as error:
        await a.invoke(call())
    assert error.value.details == raised.details


async def test_a_bug_in_a_handler_is_a_failure_and_not_silence(pair):
    a, b = pair

    async def handler(invocation):
        raise ZeroDivisionError("division by zero")

    await serve(b, handler)
    with pytest.raises(LatticeError, match="ZeroDivisionError"):
        await a.invoke(call())


async def test_a_target_that_nobody_serves_is_named_at_once(pair):
    a, _ = pair
    begun = time.monotonic()
    with pytest.raises(Unreachable, match='"shouter".*demo:text/transform'):
        await a.invoke(call())
    assert time.monotonic() - begun < 2


async def test_a_deadline_ends_the_wait_and_names_the_target(pair):
    a, b = pair

    async def handler(invocation):
        await asyncio.sleep(30)

    serving = await serve(b, handler)
    with pytest.raises(DeadlineExceeded, match='"shouter"'):
        await a.invoke(call().within(0.05))
    await serving.drain(0)


async def test_a_busy_target_is_tried_again_until_it_is_free(pair):
    a, b = pair
    tries = []

    async def handler(invocation):
        tries.append(1)
        if len(tries) < 3:
            raise Busy("full")
        return "in"

    await serve(b, handler)
    assert await a.invoke(call().within(5)) == "in"
    assert len(tries) == 3


async def test_values_above_the_message_limit_travel_whole_both_ways(pair):
    a, b = pair

    async def handler(invocation):
        return invocation.args[0] + b"!"

    await serve(b, handler)
    big = bytes(range(256)) * 20_000
    assert await a.invoke(call(big).within(20)) == big + b"!"


async def test_a_call_can_name_the_host(pair):
    a, b = pair

    async def here(invocation):
        return "a"

    async def there(invocation):
        return "b"

    await serve(a, here, host=HostId("NA"))
    await serve(b, there, host=HostId("NB"))
    assert await a.invoke_at(HostId("NB"), call()) == "b"
    assert await b.invoke_at(HostId("NA"), call()) == "a"
    assert {await a.invoke(call()) for _ in range(60)} == {"a", "b"}


async def test_streams_flow_both_ways_while_the_call_is_answered(pair):
    a, b = pair

    async def handler(invocation):
        body = invocation.args[0]["body"]
        out = ByteStream()

        async def copy():
            async for chunk in body:
                await out.write(chunk.upper())
            out.finish([("n", b"1")])

        handler.task = asyncio.create_task(copy())
        return {"body": out}

    await serve(b, handler)
    body = ByteStream()
    answer = await a.invoke(call({"body": body}).within(20))
    await body.write(b"abc")
    assert await answer["body"].read() == b"ABC"
    await body.write(b"def")
    body.finish()
    assert await answer["body"].read_all() == b"DEF"
    assert answer["body"].trailers == [("n", b"1")]


async def test_a_slow_reader_slows_the_writer(pair):
    a, b = pair
    total = 8 * WINDOW
    written = 0

    async def handler(invocation):
        out = ByteStream()

        async def produce():
            nonlocal written
            while written < total:
                await out.write(b"x" * 65536)
                written += 65536
            out.finish()

        handler.task = asyncio.create_task(produce())
        return out

    await serve(b, handler)
    answer = await a.invoke(call().within(20))
    first = await answer.read()
    await asyncio.sleep(0.3)
    assert written < 3 * WINDOW, "the writer ran ahead of its reader"
    assert len(first) + len(await answer.read_all()) == total


async def test_a_stream_that_breaks_off_says_so_to_its_reader(pair):
    a, b = pair

    async def handler(invocation):
        out = ByteStream()
        out.write_now(b"half")
        out.fail(Trap("the guest trapped"))
        return out

    await serve(b, handler)
    answer = await a.invoke(call().within(20))
    with pytest.raises(StreamClosed, match="the guest trapped"):
        await answer.read_all()


async def test_a_reader_that_leaves_stops_the_writer(pair):
    a, b = pair
    out = ByteStream()

    async def handler(invocation):
        return out

    await serve(b, handler)
    answer = await a.invoke(call().within(20))
    await out.write(b"1")
    assert await answer.read() == b"1"
    answer.close()
    async with asyncio.timeout(5):
        while not out.reader_gone:
            await out.changed()


async def test_a_small_finished_body_travels_inside_the_frame(pair):
    a, b = pair

    async def handler(invocation):
        return invocation.args[0]

    await serve(b, handler)
    assert await a.invoke(call(ByteStream.of(b"small")).within(5)) == b"small"


async def test_draining_lets_calls_in_hand_finish_and_takes_no_more(pair):
    a, b = pair
    entered, leave = asyncio.Event(), asyncio.Event()

    async def handler(invocation):
        entered.set()
        await leave.wait()
        return "done"

    serving = await serve(b, handler)
    first = asyncio.create_task(a.invoke(call().within(10)))
    await entered.wait()
    draining = asyncio.create_task(serving.drain())
    async with asyncio.timeout(5):
        while True:
            try:
                await a.invoke(call().within(0.05))
            except Unreachable:
                break
            except DeadlineExceeded:
                continue
    leave.set()
    assert await first == "done"
    assert await draining == 0


async def test_a_call_that_draining_cuts_short_is_told_so_at_once(pair):
    a, b = pair
    entered = asyncio.Event()

    async def handler(invocation):
        entered.set()
        await asyncio.Event().wait()

    serving = await serve(b, handler)
    calling = asyncio.create_task(a.invoke(call().within(60)))
    await entered.wait()
    assert await serving.drain(0) == 1
    with pytest.raises(Unreachable, match='"shouter" was stopped before it was done'):
        await asyncio.wait_for(calling, 5)


async def test_a_caller_that_is_cancelled_stops_the_handler_on_the_other_side(pair):
    a, b = pair
    entered, stopped = asyncio.Event(), asyncio.Event()

    async def handler(invocation):
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    serving = await serve(b, handler)
    calling = asyncio.create_task(a.invoke(call().within(20)))
    await asyncio.wait_for(entered.wait(), 5)
    calling.cancel()
    await asyncio.wait_for(stopped.wait(), 5)
    with pytest.raises(asyncio.CancelledError):
        await calling
    assert await serving.drain(5) == 0


async def test_a_deadline_that_passes_stops_the_handler_on_the_other_side(pair):
    a, b = pair
    stopped = asyncio.Event()

    async def handler(invocation):
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    await serve(b, handler, host=HostId("NB"))
    with pytest.raises(DeadlineExceeded, match="shouter"):
        await a.invoke_at(HostId("NB"), call().within(0.1))
    await asyncio.wait_for(stopped.wait(), 5)


async def test_a_cancel_stops_no_other_call(pair):
    a, b = pair
    go = asyncio.Event()
    entered = asyncio.Semaphore(0)

    async def handler(invocation):
        entered.release()
        await go.wait()
        return invocation.args[0]

    await serve(b, handler)
    calls = [asyncio.create_task(a.invoke(call(n).within(20))) for n in range(3)]
    async with asyncio.timeout(5):
        for _ in calls:
            await entered.acquire()
    calls[1].cancel()
    for nonsense in (b"", b"\xff\xfe", b"no such call"):
        await a.transport.publish(f"trellis.cancel.{a.name}.{TARGET}", nonsense)
    await a.transport.flush()
    go.set()
    done = await asyncio.gather(*calls, return_exceptions=True)
    assert (done[0], done[2]) == (0, 2) and isinstance(done[1], asyncio.CancelledError)


def test_another_prefix_of_the_control_interface_comes_from_the_environment():
    program = (
        "from lattice.subjects import control, control_queue; print(control('x', 'host'), control_queue('x', 'link'))"
    )
    environment = {**os.environ, "TRELLIS_CTL_PREFIX": "acme.ctl"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["acme.ctl.v1.x.host", "acme.ctl.v1.x.link"]
