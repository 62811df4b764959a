"""wasi:http/types: fields, requests, responses and their bodies.

Incoming means towards the guest. Field names a guest writes are kept in lower case; those it may not write (the
connection's own) it does not see either.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, ClassVar, Self

from actors.guest import Buffered, Guest
from actors.host_api import Resource, internal, serves
from actors.wasi.io import InputStream, IoError, OutputStream, Pollable, wake
from lattice import Body, ByteStream, DeadlineExceeded, EntityId, LimitExceeded, Trap, Value, WitError
from lattice.http import Headers, Request, Response
from lattice.http import RequestOptions as Timeouts
from lattice.streams import StreamClosed

FORBIDDEN = frozenset(
    (
        "connection",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "transfer-encoding",
        "upgrade",
    )
)
"""Fields of the connection, which belongs to the host."""

FIELDS_LIMIT = 128 * 1024
"""Bytes of names and values in one `fields`."""

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+\-.]*")
_AUTHORITY = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=%]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_PATH = re.compile(r"[^\x00-\x20\x7f#]*")
_VALUE_BYTES = bytes([9, *range(32, 127), *range(128, 256)])

_METHODS = {
    name.upper(): name for name in ("get", "head", "post", "put", "delete", "connect", "options", "trace", "patch")
}


@lru_cache(maxsize=1024)
def _field_name(name: str) -> str:
    """`name` in lower case. Raises WitError(header-error) unless a guest may write it; errors are not cached."""
    if _TOKEN.fullmatch(name) is None:
        raise WitError("invalid-syntax")
    lower = name.lower()
    if lower in FORBIDDEN:
        raise WitError("forbidden")
    return lower


def _field_value(value: bytes) -> bytes:
    if value.translate(None, _VALUE_BYTES):
        raise WitError("invalid-syntax")
    return value


def visible(headers: Headers) -> Headers:
    """`headers` without the connection's own."""
    return [(name, value) for name, value in headers if name.lower() not in FORBIDDEN]


class Fields(Resource, interface="wasi:http/types", name="fields"):
    """`fields`: an ordered multimap from names, in any case, to values."""

    __slots__ = ("_mutable", "_room", "items")

    def __init__(self, items: Headers, *, mutable: bool = True) -> None:
        self.items = items
        self._mutable = mutable
        self._room = FIELDS_LIMIT

    @classmethod
    def new(cls, guest: Guest) -> Fields:
        return cls([])

    @classmethod
    def from_list(cls, guest: Guest, entries: Headers) -> Fields:
        fields = cls([])
        for name, value in entries:
            fields.append(name, value)
        return fields

    def get(self, name: str) -> list[bytes]:
        name = name.lower()
        return [value for key, value in self.items if key.lower() == name]

    def has(self, name: str) -> bool:
        name = name.lower()
        return any(key.lower() == name for key, _ in self.items)

    def set(self, name: str, values: list[bytes]) -> None:
        self._writable()
        name = _field_name(name)
        checked = [(name, _field_value(value)) for value in values]
        self._remove(name)
        for entry in checked:
            self._take(entry)

    def delete(self, name: str) -> None:
        self._writable()
        self._remove(_field_name(name))

    def append(self, name: str, value: bytes) -> None:
        self._writable()
        self._take((_field_name(name), _field_value(value)))

    def entries(self) -> Headers:
        return self.items

    def clone(self) -> Fields:
        copy = Fields([(name.lower(), value) for name, value in self.items])
        copy._room = self._room
        return copy

    def _writable(self) -> None:
        if not self._mutable:
            raise WitError("immutable")

    def _take(self, entry: tuple[str, bytes]) -> None:
        self._room -= len(entry[0]) + len(entry[1])
        if self._room < 0:
            raise LimitExceeded(f"wasi:http fields of more than {FIELDS_LIMIT} bytes", limit="http-fields")
        self.items.append(entry)

    def _remove(self, name: str) -> None:
        self._room += sum(len(key) + len(value) for key, value in self.items if key == name)
        self.items = [entry for entry in self.items if entry[0] != name]


def content_length(headers: Headers) -> int | None:
    """What `content-length` announces; None without one, or when it is no number."""
    for name, value in headers:
        if name.lower() == "content-length":
            return int(value) if value.isdigit() else None
    return None


def http_error(closed: StreamClosed) -> IoError:
    """The error of a body that broke off, with its error-code."""
    cause = closed.__cause__
    if isinstance(cause, WitError):
        return IoError(str(closed), cause.payload)
    if isinstance(cause, DeadlineExceeded):
        return IoError(str(closed), "connection-read-timeout")
    return IoError(str(closed), "connection-terminated")


