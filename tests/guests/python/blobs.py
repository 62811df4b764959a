"""A guest that keeps objects in a blob store."""

import hashlib

from componentize_py_types import Err
from wit_world.imports import blobstore
from wit_world.imports.container import Container
from wit_world.imports.wasi_blobstore_types import IncomingValue, ObjectId, OutgoingValue

EVERYTHING = 2**64 - 1
PIECE = bytes(range(256)) * 16


def refused(action, *args) -> str | None:
    try:
        action(*args)
    except Err as error:
        return error.value
    return "done"


def write(container: Container, name: str, *pieces: bytes) -> None:
    """As most guests do it: say where, write, finish."""
    value = OutgoingValue.new_outgoing_value()
    container.write_data(name, value)
    with value.outgoing_value_write_body() as stream:
        for piece in pieces:
            stream.blocking_write_and_flush(piece)
    OutgoingValue.finish(value)


def read(container: Container, name: str, start: int = 0, end: int = EVERYTHING) -> bytes:
    return IncomingValue.incoming_value_consume_sync(container.get_data(name, start, end))


def try_objects() -> object:
    with blobstore.create_container("box") as box:
        write(box, "a", b"hello ", b"world")
        info = box.object_info("a")
        blobstore.copy_object(ObjectId("box", "a"), ObjectId("box", "b"))
        blobstore.move_object(ObjectId("box", "a"), ObjectId("box", "c"))
        names = box.list_objects()
        found = {
            "name": box.name(),
            "made": box.info().created_at > 1_600_000_000,
            "info": [info.name, info.container, info.size, info.created_at > 1_600_000_000],
            "has": [box.has_object(name) for name in "abc"],
            "whole": read(box, "b").decode(),
            "part": read(box, "c", 6, 8).decode(),
            "size": [box.get_data("c", 0, EVERYTHING).size(), box.get_data("c", 6, 8).size()],
            "one": names.read_stream_object_names(1),
            "rest": names.read_stream_object_names(EVERYTHING),
            "skipped": box.list_objects().skip_stream_object_names(5),
        }
        box.delete_object("b")
        box.delete_objects(["c", "x"])
        found["left"] = box.list_objects().read_stream_object_names(10)
        write(box, "d", b"x")
        box.clear()
        found["cleared"] = box.has_object("d")
    blobstore.delete_container("box")
    found["gone"] = blobstore.container_exists("box")
    return found


def try_body_first() -> object:
    """The other order: the whole body, and then where it goes."""
    with blobstore.create_container("box") as box:
        value = OutgoingValue.new_outgoing_value()
        with value.outgoing_value_write_body() as stream:
            for _ in range(256):
                stream.blocking_write_and_flush(PIECE)
        box.write_data("a", value)
        OutgoingValue.finish(value)
        return box.object_info("a").size


def try_unsaid() -> object:
    """Ever more, and never where it goes."""
    value = OutgoingValue.new_outgoing_value()
    with value.outgoing_value_write_body() as stream:
        for n in range(100_000):
            try:
                stream.blocking_write_and_flush(PIECE)
            except Err as error:
                return [n * len(PIECE), error.value.value.to_debug_string()]
    return None


def try_unfinished() -> object:
    with blobstore.create_container("box") as box:
        write(box, "a", b"old")
        with OutgoingValue.new_outgoing_value() as value:
            box.write_data("a", value)
            with value.outgoing_value_write_body() as stream:
                stream.blocking_write_and_flush(b"half")
        return read(box, "a").decode()


def try_refused() -> object:
    def lost() -> None:
        with blobstore.get_container("box") as box:
            blobstore.delete_container("box")
            write(box, "a", b"x")

    with blobstore.create_container("box") as box:
        value = OutgoingValue.new_outgoing_value()
        value.outgoing_value_write_body()
        return {
            "twice": refused(value.outgoing_value_write_body),
            "missing": refused(box.get_data, "x", 0, 1),
            "nowhere": refused(blobstore.get_container, "nowhere"),
            "backwards": refused(box.get_data, "x", 5, 1),
            "lost": refused(lost),
        }


def try_big() -> object:
    """Fifty megabytes there and back, a piece at a time."""
    sent, received = hashlib.sha256(), hashlib.sha256()
    with blobstore.create_container("box") as box:
        value = OutgoingValue.new_outgoing_value()
        box.write_data("big", value)
        with value.outgoing_value_write_body() as stream:
            left = 50 * 1024 * 1024
            while left:
                with stream.subscribe() as pollable:
                    pollable.block()
                room = min(left, stream.check_write())
                piece = (PIECE * (room // len(PIECE) + 1))[:room]
                stream.write(piece)
                sent.update(piece)
                left -= room
        OutgoingValue.finish(value)
        incoming = box.get_data("big", 0, EVERYTHING)
        size = incoming.size()
        with IncomingValue.incoming_value_consume_async(incoming) as source:
            try:
                while True:
                    received.update(source.blocking_read(65536))
            except Err:
                pass
    return [size, sent.hexdigest() == received.hexdigest()]


def try_unlinked() -> object:
    return refused(blobstore.create_container, "box")


def try_unlinked_write() -> object:
    with blobstore.get_container("box") as box:
        return refused(box.write_data, "a", OutgoingValue.new_outgoing_value())


def try_at_once() -> object:
    found = []
    with blobstore.get_container("box") as box:
        for name in ("largest", "larger"):
            try:
                found.append(len(read(box, name)))
            except Err as error:
                found.append(error.value)
    return found


def try_leave_reading() -> object:
    with blobstore.get_container("box") as box:
        stream = IncomingValue.incoming_value_consume_async(box.get_data("big", 0, EVERYTHING))
        return len(stream.blocking_read(10))


def try_crash_writing() -> object:
    box = blobstore.get_container("box")
    value = OutgoingValue.new_outgoing_value()
    box.write_data("crashed", value)
    value.outgoing_value_write_body().blocking_write_and_flush(b"half")
    raise RuntimeError("the guest fails here")
