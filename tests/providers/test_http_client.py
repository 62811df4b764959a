"""The HTTP client against real servers, well-behaved and not: as a provider, and as a host's own."""

from __future__ import annotations

import asyncio
import errno
import gzip
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import structlog
import trustme

from actors.guest import nothing_linked
from actors.signatures import served
from host.egress import Egress
from lattice import UNRESOLVED, BadInput, BadValue, ByteStream, Denied, EntityId, Invocation, NotLinked, Value, WitError
from lattice.fit import fitter
from lattice.http import OUTGOING
from lattice.observing import Observing
from lattice.streams import StreamClosed, read_body
from lattice.tracing import Http
from providers.http import outgoing
from providers.http.client import HttpClient
from providers.http.failures import ALERTS, error_code
from providers.http.outgoing import Outgoing, Trust
from providers.testing import linked, running

HANDLE = OUTGOING.key
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def request(port: int | str, path: str | None = "/", **changes: Any) -> Value:
    return {
        "method": "GET",
        "path-with-query": path,
        "scheme": "http",
        "authority": f"127.0.0.1:{port}" if isinstance(port, int) else port,
        "headers": [],
        "body": b"",
        **changes,
    }


def timeouts(**seconds: float) -> Value:
    names = {"connect": "connect-timeout", "first": "first-byte-timeout", "between": "between-bytes-timeout"}
    return {name: None if (given := seconds.get(key)) is None else int(given * 10**9) for key, name in names.items()}


@asynccontextmanager
async def serving(script: Script, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server on a free port that does to each connection what `script` says."""
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await script(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, ssl.SSLError):
            pass
        finally:
            writer.transport.abort()
            tasks.discard(task)

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await server.wait_closed()


async def head(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


def answering(answer: bytes, seen: list[bytes] | None = None) -> Script:
    """Answers every request without a body with the same bytes, and keeps the connection."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            asked = await head(reader)
            if seen is not None:
                seen.append(asked)
            writer.write(answer)
            await writer.drain()

    return script


def ending(answer: bytes) -> Script:
    """Answers one request, whatever that is, and closes."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        writer.write(answer)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    return script


async def hanging(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: 1\r\nx-a: 2\r\n\r\nhello"


@pytest.fixture
async def client() -> AsyncIterator[Outgoing]:
    async with Outgoing() as made:
        yield made


async def code_of(asking: Awaitable[Any]) -> Value:
    with pytest.raises(WitError) as answer:
        await asking
    return answer.value.payload


async def broken_by(body: Any) -> Value:
    """The error-code with which a body breaks off."""
    with pytest.raises(StreamClosed) as closed:
        await body.read_all()
    assert isinstance(closed.value.__cause__, WitError)
    return closed.value.__cause__.payload


# -- requests and responses


async def test_a_request_leaves_as_it_was_given_and_the_answer_comes_as_it_was_sent(client):
    seen: list[bytes] = []
    async with serving(answering(OK, seen)) as port:
        headers = [("accept", b"text/plain"), ("x-name", "grüße".encode()), ("x-name", b"two")]
        answer = await client.send(request(port, "/a/../b%20c?x=%2F&y", headers=headers))
    assert answer["status"] == 200
    assert answer["headers"] == [("content-length", b"5"), ("x-a", b"1"), ("x-a", b"2")]
    assert await read_body(answer["body"]) == b"hello"
    lines = seen[0].decode().splitlines()
    assert lines[0] == "GET /a/../b%20c?x=%2F&y HTTP/1.1"
    assert sorted(lines[1:-1]) == [
        f"Host: 127.0.0.1:{port}",
        "accept: text/plain",
        "x-name: grüße",
        "x-name: two",
    ]


@pytest.mark.parametrize(("path", "line"), [(None, "GET / "), ("", "GET / "), ("?a=b", "GET /?a=b ")])
async def test_a_path_that_is_left_out_is_the_root(client, path, line):
    seen: list[bytes] = []
    async with serving(answering(OK, seen)) as port:
        await client.send(request(port, path))
    assert seen[0].decode().startswith(line)


async def test_any_method_and_a_body_that_is_there(client):
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await head(reader)
        assert asked.startswith(b"PURGE / ")
        assert b"Content-Length: 3\r\n" in asked
        body = await reader.readexactly(3)
        writer.write(b"HTTP/1.1 299 Fine\r\nContent-Length: 3\r\n\r\n" + body[::-1])
        await writer.drain()
        await reader.read()

    async with serving(script) as port:
        answer = await client.send(request(port, method="PURGE", body=b"abc"))
        assert (answer["status"], await read_body(answer["body"])) == (299, b"cba")


async def echo_chunks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Sends each chunk back as soon as it is there."""
    assert b"transfer-encoding: chunked" in (await head(reader)).lower()
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        line = await reader.readline()
        chunk = await reader.readexactly(int(line, 16) + 2)
        writer.write(line + chunk)
        await writer.drain()
        if line.strip() == b"0":
            await reader.read()


async def test_bodies_stream_both_ways_at_once(client):
    upload = ByteStream()
    async with serving(echo_chunks) as port:
        answer = await client.send(request(port, method="POST", body=upload))
        assert "transfer-encoding" not in dict(answer["headers"])
        for piece in (b"one", b"two", b"three"):
            await upload.write(piece)
            assert await answer["body"].read() == piece
        upload.finish()
        assert await answer["body"].read() == b""


@pytest.mark.parametrize(
    ("body", "trailers", "sent"),
    [
        (b"abc", [("x-sum", b"6"), ("Content-Length", b"3")], b"3\r\nabc\r\n0\r\nx-sum: 6\r\n\r\n"),
        (b"", [("x-sum", b"0")], b"0\r\nx-sum: 0\r\n\r\n"),
        (b"abc", [("content-type", b"text/plain")], b"3\r\nabc\r\n0\r\n\r\n"),
    ],
    ids=["after a body", "without one", "of what no trailer can be"],
)
async def test_trailers_of_a_request_follow_its_last_chunk(client, body, trailers, sent):
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):  # the connection is good for another request
            assert b"transfer-encoding: chunked" in (await head(reader)).lower()
            assert await reader.readexactly(len(sent)) == sent
            writer.write(OK)
        await reader.read()

    async with serving(script) as port:
        for _ in range(2):
            answer = await client.send(request(port, method="POST", body=ByteStream.of(body, trailers)))
            assert answer["status"] == 200