class IncomingBody(Resource, interface="wasi:http/types", name="incoming-body"):
    """`incoming-body`: dropped without `finish`, the sender is told that nobody reads on."""

    __slots__ = ("_source", "_streamed")

    def __init__(self, body: Body) -> None:
        self._source = body if isinstance(body, ByteStream) else ByteStream.of(body)
        self._streamed = False

    def stream(self) -> InputStream:
        """Once; again is an error."""
        if self._streamed:
            raise WitError
        self._streamed = True
        return InputStream(self._source, http_error)

    @staticmethod
    def finish(guest: Guest, body: IncomingBody) -> FutureTrailers:
        return FutureTrailers(body._source)

    def dropped(self) -> None:
        self._source.close()


class FutureTrailers(Resource, interface="wasi:http/types", name="future-trailers"):
    """`future-trailers`: what is left of the body is read over until its end."""

    __slots__ = ("_source", "_taken")

    def __init__(self, source: ByteStream) -> None:
        self._source = source
        self._taken = False

    def subscribe(self) -> Pollable:
        return Pollable(self._ended, self._source.watch)

    def get(self) -> Value:
        """`option<result<result<option<trailers>, error-code>>>`: none yet; once the trailers or why there are none."""
        if self._taken:
            return {"err": None}
        if not self._ended():
            return None
        self._taken = True
        try:
            self._source.read_now()
        except StreamClosed as closed:
            return {"ok": {"err": http_error(closed).error_code}}
        trailers = self._source.trailers
        return {"ok": {"ok": None if trailers is None else Fields(visible(trailers), mutable=False)}}

    def _ended(self) -> bool:
        source = self._source
        while source.buffered:
            source.read_now()
        return source.readable()

    def dropped(self) -> None:
        self._source.close()


class Incoming(Resource):
    """What a request and a response that came in have in common."""

    __slots__ = ("_body", "_headers")

    def __init__(self, message: Request | Response) -> None:
        self._headers = message["headers"]
        self._body: Body | None = message["body"]

    def headers(self) -> Fields:
        return Fields(visible(self._headers), mutable=False)

    def consume(self) -> IncomingBody:
        """Once; again is an error."""
        if self._body is None:
            raise WitError
        body, self._body = self._body, None
        return IncomingBody(body)

    def dropped(self) -> None:
        if isinstance(self._body, ByteStream):
            self._body.close()


class IncomingRequest(Incoming, interface="wasi:http/types", name="incoming-request"):
    """`incoming-request`"""

    __slots__ = ("_request",)

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self._request = request

    def method(self) -> Value:
        method = self._request["method"]
        return _METHODS.get(method) or {"other": method}

    def path_with_query(self) -> str | None:
        return self._request["path-with-query"]

    def scheme(self) -> Value:
        scheme = self._request["scheme"]
        if scheme is None:
            return None
        return scheme.upper() if scheme in ("http", "https") else {"other": scheme}

    def authority(self) -> str | None:
        return self._request["authority"]


class IncomingResponse(Incoming, interface="wasi:http/types", name="incoming-response"):
    """`incoming-response`"""

    __slots__ = ("_status",)

    def __init__(self, response: Response) -> None:
        super().__init__(response)
        self._status = response["status"]

    def status(self) -> int:
        return self._status


class OutgoingBody(Resource, interface="wasi:http/types", name="outgoing-body"):
    """`outgoing-body`: the Sink of its output-stream. `bytes_` is where the other side reads.

    Dropped without `finish` it breaks off, so that nobody takes half a body for a whole one. A body of another size
    than its content-length ends in the error-code `size_error`.
    """

    __slots__ = ("_expected", "_guest", "_size_error", "_streamed", "_written", "bytes_")

    def __init__(self, guest: Guest, headers: Headers, size_error: str) -> None:
        self.bytes_ = ByteStream(budget=guest.kept(Buffered))
        self._guest = guest
        self._expected = content_length(headers) if headers else None
        self._size_error = size_error
        self._written = 0
        self._streamed = False

    # -- the resource

    def write(self) -> OutputStream:
        """Once; again is an error."""
        if self._streamed:
            raise WitError
        self._streamed = True
        return OutputStream(_BodySink(self))

    @staticmethod
    def finish(guest: Guest, body: OutgoingBody, trailers: Fields | None) -> None:
        if body._expected is not None and body._written != body._expected:
            raise body._wrong_size()
        body.bytes_.finish(None if trailers is None else trailers.items)

    def dropped(self) -> None:
        reason = self._guest.failure or Trap(f'"{self._guest.actor}" dropped the body without finishing it')
        self.bytes_.fail(reason)

    # -- the sink

    @internal
    def room(self) -> int:
        if self.bytes_.reader_gone:
            raise WitError("closed")
        return self.bytes_.room()

    @internal
    def take(self, data: bytes) -> None:
        self._written += len(data)
        if self._expected is not None and self._written > self._expected:
            error = self._wrong_size()
            raise WitError(
                {"last-operation-failed": IoError("the body is larger than its content-length", error.payload)}
            )
        try:
            self.bytes_.write_now(data)
        except StreamClosed:
            raise WitError("closed") from None

    def _wrong_size(self) -> WitError:
        error = WitError({self._size_error: self._written})
        broken = Trap(f"the guest wrote {self._written} bytes of body where content-length says {self._expected}")
        broken.__cause__ = error
        self.bytes_.fail(broken)
        return error


