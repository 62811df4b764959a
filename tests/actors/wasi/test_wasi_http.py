"""wasi:http/types and outgoing-handler, called as a guest would call them."""

from __future__ import annotations

import asyncio

import pytest
import structlog

from actors.guest import Guest
from actors.wasi.http import (
    FIELDS_LIMIT,
    Fields,
    IncomingBody,
    IncomingRequest,
    OutgoingBody,
    OutgoingRequest,
    OutgoingResponse,
    RequestOptions,
    Types,
)
from actors.wasi.http_outgoing import OutgoingHandler
from actors.wasi.io import Poll
from lattice import (
    DeadlineExceeded,
    Denied,
    EntityId,
    Handler,
    Invocation,
    LatticeError,
    LimitExceeded,
    Unreachable,
    Value,
    WitError,
)
from lattice.http import Request
from lattice.streams import ByteStream, StreamClosed

GUEST = Guest(EntityId("web"))


def request(**changes: Value) -> Request:
    value: Request = {
        "method": "GET",
        "path-with-query": "/",
        "scheme": "http",
        "authority": "example.com",
        "headers": [],
        "body": b"",
    }
    value.update(changes)  # type: ignore[typeddict-item]
    return value


def payload_of(call, *args):
    with pytest.raises(WitError) as answer:
        call(*args)
    return answer.value.payload


# -- fields


async def test_fields_are_found_in_any_case_and_kept_in_order():
    fields = Fields.from_list(GUEST, [("X-One", b"1"), ("accept", b"a"), ("x-one", b"2")])
    assert fields.get("X-ONE") == [b"1", b"2"]
    assert fields.has("Accept")
    assert not fields.has("x-two")
    assert fields.entries() == [("x-one", b"1"), ("accept", b"a"), ("x-one", b"2")]
    fields.set("X-One", [b"3"])
    fields.append("x-one", b"4")
    assert fields.get("x-one") == [b"3", b"4"]
    fields.delete("X-ONE")
    assert fields.entries() == [("accept", b"a")]


@pytest.mark.parametrize("name", ["", "a b", "a:b", "é", "x\n"])
async def test_a_field_name_that_is_no_token_is_refused(name):
    fields = Fields.new(GUEST)
    assert payload_of(fields.append, name, b"1") == "invalid-syntax"
    assert payload_of(fields.set, name, [b"1"]) == "invalid-syntax"
    assert payload_of(fields.delete, name) == "invalid-syntax"
    assert payload_of(Fields.from_list, GUEST, [(name, b"1")]) == "invalid-syntax"


@pytest.mark.parametrize("value", [b"a\r\nx: y", b"\0", b"\x7f"])
async def test_a_field_value_with_control_bytes_is_refused(value):
    assert payload_of(Fields.new(GUEST).append, "x", value) == "invalid-syntax"
    fields = Fields.from_list(GUEST, [("x", b"kept")])
    assert payload_of(fields.set, "x", [b"fine", value]) == "invalid-syntax"
    assert fields.get("x") == [b"kept"]


async def test_tabs_and_bytes_beyond_ascii_are_values():
    fields = Fields.from_list(GUEST, [("x", b"a\tb"), ("y", "é".encode())])
    assert fields.get("y") == ["é".encode()]


@pytest.mark.parametrize("name", ["Connection", "host", "Transfer-Encoding", "upgrade", "Keep-Alive"])
async def test_the_connections_own_fields_are_forbidden(name):
    assert payload_of(Fields.new(GUEST).set, name, [b"x"]) == "forbidden"
    assert payload_of(Fields.from_list, GUEST, [(name, b"x")]) == "forbidden"