async def test_a_body_whose_length_was_announced_has_no_trailers(client):
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        assert await reader.readexactly(3) == b"abc"
        writer.write(OK)
        assert await reader.read() == b""

    body = ByteStream.of(b"abc", [("x-sum", b"6")])
    async with serving(script) as port:
        headers = [("content-length", b"3"), ("connection", b"close")]
        assert (await client.send(request(port, method="PUT", headers=headers, body=body)))["status"] == 200
        await client.close()


async def test_a_stream_of_known_size_says_so(client):
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = (await head(reader)).lower()
        assert b"content-length: 6\r\n" in asked
        assert b"transfer-encoding" not in asked
        assert await reader.readexactly(6) == b"abcdef"
        writer.write(OK)
        await reader.read()

    upload = ByteStream()
    upload.write_now(b"abc")
    async with serving(script) as port:
        sending = client.send(request(port, method="PUT", headers=[("content-length", b"6")], body=upload))
        asking = asyncio.create_task(sending)
        upload.write_now(b"def")
        upload.finish()
        assert (await asking)["status"] == 200


async def test_a_large_download_is_read_no_faster_than_the_guest_reads_it(client):
    sent = 0
    full = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n")
        loop = asyncio.get_running_loop()
        while sent < 50_000_000:
            writer.write(bytes(100_000))
            sent += 100_000
            draining = asyncio.ensure_future(writer.drain())
            loop.call_later(0.2, lambda waited=draining: waited.done() or full.set())
            await draining
        await reader.read()

    async with serving(script) as port:
        answer = await client.send(request(port))
        body = answer["body"]
        await full.wait()
        assert body.buffered <= 2 * body.capacity
        assert sent < 50_000_000, "the server waits for us"
        assert len(await body.read_all()) == 50_000_000


async def test_a_large_upload_waits_for_a_slow_server(client):
    begin = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        await begin.wait()
        await reader.readexactly(20_000_000)
        writer.write(OK)
        await reader.read()

    upload = ByteStream()
    written = 0

    async def write() -> None:
        nonlocal written
        while written < 20_000_000:
            await upload.write(bytes(100_000))
            written += 100_000
        upload.finish()

    async with serving(script) as port:
        headers = [("content-length", b"20000000")]
        asking = asyncio.create_task(client.send(request(port, method="POST", headers=headers, body=upload)))
        writing = asyncio.create_task(write())
        _, unfinished = await asyncio.wait([writing], timeout=0.3)
        assert unfinished and written < 20_000_000
        begin.set()
        assert (await asking)["status"] == 200
        await writing


