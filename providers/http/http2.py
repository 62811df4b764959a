"""One HTTP/2 connection (RFC 9113), by the library h2: many requests at a time over one connection.

h2 knows frames, header compression and what a client must not do; this file turns its events into Requests, and
Responses into frames no faster than the client's windows and the socket take them. The rest is as in protocol.py.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import structlog
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RequestReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import H2Error, ProtocolError

from lattice.http import Headers, Request, Response
from lattice.streams import ByteStream
from providers.http.protocol import CONNECTION_HEADERS, STALL_SECONDS, Connection, Exchange, bodyless

if TYPE_CHECKING:
    from providers.http.listener import Listener

log = structlog.get_logger("providers.http")

RESETS = 500
"""Requests that one connection may begin and take back."""
UNREAD = 4 * 1024 * 1024
"""Bytes of answers to a client that asks and asks, and reads nothing."""
NEWLINES = (b"\r", b"\n", b"\0")
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Stream:
    """One request and its response."""

    def __init__(self, exchange: Exchange, body: ByteStream) -> None:
        self.exchange = exchange
        self.body = body
        self.task: asyncio.Task[None]
        self.held = 0
        """Bytes that the client is not yet told it may send again, since nobody has read them."""
        self.reader: asyncio.Task[None] | None = None


class Http2Connection(asyncio.Protocol):
    """One client. Made by a Listener, once TLS has agreed on `h2`, or for a client that begins with it."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport
        self.peer: Any = None
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        self.streams: dict[int, Stream] = {}
        self.leaving = False
        self.resets = 0
        self.since = self.loop.time()
        self.writable = asyncio.Event()
        self.writable.set()
        self.windows = asyncio.Event()
        """Set, and made anew, whenever the client opens a window."""

    # -- the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.peer = transport.get_extra_info("peername")
        self.listener.connections.add(self)
        self.h2.initiate_connection()
        self.flush()
        if self.listener.closing:
            self.leave()

    def data_received(self, data: bytes) -> None:
        self.since = self.loop.time()
        try:
            for event in self.h2.receive_data(data):
                self._happened(event)
        except ProtocolError:
            self.flush()  # h2 has written what was wrong
            self.transport.close()
            return
        self.windows.set()
        self.windows = asyncio.Event()
        self.flush()
        if self.transport.get_write_buffer_size() > UNREAD:
            self.transport.abort()
        self._leave_when_done()

    def flush(self) -> None:
        data = self.h2.data_to_send()
        if data and not self.transport.is_closing():
            self.transport.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        for stream in tuple(self.streams.values()):
            self._gone(stream)
        self.resume_writing()
        self.listener.disconnected(self)

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    # -- what the client sends

    def _happened(self, event: Event) -> None:
        match event:
            case RequestReceived(stream_id=int(id), headers=list(headers)):
                self._begin(id, headers)
            case DataReceived(stream_id=int(id), data=bytes(data), flow_controlled_length=int(length)):
                self._data(id, data, length)
            case TrailersReceived(stream_id=int(id), headers=list(headers)) if id in self.streams:
                self.streams[id].body.finish([(name.decode("latin-1"), value) for name, value in headers])
            case StreamEnded(stream_id=int(id)) if id in self.streams:
                stream = self.streams[id]
                stream.exchange.complete = True
                stream.body.finish()
            case StreamReset(stream_id=int(id)) if id in self.streams:
                self._gone(self.streams[id])
                self.resets += 1
                if self.resets > RESETS:
                    self.h2.close_connection(ErrorCodes.ENHANCE_YOUR_CALM)
                    self.flush()
                    self.transport.close()
            case ConnectionTerminated():
                self.leaving = True

    def _gone(self, stream: Stream) -> None:
        stream.body.fail(ConnectionResetError("the client left"))
        stream.task.cancel()

    def _begin(self, id: int, headers: list[tuple[bytes, bytes]]) -> None:
        if self.leaving:
            self.h2.reset_stream(id, ErrorCodes.REFUSED_STREAM)
            return
        pseudo = {name: value.decode("latin-1") for name, value in headers if name[:1] == b":"}
        if b":method" not in pseudo or pseudo[b":method"] == "CONNECT":
            self.h2.reset_stream(id, ErrorCodes.PROTOCOL_ERROR)
            return
        given: Headers = [(name.decode("latin-1"), value) for name, value in headers if name[:1] != b":"]
        authority = pseudo.get(b":authority") or next((v.decode("latin-1") for n, v in given if n == "host"), None)
        if authority is not None and not any(name == "host" for name, _ in given):
            given.insert(0, ("host", authority.encode("latin-1")))
        body = ByteStream()
        request: Request = {
            "method": pseudo[b":method"],
            "path-with-query": pseudo.get(b":path", "/"),
            "scheme": self.listener.scheme,
            "authority": authority,
            "headers": given,
            "body": body,
        }
        exchange = Exchange(self, request, "2", True)
        exchange.stream, exchange.received, exchange.limit = body, 0, 2**63
        stream = self.streams[id] = Stream(exchange, body)
        stream.task = self.loop.create_task(self._answer(id, stream))

    def _data(self, id: int, data: bytes, length: int) -> None:
        stream = self.streams.get(id)
        if stream is None or stream.body.reader_gone or stream.exchange.received > stream.exchange.limit:
            self.h2.acknowledge_received_data(length, id)
            return
        stream.exchange.received += len(data)
        if stream.exchange.received > stream.exchange.limit:
            stream.body.fail(ValueError(f"the body is larger than {stream.exchange.limit} bytes"))
        else:
            stream.body.write_now(data)
        stream.held += length
        if stream.body.room():
            self._read(id, stream)
        elif stream.reader is None:
            stream.reader = self.loop.create_task(self._when_read(id, stream))

    async def _when_read(self, id: int, stream: Stream) -> None:
        while not stream.body.room() and not stream.body.reader_gone:
            await stream.body.changed()
        stream.reader = None
        self._read(id, stream)
        self.flush()

    def _read(self, id: int, stream: Stream) -> None:
        held, stream.held = stream.held, 0
        try:
            self.h2.acknowledge_received_data(held, id)
        except H2Error:
            pass  # the stream, or the connection, is over

    # -- what the client gets

    async def _answer(self, id: int, stream: Stream) -> None:
        exchange = stream.exchange
        try:
            response = await self.listener.app(exchange)
            body = response["body"]
            try:
                await self._send(id, exchange, response)
            finally:
                if isinstance(body, ByteStream):
                    body.close()
            if not exchange.complete:
                self.h2.reset_stream(id, ErrorCodes.NO_ERROR)  # nobody wants the rest of the request
        except asyncio.CancelledError:
            raise
        except Exception as error:
            if not isinstance(error, H2Error):
                log.error("http.response_unsent", path=exchange.request["path-with-query"], exc_info=error)
            self._break_off(id, exchange)
        finally:
            stream.body.close()
            if stream.reader is not None:
                stream.reader.cancel()
            self._read(id, stream)
            del self.streams[id]
            self.since = self.loop.time()
            self.flush()
            self._leave_when_done()

    def _break_off(self, id: int, exchange: Exchange) -> None:
        """The response cannot be sent, or not to its end."""
        try:
            if exchange.status:
                self.h2.reset_stream(id, ErrorCodes.INTERNAL_ERROR)
            else:
                self.h2.send_headers(id, [(b":status", b"502"), (b"content-length", b"0")], end_stream=True)
        except H2Error:
            pass  # the client has taken the request back

    async def _send(self, id: int, exchange: Exchange, response: Response) -> None:
        body, status = response["body"], response["status"]
        alone = bodyless(status) or exchange.head_only or (not isinstance(body, ByteStream) and not body)
        self.h2.send_headers(id, _head(response, body, exchange), end_stream=alone)
        exchange.status = status
        self.flush()
        if alone:
            return
        if not isinstance(body, ByteStream):
            await self._send_data(id, body, last=True)
            return
        while True:
            if data := body.read_now():
                await self._send_data(id, data)
            elif body.ended:
                break
            else:
                await body.changed()
        if body.trailers:
            self.h2.send_headers(
                id, [(name.encode("latin-1"), value) for name, value in body.trailers], end_stream=True
            )
        else:
            self.h2.end_stream(id)
        self.flush()

    async def _send_data(self, id: int, data: bytes, *, last: bool = False) -> None:
        view = memoryview(data)
        while view:
            async with asyncio.timeout(STALL_SECONDS):
                while not (room := min(self.h2.local_flow_control_window(id), self.h2.max_outbound_frame_size)) > 0:
                    await self.windows.wait()
                await self.writable.wait()
            piece, view = view[:room], view[room:]
            self.h2.send_data(id, bytes(piece), end_stream=last and not view)
            self.flush()

    # -- the listener

    def leave(self) -> None:
        """Finish what is in hand, take nothing new, close."""
        self.leaving = True
        self._leave_when_done()

    def _leave_when_done(self) -> None:
        if self.leaving and not self.streams and not self.transport.is_closing():
            try:
                self.h2.close_connection()
            except H2Error:
                pass  # the client said it first
            self.flush()
            self.transport.close()

    def check(self, now: float) -> None:
        """Called every few seconds: close a client that has asked for nothing for long."""
        if not self.streams and now - self.since > self.listener.keep_alive:
            self.leave()


