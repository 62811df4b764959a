"""Requests that actors send, on aiohttp's client: what both the provider and a host by itself serve
`wasi:http/outgoing-handler` with.

Bodies stream in both directions with back-pressure. Nothing is followed, decompressed, remembered or added: what comes
back is what the server said, without the fields of the connection. Trailers of a request are sent where its body has no
content-length; those of a response are not seen, since the library reads over them.
"""

from __future__ import annotations

import asyncio
import io
import ssl
import urllib.request
from collections.abc import AsyncIterator, Mapping
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any, NamedTuple, Self

import aiohttp
import certifi
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_writer import StreamWriter
from multidict import CIMultiDict
from yarl import URL

from lattice import EMPTY, BadInput, BadValue, Body, ByteStream, Finding, Value, WitError
from lattice.allow import address, name, shown, split
from lattice.http import Headers, Request, RequestOptions, Response
from lattice.streams import StreamClosed, Trailers
from providers.http.failures import error_code
from providers.http.protocol import trailer_lines

POOLED = 90.0
"""Seconds that a connection waits for the next request to the same place."""
DEFAULT_TIMEOUT = 600.0
"""Seconds, for each of the three that a request does not set."""
HEADER_LIMIT = 64 * 1024
"""Bytes: a response's status line, or one of its headers."""
PIECEMEAL = 1024 * 1024
"""Bytes: a request's body from which on it is not written in one go."""
PORTS = {"http": 80, "https": 443}

CONNECTION = frozenset(
    (
        *("connection", "host", "http2-settings", "keep-alive", "proxy-authenticate", "proxy-authorization"),
        *("proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"),
    )
)
"""Fields that belong to one connection, and so are not passed on in either direction."""

BEFORE_THE_BODY = CONNECTION | {"authorization", "content-length", "content-type", "content-encoding", "content-range"}
"""Fields that mean something only where they come before the body, so no trailers."""

NANOSECONDS = 10**9


class Trust(NamedTuple):
    """Whose certificates are believed."""

    native: bool = True
    bundled: bool = True
    file: Path | None = None


@lru_cache(maxsize=32)
def tls_context(trust: Trust) -> ssl.SSLContext:
    """Raises BadInput when the file holds no certificates. Reads files; takes tens of milliseconds the first time."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if trust.native:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if trust.bundled:
        context.load_verify_locations(certifi.where())
    if trust.file is not None:
        try:
            context.load_verify_locations(trust.file)
        except (OSError, ssl.SSLError) as error:
            raise BadInput(
                Finding("TRL-PRV-007", f"cannot read certificates from {trust.file}: {error}", fix="a file in PEM form")
            ) from error
    return context


class Place(NamedTuple):
    """Where a request goes. `host` is a name as it is looked up, or an address; IPv6 in brackets."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, request: Request) -> Place:
        """Raises WitError with the error-code of a request that names no place; without a scheme it is https."""
        scheme = request["scheme"] or "https"
        if scheme not in PORTS:
            raise WitError("HTTP-protocol-error")
        try:
            host, port = split(request["authority"] or "")
            if address(host) is None:
                host = name(host)
        except ValueError as error:
            raise WitError("HTTP-request-URI-invalid") from error
        return cls(scheme, host, PORTS[scheme] if port is None else port)

    def url(self, path: str | None) -> URL:
        path = path or "/"
        if path.startswith("?"):
            path = f"/{path}"
        if not path.startswith("/") or any(ord(sign) <= 32 or ord(sign) == 127 or sign == "#" for sign in path):
            raise WitError("HTTP-request-URI-invalid")
        default = self.port == PORTS[self.scheme]
        return URL(f"{self.scheme}://{self.host if default else shown(self.host, self.port)}{path}", encoded=True)