async def test_nothing_is_followed_decompressed_or_remembered(client):
    packed = gzip.compress(b"hello")
    answer = (
        b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nSet-Cookie: a=b\r\nContent-Encoding: gzip\r\n"
        b"Content-Length: %d\r\n\r\n" % len(packed)
    ) + packed
    seen: list[bytes] = []
    async with serving(answering(answer, seen)) as port:
        for _ in range(2):
            got = await client.send(request(port))
            assert got["status"] == 302
            assert ("location", b"/elsewhere") in got["headers"]
            assert await read_body(got["body"]) == packed
    assert len(seen) == 2
    assert all(b"cookie" not in asked.lower() for asked in seen)


async def test_what_belongs_to_the_connection_is_not_passed_on(client):
    answer = (
        b"HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nKeep-Alive: timeout=5\r\nX-Hop: 1\r\nX-End: 2\r\n"
        b"Proxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n"
    )
    seen: list[bytes] = []
    headers = [
        *(("Connection", b"x-mine"), ("X-Mine", b"1"), ("te", b"trailers"), ("upgrade", b"h2c"), ("host", b"other")),
        *(("transfer-encoding", b"chunked"), ("keep-alive", b"1"), ("proxy-authorization", b"x"), ("x-kept", b"2")),
    ]
    async with serving(answering(answer, seen)) as port:
        got = await client.send(request(port, headers=headers))
    assert got["headers"] == [("x-end", b"2"), ("content-length", b"0")]
    assert sorted(seen[0].decode().splitlines()[1:-1]) == [f"Host: 127.0.0.1:{port}", "x-kept: 2"]


async def test_a_head_request_has_a_length_and_no_body(client):
    async with serving(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n")) as port:
        answer = await client.send(request(port, method="HEAD"))
        assert ("content-length", b"500") in answer["headers"]
        assert await read_body(answer["body"]) == b""


async def test_a_body_without_a_length_ends_with_the_connection(client):
    async with serving(ending(b"HTTP/1.0 200 OK\r\n\r\nall of it")) as port:
        answer = await client.send(request(port))
        assert await read_body(answer["body"]) == b"all of it"


async def test_a_connection_serves_one_request_after_the_other(client):
    connections = 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await answering(OK)(reader, writer)

    async with serving(script) as port:
        for _ in range(5):
            await read_body((await client.send(request(port)))["body"])
    assert connections == 1


async def test_a_body_that_nobody_wants_closes_its_connection(client):
    closed = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nsome")
        await reader.read()
        closed.set()

    async with serving(script) as port:
        answer = await client.send(request(port))
        assert await answer["body"].read() == b"some"
        answer["body"].close()
        async with asyncio.timeout(10):
            await closed.wait()


async def test_cancelling_the_caller_closes_the_connection_and_tells_the_writer(client):
    asked, closed = asyncio.Event(), asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        asked.set()
        await reader.read()
        closed.set()

    upload = ByteStream()
    async with serving(script) as port:
        asking = asyncio.create_task(client.send(request(port, method="POST", body=upload)))
        await asked.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        async with asyncio.timeout(10):
            await closed.wait()
            while not upload.reader_gone:
                await upload.changed()


# -- what goes wrong


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"", "connection-terminated"),
        (b"HTTP/1.1 200", "connection-terminated"),
        (b"220 mail.example ESMTP\r\n\r\n", "HTTP-protocol-error"),
        (b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n", "HTTP-protocol-error"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", "HTTP-protocol-error"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", {"HTTP-response-header-section-size": None}),
        (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 50_000 + b"\r\n", {"HTTP-response-header-section-size": None}),
    ],
)
async def test_a_server_that_does_not_speak_http(client, answer, code):
    async with serving(ending(answer)) as port:
        assert await code_of(client.send(request(port))) == code


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", "HTTP-response-incomplete"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe", "HTTP-response-incomplete"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n", "HTTP-protocol-error"),
    ],
)
async def test_a_body_that_breaks_off_says_why(client, answer, code):
    async with serving(ending(answer)) as port:
        try:
            response = await client.send(request(port))
        except WitError as error:
            assert error.payload == code
        else:
            assert await broken_by(response["body"]) == code


