"""Counts its visits in a key-value bucket and says which host answered.

    GET  /        {"count": 7, "host": "calm-forest-1234"}
    POST /echo    the body, streamed back while it arrives

and three that show what a host does with an actor that misbehaves:

    GET  /crash   raises an exception
    GET  /spin    never ends
    GET  /eat     takes memory until there is no more
"""

import json

from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports import atomics
from wit_world.imports import wasi_config_store as config
from wit_world.imports import wasi_keyvalue_store as keyvalue
from wit_world.imports.streams import InputStream, OutputStream, StreamError_Closed
from wit_world.imports.types import (
    Fields,
    IncomingRequest,
    OutgoingBody,
    OutgoingResponse,
    ResponseOutparam,
)

PIECE = 4096  # bytes that blocking_write_and_flush takes at once


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        path = (request.path_with_query() or "/").partition("?")[0]
        match path:
            case "/":
                answer(response_out, *visit())
            case "/echo":
                echo(request, response_out)
            case "/crash":
                raise RuntimeError("this actor was asked to crash")
            case "/spin":
                while True:
                    pass
            case "/eat":
                eaten = []
                while True:
                    eaten.append(bytes(1024 * 1024))
            case _:
                answer(response_out, 404, {"error": f"there is nothing at {path}"})


def visit() -> tuple[int, dict[str, object]]:
    try:
        with keyvalue.open("default") as bucket:
            atomics.increment(bucket, "count", 1)
            count = int(bucket.get("count") or b"0")
    except Err as error:
        return 503, {"error": str(getattr(error.value, "value", error.value))}
    return 200, {"count": count, "host": config.get("trellis.host")}


def answer(response_out: ResponseOutparam, status: int, value: dict[str, object]) -> None:
    body = respond(response_out, status, "application/json")
    with body.write() as stream:
        send(stream, json.dumps(value).encode() + b"\n")
    OutgoingBody.finish(body, None)


def echo(request: IncomingRequest, response_out: ResponseOutparam) -> None:
    outgoing = respond(response_out, 200, "application/octet-stream")
    with request.consume() as incoming, incoming.stream() as source, outgoing.write() as stream:
        while piece := receive(source):
            send(stream, piece)
    OutgoingBody.finish(outgoing, None)


def respond(response_out: ResponseOutparam, status: int, content_type: str) -> OutgoingBody:
    """Send the head. The body that comes back is still to be written, and then to be given to `finish`."""
    response = OutgoingResponse(Fields.from_list([("content-type", content_type.encode())]))
    response.set_status_code(status)
    body = response.body()
    ResponseOutparam.set(response_out, Ok(response))
    return body


def receive(source: InputStream) -> bytes:
    """The next bytes of the body; b"" at its end."""
    try:
        return source.blocking_read(64 * 1024)
    except Err as error:
        if isinstance(error.value, StreamError_Closed):
            return b""
        raise


def send(stream: OutputStream, data: bytes) -> None:
    for begin in range(0, len(data), PIECE):
        stream.blocking_write_and_flush(data[begin : begin + PIECE])
