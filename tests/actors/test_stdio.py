"""Standard streams that lead to files, pipes and terminals: nothing waits, nothing is held back, ends are seen."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.guest import Output
from actors.stdio import FileSink, FileSource, Stdio
from actors.wasi.io import InputStream, OutputStream, Poll, Tee
from lattice import EntityId, WitError


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    for descriptor in (reading, writing):
        try:
            os.close(descriptor)
        except OSError:
            pass  # the test closed it


async def test_bytes_are_read_when_they_come_and_the_end_is_seen(pipe: tuple[int, int]):
    reading, writing = pipe
    stream = InputStream(FileSource(reading))
    assert stream.read(10) == b""
    asyncio.get_running_loop().call_later(0.01, os.write, writing, b"first")
    assert await stream.blocking_read(3) == b"fir"
    assert await stream.blocking_read(10) == b"st"
    os.close(writing)
    with pytest.raises(WitError) as caught:
        await stream.blocking_read(1)
    assert caught.value.payload == "closed"


async def test_several_may_wait_for_the_same_input(pipe: tuple[int, int]):
    reading, writing = pipe
    stream = InputStream(FileSource(reading))
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        both = [tasks.create_task(Poll.poll(None, [stream.subscribe(), stream.subscribe()])) for _ in range(2)]  # type: ignore[arg-type]
        gone = tasks.create_task(stream.subscribe().block())
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        os.write(writing, b"x")
    assert [task.result() for task in both] == [[0, 1], [0, 1]]


async def test_a_file_is_always_ready(tmp_path: Path):
    file = tmp_path / "input"
    file.write_bytes(b"content")
    with file.open("rb") as opened:
        stream = InputStream(FileSource(opened.fileno()))
        await stream.subscribe().block()
        assert await stream.blocking_read(100) == b"content"
        with pytest.raises(WitError):
            await stream.blocking_read(1)


async def test_a_descriptor_that_is_not_open_is_an_empty_input_and_a_broken_output(pipe: tuple[int, int]):
    reading, writing = pipe
    for descriptor in pipe:
        os.close(descriptor)
    with pytest.raises(WitError):
        InputStream(FileSource(reading)).read(1)
    with pytest.raises(WitError):
        OutputStream(FileSink(writing)).check_write()


async def test_what_is_written_is_there_at_once(pipe: tuple[int, int]):
    reading, writing = pipe
    await OutputStream(FileSink(writing)).blocking_write_and_flush(b"now")
    assert os.read(reading, 10) == b"now"


async def test_a_slow_reader_makes_the_guest_wait_and_not_the_loop(pipe: tuple[int, int]):
    reading, writing = pipe
    stream = OutputStream(FileSink(writing))
    sent = 0
    while stream.check_write():
        stream.write(bytes(4096))
        sent += 4096
    waiting = asyncio.create_task(stream.blocking_write_and_flush(b"last"))
    await asyncio.sleep(0)
    assert not waiting.done()
    got = len(os.read(reading, 65536))
    async with asyncio.timeout(5):
        await waiting
    os.close(writing)
    while data := os.read(reading, 65536):
        got += len(data)
    assert got == sent + 4


async def test_a_reader_that_left_closes_the_stream(pipe: tuple[int, int]):
    reading, writing = pipe
    sink = FileSink(writing)
    os.close(reading)
    with pytest.raises(WitError) as caught:
        await OutputStream(sink).blocking_write_and_flush(b"x")
    assert caught.value.payload == "closed"
    assert sink.broken


def test_only_a_terminal_is_called_one(pipe: tuple[int, int]):
    reading, writing = pipe
    controller, terminal = os.openpty()
    try:
        assert Stdio.of(reading, terminal, writing).terminals == {"stdout"}
    finally:
        os.close(controller)
        os.close(terminal)


async def test_what_is_written_elsewhere_is_not_limited_and_its_end_is_kept(tmp_path: Path):
    output = Output("stderr", None, None, EntityId("a"), limit=10)
    with (tmp_path / "log").open("wb") as file:
        stream = OutputStream(Tee(FileSink(file.fileno()), output))
        for _ in range(10):
            await stream.blocking_write_and_flush(b"x" * 4000)
        await stream.blocking_write_and_flush(b"panicked")
    assert (tmp_path / "log").stat().st_size == 40_008
    assert output.tail().endswith("xpanicked")