async def test_a_place_that_no_route_leads_to_is_said(client):
    said = await code_of(client.send(request("255.255.255.255:9")))
    assert said in ("destination-IP-unroutable", "destination-IP-prohibited"), "as the system has it"


def test_whatever_the_system_or_tls_says_is_an_error_code_of_the_wit():
    fits = fitter(served()["wasi:http/types"].types["error-code"])
    for number in errno.errorcode:
        fits(error_code(OSError(number, "")))
    for alert in (*ALERTS, "OF_TOMORROW"):
        error = ssl.SSLError()
        error.reason = f"TLSV1_ALERT_{alert}"
        fits(error_code(error))
    named = {errno.EACCES: "destination-IP-prohibited", errno.EMFILE: "connection-limit-reached"}
    assert {number: error_code(OSError(number, "")) for number in named} == named


async def test_a_reset_is_a_terminated_connection(client):
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async with serving(script) as port:
        assert await code_of(client.send(request(port))) == "connection-terminated"


async def test_a_reset_in_the_middle_of_a_body(client):
    reset = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await writer.drain()
        await reset.wait()
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async with serving(script) as port:
        answer = await client.send(request(port))
        assert await answer["body"].read() == b"half"
        reset.set()
        assert await broken_by(answer["body"]) in ("connection-terminated", "HTTP-response-incomplete")


async def test_nobody_listening_is_connection_refused(client):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        upload = ByteStream()
        port = taken.getsockname()[1]
        assert await code_of(client.send(request(port, method="POST", body=upload))) == "connection-refused"
        assert upload.reader_gone, "whoever writes the body is told"


@pytest.mark.parametrize(
    ("number", "rcode"),
    [(socket.EAI_NONAME, "NXDOMAIN"), (socket.EAI_AGAIN, "SERVFAIL"), (socket.EAI_FAIL, "SERVFAIL")],
)
async def test_a_name_that_is_not_known(client, monkeypatch, number, rcode):
    async def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(number, "no")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown)
    code = await code_of(client.send(request("nowhere.example")))
    assert code == {"DNS-error": {"rcode": rcode, "info-code": None}}


async def test_a_server_that_does_not_answer_is_a_response_timeout(client):
    async with serving(hanging) as port:
        assert await code_of(client.send(request(port), timeouts(first=0.05))) == "HTTP-response-timeout"


async def test_a_server_that_does_not_accept_is_a_connection_timeout(client):
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        name = full.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(name)
        code = await code_of(client.send(request(name[1]), timeouts(connect=0.05)))
        for one in waiting:
            one.close()
    assert code == "connection-timeout"


async def test_the_wait_for_the_first_byte_begins_when_there_is_a_connection(client, monkeypatch):
    async def slow(host: str, port: int, **_: object) -> list[Any]:
        await asyncio.sleep(1.1)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    async with serving(answering(OK)) as port:
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", slow)
        answer = await client.send(request(f"slow.example:{port}"), timeouts(first=1.0))
        assert answer["status"] == 200


async def test_a_server_that_stops_in_the_middle_is_a_read_timeout(client):
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await reader.read()

    async with serving(script) as port:
        answer = await client.send(request(port), timeouts(between=0.05))
        assert await answer["body"].read() == b"half"
        assert await broken_by(answer["body"]) == "connection-read-timeout"


