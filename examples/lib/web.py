"""What the examples' actors share: an HTTP request taken apart, and a response put together."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import parse_qsl, unquote

from componentize_py_types import Err, Ok
from wit_world.imports.streams import InputStream, OutputStream, StreamError_Closed

try:  # called so in a world where another interface is `types`, too
    from wit_world.imports.wasi_http_types import (
        Fields,
        IncomingRequest,
        OutgoingBody,
        OutgoingResponse,
        ResponseOutparam,
    )
except ModuleNotFoundError:
    from wit_world.imports.types import Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam

PIECE = 4096  # bytes that blocking_write_and_flush takes at once
Send = Callable[[bytes], None]


class Exchange:
    """One request, and the one answer to it."""

    def __init__(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        path, _, query = (request.path_with_query() or "/").partition("?")
        self.method = type(request.method()).__name__.removeprefix("Method_").upper()
        self.parts = [unquote(part) for part in path.split("/") if part]
        self.query = dict(parse_qsl(query))
        self.headers = {name.lower(): value.decode("latin-1") for name, value in request.headers().entries()}
        self._request = request
        self._response_out = response_out

    def body(self, most: int) -> bytes | None:
        """The whole body; None when it is longer than `most` bytes."""
        found = bytearray()
        with self._request.consume() as incoming, incoming.stream() as source:
            while len(found) <= most and (piece := receive(source)):
                found += piece
        return bytes(found) if len(found) <= most else None

    def answer(self, status: int, content: bytes | str, content_type: str = "text/plain; charset=utf-8") -> None:
        with self.answering(status, content_type) as send_piece:
            send_piece(content.encode() if isinstance(content, str) else content)

    @contextmanager
    def answering(self, status: int, content_type: str) -> Iterator[Send]:
        """Send the head now, and the body as the block gives it."""
        headers = [("content-type", content_type.encode()), ("cache-control", b"no-store")]
        response = OutgoingResponse(Fields.from_list(headers))
        response.set_status_code(status)
        body = response.body()
        ResponseOutparam.set(self._response_out, Ok(response))
        with body.write() as stream:
            yield lambda data: send(stream, data)
        OutgoingBody.finish(body, None)


def receive(source: InputStream) -> bytes:
    """The next bytes; b"" at the end."""
    try:
        return source.blocking_read(64 * 1024)
    except Err as error:
        if isinstance(error.value, StreamError_Closed):
            return b""
        raise


def send(stream: OutputStream, data: bytes) -> None:
    for begin in range(0, len(data), PIECE):
        stream.blocking_write_and_flush(data[begin : begin + PIECE])
