"""HTTP/2 against curl, as a client of its own, and against h2's client side where the frames matter."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, DataReceived, ResponseReceived, StreamEnded, StreamReset, TrailersReceived

from lattice import Invocation, Value
from lattice.http import Request, Response
from lattice.streams import ByteStream, StreamClosed, read_body
from providers.http import http2
from providers.http.http2 import Http2Connection
from providers.http.listener import Listener
from providers.http.server import HttpServer
from providers.link import link_between
from providers.testing import Running, running

Actor = Callable[[Request], Awaitable[Response]]


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A link's keys for HTTPS."""
    folder = tmp_path_factory.mktemp("tls")
    made = trustme.CA().issue_cert("127.0.0.1")
    made.private_key_pem.write_to_path(folder / "key.pem")
    made.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    return {"tls_cert_file": str(folder / "cert.pem"), "tls_priv_key_file": str(folder / "key.pem"), "http2": "true"}


class Client:
    """h2's client side on a real socket: `heard` are its events by stream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.h2 = H2Connection(H2Configuration(client_side=True, header_encoding=None))
        self.h2.initiate_connection()
        self.heard: list[Any] = []
        self.acknowledging = True

    def ask(self, method: str = "GET", path: str = "/", *, end: bool = True, **headers: str) -> int:
        stream: int = self.h2.get_next_available_stream_id()
        pseudo = {":method": method, ":path": path, ":scheme": "https", ":authority": "a.example"}
        self.h2.send_headers(stream, [*pseudo.items(), *headers.items()], end_stream=end)
        self.send()
        return stream

    def send(self) -> None:
        self.writer.write(self.h2.data_to_send())

    async def until(self, kind: type, stream: int | None = None) -> Any:
        """The next event of that kind (of that stream)."""
        async with asyncio.timeout(20):
            while True:
                for event in self.heard:
                    if isinstance(event, kind) and stream in (None, getattr(event, "stream_id", None)):
                        self.heard.remove(event)
                        return event
                data = await self.reader.read(65536)
                assert data, f"the connection ended; heard {self.heard}"
                for event in self.h2.receive_data(data):
                    if isinstance(event, DataReceived) and self.acknowledging:
                        self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                    self.heard.append(event)
                self.send()

    async def response(self, stream: int) -> tuple[dict[bytes, bytes], bytes]:
        head = await self.until(ResponseReceived, stream)
        await self.until(StreamEnded, stream)
        body = [e for e in self.heard if isinstance(e, DataReceived) and e.stream_id == stream]
        return dict(head.headers), b"".join(event.data for event in body)


class Site:
    def __init__(self, server: Running, port: int) -> None:
        self.server = server
        self.port = port

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context)
        try:
            yield Client(reader, writer)
        finally:
            writer.transport.abort()


@asynccontextmanager
async def site(tls: dict[str, str], actor: Actor, **config: str) -> AsyncIterator[Site]:
    async def peer(invocation: Invocation) -> Value:
        return await actor(invocation.args[0])

    record = link_between(
        "http", "actor", "wasi:http/incoming-handler", source_config={"address": "127.0.0.1:0", **tls, **config}
    )
    async with running(HttpServer(), [record], peer=peer, id="http") as server:
        yield Site(server, int(server.provider.url(record.id).rpartition(":")[2]))


def ok(body: bytes | ByteStream = b"", **headers: bytes) -> Response:
    return {"status": 200, "headers": [(k.replace("_", "-"), v) for k, v in headers.items()], "body": body}


async def echo(request: Request) -> Response:
    return ok(request["body"], x_path=(request["path-with-query"] or "").encode())


@pytest.fixture(scope="module")
def curl() -> str:
    found = shutil.which("curl")
    if found is None or "HTTP2" not in subprocess.run([found, "--version"], capture_output=True, text=True).stdout:
        pytest.skip("no curl that speaks HTTP/2")
    return found


async def test_a_real_client_agrees_on_http_2_and_another_goes_on_with_1_1(
    tls: dict[str, str], curl: str, tmp_path: Path
):
    (tmp_path / "data").write_bytes(bytes(range(256)) * 8000)
    async with site(tls, echo) as http:
        for version in ("2", "1.1"):
            process = await asyncio.create_subprocess_exec(
                *(curl, "-sk", f"--http{version}", "--data-binary", f"@{tmp_path / 'data'}", "-o", tmp_path / "back"),
                *("-w", "%{http_version} %{http_code}", f"https://127.0.0.1:{http.port}/there"),
                stdout=asyncio.subprocess.PIPE,
            )
            said, _ = await process.communicate()
            assert said == f"{version} 200".encode()
            assert (tmp_path / "back").read_bytes() == (tmp_path / "data").read_bytes()


async def test_requests_of_one_connection_are_answered_side_by_side(tls: dict[str, str]):
    gate = asyncio.Event()

    async def actor(request: Request) -> Response:
        if request["path-with-query"] == "/slow":
            await gate.wait()
        return ok(b"done", x_authority=(request["authority"] or "").encode())

    async with site(tls, actor) as http, http.client() as client:
        slow, fast = client.ask(path="/slow"), client.ask(path="/fast")
        head, body = await client.response(fast)
        assert (head[b":status"], head[b"x-authority"], head[b"content-length"], body) == (
            *(b"200", b"a.example", b"4"),
            b"done",
        )
        gate.set()
        assert (await client.response(slow))[1] == b"done"


async def test_bodies_stream_in_both_directions_and_end_with_trailers(tls: dict[str, str]):
    async def actor(request: Request) -> Response:
        out, back = request["body"], ByteStream()
        assert isinstance(out, ByteStream)

        async def answer() -> None:
            async for piece in out:
                await back.write(piece.upper())
            back.finish([("x-sum", b"2"), *(out.trailers or [])])

        http.server.provider.spawn(answer())
        return ok(back)

    async with site(tls, actor) as http, http.client() as client:
        stream = client.ask("POST", end=False)
        for word in (b"one", b"two"):
            client.h2.send_data(stream, word)
            client.send()
            assert (await client.until(DataReceived, stream)).data == word.upper()
        client.h2.send_headers(stream, [("x-mine", "1")], end_stream=True)
        client.send()
        trailers = await client.until(TrailersReceived, stream)
        assert trailers.headers == [(b"x-sum", b"2"), (b"x-mine", b"1")]


async def test_a_client_that_reads_slowly_holds_the_actor_back(tls: dict[str, str]):
    back = ByteStream()

    async def actor(request: Request) -> Response:
        return ok(back)

    async with site(tls, actor) as http, http.client() as client:
        client.acknowledging = False
        stream = client.ask()
        await client.until(ResponseReceived, stream)
        back.write_now(bytes(300_000))
        back.finish()
        got = 0
        while got < 65535:  # the window that a client begins with
            got += len((await client.until(DataReceived, stream)).data)
        assert got == 65535
        assert back.buffered > 0
        client.h2.acknowledge_received_data(got, stream)
        client.send()
        assert (await client.until(DataReceived, stream)).data


async def test_an_upload_that_nobody_reads_is_held_back_and_a_limit_is_413(tls: dict[str, str]):
    begun, gate = asyncio.Event(), asyncio.Event()

    async def actor(request: Request) -> Response:
        begun.set()
        await gate.wait()
        await read_body(request["body"])
        return ok(b"read")

    async with site(tls, actor, max_body_bytes="900000") as http, http.client() as client:
        stream = client.ask("POST", end=False)
        await begun.wait()
        sent = 0
        while room := client.h2.local_flow_control_window(stream):
            piece = min(room, 16384)
            client.h2.send_data(stream, bytes(piece))
            sent += piece
        client.send()
        assert sent == 65535
        gate.set()
        while sent < 1_000_000:
            while room := min(client.h2.local_flow_control_window(stream), 16384):
                client.h2.send_data(stream, bytes(room))
                sent += room
            client.send()
            data = await asyncio.wait_for(client.reader.read(65536), 20)
            client.heard += client.h2.receive_data(data)
            if any(isinstance(event, ResponseReceived) for event in client.heard):
                break
        head = await client.until(ResponseReceived, stream)
        assert dict(head.headers)[b":status"] == b"413"


async def test_a_request_that_is_taken_back_is_cancelled_and_breaks_its_body(tls: dict[str, str]):
    begun, cancelled, bodies = asyncio.Event(), asyncio.Event(), []

    async def actor(request: Request) -> Response:
        bodies.append(request["body"])
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError

    async with site(tls, actor) as http, http.client() as client:
        stream = client.ask("POST", end=False)
        await begun.wait()
        client.h2.reset_stream(stream, ErrorCodes.CANCEL)
        client.send()
        await asyncio.wait_for(cancelled.wait(), 20)
        with pytest.raises(StreamClosed):
            await bodies[0].read_all()
        begun.clear()
        client.ask("POST")
        await begun.wait()  # the connection goes on


async def test_a_client_that_takes_back_too_much_is_sent_away(tls: dict[str, str]):
    async with site(tls, echo) as http, http.client() as client:
        for _ in range(600):
            client.h2.reset_stream(client.ask(), ErrorCodes.CANCEL)
            client.send()
        ended = await client.until(ConnectionTerminated)
        assert ended.error_code == ErrorCodes.ENHANCE_YOUR_CALM


async def test_a_client_that_asks_and_never_reads_is_cut_off(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(http2, "UNREAD", 100_000)

    class Full(asyncio.Transport):
        """A socket whose other side reads nothing."""

        written = 0
        aborted = False

        def write(self, data: Any) -> None:
            self.written += len(data)

        def get_write_buffer_size(self) -> int:
            return self.written

        def is_closing(self) -> bool:
            return self.aborted

        def abort(self) -> None:
            self.aborted = True

    connection, transport = Http2Connection(Listener("127.0.0.1:0", echo, None, 75)), Full()
    connection.connection_made(transport)
    client = H2Connection(H2Configuration(client_side=True))
    client.initiate_connection()
    while not transport.aborted and transport.written < 200_000:
        for _ in range(2000):
            client.ping(b"12345678")
        connection.data_received(client.data_to_send())
    assert transport.aborted


async def test_what_the_actor_cannot_say_is_502_and_a_body_that_breaks_off_is_reset(tls: dict[str, str]):
    async def actor(request: Request) -> Response:
        if request["path-with-query"] == "/inject":
            return ok(b"", x=b"a\r\nb: c")
        broken = ByteStream()
        broken.write_now(b"so far")
        broken.fail(ValueError("no more"))
        return ok(broken)

    async with site(tls, actor) as http, http.client() as client:
        assert (await client.response(client.ask(path="/inject")))[0][b":status"] == b"502"
        stream = client.ask()
        reset = await client.until(StreamReset, stream)
        assert reset.error_code == ErrorCodes.INTERNAL_ERROR


async def test_head_and_bodyless_responses_end_with_their_head(tls: dict[str, str]):
    async def actor(request: Request) -> Response:
        return {"status": 204, "headers": [], "body": b""} if request["method"] == "GET" else ok(b"1234")

    async with site(tls, actor) as http, http.client() as client:
        head, body = await client.response(client.ask("HEAD"))
        assert (head[b"content-length"], body) == (b"4", b"")
        head, body = await client.response(client.ask())
        assert (head[b":status"], b"content-length" in head, body) == (b"204", False, b"")


async def test_leaving_finishes_what_is_in_hand_and_takes_nothing_new(tls: dict[str, str]):
    begun, gate = asyncio.Event(), asyncio.Event()

    async def actor(request: Request) -> Response:
        begun.set()
        await gate.wait()
        return ok(b"done")

    async with site(tls, actor) as http, http.client() as client:
        first = client.ask()
        await begun.wait()
        leaving = asyncio.create_task(http.server.runtime.stop(10))
        while not any(c.leaving for listener in http.server.provider.listeners.values() for c in listener.connections):
            await asyncio.sleep(0)
        refused = await client.until(StreamReset, client.ask())
        assert refused.error_code == ErrorCodes.REFUSED_STREAM
        gate.set()
        assert (await client.response(first))[1] == b"done"
        await client.until(ConnectionTerminated)
        await leaving


async def test_nonsense_ends_the_connection(tls: dict[str, str]):
    async with site(tls, echo) as http, http.client() as client:
        client.writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert b"" in [await client.reader.read(65536) for _ in range(3)]


async def test_a_client_without_tls_may_begin_with_http_2_and_others_go_on_with_1_1():
    async with site({"http2": "true"}, echo) as http:
        reader, writer = await asyncio.open_connection("127.0.0.1", http.port)
        client = Client(reader, writer)
        first = client.h2.data_to_send()
        for part in (first[:2], first[2:20], first[20:]):  # as a slow network brings them
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)
        head, body = await client.response(client.ask("POST", "/two", end=True))
        assert (head[b":status"], head[b"x-path"], body) == (b"200", b"/two", b"")
        writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", http.port)
        writer.write(b"P")
        await writer.drain()
        writer.write(b"OST /one HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi")
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 200") and b"x-path: /one" in answer and answer.endswith(b"hi")
        writer.close()