async def test_a_slow_reader_is_not_a_slow_server(client):
    async with serving(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n" + bytes(2_000_000))) as port:
        answer = await client.send(request(port), timeouts(between=0.5))
        await asyncio.sleep(0.6)
        assert len(await answer["body"].read_all()) == 2_000_000


async def test_a_body_of_another_size_than_announced(client):
    headers = [("content-length", b"10")]
    async with serving(hanging) as port:
        code = await code_of(client.send(request(port, method="POST", headers=headers, body=b"abc")))
        assert code == {"HTTP-request-body-size": 3}
        upload = ByteStream.of(b"abcd")
        code = await code_of(client.send(request(port, method="POST", headers=headers, body=upload)))
        assert code == {"HTTP-request-body-size": 4}


async def test_a_body_that_its_writer_breaks_off_is_not_sent_as_a_whole_one(client):
    whole = False

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal whole
        whole = (await reader.read()).endswith(b"0\r\n\r\n")

    upload = ByteStream()
    upload.write_now(b"half")
    upload.fail(ValueError("out of ideas"))
    async with serving(script) as port:
        code = await code_of(client.send(request(port, method="PUT", body=upload)))
    assert code == {"internal-error": "out of ideas"}
    assert not whole


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"scheme": "ftp"}, "HTTP-protocol-error"),
        ({"authority": None}, "HTTP-request-URI-invalid"),
        ({"authority": ""}, "HTTP-request-URI-invalid"),
        ({"authority": "user@127.0.0.1"}, "HTTP-request-URI-invalid"),
        ({"authority": "127.1:80"}, "HTTP-request-URI-invalid"),
        ({"authority": "[::1"}, "HTTP-request-URI-invalid"),
        ({"authority": "a:99999"}, "HTTP-request-URI-invalid"),
        ({"path-with-query": "/a b"}, "HTTP-request-URI-invalid"),
        ({"path-with-query": "/a\r\nX: y"}, "HTTP-request-URI-invalid"),
        ({"path-with-query": "@evil.example/"}, "HTTP-request-URI-invalid"),
        ({"path-with-query": "/a#b"}, "HTTP-request-URI-invalid"),
        ({"method": "CONNECT"}, "HTTP-request-method-invalid"),
    ],
)
async def test_a_request_that_cannot_be_is_not_sent(client, changes, code):
    async with serving(hanging) as port:
        assert await code_of(client.send(request(port, **changes))) == code


async def test_headers_cannot_smuggle_another_request(client):
    async with serving(hanging) as port:
        for headers in ([("x", b"a\r\nhost: b")], [("x\r\ny", b"1")]):
            await code_of(client.send(request(port, headers=headers)))
        assert "UTF-8" in str(await code_of(client.send(request(port, headers=[("x", b"\xff")]))))


# -- TLS


class Authority:
    """A certificate authority that nobody knows, and a server certificate of it."""

    def __init__(self, folder: Path) -> None:
        ca = trustme.CA()
        self.file = folder / "ca.pem"
        ca.cert_pem.write_to_path(str(self.file))
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ca.issue_cert("127.0.0.1", "localhost").configure_cert(self.context)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


async def test_a_certificate_that_nobody_vouches_for_is_refused(client, authority):
    async with serving(answering(OK), authority.context) as port:
        assert await code_of(client.send(request(port, scheme="https"))) == "TLS-certificate-error"
        assert await code_of(client.send(request(port, scheme=None))) == "TLS-certificate-error"


async def test_a_certificate_from_the_configured_file_is_believed_for_its_own_name_only(authority, monkeypatch):
    async with Outgoing(Trust(native=False, bundled=False, file=authority.file)) as client:
        async with serving(answering(OK), authority.context) as port:
            answer = await client.send(request(port, scheme="https"))
            assert await read_body(answer["body"]) == b"hello"

            async def elsewhere(host: str, port: int, **_: object) -> list[Any]:
                return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

            monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", elsewhere)
            code = await code_of(client.send(request(f"other.example:{port}", scheme="https")))
            assert code == "TLS-certificate-error"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "TLS-protocol-error"),
        (
            b"\x15\x03\x03\x00\x02\x02\x28",
            {"TLS-alert-received": {"alert-id": 40, "alert-message": "handshake failure"}},
        ),
        (
            b"\x15\x03\x03\x00\x02\x02\x46",
            {"TLS-alert-received": {"alert-id": 70, "alert-message": "protocol version"}},
        ),
    ],
)
async def test_a_server_that_does_not_want_tls(client, answer, code):
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer)
        await writer.drain()
        await reader.read()

    async with serving(script) as port:
        assert await code_of(client.send(request(port, scheme="https"))) == code


def test_certificates_that_cannot_be_read_are_refused_with_the_file(tmp_path):
    file = tmp_path / "ca.pem"
    with pytest.raises(BadInput, match=r"ca\.pem"):
        outgoing.tls_context(Trust(file=file))
    file.write_text("nonsense")
    with pytest.raises(BadInput, match=r"ca\.pem"):
        outgoing.tls_context(Trust(file=file))


def test_the_bundled_authorities_are_enough():
    assert outgoing.tls_context(Trust(native=False)).cert_store_stats()["x509_ca"] > 50
    assert outgoing.tls_context(Trust(False, False)).cert_store_stats()["x509_ca"] == 0