class Outgoing:
    """A pool of connections, and requests over it. Use as `async with`, or call `close` at the end."""

    def __init__(self, trust: Trust = Trust(), *, proxy: str | None = None, connections: int = 512) -> None:  # noqa: B008
        self._trust = trust
        self._proxy = proxy
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None
        self._opening = asyncio.Lock()
        self._transfers: set[asyncio.Task[None]] = set()
        self._closed = False

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def open(self) -> aiohttp.ClientSession:
        """Get ready; `send` does it otherwise. Raises BadInput when the certificates cannot be read."""
        async with self._opening:
            if self._session is None:
                context = await asyncio.to_thread(tls_context, self._trust)
                self._session = self._made(context)
            return self._session

    def _made(self, context: ssl.SSLContext) -> aiohttp.ClientSession:
        watch = aiohttp.TraceConfig()
        watch.on_connection_create_end.append(_connected)
        watch.on_connection_reuseconn.append(_connected)
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                ssl=context,
                limit=self._connections,
                keepalive_timeout=POOLED,
                resolver=aiohttp.ThreadedResolver(),
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            auto_decompress=False,
            trust_env=False,
            max_line_size=HEADER_LIMIT,
            max_field_size=HEADER_LIMIT,
            trace_configs=[watch],
        )

    async def close(self) -> None:
        """Let bodies that are still coming come to their end, then close. Cancelled: close at once."""
        self._closed = True
        try:
            while self._transfers:
                await asyncio.wait(self._transfers)
        finally:
            for transfer in self._transfers:
                transfer.cancel()
            session, self._session = self._session, None
            if session is not None:
                await session.close()

    async def send(
        self, request: Request, options: RequestOptions | None = None, *, trace: Mapping[str, str] = EMPTY
    ) -> Response:
        """The response, as soon as its head is there. Raises WitError with an error-code, BadValue for no request.

        `trace` is told to the server, unless the request's own headers have a traceparent.
        """
        place = Place.of(request)
        if request["method"] == "CONNECT":
            raise WitError("HTTP-request-method-invalid")
        url = place.url(request["path-with-query"])
        headers = _headers(request["headers"])
        if "traceparent" not in headers:
            headers.update(trace)
        upload = Upload.of(request["body"], headers)
        data: Any = Trailed(upload) if upload is not None else _in_pieces(request["body"]) or None
        connect, first_byte, between_bytes = _timeouts(options)
        session = await self.open()
        scope = asyncio.timeout(None)
        try:
            async with scope:
                response = await session.request(
                    request["method"],
                    url,
                    headers=headers,
                    data=data,
                    allow_redirects=False,
                    proxy=self._proxy_for(place),
                    timeout=aiohttp.ClientTimeout(total=None, connect=connect),
                    trace_request_ctx=Clock(scope, first_byte),
                )
        except aiohttp.ConnectionTimeoutError as error:
            raise WitError("connection-timeout") from error
        except TimeoutError as error:
            if not scope.expired():
                raise WitError(error_code(error)) from error
            raise WitError("HTTP-response-timeout") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise WitError(_blame(error, upload)) from error
        finally:
            if upload is not None and not upload.begun:
                upload.close()
        return {"status": response.status, "headers": _visible(response), "body": self._body(response, between_bytes)}

    def _body(self, response: aiohttp.ClientResponse, between_bytes: float) -> Body:
        content = response.content
        if content.is_eof() and content.exception() is None:
            data = content.read_nowait()
            response.release()
            return data
        body = Download()
        transfer = asyncio.get_running_loop().create_task(_transfer(response, body, between_bytes))
        body.transfer = transfer
        self._transfers.add(transfer)
        transfer.add_done_callback(self._transfers.discard)
        return body

    def _proxy_for(self, place: Place) -> str | None:
        if self._proxy != "environment":
            return self._proxy
        if urllib.request.proxy_bypass_environment(place.host):  # type: ignore[attr-defined]
            return None
        return urllib.request.getproxies_environment().get(place.scheme)


class Clock(NamedTuple):
    """When the wait for the first byte ends: it begins once there is a connection."""

    scope: asyncio.Timeout
    seconds: float


async def _connected(session: aiohttp.ClientSession, context: SimpleNamespace, _: object) -> None:
    clock: Clock = context.trace_request_ctx
    clock.scope.reschedule(asyncio.get_running_loop().time() + clock.seconds)


class Upload:
    """A request's body on its way out. aiohttp reads it once, with what the connection takes."""

    def __init__(self, source: ByteStream, expected: int | None) -> None:
        self._source = source
        self._expected = expected
        self._sent = 0
        self.begun = False
        self.failure: Value = None
        """The error-code, when it is the body's own fault that the request failed."""

    @classmethod
    def of(cls, body: Body, headers: CIMultiDict[str]) -> Upload | None:
        """None for a body that is there already. Raises WitError when it has not the size that its headers announce."""
        text = headers.get("content-length")
        expected = int(text) if text is not None and text.isdigit() else None
        if isinstance(body, ByteStream):
            return cls(body, expected)
        if expected is not None and expected != len(body):
            raise WitError({"HTTP-request-body-size": len(body)})
        return None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.begun = True
        try:
            if not self._source.readable():
                yield b""  # the head leaves with the first chunk: do not let it wait for one
            async for chunk in self._source:
                self._sent += len(chunk)
                yield chunk
            if self._expected is not None and self._sent != self._expected:
                self.failure = {"HTTP-request-body-size": self._sent}
                raise StreamClosed(f"the body has {self._sent} bytes, its content-length says {self._expected}")
        except StreamClosed as closed:
            if self.failure is None:
                cause = closed.__cause__
                self.failure = cause.payload if isinstance(cause, WitError) else {"internal-error": str(closed)}
            raise
        finally:
            self.close()

    def trailers(self) -> Trailers:
        """Those that may follow a body; there once all of it was read."""
        return [(name, value) for name, value in self._source.trailers or () if name.lower() not in BEFORE_THE_BODY]

    def close(self) -> None:
        self._source.close()


