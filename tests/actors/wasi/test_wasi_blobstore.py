"""wasi:blobstore as a guest sees it, at the edges that a well-behaved guest does not reach."""

from __future__ import annotations

import pytest

from actors.guest import Guest
from actors.wasi import blobstore
from actors.wasi.blobstore import Blobstore, Container, IncomingValue, OutgoingValue
from lattice import (
    ByteStream,
    DeadlineExceeded,
    EntityId,
    Handler,
    Invocation,
    LatticeError,
    Unreachable,
    Value,
    WitError,
)

ACTOR = EntityId("archive")


def answering(**answers: Value) -> Handler:
    """A provider that answers each function with a value, or raises it."""

    async def handle(invocation: Invocation) -> Value:
        answer = answers[invocation.function.name.replace("-", "_")]
        if isinstance(answer, BaseException):
            raise answer
        return answer

    return handle


def box(**answers: Value) -> tuple[Guest, Container]:
    guest = Guest(ACTOR, imports=answering(**answers))
    return guest, Container(guest, "box")


async def test_a_streamed_value_asks_for_its_size_and_knows_its_range():
    guest, container = box(get_container_data=ByteStream(), get_object_info={"created-at": 1, "size": 100})
    for start, end, size in ((0, 2**64 - 1, 100), (10, 19, 10), (90, 200, 10), (100, 200, 0)):
        assert await (await container.get_data("a", start, end)).size() == size
    assert guest.failure is None


async def test_a_value_that_is_too_large_for_one_list_is_an_error(monkeypatch):
    monkeypatch.setattr(blobstore, "AT_ONCE", 10)
    guest, container = box(get_container_data=ByteStream.of(bytes(11)))
    with pytest.raises(WitError, match="consume-async"):
        await IncomingValue.incoming_value_consume_sync(guest, await container.get_data("a", 0, 20))


async def test_a_value_that_breaks_off_is_an_error():
    body = ByteStream()
    body.fail(Unreachable("the disk is gone"))
    guest, container = box(get_container_data=body)
    with pytest.raises(WitError, match="the disk is gone"):
        await IncomingValue.incoming_value_consume_sync(guest, await container.get_data("a", 0, 20))


async def test_letting_go_of_a_value_or_of_its_stream_tells_the_store():
    one, other = ByteStream(), ByteStream()
    _, container = box(get_container_data=one)
    (await container.get_data("a", 0, 20)).dropped()
    assert one.reader_gone
    guest, container = box(get_container_data=other)
    IncomingValue.incoming_value_consume_async(guest, await container.get_data("a", 0, 20)).dropped()
    assert other.reader_gone


async def test_a_value_is_written_to_one_place():
    guest, container = box(write_container_data=None)
    value = OutgoingValue.new_outgoing_value(guest)
    await container.write_data("a", value)
    with pytest.raises(WitError, match="already"):
        await container.write_data("b", value)
    guest.end()


async def test_what_the_store_said_is_the_streams_error_and_the_end_of_it():
    guest, container = box(write_container_data=WitError("the disk is full"))
    value = OutgoingValue.new_outgoing_value(guest)
    stream = value.outgoing_value_write_body()
    with pytest.raises(WitError, match="the disk is full"):
        await container.write_data("a", value)
    with pytest.raises(WitError) as broken:
        stream.check_write()
    assert broken.value.payload["last-operation-failed"].to_debug_string() == "the disk is full"
    with pytest.raises(WitError, match="the disk is full"):
        await OutgoingValue.finish(guest, value)
    guest.end()


async def test_every_lattice_error_is_handled_by_the_guest_or_ends_it():
    for error in LatticeError.__subclasses__():
        guest = Guest(ACTOR, imports=answering(container_exists=error("said why")))
        with pytest.raises((WitError, DeadlineExceeded)) as outcome:
            await Blobstore.container_exists(guest, "box")
        if isinstance(outcome.value, WitError):
            assert outcome.value.payload == "said why"