async def test_fields_have_a_limit_and_deleting_makes_room():
    fields = Fields.new(GUEST)
    half = bytes(b"x" * (FIELDS_LIMIT // 2))
    fields.append("a", half)
    fields.delete("a")
    fields.append("a", half)
    with pytest.raises(LimitExceeded):
        fields.append("b", half)


async def test_headers_of_a_request_are_immutable_and_their_clone_is_not():
    headers = IncomingRequest(request(headers=[("X-A", b"1"), ("Host", b"example.com")])).headers()
    assert headers.entries() == [("X-A", b"1")]
    for change in (headers.append, headers.set):
        assert payload_of(change, "x-b", b"2") == "immutable"
    assert payload_of(headers.delete, "x-a") == "immutable"
    copy = headers.clone()
    copy.set("x-a", [b"2"])
    assert copy.get("X-A") == [b"2"]
    assert headers.get("x-a") == [b"1"]


# -- incoming


async def test_an_incoming_request_says_what_was_asked():
    incoming = IncomingRequest(
        request(method="POST", scheme="https", authority="a.example:8080", **{"path-with-query": "/x?y=1"})
    )
    assert incoming.method() == "post"
    assert incoming.scheme() == "HTTPS"
    assert incoming.authority() == "a.example:8080"
    assert incoming.path_with_query() == "/x?y=1"
    other = IncomingRequest(request(method="PURGE", scheme="coap"))
    assert other.method() == {"other": "PURGE"}
    assert other.scheme() == {"other": "coap"}
    assert IncomingRequest(request(scheme=None)).scheme() is None


async def test_a_body_is_consumed_once_and_streamed_once():
    incoming = IncomingRequest(request(body=b"hello"))
    body = incoming.consume()
    assert payload_of(incoming.consume) is None
    stream = body.stream()
    assert payload_of(body.stream) is None
    assert stream.read(100) == b"hello"


async def test_trailers_come_after_the_body_which_is_read_over():
    source = ByteStream()
    trailers = IncomingBody.finish(GUEST, IncomingRequest(request(body=source)).consume())
    source.write_now(b"unread")
    assert trailers.get() is None
    waiting = asyncio.create_task(Poll.poll(GUEST, [trailers.subscribe()]))
    await asyncio.sleep(0)
    source.write_now(b"unread too")
    source.finish([("X-Sum", b"42")])
    assert await waiting == [0]
    got = trailers.get()
    assert got["ok"]["ok"].entries() == [("X-Sum", b"42")]
    assert trailers.get() == {"err": None}


async def test_a_body_without_trailers_has_none():
    trailers = IncomingBody.finish(GUEST, IncomingRequest(request(body=b"x")).consume())
    assert trailers.get() == {"ok": {"ok": None}}


async def test_a_body_that_breaks_off_has_an_http_error_code():
    source = ByteStream()
    body = IncomingRequest(request(body=source)).consume()
    source.fail(ConnectionError("gone"))
    failed = payload_of(body.stream().read, 1)
    assert Types.http_error_code(GUEST, failed["last-operation-failed"]) == "connection-terminated"
    assert IncomingBody.finish(GUEST, body).get() == {"ok": {"err": "connection-terminated"}}


async def test_dropping_a_body_tells_its_sender():
    source = ByteStream()
    IncomingRequest(request(body=source)).consume().dropped()
    assert source.reader_gone
    unread = ByteStream()
    IncomingRequest(request(body=unread)).dropped()
    assert unread.reader_gone


# -- outgoing response


def response(*headers: tuple[str, bytes]) -> OutgoingResponse:
    return OutgoingResponse.new(GUEST, Fields.from_list(GUEST, list(headers)))


async def test_a_complete_body_travels_as_bytes():
    outgoing = response(("content-type", b"text/plain"))
    assert outgoing.status_code() == 200
    outgoing.set_status_code(201)
    body = outgoing.body()
    stream = body.write()
    await stream.blocking_write_and_flush(b"hel")
    await stream.blocking_write_and_flush(b"lo")
    OutgoingBody.finish(GUEST, body, None)
    assert outgoing.value() == {"status": 201, "headers": [("content-type", b"text/plain")], "body": b"hello"}


async def test_a_body_that_is_still_written_travels_as_a_stream():
    outgoing = response()
    body = outgoing.body()
    stream = body.write()
    await stream.blocking_write_and_flush(b"one")
    travelling = outgoing.value()["body"]
    assert isinstance(travelling, ByteStream)
    assert await travelling.read() == b"one"
    await stream.blocking_write_and_flush(b"two")
    OutgoingBody.finish(GUEST, body, Fields.from_list(GUEST, [("x-sum", b"6")]))
    assert await travelling.read() == b"two"
    assert await travelling.read() == b""
    assert travelling.trailers == [("x-sum", b"6")]


async def test_a_response_without_a_body_is_empty():
    assert response().value()["body"] == b""


async def test_a_body_is_given_out_once_and_written_once():
    outgoing = response()
    body = outgoing.body()
    assert payload_of(outgoing.body) is None
    body.write()
    assert payload_of(body.write) is None


@pytest.mark.parametrize("status", [0, 99, 1000, 65535])
async def test_a_status_that_is_none_is_refused(status):
    assert payload_of(response().set_status_code, status) is None


async def test_headers_of_a_response_are_immutable_once_it_has_them():
    assert payload_of(response().headers().append, "x", b"1") == "immutable"


async def test_a_body_shorter_than_its_content_length_is_an_error_for_both_sides():
    outgoing = response(("content-length", b"5"))
    body = outgoing.body()
    await body.write().blocking_write_and_flush(b"abc")
    travelling = outgoing.value()["body"]
    assert payload_of(OutgoingBody.finish, GUEST, body, None) == {"HTTP-response-body-size": 3}
    assert await travelling.read() == b"abc"
    with pytest.raises(StreamClosed, match="content-length"):
        await travelling.read()


async def test_a_body_longer_than_its_content_length_is_stopped():
    outgoing = response(("Content-Length", b"2"))
    stream = outgoing.body().write()
    stream.check_write()
    failed = payload_of(stream.write, b"abc")["last-operation-failed"]
    assert Types.http_error_code(GUEST, failed) == {"HTTP-response-body-size": 3}


async def test_a_body_of_its_content_length_is_fine():
    outgoing = response(("content-length", b"3"))
    body = outgoing.body()
    await body.write().blocking_write_and_flush(b"abc")
    OutgoingBody.finish(GUEST, body, None)
    assert outgoing.value()["body"] == b"abc"


async def test_a_body_dropped_without_finish_breaks_off():
    outgoing = response()
    body = outgoing.body()
    travelling = outgoing.value()["body"]
    body.dropped()
    with pytest.raises(StreamClosed, match="without finishing"):
        await travelling.read()


async def test_writing_to_a_reader_that_left_is_closed():
    outgoing = response()
    stream = outgoing.body().write()
    outgoing.value()["body"].close()
    assert payload_of(stream.check_write) == "closed"
    assert stream.subscribe().ready()
    with pytest.raises(WitError) as answer:
        await stream.blocking_write_and_flush(b"x")
    assert answer.value.payload == "closed"


# -- outgoing request


def outgoing_request() -> OutgoingRequest:
    made = OutgoingRequest.new(GUEST, Fields.from_list(GUEST, [("accept", b"*/*")]))
    made.set_scheme("HTTPS")
    made.set_authority("example.com:8443")
    made.set_path_with_query("/a?b=c")
    return made


async def test_an_outgoing_request_keeps_what_it_was_told():
    made = outgoing_request()
    made.set_method({"other": "PURGE"})
    assert (made.method(), made.scheme(), made.authority(), made.path_with_query()) == (
        {"other": "PURGE"},
        "HTTPS",
        "example.com:8443",
        "/a?b=c",
    )
    assert made.value() == {
        "method": "PURGE",
        "path-with-query": "/a?b=c",
        "scheme": "https",
        "authority": "example.com:8443",
        "headers": [("accept", b"*/*")],
        "body": b"",
    }
    assert made.headers().get("accept") == [b"*/*"]


async def test_an_outgoing_request_refuses_what_is_not_http():
    made = outgoing_request()
    assert payload_of(made.set_method, {"other": "BAD METHOD"}) is None
    assert payload_of(made.set_scheme, {"other": "1http"}) is None
    assert payload_of(made.set_authority, "user@host/path") is None
    assert payload_of(made.set_path_with_query, "/a b\r\n") is None
    made.set_authority("[::1]:80")
    made.set_authority(None)
    made.set_path_with_query(None)


async def test_request_options_hold_timeouts():
    options = RequestOptions.new(GUEST)
    assert options.connect_timeout() is None
    options.set_connect_timeout(5)
    options.set_first_byte_timeout(6)
    options.set_between_bytes_timeout(7)
    assert (options.connect_timeout(), options.first_byte_timeout(), options.between_bytes_timeout()) == (5, 6, 7)


async def answered(imports: Handler, made: OutgoingRequest | None = None, options: RequestOptions | None = None):
    guest = Guest(EntityId("web"), imports=imports)
    future = OutgoingHandler.handle(guest, made or outgoing_request(), options)
    assert future.get() is None
    assert await Poll.poll(guest, [future.subscribe()]) == [0]
    outcome = future.get()
    assert future.get() == {"err": None}
    guest.end()
    return outcome


async def test_handle_is_a_call_over_the_link_and_its_future_becomes_the_response():
    calls: list[Invocation] = []

    async def imports(invocation: Invocation) -> Value:
        calls.append(invocation)
        return {"status": 203, "headers": [("x-y", b"z")], "body": b"hi"}

    outcome = await answered(imports)
    got = outcome["ok"]["ok"]
    assert (got.status(), got.headers().entries()) == (203, [("x-y", b"z")])
    assert got.consume().stream().read(10) == b"hi"
    assert calls[0].function.key == "wasi:http/outgoing-handler#handle"
    assert calls[0].args[0]["authority"] == "example.com:8443"
    assert calls[0].args[1] is None


async def test_the_body_of_an_outgoing_request_is_streamed_while_the_other_side_reads():
    async def imports(invocation: Invocation) -> Value:
        return {"status": 200, "headers": [], "body": (await invocation.args[0]["body"].read_all()).upper()}

    guest = Guest(EntityId("web"), imports=imports)
    made = outgoing_request()
    body = made.body()
    future = OutgoingHandler.handle(guest, made, None)
    stream = body.write()
    for part in (b"a", b"b", b"c"):
        await stream.blocking_write_and_flush(part)
        await asyncio.sleep(0)
    assert future.get() is None
    OutgoingBody.finish(guest, body, None)
    await future.subscribe().block()
    assert future.get()["ok"]["ok"].consume().stream().read(10) == b"ABC"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (WitError("connection-refused"), "connection-refused"),
        (Unreachable("nobody"), "destination-unavailable"),
        (DeadlineExceeded("late"), "HTTP-response-timeout"),
        (Denied("no"), "HTTP-request-denied"),
        (LatticeError("odd"), {"internal-error": "odd"}),
    ],
)
async def test_what_goes_wrong_is_an_error_code(error, code):
    async def imports(invocation: Invocation) -> Value:
        raise error

    assert await answered(imports) == {"ok": {"err": code}}


