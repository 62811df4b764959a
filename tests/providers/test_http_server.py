"""The HTTP server against real clients: aiohttp where it will do, a bare socket where the bytes matter."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme
from structlog.testing import capture_logs

from lattice import (
    BadInput,
    Busy,
    DeadlineExceeded,
    Denied,
    Invocation,
    LatticeError,
    NotLinked,
    Trap,
    UnknownFunction,
    Unreachable,
    Value,
    WitError,
)
from lattice.http import Request, Response
from lattice.streams import ByteStream, StreamClosed, read_body
from lattice.tracing import Http, Observer, Span, trace_id
from lattice.tracing import nobody as unobserving
from providers.http import listener, protocol
from providers.http.server import HttpServer
from providers.link import LinkRecord, link_between
from providers.runtime import Runtime
from providers.testing import running

HTTP = "wasi:http/incoming-handler"
Actor = Callable[[Request], Awaitable[Response]]


def route(actor: str = "actor", name: str = "default", **config: str) -> LinkRecord:
    if not {"path", "host", "address"} & set(config):
        config["address"] = "127.0.0.1:0"
    return link_between("http", actor, HTTP, name=name, source_config=config)


def ok(body: bytes | ByteStream = b"", status: int = 200, **headers: bytes) -> Response:
    return {"status": status, "headers": [(k.replace("_", "-"), v) for k, v in headers.items()], "body": body}


class Site:
    def __init__(self, runtime: Runtime, record: LinkRecord, client: aiohttp.ClientSession) -> None:
        self.runtime = runtime
        self.record = record
        self.client = client
        self.calls: list[Invocation] = []

    @property
    def server(self) -> HttpServer:
        assert isinstance(self.runtime.provider, HttpServer)
        return self.runtime.provider

    @property
    def url(self) -> str:
        url = self.server.url(self.record.id)
        assert url is not None
        return url

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    async def get(self, path: str = "/", method: str = "GET", **options: Any) -> tuple[int, bytes]:
        async with self.client.request(method, self.url + path, **options) as response:
            return response.status, await response.read()

    async def socket(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def raw(self, data: bytes) -> bytes:
        """What comes back on a connection of its own, until the server closes it."""
        reader, writer = await self.socket()
        writer.write(data)
        answer = await reader.read(-1)
        writer.close()
        await writer.wait_closed()
        return answer


@asynccontextmanager
async def site(
    actor: Actor,
    *more: LinkRecord,
    config: dict[str, str] | None = None,
    observe: Observer = unobserving,
    **link: str,
) -> AsyncIterator[Site]:
    calls: list[Invocation] = []

    async def peer(invocation: Invocation) -> Value:
        calls.append(invocation)
        assert invocation.function.key == f"{HTTP}#handle"
        return await actor(invocation.args[0])

    first = route(**link)
    async with running(
        HttpServer(), [first, *more], config=config or {}, peer=peer, id="http", observe=observe
    ) as http:
        async with aiohttp.ClientSession() as client:
            found = Site(http.runtime, first, client)
            found.calls = calls
            yield found


async def hello(request: Request) -> Response:
    return ok(b"hello", content_type=b"text/plain")


async def echo(request: Request) -> Response:
    return ok(request["body"] if isinstance(request["body"], ByteStream) else bytes(request["body"]))


# -- requests and responses


async def test_a_request_arrives_at_the_actor_as_it_was_sent():
    async def actor(request: Request) -> Response:
        plain = {
            **request,
            "headers": [[k, v.decode()] for k, v in request["headers"]],
            "body": bytes(request["body"]).decode(),
        }
        return ok(json.dumps(plain).encode())

    async with site(actor) as http:
        status, body = await http.get(
            "/a%20b?q=1&q=2",
            "POST",
            data=b"hi",
            headers={"X-One": "1"},
            skip_auto_headers=["User-Agent", "Accept", "Accept-Encoding", "Content-Type"],
        )
        assert status == 200
        assert json.loads(body) == {
            "method": "POST",
            "path-with-query": "/a%20b?q=1&q=2",
            "scheme": "http",
            "authority": f"127.0.0.1:{http.port}",
            "headers": [["host", f"127.0.0.1:{http.port}"], ["x-one", "1"], ["content-length", "2"]],
            "body": "hi",
        }


async def test_status_and_headers_of_the_response_are_the_actors():
    async def actor(request: Request) -> Response:
        return {
            "status": 418,
            "headers": [("x-a", b"1"), ("X-A", b"2"), ("connection", b"x"), ("content-length", b"99")],
            "body": b"tea",
        }

    async with site(actor) as http, http.client.get(http.url) as response:
        assert response.status == 418
        assert response.headers.getall("x-a") == ["1", "2"]
        assert response.headers["content-length"] == "3"
        assert "date" in response.headers


async def test_one_connection_serves_many_requests():
    async with site(hello) as http:
        reader, writer = await http.socket()
        for _ in range(3):
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            assert await reader.readexactly(5) == b"hello"
        writer.close()


async def test_pipelined_requests_are_answered_in_their_order():
    first = asyncio.Event()

    async def actor(request: Request) -> Response:
        if request["path-with-query"] == "/0":
            await first.wait()
        return ok(str(request["path-with-query"]).encode())

    async with site(actor) as http:
        _, writer = await http.socket()
        reader, writer = await http.socket()
        writer.write(b"".join(b"GET /%d HTTP/1.1\r\nhost: x\r\n\r\n" % n for n in range(4)))
        writer.write(b"POST /4 HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi")
        await writer.drain()
        first.set()
        answer = await reader.read(-1)
        assert [part[:2] for part in answer.split(b"\r\n\r\n")[1:]] == [b"/%d" % n for n in range(5)]
        writer.close()


@pytest.mark.parametrize("then", [b"not HTTP\r\n\r\n", None])
async def test_a_response_that_waits_for_its_neighbours_leaves_before_whatever_comes_next(then: bytes | None):
    async def actor(request: Request) -> Response:
        return ok(b"first")

    async with site(actor) as http:
        listener = http.server.listeners["127.0.0.1:0"]
        ours, theirs = socket.socketpair()
        transport, connection = await asyncio.get_running_loop().connect_accepted_socket(
            lambda: protocol.Connection(listener), ours
        )
        connection.data_received(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        while connection.task is not None:
            await asyncio.sleep(0)
        assert connection.unsent  # answered, and the loop has not come round to sending yet
        connection.leave() if then is None else connection.data_received(then)
        reader, writer = await asyncio.open_connection(sock=theirs)
        answered = await reader.read(-1)
        writer.close()
        await writer.wait_closed()
    assert answered.startswith(b"HTTP/1.1 200 ")
    assert answered.partition(b"first")[2].startswith(b"" if then is None else b"HTTP/1.1 400 ")
    assert transport.is_closing()


async def test_http_1_0_closes_and_never_gets_chunks():
    async def actor(request: Request) -> Response:
        return ok(ByteStream.of(b"streamed"))

    async with site(actor) as http:
        answer = await http.raw(b"GET / HTTP/1.0\r\n\r\n")
        assert answer.startswith(b"HTTP/1.0 200 OK\r\n")
        assert b"chunked" not in answer
        assert answer.endswith(b"\r\n\r\nstreamed")


@pytest.mark.parametrize("body", [b"hello", None])
async def test_head_gets_the_headers_alone(body: bytes | None):
    async def actor(request: Request) -> Response:
        return ok(body or ByteStream.of(b"hello"), content_length=b"5")

    async with site(actor) as http:
        answer = await http.raw(b"HEAD / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert b"content-length: 5\r\n" in answer
        assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("status", [204, 304])
async def test_a_status_without_body_gets_none(status: int):
    async def actor(request: Request) -> Response:
        return ok(b"never", status)

    async with site(actor) as http:
        answer = await http.raw(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert b"content-length" not in answer
        assert answer.endswith(b"\r\n\r\n")


async def test_an_absolute_address_in_the_request_line_is_taken_apart():
    async def actor(request: Request) -> Response:
        return ok(f"{request['authority']} {request['path-with-query']}".encode())

    async with site(actor) as http:
        answer = await http.raw(b"GET http://example.org:81/p?q HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert answer.endswith(b"example.org:81 /p?q")


async def test_an_offer_to_upgrade_is_answered_as_a_plain_request():
    async with site(echo) as http:
        upgrade = b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAA\r\n"
        reader, writer = await http.socket()
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\n" + upgrade + b"content-length: 3\r\n\r\nabc")
        assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(3) == b"abc"
        writer.write(
            b"GET / HTTP/1.1\r\nhost: x\r\n" + upgrade + b"\r\nGET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        )
        assert (await reader.read(-1)).count(b"HTTP/1.1 200 OK") == 2
        writer.close()


# -- bodies


async def test_a_large_upload_streams_through_with_bounded_memory():
    size, most = 0, 0

    async def actor(request: Request) -> Response:
        nonlocal size, most
        assert isinstance(request["body"], ByteStream)
        async for chunk in request["body"]:
            size += len(chunk)
            most = max(most, request["body"].buffered)
            await asyncio.sleep(0)
        return ok(str(size).encode())

    async def upload() -> AsyncIterator[bytes]:
        for _ in range(320):
            yield b"x" * 65536

    async with site(actor) as http:
        assert await http.get("/", "POST", data=upload()) == (200, b"20971520")
        assert most < 2 * 1024 * 1024


async def test_a_large_body_comes_back_as_it_went():
    data = bytes(range(256)) * 8192
    async with site(echo) as http:
        assert await http.get("/", "PUT", data=io.BytesIO(data)) == (200, data)
        assert await http.get("/", "PUT", data=io.BytesIO(data[:60000])) == (200, data[:60000])


async def test_both_directions_stream_at_the_same_time():
    """An echo of an upload that is longer than all buffers between, and whose end depends on what came back."""
    came_back = asyncio.Event()

    async def upload() -> AsyncIterator[bytes]:
        yield b"first"
        await came_back.wait()
        yield b"second"

    async with site(echo) as http, http.client.post(http.url, data=upload()) as response:
        assert await response.content.readany() == b"first"
        came_back.set()
        assert await response.content.read() == b"second"


async def test_a_response_is_sent_as_it_is_written():
    stream = ByteStream()

    async def actor(request: Request) -> Response:
        return ok(stream)

    async with site(actor) as http, http.client.get(http.url) as response:
        assert response.headers["transfer-encoding"] == "chunked"
        for part in (b"one", b"two"):
            await stream.write(part)
            assert await response.content.readany() == part
        stream.finish([("x-sum", b"6")])
        assert await response.content.read() == b""


async def test_trailers_follow_the_last_chunk():
    async def actor(request: Request) -> Response:
        return ok(ByteStream.of(b"abc", [("x-sum", b"6")]))

    async with site(actor) as http:
        answer = await http.raw(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert answer.endswith(b"\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 6\r\n\r\n")


async def test_a_slow_reader_holds_the_writer_back():
    stream = ByteStream()

    async def actor(request: Request) -> Response:
        return ok(stream)

    async with site(actor) as http:
        reader, writer = await asyncio.open_connection("127.0.0.1", http.port, limit=1024)
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        written = 0
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                while True:
                    await stream.write(b"x" * 65536)
                    written += 65536
        stream.finish()
        assert written < 64 * 1024 * 1024
        assert len(await reader.read(-1)) > written
        writer.close()


async def test_a_response_that_breaks_off_is_seen_to_break_off():
    async def actor(request: Request) -> Response:
        stream = ByteStream()
        stream.write_now(b"half")
        stream.fail(ConnectionError("the actor trapped"))
        return ok(stream)

    async with site(actor) as http:
        with pytest.raises(aiohttp.ClientError):
            await http.get()


@pytest.mark.parametrize("promised", [b"2", b"9"])
async def test_a_body_that_breaks_its_promised_length_is_seen_to(promised: bytes):
    async def actor(request: Request) -> Response:
        return ok(ByteStream.of(b"three"), content_length=promised)

    async with site(actor) as http:
        with capture_logs(), pytest.raises(aiohttp.ClientError):
            await http.get()


async def test_expect_100_continue_is_granted():
    async with site(echo) as http:
        reader, writer = await http.socket()
        writer.write(
            b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\nconnection: close\r\n\r\n"
        )
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"hi")
        assert (await reader.read(-1)).endswith(b"\r\n\r\nhi")
        writer.close()


async def test_an_upload_that_the_actor_does_not_read_does_not_spoil_the_connection():
    async with site(hello) as http:
        reader, writer = await http.socket()
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 200000\r\n\r\n" + b"x" * 100000)
        assert b" 200 " in await reader.readuntil(b"hello")
        writer.write(b"x" * 100000 + b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert (await reader.read(-1)).endswith(b"hello")
        writer.close()


# -- clients that leave, or do not speak HTTP


async def test_a_client_that_leaves_cancels_the_call():
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def actor(request: Request) -> Response:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return ok()

    async with site(actor) as http:
        _, writer = await http.socket()
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await begun.wait()
        writer.close()
        async with asyncio.timeout(5):
            await cancelled.wait()


async def test_a_client_that_leaves_closes_both_streams():
    request_broke: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    stream = ByteStream()

    async def actor(request: Request) -> Response:
        body = request["body"]
        assert isinstance(body, ByteStream)

        async def read() -> None:
            try:
                await body.read_all()
            except StreamClosed as error:
                request_broke.set_result(str(error))

        reading.append(asyncio.create_task(read()))
        return ok(stream)

    reading: list[asyncio.Task[None]] = []
    async with site(actor) as http:
        reader, writer = await http.socket()
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await reader.readuntil(b"\r\n\r\n")
        writer.close()
        async with asyncio.timeout(5):
            assert await request_broke == "the client left"
            while not stream.reader_gone:
                await stream.changed()


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n", 400),
        (b"CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n", 405),
        (b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 70000, 431),
    ],
)
async def test_what_is_not_http_is_refused_and_never_reaches_the_actor(data: bytes, status: int):
    async with site(hello) as http:
        answer = await http.raw(data)
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert http.calls == []


async def test_an_actor_cannot_inject_headers():
    async def actor(request: Request) -> Response:
        return ok(b"", x_evil=b"1\r\nset-cookie: a=b")

    async with site(actor) as http:
        with capture_logs() as logs:
            answer = await http.raw(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 502 ")
        assert b"set-cookie" not in answer
        assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["http.response_unsent"]


async def test_a_client_that_never_finishes_its_request_is_sent_away(monkeypatch):
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.0)
    async with site(hello) as http:
        reader, writer = await http.socket()
        writer.write(b"GET / HTTP/1.1\r\nho")
        [listener] = http.server.listeners.values()
        while not any(c.in_head for c in listener.connections):
            await asyncio.sleep(0.001)
        for connection in tuple(listener.connections):
            connection.check(asyncio.get_running_loop().time() + 1)
        assert (await reader.read(-1)).startswith(b"HTTP/1.1 408 ")
        writer.close()


# -- errors


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Trap("unreachable executed"), 500),
        (DeadlineExceeded("too slow"), 504),
        (Busy("full"), 503),
        (Unreachable("nobody"), 503),
        (NotLinked("no link"), 503),
        (Denied("policy"), 403),
        (UnknownFunction("no handler"), 502),
        (LatticeError("else"), 500),
        (RuntimeError("a bug of ours"), 500),
        (WitError("internal-error"), 500),
        (WitError({"internal-error": "x"}), 500),
        (WitError("HTTP-request-denied"), 403),
        (WitError({"HTTP-request-body-size": 5}), 413),
        (WitError("connection-timeout"), 504),
        (WitError({"DNS-error": {"rcode": None, "info-code": None}}), 502),
    ],
)
async def test_every_failure_has_a_status_an_id_and_one_line_in_the_log(error: Exception, status: int):
    async def actor(request: Request) -> Response:
        raise error

    parent = f"00-{'ab' * 16}-{'cd' * 8}-01"
    with capture_logs() as logs:
        async with site(actor) as http:
            async with http.client.get(http.url, headers={"traceparent": parent}) as response:
                assert response.status == status
                assert response.headers["x-trellis-trace"] == "ab" * 16
                assert "ab" * 16 in await response.text()
                assert ("retry-after" in response.headers) == (status == 503)
    [entry] = [entry for entry in logs if entry["event"] == "http.failed"]
    assert (entry["status"], entry["trace"], entry["actor"]) == (status, "ab" * 16, "actor")


@pytest.mark.parametrize("parent", [f"00-{'ab' * 16}-{'cd' * 8}-01", "malformed", None])
async def test_the_trace_of_a_request_goes_on_or_begins_and_its_client_is_told_which_it_is(parent: str | None):
    sent = {} if parent is None else {"traceparent": parent, "tracestate": "a=b"}
    async with site(hello) as http:
        async with http.client.get(http.url, headers=sent) as response:
            told = response.headers["x-trellis-trace"]
        [call] = http.calls
    goes_on = parent == sent.get("traceparent") != "malformed" and parent is not None
    assert trace_id(call.trace) == told
    assert (told == "ab" * 16, call.trace.get("tracestate") == "a=b") == (goes_on, goes_on)
    seen = {name: value.decode() for name, value in call.args[0]["headers"] if name.startswith("trace")}
    assert seen == (call.trace if sent else {})  # what the actor may hand on


async def test_a_request_leaves_a_span_that_is_the_parent_of_the_call():
    async def actor(request: Request) -> Response:
        if request["path-with-query"] == "/missing?secret":
            return ok(status=404)
        raise Unreachable("nobody there")

    spans: list[Span] = []
    with capture_logs():
        async with site(actor, observe=lambda span, _args, _answer: spans.append(span)) as http:
            await http.get("/missing?secret", headers={"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-00"})
            await http.get("/")
    answered, failed = spans
    assert (answered.context, answered.parent) == (http.calls[0].trace["traceparent"], "cd" * 8)
    assert (answered.kind, answered.outcome, answered.http) == ("request", "ok", Http("GET", "/missing", 404))
    assert (failed.outcome, failed.error, failed.http) == ("unreachable", "nobody there", Http("GET", "/", 503))


async def test_an_actor_that_takes_too_long_is_cut_off_with_504():
    cancelled = asyncio.Event()

    async def actor(request: Request) -> Response:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return ok()

    with capture_logs():
        async with site(actor, timeout_ms="50") as http:
            status, _ = await http.get()
            assert status == 504
            assert cancelled.is_set()
            assert (await http.get())[0] == 504  # the connection is as good as before


@pytest.mark.parametrize("value", [None, {"status": 200}, {"status": "x", "headers": [], "body": b""}, "hello"])
async def test_what_is_not_a_response_becomes_502(value: Value):
    async def actor(request: Request) -> Response:
        return value  # type: ignore[no-any-return]

    with capture_logs():
        async with site(actor) as http:
            assert (await http.get())[0] == 502


# -- configuration


async def test_readonly_mode_lets_only_reads_through():
    async with site(hello, readonly_mode="true") as http:
        assert (await http.get())[0] == 200
        status, body = await http.get(method="POST")
        assert (status, body) == (405, b"only GET and HEAD allowed in read-only mode\n")


async def test_cache_control_is_added_unless_the_actor_says_otherwise():
    async def actor(request: Request) -> Response:
        return ok(b"", **({"cache_control": b"no-store"} if request["path-with-query"] == "/own" else {}))

    async with site(actor, cache_control="max-age=5") as http:
        async with http.client.get(http.url) as response:
            assert response.headers["cache-control"] == "max-age=5"
        async with http.client.get(http.url + "/own") as response:
            assert response.headers.getall("cache-control") == ["no-store"]


async def test_cors_answers_the_browser_that_asks_first():
    origins = {"cors_allowed_origins": '["https://a.example"]', "cors_allowed_methods": '["GET"]'}
    async with site(hello, **origins) as http:
        ask = {"origin": "https://a.example", "access-control-request-method": "GET"}
        async with http.client.options(http.url, headers=ask) as response:
            assert response.status == 204
            assert response.headers["access-control-allow-origin"] == "https://a.example"
            assert response.headers["access-control-allow-methods"] == "GET"
        assert http.calls == []
        async with http.client.get(http.url, headers={"origin": "https://evil.example"}) as response:
            assert "access-control-allow-origin" not in response.headers


async def test_the_settings_object_of_wasmcloud_is_understood():
    whole = json.dumps({"address": "127.0.0.1:0", "readonly_mode": True, "cors": {"allowed_origins": ["*"]}})
    async with site(hello, config_json=whole) as http:
        assert (await http.get(method="POST"))[0] == 405
        async with http.client.get(http.url, headers={"origin": "https://a.example"}) as response:
            assert response.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"address": "nowhere"}, "should be host:port"),
        ({"address": "127.0.0.1:99999"}, "should be host:port"),
        ({"address": "198.51.100.7:8080"}, "no network interface of this machine"),
        ({"timeout_ms": "soon"}, '"timeout_ms"'),
        ({"timeout_ms": "0"}, "greater than 0"),
        ({"tls_cert_file": "/x.pem"}, "belong together"),
        ({"config_json": "{"}, "config_json is not JSON"),
    ],
)
async def test_a_bad_link_is_refused_with_its_reason_and_the_others_serve_on(config: dict[str, str], reason: str):
    async with site(hello) as http:
        with pytest.raises(BadInput, match=reason):
            await http.runtime.put_link(route("other", **config))
        assert (await http.get())[0] == 200


async def test_a_port_in_use_is_named_and_free_again_later():
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        async with site(hello) as http:
            record = route("other", address=f"127.0.0.1:{port}")
            with pytest.raises(BadInput, match=f"127.0.0.1:{port}: port {port} is in use") as refused:
                await http.runtime.put_link(record)
            assert "ss -ltnp" in refused.value.findings[0].fix
            holder.close()
            await http.runtime.put_link(record)
            assert http.server.url(record.id) == f"http://127.0.0.1:{port}"


async def test_two_actors_cannot_have_the_same_address():
    async with site(hello) as http:
        taken = f"127.0.0.1:{http.port}"
        first = route("one", address=f"127.0.0.1:{free_port()}")
        await http.runtime.put_link(first)
        with pytest.raises(BadInput, match='belongs to "one" already'):
            await http.runtime.put_link(route("two", address=first.source_config["address"]))
        with pytest.raises(BadInput, match="in use"):
            await http.runtime.put_link(route("two", address=taken))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


async def test_routing_by_path_finds_the_actor_or_404():
    config = {"routing_mode": "path", "default_address": "127.0.0.1:0"}
    links = [route("b", path="/b"), route("c", name="again", path="/b")]
    async with site(hello, links[0], config=config, path="/a") as http:
        assert (await http.get("/a?x=1"))[0] == 200
        assert (await http.get("/b"))[0] == 200
        assert [call.target for call in http.calls] == ["actor", "b"]
        assert await http.get("/a/b") == (404, b"path not found\n")
        with pytest.raises(BadInput, match='path /b belongs to "b" already'):
            await http.runtime.put_link(links[1])
        with pytest.raises(BadInput, match='"path" is missing'):
            await http.runtime.put_link(route("d", host="x"))
        await http.runtime.delete_link(links[0].id)
        assert (await http.get("/b"))[0] == 404


async def test_routing_by_host_compares_the_configured_header():
    config = {"routing_mode": "host", "default_address": "127.0.0.1:0", "header": "X-Host"}
    async with site(hello, config=config, host="a.example") as http:
        assert (await http.get(headers={"x-host": "A.example"}))[0] == 200
        assert await http.get(headers={"x-host": "b.example"}) == (404, b"host not found\n")
        assert await http.get() == (400, b"missing host header\n")


async def test_a_changed_link_takes_effect_without_closing_its_port():
    async with site(hello, address=f"127.0.0.1:{free_port()}") as http:
        reader, writer = await http.socket()
        changed = http.record.model_copy(
            update={"source_config": {**http.record.source_config, "readonly_mode": "true"}}
        )
        await http.runtime.put_link(changed)
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert (await reader.read(-1)).startswith(b"HTTP/1.1 405 ")
        writer.close()


async def test_a_link_whose_change_is_refused_goes_on_as_it_was(tmp_path: Path):
    address = f"127.0.0.1:{free_port()}"
    nothing = {"tls_cert_file": str(tmp_path / "cert"), "tls_priv_key_file": str(tmp_path / "key")}
    with socket.create_server(("127.0.0.1", 0)) as holder:
        taken = {"address": f"127.0.0.1:{holder.getsockname()[1]}"}
        async with site(hello, address=address) as http:
            for change in ({"timeout_ms": "x"}, nothing, taken):
                bad = http.record.model_copy(update={"source_config": {"address": address, **change}})
                with pytest.raises(BadInput):
                    await http.runtime.put_link(bad)
                assert (await http.get())[0] == 200


@pytest.mark.parametrize("mode", ["address", "path"])
async def test_one_server_takes_over_anothers_port_without_turning_a_client_away(mode: str):
    address = f"127.0.0.1:{free_port()}"
    config, link = {"routing_mode": mode, "default_address": address}, {mode: {"address": address, "path": "/"}[mode]}
    async with site(hello, config=config, **link) as old, site(echo, config=config, **link) as new:
        reader, writer = await old.socket()
        waiting = [await old.socket() for _ in range(10)]  # nobody has looked at them yet
        leaving = asyncio.create_task(old.runtime.stop())
        for _, client in [(reader, writer), *waiting]:
            client.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi")
        answers = [await one.read(-1) for one, _ in [(reader, writer), *waiting]]
        assert all(a.startswith(b"HTTP/1.1 200 ") and a.endswith((b"hello", b"hi")) for a in answers)
        await leaving
        assert await new.get("/", method="POST", data=b"hi") == (200, b"hi")
        for _, client in [(reader, writer), *waiting]:
            client.close()


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[str, str]:
    """A self-signed certificate and its key."""
    cert, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    subprocess.run([*command, "-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, key


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
async def test_a_link_with_a_certificate_speaks_https(certificate: tuple[str, str]):
    cert, key = certificate
    async with site(echo, tls_cert_file=cert, tls_priv_key_file=key) as http:
        assert http.url.startswith("https://")
        data = b"x" * 300_000
        assert await http.get(method="POST", data=io.BytesIO(data), ssl=False) == (200, data)
        assert http.calls[0].args[0]["scheme"] == "https"
        bad = route("other", tls_cert_file=key, tls_priv_key_file=key)
        with pytest.raises(BadInput, match="cannot use"):
            await http.runtime.put_link(bad)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
async def test_a_renewed_certificate_is_shown_to_new_connections_and_half_a_renewal_to_nobody(
    certificate: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(listener, "CHECK_SECONDS", 0.01)
    cert, key = certificate
    served_cert, served_key = tmp_path / "served.pem", tmp_path / "served.key"
    shutil.copy(cert, served_cert)
    shutil.copy(key, served_key)

    async def shown(port: int) -> str:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        found: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return ssl.DER_cert_to_PEM_cert(found)

    async with site(hello, tls_cert_file=str(served_cert), tls_priv_key_file=str(served_key)) as http:
        first = await shown(http.port)
        assert first == Path(cert).read_text()
        trustme.CA().issue_cert("localhost").private_key_pem.write_to_path(served_key)
        with capture_logs() as logs:
            async with asyncio.timeout(10):
                while not any(line["event"] == "http.certificate_unusable" for line in logs):
                    await asyncio.sleep(0.01)
        assert await shown(http.port) == first
        renewed = trustme.CA().issue_cert("localhost")
        renewed.private_key_pem.write_to_path(served_key)
        renewed.cert_chain_pems[0].write_to_path(served_cert)
        async with asyncio.timeout(10):
            while await shown(http.port) != renewed.cert_chain_pems[0].bytes().decode():
                await asyncio.sleep(0.01)


# -- limits, logs and proxies


async def test_a_body_that_is_too_large_is_refused_however_it_comes():
    async with site(echo, max_body_bytes="100000") as http:
        assert (await http.get(method="POST", data=b"x" * 60_000))[0] == 200
        assert (await http.get(method="POST", data=io.BytesIO(b"x" * 200_000)))[0] == 413
        assert len(http.calls) == 1

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(30):
                yield b"x" * 10_000

        status, body = await http.get(method="POST", data=chunks())
        assert (status, body) == (413, b"the request is too large\n")
    async with site(echo, max_body_bytes="10") as http:
        assert (await http.get(method="POST", data=b"x" * 11))[0] == 413
        assert await http.get(method="POST", data=b"x" * 10) == (200, b"x" * 10)


async def test_every_request_is_in_the_access_log_where_one_is_wanted():
    with capture_logs() as logs:
        async with site(hello, config={"access_log": "true"}) as http:
            await http.get("/page?x=1")
    [line] = [line for line in logs if line["event"] == "http.answered"]
    assert (line["log_level"], line["client"], line["path"], line["status"]) == ("info", "127.0.0.1", "/page?x=1", 200)


FORGED = {"x-forwarded-for": "6.6.6.6", "x-forwarded-proto": "https", "forwarded": "for=6.6.6.6"}


@pytest.mark.parametrize(
    ("policy", "came_from", "scheme", "forwarded"),
    [
        ("pass", b"6.6.6.6", b"https", b"for=6.6.6.6"),
        ("set", b"127.0.0.1", b"http", None),
        ("append", b"6.6.6.6, 127.0.0.1", b"https", b"for=6.6.6.6"),
    ],
)
async def test_what_the_actor_hears_of_the_client_is_decided_here(
    policy: str, came_from: bytes, scheme: bytes, forwarded: bytes | None
):
    async with site(hello, config={"forwarded_headers": policy}) as http:
        await http.get(headers=FORGED)
        headers = dict(http.calls[0].args[0]["headers"])
        assert headers["x-forwarded-for"] == came_from
        assert headers["x-forwarded-proto"] == scheme
        assert headers.get("forwarded") == forwarded
        if policy != "pass":
            assert headers["x-forwarded-host"] == f"127.0.0.1:{http.port}".encode()


async def test_one_actor_is_served_at_several_addresses():
    async with site(hello, route("actor", name="six", address="[::1]:0")) as http:
        second = next(link for link in http.server.links if link.name == "six")
        url = http.server.url(second)
        assert url is not None and url.startswith("http://[::1]:")
        async with http.client.get(url) as response:
            assert await response.read() == b"hello"
        assert await http.get() == (200, b"hello")


async def test_an_actor_that_is_nowhere_is_503_with_a_word_when_to_come_back():
    async def actor(request: Request) -> Response:
        raise Unreachable("nobody runs it")

    async with site(actor) as http, http.client.get(http.url) as response:
        assert (response.status, response.headers["retry-after"]) == (503, "1")


async def test_server_sent_events_arrive_one_by_one():
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def actor(request: Request) -> Response:
        stream = ByteStream()

        async def tell() -> None:
            for number in range(3):
                await stream.write(b"data: %d\n\n" % number)
                await heard.get()
            stream.finish()

        http.runtime.provider.spawn(tell())
        return ok(stream, content_type=b"text/event-stream")

    async with site(actor) as http, http.client.get(http.url) as response:
        assert response.headers["content-type"] == "text/event-stream"
        for number in range(3):
            assert await response.content.readuntil(b"\n\n") == b"data: %d\n\n" % number
            heard.put_nowait(b"")
        assert await response.content.read() == b""


async def test_nothing_is_compressed_that_the_actor_did_not_compress():
    async def actor(request: Request) -> Response:
        return ok(b"a" * 10_000, content_type=b"text/plain")

    async with site(actor) as http:
        answer = await http.raw(b"GET / HTTP/1.1\r\nhost: a\r\naccept-encoding: gzip, br\r\nconnection: close\r\n\r\n")
        assert b"content-encoding" not in answer
        assert answer.endswith(b"a" * 10_000)


# -- leaving


async def test_leaving_finishes_requests_in_hand_and_closes_idle_connections():
    begun, gate = asyncio.Event(), asyncio.Event()

    async def actor(request: Request) -> Response:
        begun.set()
        await gate.wait()
        return ok(b"done")

    async with site(actor) as http:
        port = http.port
        idle_reader, idle = await http.socket()
        request = asyncio.create_task(http.raw(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"))
        await begun.wait()
        stopping = asyncio.create_task(http.runtime.stop(5))
        assert await idle_reader.read(-1) == b""
        idle.close()
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", port)
        gate.set()
        answer = await request
        assert b"connection: close\r\n" in answer
        assert answer.endswith(b"done")
        await stopping


async def test_a_request_on_a_connection_that_was_used_just_now_is_answered_while_the_server_leaves(monkeypatch):
    monkeypatch.setattr(protocol, "JUST_NOW", 5.0)
    async with site(hello) as http:
        [listening] = http.server.listeners.values()
        reader, writer = await asyncio.open_connection("127.0.0.1", listening.bound[1])
        while not listening.connections:
            await asyncio.sleep(0)
        stopping = asyncio.create_task(http.runtime.stop(10))
        while not listening.closing:
            await asyncio.sleep(0)
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        answer = await reader.read(-1)
        assert answer.startswith(b"HTTP/1.1 200 ") and b"connection: close\r\n" in answer
        writer.close()
        await stopping


async def test_requests_that_outlast_the_grace_period_are_cut_off():
    begun = asyncio.Event()

    async def actor(request: Request) -> Response:
        begun.set()
        await asyncio.Event().wait()
        return ok()

    async with site(actor) as http:
        request = asyncio.create_task(http.raw(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"))
        await begun.wait()
        await http.runtime.stop(0.05)
        with pytest.raises(OSError):
            if await request == b"":
                raise ConnectionError


async def test_it_is_unhealthy_when_it_no_longer_listens():
    async with site(hello) as http:
        assert (await http.runtime.health()).healthy
        [listener] = http.server.listeners.values()
        await listener.close()
        assert "not listening on" in (await http.runtime.health()).message


async def test_read_body_of_an_inline_request_is_bytes():
    async def actor(request: Request) -> Response:
        return ok(await read_body(request["body"]))

    async with site(actor) as http:
        assert await http.get(method="POST", data=b"x" * 65536) == (200, b"x" * 65536)
        assert await http.get(method="POST", data=b"x" * 65537) == (200, b"x" * 65537)