class _BodySink:
    """OutgoingBody as a Sink; `write` is a name that the resource needs itself."""

    __slots__ = ("room", "watch", "write")

    def __init__(self, body: OutgoingBody) -> None:
        self.room = body.room
        self.write = body.take
        self.watch = body.bytes_.watch


class Outgoing(Resource):
    """What a request and a response that go out have in common."""

    __slots__ = ("_body", "_guest", "_headers")

    size_error: ClassVar[str]
    """The error-code for a body of another size than its content-length."""

    def __init__(self, guest: Guest, headers: Headers) -> None:
        self._guest = guest
        self._headers = headers
        self._body: OutgoingBody | None = None

    @classmethod
    def new(cls, guest: Guest, headers: Fields) -> Self:
        return cls(guest, headers.items)

    def headers(self) -> Fields:
        return Fields(self._headers, mutable=False)

    def body(self) -> OutgoingBody:
        """Once; again is an error."""
        if self._body is not None:
            raise WitError
        self._body = OutgoingBody(self._guest, self._headers, self.size_error)
        return self._body


class OutgoingResponse(Outgoing, interface="wasi:http/types", name="outgoing-response"):
    """`outgoing-response`"""

    __slots__ = ("_status",)

    size_error = "HTTP-response-body-size"

    def __init__(self, guest: Guest, headers: Headers) -> None:
        super().__init__(guest, headers)
        self._status = 200

    def status_code(self) -> int:
        return self._status

    def set_status_code(self, status_code: int) -> None:
        if not 100 <= status_code <= 999:
            raise WitError
        self._status = status_code

    @internal
    def complete(self) -> bool:
        """All of the body is there."""
        return self._body is None or self._body.bytes_.complete

    @internal
    def value(self) -> Response:
        """The response as it travels; the body of one that wrote none is empty, of a complete one bytes."""
        body: Body = b"" if self._body is None else self._body.bytes_
        return {"status": self._status, "headers": self._headers, "body": gathered(body)}


def gathered(body: Body) -> Body:
    """`body` as bytes when all of it is there and it has no trailers; otherwise as it is."""
    if not isinstance(body, ByteStream) or not body.complete or body.trailers:
        return body
    parts = []
    while body.buffered:
        parts.append(body.read_now(body.buffered))
    return parts[0] if len(parts) == 1 else b"".join(parts)


class ResponseOutparam(Resource, interface="wasi:http/types", name="response-outparam"):
    """`response-outparam`: `answer` becomes the result that the guest sets."""

    __slots__ = ("_actor", "answer")

    def __init__(self, answer: asyncio.Future[Value], actor: EntityId) -> None:
        self.answer = answer
        self._actor = actor

    @staticmethod
    def set(guest: Guest, param: ResponseOutparam, response: Value) -> None:
        if not param.answer.done():
            param.answer.set_result(response)

    def dropped(self) -> None:
        if not self.answer.done():
            self.answer.set_exception(Trap(f'"{self._actor}" dropped its response-outparam without setting it'))


class RequestOptions(Resource, interface="wasi:http/types", name="request-options"):
    """`request-options`: timeouts in nanoseconds, each optional."""

    __slots__ = ("timeouts",)

    def __init__(self) -> None:
        self.timeouts: Timeouts = {
            "connect-timeout": None,
            "first-byte-timeout": None,
            "between-bytes-timeout": None,
        }

    @classmethod
    def new(cls, guest: Guest) -> RequestOptions:
        return cls()

    def connect_timeout(self) -> int | None:
        return self.timeouts["connect-timeout"]

    def set_connect_timeout(self, duration: int | None) -> None:
        self.timeouts["connect-timeout"] = duration

    def first_byte_timeout(self) -> int | None:
        return self.timeouts["first-byte-timeout"]

    def set_first_byte_timeout(self, duration: int | None) -> None:
        self.timeouts["first-byte-timeout"] = duration

    def between_bytes_timeout(self) -> int | None:
        return self.timeouts["between-bytes-timeout"]

    def set_between_bytes_timeout(self, duration: int | None) -> None:
        self.timeouts["between-bytes-timeout"] = duration


