"""One HTTP/1.1 connection: bytes to Requests, Responses to bytes.

httptools (llhttp) parses, strictly; this file decides when a request starts, who waits for whom, and what happens when
one side leaves. One request is answered at a time; what a client pipelines waits, unread. A small complete body is
handed over as bytes; a large or open-ended one as a ByteStream, at once, and the client is read only as fast as the
stream is. When the client goes away, the request's stream breaks, the task that answers is cancelled, and the
response's stream is closed.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

import httptools
import structlog

from lattice.http import Headers, Request, Response
from lattice.streams import ByteStream, StreamClosed, Trailers

if TYPE_CHECKING:
    from providers.http.http2 import Http2Connection
    from providers.http.listener import Listener

log = structlog.get_logger("providers.http")

INLINE_BODY = 64 * 1024
"""Bytes: a request body that says it is no longer than this is handed over whole."""
MAX_HEAD = 64 * 1024
"""Bytes: request line and headers together."""
DISCARDED = 1024 * 1024
"""Bytes of a request body that nobody wants any more which are still read, so that the client sees the response."""
JUST_NOW = 0.1
"""Seconds since a client was heard of in which its next request may be on its way to a server that leaves."""
HEAD_SECONDS = 30.0
"""For a request's head, and again for a small body; and the longest silence within a large one."""
STALL_SECONDS = 60.0
"""How long a client may take nothing of a response that waits for it."""

App = Callable[["Exchange"], Awaitable[Response]]

