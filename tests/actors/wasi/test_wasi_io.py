"""wasi:io, wasi:clocks, wasi:random and wasi:cli, called as a guest would call them."""

from __future__ import annotations

import asyncio
import time

import pytest

from actors.guest import Guest
from actors.wasi import Exited
from actors.wasi.cli import Environment, Exit, Stderr, Stdin, Stdout
from actors.wasi.clocks import MonotonicClock, Timezone, WallClock
from actors.wasi.io import InputStream, IoError, OutputStream, Poll, Pollable
from actors.wasi.random import InsecureSeed, Random
from lattice import EntityId, LimitExceeded, Trap, WitError
from lattice.streams import CHUNK, ByteStream, StreamClosed


class StreamSink:
    """A ByteStream's writing end, as an output-stream needs it."""

    def __init__(self, stream: ByteStream) -> None:
        self.room = stream.room
        self.write = stream.write_now
        self.watch = stream.watch


def guest(**options: object) -> Guest:
    return Guest(EntityId("greeter"), **options)  # type: ignore[arg-type]


# -- poll


async def test_poll_names_every_pollable_that_is_ready():
    stream = ByteStream()
    waiting = InputStream(stream).subscribe()
    past = MonotonicClock.subscribe_instant(guest(), 0)
    future = MonotonicClock.subscribe_duration(guest(), 60 * 10**9)
    assert await Poll.poll(guest(), [waiting, past, future, past]) == [1, 3]


async def test_poll_wakes_when_bytes_arrive_and_forgets_its_waiters():
    stream, other = ByteStream(), ByteStream()
    pollables = [InputStream(s).subscribe() for s in (other, stream)]
    polling = asyncio.create_task(Poll.poll(guest(), pollables))
    await asyncio.sleep(0)
    stream.write_now(b"x")
    assert await polling == [1]
    assert not other._waiters


async def test_poll_over_a_thousand_streams_names_the_few_that_are_ready():
    streams = [ByteStream() for _ in range(1000)]
    polling = asyncio.create_task(Poll.poll(guest(), [InputStream(stream).subscribe() for stream in streams]))
    await asyncio.sleep(0)
    for index in (998, 3):
        streams[index].write_now(b"x")
    assert await polling == [3, 998]
    assert not any(stream._waiters for stream in streams)


async def test_poll_looks_only_when_something_changed():
    looks = 0
    stream = ByteStream()

    def ready() -> bool:
        nonlocal looks
        looks += 1
        return stream.readable()

    polling = asyncio.create_task(Poll.poll(guest(), [Pollable(ready, stream.watch)]))
    for _ in range(50):
        await asyncio.sleep(0)
    assert looks == 1
    stream.finish()
    assert await polling == [0]
    assert looks == 2


async def test_poll_of_nothing_traps():
    with pytest.raises(Trap):
        await Poll.poll(guest(), [])


async def test_a_timer_blocks_until_its_time_and_not_before():
    before = time.monotonic_ns()
    await MonotonicClock.subscribe_duration(guest(), 3_000_000).block()
    assert time.monotonic_ns() - before >= 3_000_000


async def test_a_timer_beyond_the_end_of_time_is_accepted():
    pollable = MonotonicClock.subscribe_duration(guest(), 2**64 - 1)
    assert not pollable.ready()
    waiting = asyncio.create_task(pollable.block())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


# -- input-stream


async def test_read_gives_what_is_there_and_nothing_while_more_may_come():
    source = ByteStream()
    stream = InputStream(source)
    assert stream.read(10) == b""
    source.write_now(b"hello")
    assert stream.read(3) == b"hel"
    assert stream.skip(10) == 2
    source.finish()
    with pytest.raises(WitError) as end:
        stream.read(1)
    assert end.value.payload == "closed"


async def test_blocking_read_waits_for_the_first_bytes():
    source = ByteStream()
    reading = asyncio.create_task(InputStream(source).blocking_read(100))
    await asyncio.sleep(0)
    assert not reading.done()
    source.write_now(b"now")
    assert await reading == b"now"


async def test_a_read_never_gives_more_than_a_chunk():
    stream = InputStream(ByteStream.of(bytes(CHUNK + 1)))
    assert len(stream.read(2**64 - 1)) == CHUNK
    assert len(await stream.blocking_read(2**64 - 1)) == 1


async def test_a_stream_that_broke_off_fails_once_and_is_closed_then():
    source = ByteStream()
    stream = InputStream(source)
    source.write_now(b"half")
    source.fail(ConnectionError("cable cut"))
    assert stream.read(10) == b"half"
    with pytest.raises(WitError) as broken:
        await stream.blocking_read(10)
    error = broken.value.payload["last-operation-failed"]
    assert isinstance(error, IoError)
    assert "cable cut" in error.to_debug_string()
    with pytest.raises(WitError) as closed:
        await stream.blocking_read(10)
    assert closed.value.payload == "closed"


# -- output-stream