class Trailed(aiohttp.AsyncIterablePayload):
    """An upload, and the trailers that it has at its end."""

    _value: Upload

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        await super().write_with_length(writer, content_length)
        trailers = self._value.trailers()
        if trailers and isinstance(writer, StreamWriter) and writer.chunked:
            writer.chunked = False  # the last chunk is ours: it has the trailers
            await writer.write(b"0\r\n%b\r\n" % trailer_lines(trailers))


class Download(ByteStream):
    """A response's body. Whoever closes it ends the transfer, and with it the connection."""

    __slots__ = ("transfer",)

    transfer: asyncio.Task[None]

    def close(self) -> None:
        super().close()
        self.transfer.cancel()


async def _transfer(response: aiohttp.ClientResponse, body: Download, between_bytes: float) -> None:
    """From the connection into `body`, no faster than it is read. What goes wrong is the end of the body."""
    whole = False
    try:
        while True:
            async with asyncio.timeout(between_bytes):
                chunk = await response.content.readany()
            if not chunk:
                break
            await body.write(chunk)
        whole = True
        body.finish()
    except TimeoutError:
        body.fail(WitError("connection-read-timeout"))
    except (aiohttp.ClientError, OSError) as error:
        body.fail(WitError(error_code(error)))
    except StreamClosed:
        pass  # nobody reads on
    except BaseException:
        body.fail(WitError("connection-terminated"))
        raise
    finally:
        if whole:
            response.release()
        else:
            response.close()


def _blame(error: BaseException, upload: Upload | None) -> Value:
    if upload is not None and upload.failure is not None:
        return upload.failure
    return error_code(error)


def _in_pieces(body: Body) -> Any:
    """A large body in a form that aiohttp sends bit by bit, so that others get their turn meanwhile."""
    return io.BytesIO(body) if isinstance(body, bytes) and len(body) > PIECEMEAL else body


def _headers(headers: Headers) -> CIMultiDict[str]:
    """Without those of the connection. Raises WitError for what no header can be, BadValue for no headers at all."""
    try:
        given = [(key, bytes(value)) for key, value in headers]
    except (TypeError, ValueError) as error:
        raise BadValue(f"the headers are not a list of names and bytes: {error}") from error
    own = CONNECTION.union(
        token.strip().lower()
        for key, value in given
        if key.lower() == "connection"
        for token in value.decode("latin-1").split(",")
    )
    made: CIMultiDict[str] = CIMultiDict()
    for key, value in given:
        if key.lower() in own:
            continue
        try:
            made.add(key, value.decode())
        except UnicodeDecodeError as error:
            raise WitError({"internal-error": f'the value of the header "{key}" is not UTF-8'}) from error
    return made


def _visible(response: aiohttp.ClientResponse) -> Headers:
    raw = [(key.decode("latin-1").lower(), value) for key, value in response.raw_headers]
    own = CONNECTION.union(
        token.strip().lower()
        for key, value in raw
        if key == "connection"
        for token in value.decode("latin-1").split(",")
    )
    return [(key, value) for key, value in raw if key not in own]


def _timeouts(options: RequestOptions | None) -> tuple[float, float, float]:
    """(connect, first byte, between bytes) in seconds; what is no time at all is a very short one."""
    if options is None:
        return DEFAULT_TIMEOUT, DEFAULT_TIMEOUT, DEFAULT_TIMEOUT

    def seconds(duration: int | None) -> float:
        return DEFAULT_TIMEOUT if duration is None else max(duration / NANOSECONDS, 1e-6)

    return (
        seconds(options["connect-timeout"]),
        seconds(options["first-byte-timeout"]),
        seconds(options["between-bytes-timeout"]),
    )