class EitherConnection(Connection):
    """A client without TLS, whose first bytes say whether it speaks HTTP/2 (RFC 9113, 3.3)."""

    def __init__(self, listener: Listener) -> None:
        super().__init__(listener)
        self._first: bytes | None = b""
        """None: it is known that it does not."""

    def data_received(self, data: bytes) -> None:
        if self._first is None:
            super().data_received(data)
            return
        first = self._first + data
        if first.startswith(PREFACE):
            chosen = Http2Connection(self.listener)
            self.transport.set_protocol(chosen)
            chosen.connection_made(self.transport)
            self.listener.disconnected(self)
            chosen.data_received(first)
        elif PREFACE.startswith(first):
            self._first = first
        else:
            self._first = None
            super().data_received(first)


def _head(response: Response, body: bytes | ByteStream, exchange: Exchange) -> list[tuple[bytes, bytes]]:
    """Raises ValueError when the actor's headers cannot be sent as they are."""
    head = [(b":status", b"%d" % response["status"])]
    for name, value in response["headers"]:
        lower = name.lower()
        if lower in CONNECTION_HEADERS and not (lower == "content-length" and isinstance(body, ByteStream)):
            continue
        if any(sign in value or sign in lower.encode("latin-1") for sign in NEWLINES):
            raise ValueError("a header holds a line break")
        head.append((lower.encode("latin-1"), value))
    if exchange.trace:
        head.append((b"x-trellis-trace", exchange.trace))
    if not isinstance(body, ByteStream) and not bodyless(response["status"]):
        head.append((b"content-length", b"%d" % len(body)))
    return head