async def test_check_write_promises_only_what_fits():
    pipe = ByteStream(capacity=10)
    stream = OutputStream(StreamSink(pipe))
    assert stream.check_write() == 10
    stream.write(b"1234567")
    assert stream.check_write() == 3
    with pytest.raises(Trap):
        stream.write(b"1234")


async def test_a_write_without_check_write_traps():
    with pytest.raises(Trap):
        OutputStream(StreamSink(ByteStream())).write(b"x")


async def test_blocking_write_waits_until_the_reader_made_room():
    pipe = ByteStream(capacity=4)
    stream = OutputStream(StreamSink(pipe))
    await stream.blocking_write_and_flush(b"1234")
    writing = asyncio.create_task(stream.blocking_write_and_flush(b"56"))
    await asyncio.sleep(0)
    assert not writing.done()
    assert not stream.subscribe().ready()
    assert pipe.read_now() == b"1234"
    await writing
    assert pipe.read_now() == b"56"


async def test_blocking_write_takes_4096_bytes_at_most():
    stream = OutputStream(StreamSink(ByteStream()))
    await stream.blocking_write_and_flush(bytes(4096))
    with pytest.raises(Trap):
        await stream.blocking_write_and_flush(bytes(4097))


async def test_splice_moves_what_is_there_and_fits():
    pipe = ByteStream(capacity=4)
    stream = OutputStream(StreamSink(pipe))
    source = InputStream(ByteStream.of(b"abcdef"))
    assert stream.splice(source, 100) == 4
    assert stream.splice(source, 100) == 0
    assert pipe.read_now() == b"abcd"
    assert await stream.blocking_splice(source, 1) == 1
    assert pipe.read_now() == b"e"


async def test_zeroes_are_written_within_the_same_promise():
    pipe = ByteStream(capacity=8)
    stream = OutputStream(StreamSink(pipe))
    stream.check_write()
    stream.write_zeroes(8)
    assert pipe.read_now() == bytes(8)
    with pytest.raises(Trap):
        stream.write_zeroes(2**40)
    await stream.blocking_write_zeroes_and_flush(4)
    assert pipe.read_now() == bytes(4)


# -- clocks, random, cli


async def test_clocks_tell_the_time():
    now = WallClock.now(guest())
    assert abs(now["seconds"] - time.time()) < 2
    assert 0 <= now["nanoseconds"] < 10**9
    assert MonotonicClock.now(guest()) <= MonotonicClock.now(guest())
    assert MonotonicClock.resolution(guest()) >= 1
    assert Timezone.display(guest(), now)["name"] == "UTC"
    assert Timezone.utc_offset(guest(), now) == 0


async def test_random_is_repeatable_with_a_seed_only():
    first, second = guest(seed=7), guest(seed=7)
    assert Random.get_random_bytes(first, 16) == Random.get_random_bytes(second, 16)
    assert Random.get_random_u64(first) == Random.get_random_u64(second)
    assert InsecureSeed.insecure_seed(first) == InsecureSeed.insecure_seed(second)
    assert Random.get_random_bytes(guest(), 16) != Random.get_random_bytes(guest(), 16)


async def test_random_refuses_to_fill_the_hosts_memory():
    with pytest.raises(LimitExceeded):
        Random.get_random_bytes(guest(), 2**40)


async def test_standard_streams_reach_the_guests_output():
    lines: list[tuple[str, str]] = []
    one = guest(on_line=lambda _, stream, line: lines.append((stream, line)))
    await Stdout.get_stdout(one).blocking_write_and_flush(b"hello\nwor")
    stderr = Stderr.get_stderr(one)
    assert stderr.check_write() > 0
    stderr.write(b"oh no\n")
    stderr.flush()
    await stderr.blocking_flush()
    assert await Poll.poll(one, [stderr.subscribe()]) == [0]
    one.end()
    assert lines == [("stdout", "hello"), ("stderr", "oh no"), ("stdout", "wor")]
    assert one.stdout.tail() == "hello\nwor"


async def test_stdin_is_empty():
    with pytest.raises(WitError) as end:
        await Stdin.get_stdin(guest()).blocking_read(1)
    assert end.value.payload == "closed"


async def test_the_environment_is_the_one_the_guest_was_given():
    one = guest(environment={"LANG": "en"}, arguments=("app", "-v"))
    assert Environment.get_environment(one) == [("LANG", "en")]
    assert Environment.get_arguments(one) == ["app", "-v"]
    assert Environment.initial_cwd(one) is None


@pytest.mark.parametrize(("status", "code"), [({"ok": None}, 0), ({"err": None}, 1)])
async def test_exit_ends_the_guest_with_its_code(status, code):
    with pytest.raises(Exited) as ended:
        Exit.exit(guest(), status)
    assert ended.value.code == code
    with pytest.raises(Exited) as ended:
        Exit.exit_with_code(guest(), 7)
    assert ended.value.code == 7


async def test_an_io_error_says_why():
    assert IoError.of(StreamClosed("because")).to_debug_string() == "because"