# -- the provider


async def test_the_provider_answers_what_actors_ask():
    async with serving(answering(OK)) as port, running(HttpClient()) as provider:
        answer = await provider.call(HANDLE, request(port), None)
        assert await read_body(answer["body"]) == b"hello"
        as_over_the_lattice = request(port, headers=[["accept", b"*/*"]])
        assert (await provider.call(HANDLE, as_over_the_lattice, None))["status"] == 200


async def test_a_response_may_come_to_its_end_after_the_link_is_gone():
    more = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")
        await more.wait()
        writer.write(b"more")
        await reader.read()

    async with serving(script) as port, running(HttpClient()) as provider:
        answer = await provider.call(HANDLE, request(port), None)
        [link] = provider.provider.links
        await provider.runtime.delete_link(link)
        more.set()
        assert await read_body(answer["body"]) == b"halfmore"


async def test_a_provider_that_stops_breaks_off_what_is_still_coming():
    async with serving(ending(b"")) as _:

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await head(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")
            await reader.read()

        async with serving(script) as port:
            async with running(HttpClient(), grace=0.2) as provider:
                answer = await provider.call(HANDLE, request(port), None)
            assert await broken_by(answer["body"]) == "connection-terminated"


async def test_the_allow_list_of_a_link_narrows_that_of_its_provider():
    async with serving(answering(OK)) as port:
        own = {"allow": f"127.0.0.0/8:{port}, *.example"}
        provider = HttpClient()
        async with running(provider, linked(provider, allow="127.0.0.1:*"), config=own) as client:
            assert (await client.call(HANDLE, request(port), None))["status"] == 200
            with pytest.raises(Denied, match=r'"127.0.0.1:1" is not|"127\.0\.0\.1:1" in "allow" of provider'):
                await client.call(HANDLE, request(1), None)
            with pytest.raises(Denied, match=r'"127\.0\.0\.2:\d+" in "allow" of the link'):
                await client.call(HANDLE, request(f"127.0.0.2:{port}"), None)
            with pytest.raises(Denied, match='"a.example:80"'):
                await client.call(HANDLE, request("a.example"), None)
            with pytest.raises(Denied, match="localhost"):
                await client.call(HANDLE, request(f"localhost:{port}"), None)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"allow": "http://a"}, "allow"),
        ({"proxy": "socks5://a"}, "proxy"),
        ({"ssl_certs_file": "/no/such/file.pem"}, "file.pem"),
        ({"load_native_certs": "perhaps"}, "load_native_certs"),
    ],
)
async def test_a_link_with_a_wrong_setting_is_refused(config, says):
    provider = HttpClient()
    with pytest.raises(BadInput, match=says):
        async with running(provider, linked(provider, **config)):
            pass


async def test_the_keys_of_wasmcloud_are_understood(authority):
    config = {"load_native_certs": "false", "LOAD_WEBPKI_CERTS": "false", "ssl_certs_file": str(authority.file)}
    async with serving(answering(OK), authority.context) as port:
        async with running(HttpClient(), config=config) as provider:
            assert (await provider.call(HANDLE, request(port, scheme="https"), None))["status"] == 200
            await provider.runtime.set_config({})
            assert await code_of(provider.call(HANDLE, request(port, scheme="https"), None)) == "TLS-certificate-error"


async def test_a_configuration_that_cannot_be_used_leaves_the_links_as_they_were():
    async with serving(answering(OK)) as port, running(HttpClient()) as provider:
        with pytest.raises(BadInput, match=r"nowhere\.pem"):
            await provider.runtime.set_config({"ssl_certs_file": "/nowhere.pem"})
        assert (await provider.call(HANDLE, request(port), None))["status"] == 200


@pytest.mark.parametrize("value", [None, {}, {"method": "GET"}, "GET /"])
async def test_what_is_no_request_is_a_bad_value(value):
    async with running(HttpClient()) as provider:
        with pytest.raises(BadValue, match='argument "request"'):
            await provider.call(HANDLE, value, None)


# -- traces

TRACE = {"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01", "tracestate": "vendor=1"}