async def test_http_without_a_link_is_denied_and_logged_with_the_grant():
    guest = Guest(EntityId("web"))
    with structlog.testing.capture_logs() as events:
        future = OutgoingHandler.handle(guest, outgoing_request(), None)
        await future.subscribe().block()
    assert future.get() == {"ok": {"err": "HTTP-request-denied"}}
    assert [(e["event"], e["actor"], e["interface"]) for e in events] == [
        ("guest.denied", "web", "wasi:http/outgoing-handler")
    ]
    assert "link" in events[0]["grant"]


async def test_a_first_byte_timeout_is_kept():
    async def never(invocation: Invocation) -> Value:
        await asyncio.Event().wait()

    options = RequestOptions.new(GUEST)
    options.set_first_byte_timeout(1_000_000)
    assert await answered(never, options=options) == {"ok": {"err": "HTTP-response-timeout"}}


async def test_a_request_to_nowhere_is_refused_at_once():
    assert payload_of(OutgoingHandler.handle, GUEST, OutgoingRequest.new(GUEST, Fields.new(GUEST)), None) == (
        "HTTP-request-URI-invalid"
    )


async def test_the_end_of_the_guest_ends_its_requests():
    ended = asyncio.Event()

    async def never(invocation: Invocation) -> Value:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    guest = Guest(EntityId("web"), imports=never)
    OutgoingHandler.handle(guest, outgoing_request(), None)
    await asyncio.sleep(0)
    guest.end()
    async with asyncio.timeout(1):
        await ended.wait()


async def test_a_response_that_arrives_after_the_guest_lost_interest_is_closed():
    arrived: asyncio.Future[Value] = asyncio.get_running_loop().create_future()

    async def imports(invocation: Invocation) -> Value:
        return await arrived

    guest = Guest(EntityId("web"), imports=imports)
    future = OutgoingHandler.handle(guest, outgoing_request(), None)
    await asyncio.sleep(0)
    body = ByteStream()
    arrived.set_result({"status": 200, "headers": [], "body": body})
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    future.dropped()
    await asyncio.sleep(0)
    assert body.reader_gone