_REASONS = {status.value: status.phrase for status in HTTPStatus}
_LINES = {
    version: {code: f"HTTP/{version} {code} {phrase}\r\n".encode() for code, phrase in _REASONS.items()}
    for version in ("1.0", "1.1")
}
CONNECTION_HEADERS = frozenset(
    {"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "content-length"}
)
"""About this connection, not about the message: ours to say, on the way in and on the way out."""
_DIGITS = re.compile(rb"^[0-9]{1,18}$")

_names: dict[bytes, str] = {}


def _name(raw: bytes) -> str:
    """A header's name in lower case; the usual ones are remembered."""
    known = _names.get(raw)
    if known is None:
        known = raw.decode("latin-1").lower()
        if len(_names) < 1024:
            _names[raw] = known
    return known


_date = (0, b"")


def date_line() -> bytes:
    """The Date header, made once a second."""
    global _date
    now = int(time.time())
    if _date[0] != now:
        _date = (now, f"date: {formatdate(now, usegmt=True)}\r\n".encode())
    return _date[1]


class Exchange:
    """One request and what became of it."""

    __slots__ = (
        "complete",
        "connection",
        "discarded",
        "head_only",
        "inline",
        "keep_alive",
        "limit",
        "received",
        "request",
        "responded",
        "status",
        "stream",
        "trace",
        "trailers",
        "version",
    )

    limit: int
    received: int
    """Bytes of a body that streams."""

    def __init__(
        self, connection: Connection | Http2Connection, request: Request, version: str, keep_alive: bool
    ) -> None:
        self.connection = connection
        self.request = request
        self.version = version
        self.keep_alive = keep_alive
        self.head_only = request["method"] == "HEAD"
        self.inline: list[bytes] = []
        self.stream: ByteStream | None = None
        self.trailers: Trailers = []
        self.complete = False
        self.responded = False
        self.discarded = 0
        self.status = 0
        self.trace = b""
        """Goes out with the response."""

    def outgrows(self, most: int) -> bool:
        """The body is longer than `most` bytes, or will be; one of unknown length breaks off when it gets there."""
        if self.stream is None:
            return len(self.request["body"]) > most  # type: ignore[arg-type]  # it is bytes
        self.limit = most
        return self.received > most or (_content_length(self.request["headers"]) or 0) > most

    @property
    def client(self) -> str:
        """The address at the other end of the connection."""
        peer = self.connection.peer
        return str(peer[0]) if peer else ""

    def header(self, name: str) -> bytes | None:
        """The first value of the header `name` (lower case)."""
        for key, value in self.request["headers"]:
            if key == name:
                return value
        return None


class Connection(asyncio.Protocol):
    """One client. Made by a Listener."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        """Its `app` answers; looked up for each request, since a link's route may be replaced."""
        self.loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # set before anything else is called
        self.peer: Any = None
        self.parser = httptools.HttpRequestParser(self)
        self.leaving = False
        """Close once the current response is out."""
        self.task: asyncio.Task[None] | None = None
        self.current: Exchange | None = None
        self.incoming: Exchange | None = None
        """Whose body is being read."""
        self.waiting: deque[Exchange] = deque()
        self.in_head = False
        self.head_bytes = 0
        self.url = b""
        self.headers: Headers = []
        self.length: bytes | None = None
        self.chunked = False
        self.host: bytes | None = None
        self.hosts = 0
        self.expects = False
        self.leading = False
        """The parser reads a head that we wrote, after an upgrade was declined."""
        self.since = self.loop.time()
        self.read_paused = False
        self.resumer: asyncio.Task[None] | None = None
        self.unsent = b""
        """A response that waits for the others of this pass of the loop."""
        self.writable: asyncio.Future[None] | None = None
        self.stalled_since = 0.0

    # -- the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are no subclasses
        self.peer = transport.get_extra_info("peername")
        self.listener.connections.add(self)
        if self.listener.closing:
            self.leave()

    def data_received(self, data: bytes) -> None:
        self.since = self.loop.time()
        if self.incoming is None:
            self.head_bytes += len(data)
        while data:
            try:
                self.parser.feed_data(data)
                break
            except httptools.HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]
                self._decline_upgrade()
            except httptools.HttpParserCallbackError as error:
                if not isinstance(error.__context__, _Refused):
                    log.error("http.request_unparsed", peer=self.peer, exc_info=error.__context__)
                return self.refuse(error.__context__.status if isinstance(error.__context__, _Refused) else 500)
            except httptools.HttpParserError:
                return self.refuse(400)
        if self.incoming is None and self.in_head and self.head_bytes > MAX_HEAD:
            self.refuse(431)
        return None

    def _decline_upgrade(self) -> None:
        """We speak HTTP/1.1 only, so the request stands as it is, with its body; but the parser stopped at the head.

        A new parser goes on: for a body, it is led there by a head that says how long the body is, and nothing else.
        """
        self.parser = httptools.HttpRequestParser(self)
        if self.incoming is not None:
            framing = b"transfer-encoding: chunked" if self.chunked else b"content-length: %b" % (self.length or b"0")
            self.leading = True
            self.parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n\r\n" % framing)
            self.leading = False

    def eof_received(self) -> None:
        """A client that ends its side has left; the transport closes, and connection_lost does the rest."""

    def connection_lost(self, error: Exception | None) -> None:
        gone = ConnectionResetError("the client left")
        for exchange in (self.incoming, self.current, *self.waiting):
            if exchange is not None and exchange.stream is not None:
                exchange.stream.fail(gone)
        self.waiting.clear()
        if self.resumer is not None:
            self.resumer.cancel()
        if self.task is not None:
            self.task.cancel()
        self.resume_writing()
        self.listener.disconnected(self)

    def pause_writing(self) -> None:
        self.writable = self.loop.create_future()
        self.stalled_since = self.loop.time()

    def resume_writing(self) -> None:
        if self.writable is not None:
            if not self.writable.done():
                self.writable.set_result(None)
            self.writable = None

    # -- the parser

    def on_message_begin(self) -> None:
        if self.leading:
            return
        self.in_head = True
        self.url = b""
        self.headers = []
        self.length = self.host = None
        self.hosts = 0
        self.chunked = self.expects = False

    def on_url(self, url: bytes) -> None:
        if not self.leading:
            self.url += url

    def on_header(self, raw: bytes, value: bytes) -> None:
        name = _name(raw)
        if self.leading:
            return
        if self.incoming is not None:
            self.incoming.trailers.append((name, value))
            return
        if name in CONNECTION_HEADERS:
            if name == "content-length":
                self.length = value
                self.headers.append((name, value))
            elif name == "transfer-encoding":
                self.chunked = True
            return
        if name == "host":
            self.host = value
            self.hosts += 1
        elif name == "expect" and value.lower() == b"100-continue":
            self.expects = True
            return
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self.leading:
            return
        self.in_head = False
        self.head_bytes = 0
        parser = self.parser
        method: str = parser.get_method().decode("ascii")
        version: str = parser.get_http_version()
        if method == "CONNECT":
            raise _Refused(405)
        if self.hosts != 1 and (version == "1.1" or self.hosts):
            raise _Refused(400)
        authority = None if self.host is None else self.host.decode("latin-1")
        path = self.url.decode("latin-1")
        if path[0] != "/" and path != "*":
            try:
                whole = httptools.parse_url(self.url)
            except httptools.HttpParserInvalidURLError:
                raise _Refused(400) from None
            if not whole.host:
                raise _Refused(400)
            authority = whole.host.decode("latin-1") + (f":{whole.port}" if whole.port else "")
            path = (whole.path or b"/").decode("latin-1") + (f"?{whole.query.decode('latin-1')}" if whole.query else "")
        request: Request = {
            "method": method,
            "path-with-query": path,
            "scheme": self.listener.scheme,
            "authority": authority,
            "headers": self.headers,
            "body": b"",
        }
        exchange = Exchange(self, request, "1.1" if version == "1.1" else "1.0", parser.should_keep_alive())
        self.incoming = exchange
        length = int(self.length) if self.length is not None else 0
        if self.chunked or length > INLINE_BODY:
            exchange.stream = request["body"] = ByteStream()
            exchange.received, exchange.limit = 0, sys.maxsize
            if self.expects and self.current is None:
                self._write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._begin(exchange)
        elif self.expects and length and self.current is None:
            self._write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        exchange = self.incoming
        assert exchange is not None
        stream = exchange.stream
        if stream is None:
            exchange.inline.append(data)
        elif stream.reader_gone or exchange.received > exchange.limit:
            exchange.discarded += len(data)
            if exchange.discarded > DISCARDED and exchange.responded:
                self._close()
        else:
            exchange.received += len(data)
            if exchange.received > exchange.limit:
                return stream.fail(ValueError(f"the body is larger than {exchange.limit} bytes"))
            stream.write_now(data)
            if not stream.room() and self.resumer is None:
                self._pause_reading()
                self.resumer = self.loop.create_task(self._until_room(stream))
        return None

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade() and (self.chunked or self.length not in (None, b"0")):
            return  # the body is still to come, see _decline_upgrade
        exchange, self.incoming = self.incoming, None
        assert exchange is not None
        exchange.complete = True
        if exchange.stream is None:
            inline = exchange.inline
            if inline:
                exchange.request["body"] = inline[0] if len(inline) == 1 else b"".join(inline)
            self._begin(exchange)
        else:
            exchange.stream.finish(exchange.trailers or None)
            if exchange.responded:
                self._next(exchange)

    async def _until_room(self, stream: ByteStream) -> None:
        try:
            while not stream.room() and not stream.reader_gone:
                await stream.changed()
        finally:
            self.resumer = None
            self._resume_reading()

    def _pause_reading(self) -> None:
        if not self.read_paused and not self.transport.is_closing():
            self.read_paused = True
            self.transport.pause_reading()

    def _resume_reading(self) -> None:
        """Read on, unless somebody else still holds us back."""
        if self.read_paused and not self.waiting and self.resumer is None and not self.transport.is_closing():
            self.read_paused = False
            self.since = self.loop.time()
            self.transport.resume_reading()

    # -- one exchange after the other

    def _begin(self, exchange: Exchange) -> None:
        if self.current is not None:
            self.waiting.append(exchange)
            self._pause_reading()
            return
        self.current = exchange
        self.task = self.loop.create_task(self._answer(exchange))

    async def _answer(self, exchange: Exchange) -> None:
        try:
            response = await self.listener.app(exchange)
            body = response["body"]
            if isinstance(body, ByteStream):
                await self._send_stream(exchange, response, body)
            else:
                self._send_whole(exchange, response, body)
                if self.writable is not None:
                    await self.writable
        except asyncio.CancelledError:
            self.transport.abort()
            raise
        except Exception as error:
            log.error("http.response_unsent", path=exchange.request["path-with-query"], exc_info=error)
            if exchange.status:
                self.transport.abort()
                return
            self._send_whole(exchange, {"status": 502, "headers": [], "body": b""}, b"")
        self._responded(exchange)

    def _responded(self, exchange: Exchange) -> None:
        exchange.responded = True
        if exchange.stream is not None:
            exchange.stream.close()
        if exchange.complete:
            self._next(exchange)
        else:
            self.since = self.loop.time()  # the rest of the body is read and dropped, then comes the next request

    def _next(self, exchange: Exchange) -> None:
        self.current = self.task = None
        if self.leaving or not exchange.keep_alive:
            self._close()
        elif self.waiting:
            self._begin(self.waiting.popleft())
            self._resume_reading()
        else:
            self.since = self.loop.time()

    def refuse(self, status: int) -> None:
        """The client's bytes make no sense, or too much: say so if nobody else is talking, and close."""
        self.leaving = True
        if self.incoming is not None and self.incoming.stream is not None:
            self.incoming.stream.fail(ConnectionError("the request broke off"))
        if self.current is None:
            self._write(
                b"".join((_line("1.1", status), date_line(), b"connection: close\r\ncontent-length: 0\r\n\r\n"))
            )
            self._close()
        else:
            self.incoming = None
            self.transport.pause_reading()
            self.read_paused = True
            if self.current.complete is False:
                self.current.complete = True
                self.current.keep_alive = False

    # -- responses

    def _head(self, exchange: Exchange, response: Response, framing: bytes) -> bytes:
        """Status line and headers. Raises ValueError when the actor's headers cannot be sent as they are."""
        parts = [_line(exchange.version, response["status"])]
        count = 0
        dated = False
        for name, value in response["headers"]:
            lower = name.lower()
            if lower in CONNECTION_HEADERS:
                if lower == "connection" and value.lower() == b"close":
                    exchange.keep_alive = False
                continue
            dated = dated or lower == "date"
            parts.append(b"%b: %b\r\n" % (name.encode("latin-1"), value))
            count += 1
        head = b"".join(parts)
        if count and (head.count(b"\n") != count + 1 or head.count(b"\r") != count + 1 or b"\0" in head):
            raise ValueError("a header holds a line break")
        if exchange.trace:
            head += b"x-trellis-trace: %b\r\n" % exchange.trace
        if not dated:
            head += date_line()
        if self.leaving:
            exchange.keep_alive = False
        if not exchange.keep_alive:
            head += b"connection: close\r\n"
        elif exchange.version == "1.0":
            head += b"connection: keep-alive\r\n"
        exchange.status = response["status"]
        return head + framing

    def _send_whole(self, exchange: Exchange, response: Response, body: bytes) -> None:
        if bodyless(response["status"]):
            self.transport.write(self._head(exchange, response, b"\r\n"))
        elif exchange.head_only:
            length = _content_length(response["headers"])
            framing = b"content-length: %d\r\n\r\n" % (len(body) if length is None else length)
            self.transport.write(self._head(exchange, response, framing))
        else:
            head = self._head(exchange, response, b"content-length: %d\r\n\r\n" % len(body))
            if len(body) > INLINE_BODY:
                self.transport.write(head)
                self.transport.write(body)
            elif exchange.keep_alive:
                self.unsent = head + body
                self.listener.send_soon(self)
            else:
                self.transport.write(head + body)

    def send(self) -> None:
        """What `unsent` holds goes to the socket."""
        data, self.unsent = self.unsent, b""
        if data:
            self.transport.write(data)

    def _write(self, data: bytes) -> None:
        """Outside of an exchange, after what is unsent."""
        self.send()
        self.transport.write(data)

    def _close(self) -> None:
        self.send()
        self.transport.close()

    async def _send_stream(self, exchange: Exchange, response: Response, body: ByteStream) -> None:
        """Head and body as they come. A body that breaks off aborts the connection, so that the client sees it."""
        length = _content_length(response["headers"])
        try:
            if bodyless(response["status"]) or exchange.head_only:
                framing = b"\r\n"
                if exchange.head_only and not bodyless(response["status"]):
                    framing = b"\r\n" if length is None else b"content-length: %d\r\n\r\n" % length
                self.transport.write(self._head(exchange, response, framing))
                return
            chunked = length is None and exchange.version == "1.1"
            if length is not None:
                framing = b"content-length: %d\r\n\r\n" % length
            elif chunked:
                framing = b"transfer-encoding: chunked\r\n\r\n"
            else:
                framing = b"\r\n"
                exchange.keep_alive = False
            pending = self._head(exchange, response, framing)
            sent = 0
            while True:
                data = body.read_now()
                if data:
                    sent += len(data)
                    if length is not None and sent > length:
                        raise ValueError(f"the body is longer than its content-length of {length}")
                    self.transport.write(b"%b%x\r\n%b\r\n" % (pending, len(data), data) if chunked else pending + data)
                    pending = b""
                    while self.writable is not None:
                        await self.writable
                elif body.ended:
                    break
                else:
                    if pending:
                        self.transport.write(pending)
                        pending = b""
                    await body.changed()
            if length is not None and sent < length:
                raise ValueError(f"the body ended after {sent} of {length} bytes")
            if chunked:
                pending += b"0\r\n%b\r\n" % trailer_lines(body.trailers)
            if pending:
                self.transport.write(pending)
        except StreamClosed as error:
            log.warning("http.response_broken", status=response["status"], error=str(error))
            self.transport.abort()
            exchange.keep_alive = False
        finally:
            body.close()

    # -- the listener

    def leave(self) -> None:
        """Finish what is in hand, and what a client that was heard of just now may have sent already; close."""
        self.leaving = True
        if self.current is None:
            left = self.since + JUST_NOW - self.loop.time()
            if left > 0:
                self.loop.call_later(left, self.leave)
            else:
                self._close()

    def check(self, now: float) -> None:
        """Called every few seconds: close a client that keeps us waiting."""
        quiet = now - self.since
        if self.writable is not None and now - self.stalled_since > STALL_SECONDS:
            self.transport.abort()
        elif self.current is None:
            if self.in_head or self.incoming is not None:
                if quiet > HEAD_SECONDS:
                    self.refuse(408)
            elif quiet > self.listener.keep_alive:
                self._close()
        elif self.incoming is not None and not self.read_paused and quiet > HEAD_SECONDS:
            self.transport.abort()


class _Refused(Exception):
    def __init__(self, status: int) -> None:
        self.status = status


def _line(version: str, status: int) -> bytes:
    known = _LINES[version].get(status)
    if known is not None:
        return known
    if not 100 <= status <= 999:
        raise ValueError(f"{status} is not an HTTP status")
    return f"HTTP/{version} {status} \r\n".encode()


def bodyless(status: int) -> bool:
    """Responses with this status have no body, whatever was given."""
    return status in (204, 304) or status < 200


def _content_length(headers: Headers) -> int | None:
    for name, value in headers:
        if name.lower() == "content-length":
            return int(value) if _DIGITS.match(value) else None
    return None


def trailer_lines(trailers: Trailers | None) -> bytes:
    """As they follow the last chunk. Raises ValueError for one that would be more than itself."""
    lines = b"".join(b"%b: %b\r\n" % (name.encode("latin-1"), value) for name, value in trailers or ())
    if lines.count(b"\n") != len(trailers or ()):
        raise ValueError("a trailer holds a line break")
    return lines