class OutgoingRequest(Outgoing, interface="wasi:http/types", name="outgoing-request"):
    """`outgoing-request`"""

    __slots__ = ("_authority", "_method", "_path", "_scheme")

    size_error = "HTTP-request-body-size"

    def __init__(self, guest: Guest, headers: Headers) -> None:
        super().__init__(guest, headers)
        self._method: Value = "get"
        self._path: str | None = None
        self._scheme: Value = None
        self._authority: str | None = None

    def method(self) -> Value:
        return self._method

    def set_method(self, method: Value) -> None:
        if isinstance(method, dict) and _TOKEN.fullmatch(method["other"]) is None:
            raise WitError
        self._method = method

    def path_with_query(self) -> str | None:
        return self._path

    def set_path_with_query(self, path_with_query: str | None) -> None:
        if path_with_query is not None and _PATH.fullmatch(path_with_query) is None:
            raise WitError
        self._path = path_with_query

    def scheme(self) -> Value:
        return self._scheme

    def set_scheme(self, scheme: Value) -> None:
        if isinstance(scheme, dict) and _SCHEME.fullmatch(scheme["other"]) is None:
            raise WitError
        self._scheme = scheme

    def authority(self) -> str | None:
        return self._authority

    def set_authority(self, authority: str | None) -> None:
        if authority is not None and _AUTHORITY.fullmatch(authority) is None:
            raise WitError
        self._authority = authority

    @internal
    def value(self) -> Request:
        """The request as it travels. A body that was taken is a stream: the guest may still write."""
        method, scheme = self._method, self._scheme
        return {
            "method": method["other"] if isinstance(method, dict) else method.upper(),
            "path-with-query": self._path,
            "scheme": scheme["other"] if isinstance(scheme, dict) else scheme and scheme.lower(),
            "authority": self._authority,
            "headers": self._headers,
            "body": b"" if self._body is None else gathered(self._body.bytes_),
        }

    def dropped(self) -> None:
        if self._body is not None:
            self._body.bytes_.close()


class FutureIncomingResponse(Resource, interface="wasi:http/types", name="future-incoming-response"):
    """`future-incoming-response`: the task ends in a Response, or in WitError with an error-code."""

    __slots__ = ("_taken", "_task")

    def __init__(self, task: asyncio.Task[Response]) -> None:
        self._task = task
        self._taken = False
        task.add_done_callback(_seen)

    def subscribe(self) -> Pollable:
        return Pollable(self._task.done, self._watch)

    def get(self) -> Value:
        """`option<result<result<incoming-response, error-code>>>`: none yet; then once the outcome."""
        if self._taken:
            return {"err": None}
        if not self._task.done():
            return None
        self._taken = True
        try:
            return {"ok": {"ok": IncomingResponse(self._task.result())}}
        except WitError as error:
            return {"ok": {"err": error.payload}}

    def dropped(self) -> None:
        if not self._taken:
            self._task.add_done_callback(_forget)
            self._task.cancel()

    def _watch(self, waiter: asyncio.Future[None]) -> Callable[[], object]:
        def done(_: Any) -> None:
            wake(waiter)

        self._task.add_done_callback(done)
        return lambda: self._task.remove_done_callback(done)


def _seen(task: asyncio.Task[Response]) -> None:
    """A guest may end without looking at what became of its request."""
    if not task.cancelled():
        task.exception()


def _forget(task: asyncio.Task[Response]) -> None:
    """A response that nobody wants: tell its sender, and let an error pass."""
    if task.cancelled() or task.exception() is not None:
        return
    body = task.result()["body"]
    if isinstance(body, ByteStream):
        body.close()


@serves(
    "wasi:http/types",
    Fields,
    IncomingRequest,
    OutgoingRequest,
    RequestOptions,
    ResponseOutparam,
    IncomingResponse,
    IncomingBody,
    FutureTrailers,
    OutgoingResponse,
    OutgoingBody,
    FutureIncomingResponse,
)
class Types:
    @staticmethod
    def http_error_code(guest: Guest, error: IoError) -> Value:
        return error.error_code