@pytest.mark.parametrize("given", [[], [("Traceparent", b"00-of-the-actor")]])
async def test_a_request_carries_the_trace_of_its_call_unless_the_actor_has_set_one(given):
    seen: list[bytes] = []
    async with serving(answering(OK, seen)) as port, running(HttpClient()) as provider:
        await provider.call(HANDLE, request(port, headers=given), None, trace=TRACE)
    sent = sorted(line.lower() for line in seen[0].decode().split("\r\n") if line.lower().startswith("trace"))
    own = ["traceparent: 00-of-the-actor"]
    assert sent == (own if given else [f"{name}: {value}" for name, value in TRACE.items()])


async def test_a_request_that_the_host_sends_leaves_a_span_and_carries_it():
    observing, spans, seen = Observing(), [], []
    observing.observers.append(lambda span, args, answer: spans.append(span))
    egress = Egress(observed=partial(observing.around, kind="outgoing"))
    async with serving(answering(OK, seen)) as port:
        call = Invocation(UNRESOLVED, OUTGOING, (request(port, "/x?token=1"), None), EntityId("actor"), trace=TRACE)
        await egress.around(nothing_linked, lambda: ("127.0.0.1:*",))(call)
        with pytest.raises(Denied):
            await egress.around(nothing_linked, lambda: ("elsewhere",))(call)
        await egress.close()
    sent, denied = spans
    assert sent.context.encode() in seen[0]
    assert (sent.trace, sent.parent, sent.kind) == ("ab" * 16, "cd" * 8, "outgoing")
    assert sent.http == Http("GET", f"http://127.0.0.1:{port}/x", 200)
    assert (denied.outcome, denied.http) == ("denied", Http("GET", f"http://127.0.0.1:{port}/x", 0))


# -- proxies


async def test_a_proxy_is_used_when_it_is_configured():
    seen: list[bytes] = []
    async with serving(answering(OK, seen)) as port:
        async with Outgoing(proxy=f"http://127.0.0.1:{port}") as client:
            await client.send(request("upstream.example:8080", "/x"))
    assert seen[0].startswith(b"GET http://upstream.example:8080/x HTTP/1.1\r\nHost: upstream.example:8080\r\n")


async def test_the_environment_names_proxies_only_for_those_who_ask(monkeypatch):
    seen: list[bytes] = []
    async with serving(answering(OK, seen)) as proxy, serving(answering(OK)) as port:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy}")
        monkeypatch.setenv("no_proxy", "localhost")
        async with Outgoing() as client:
            await client.send(request(port))
        assert seen == []
        async with Outgoing(proxy="environment") as client:
            await client.send(request(port))
            assert len(seen) == 1
            await client.send(request(f"localhost:{port}"))
            assert len(seen) == 1


async def test_a_proxy_that_refuses_is_said_to_have(client):
    async with serving(ending(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n")) as port:
        async with Outgoing(proxy=f"http://127.0.0.1:{port}") as proxied:
            code = await code_of(proxied.send(request("upstream.example", scheme="https")))
    assert "407" in code["internal-error"]


# -- the host's own


def asking(value: Value) -> Invocation:
    return Invocation(EntityId(""), OUTGOING, (value, None), EntityId("actor"))


async def unlinked(invocation: Invocation) -> Value:
    raise NotLinked(f'actor "{invocation.source}" is not linked to {invocation.function.interface}')


@pytest.fixture
async def egress() -> AsyncIterator[Egress]:
    made = Egress()
    yield made
    await made.close()


async def test_a_host_sends_what_is_granted_where_there_is_no_link(egress):
    async with serving(answering(OK)) as port:
        imports = egress.around(unlinked, lambda: (f"127.0.0.1:{port}",))
        assert (await imports(asking(request(port))))["status"] == 200
        with pytest.raises(Denied) as denied:
            await imports(asking(request(1)))
        assert denied.value.details["grant"] == 'the http grant "127.0.0.1:1"'
        assert await code_of(imports(asking(request("127.1")))) == "HTTP-request-URI-invalid"


async def test_without_a_grant_it_is_the_link_that_is_missing(egress):
    with pytest.raises(NotLinked):
        await egress.around(unlinked, tuple)(asking(request(80)))


async def test_a_link_comes_before_the_hosts_own_client(egress):
    async def through_link(invocation: Invocation) -> Value:
        return "linked"

    imports = egress.around(through_link, lambda: ("*:*",))
    assert await imports(asking(request(1))) == "linked"
    with structlog.testing.capture_logs():
        assert await imports(Invocation(EntityId(""), OUTGOING)) == "linked"
