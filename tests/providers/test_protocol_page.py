"""docs/provider-protocol.md says what goes over the wire, to the byte."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from lattice import (
    EntityId,
    Function,
    Invocation,
    LatticeError,
    LinkName,
    NotLinked,
    Unreachable,
    WitError,
    errors,
    frames,
)
from lattice.flow import Flow
from lattice.memory import MemoryBroker
from lattice.streams import ByteStream
from lattice.values import pack, stream_mark, unpack
from providers.description import Description
from providers.runner import VERBS, Start

PAGE = (Path(__file__).parents[2] / "docs" / "provider-protocol.md").read_text()
FRAMES = [
    (name, json.loads(text), bytes.fromhex(data))
    for name, text, data in re.findall(r"```frame\n(\w+): (.*)\n([0-9a-f \n]+)\n```", PAGE)
]
BY_NAME = {name: (written, data) for name, written, data in FRAMES if name != "value"}
WORDS = {
    what: bytes.fromhex(data)
    for data, what in re.findall(r"((?:[0-9a-f]{2}[ \n])+)  (.+)", PAGE.partition("```words\n")[2].partition("```")[0])
}


def real(written: Any) -> Any:
    """`{"$bytes": "00ff"}` and `{"$stream": "subject"}` stand for what JSON has no form for."""
    match written:
        case {"$bytes": str(text)}:
            return bytes.fromhex(text)
        case {"$stream": str(subject)}:
            return stream_mark(subject)
    return written


@pytest.mark.parametrize(("name", "written", "data"), FRAMES, ids=[name for name, _, _ in FRAMES])
def test_every_example_is_the_bytes_that_stand_below_it(name: str, written: Any, data: bytes):
    assert pack(real(written)) == data
    assert unpack(data, stream=stream_mark) == real(written)


def test_a_call_is_written_so(monkeypatch: pytest.MonkeyPatch):
    written, data = BY_NAME["call"]
    _, function, source, link, left, trace, args, id = written
    monkeypatch.setattr("lattice.frames.time.monotonic", lambda: 100.0)
    call = Invocation(
        EntityId("shout"),
        Function.parse(function),
        tuple(args),
        EntityId(source),
        LinkName(link),
        100.0 + left / 1000,
        trace,
    )
    assert frames.encode_call(call, stream_mark, id) == data
    assert frames.decode_call(unpack(data), EntityId("shout")) == (call, id)


def test_answers_are_written_so():
    assert frames.encode_ok("HI!", stream_mark) == BY_NAME["ok"][1]
    assert frames.encode_error(WitError({"too-long": 80})) == BY_NAME["err"][1]
    assert frames.encode_error(NotLinked(BY_NAME["failure"][0][2])) == BY_NAME["failure"][1]
    with pytest.raises(NotLinked, match='"actor" is not linked'):
        frames.decode_answer(unpack(BY_NAME["failure"][1]))


def test_every_code_of_a_failure_is_explained():
    explained = re.findall(
        r"^\| ([a-z-]+) \| ", PAGE.partition("| code | means |")[2].partition("\n\n")[0], re.MULTILINE
    )
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, LatticeError)]
    assert sorted(explained) == sorted(kind.code for kind in kinds)


async def test_streams_are_written_so():
    broker = MemoryBroker()
    seen: list[bytes] = []
    here, there, spy = broker.connect(), broker.connect(), broker.connect()
    await spy.subscribe(">", lambda message: seen.append(message.data))
    sender, reader = Flow(here), Flow(there)
    await sender.start()
    await reader.start()
    whole, broken = ByteStream(), ByteStream()
    for stream in (whole, broken):
        stream.write_now(b"hello")
    whole.finish()
    assert await reader.pull(sender.offer(whole)).read_all() == b"hello"
    pulled = reader.pull(sender.offer(broken))
    async with asyncio.timeout(10):
        while not pulled.readable():
            await pulled.changed()
        broken.fail(Unreachable("the file is gone"))
        while len(seen) < 6:
            await asyncio.sleep(0)
    await sender.stop()
    await reader.stop()
    open, data, end, wrong = (
        WORDS[what] for what in ("open, 1 MiB", 'data 0, "hello"', "end, no trailers", "broken off")
    )
    assert seen[:6] == [open, data, end, open, data, wrong]


def test_the_first_line_and_the_verbs_are_those_of_the_page():
    blocks = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    start = Start.model_validate(json.loads(blocks[0]) | {"links": [json.loads(blocks[2])]})
    assert (start.config, start.links[0].target_config) == ({"voice": "loud"}, {"suffix": "?!"})
    told = re.findall(r"^\| ([a-z.]+) \| ", PAGE.partition("| verb | body |")[2].partition("\n\n")[0], re.MULTILINE)
    assert told == list(VERBS)
    assert json.loads(blocks[1]).keys() == {one.name for one in fields(Description)}
