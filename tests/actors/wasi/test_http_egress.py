"""A guest's own requests, sent by the host itself to a real server: a Python component end to end."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator

import pytest
import structlog

from actors.actor import Actor
from actors.grants import Grants
from actors.guest import nothing_linked
from host.egress import Egress
from lattice import EntityId, Invocation, Value
from lattice.http import HANDLE
from lattice.streams import read_body
from providers.http.outgoing import Outgoing

pytestmark = pytest.mark.toolchain

FETCH = {
    "method": "GET",
    "path-with-query": "/fetch",
    "scheme": "http",
    "authority": "example.com",
    "headers": [],
    "body": b"",
}


@pytest.fixture
async def upstream() -> AsyncIterator[tuple[Egress, list[bytes]]]:
    """A server that is reached as `upstream:8080`, and a host's client that knows the way."""
    seen: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 207 Many\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nin \r\n")
        await writer.drain()
        writer.write(b"6\r\npieces\r\n0\r\n\r\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        egress = Egress(Outgoing(proxy=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"))
        yield egress, seen
        await egress.close()


@pytest.fixture
def fetching(engine, deployed, python_guest):
    async def load(egress: Egress, *grants: str) -> Actor:
        component = await engine.load(python_guest)
        imports = egress.around(nothing_linked, lambda: grants)
        return deployed(EntityId("web"), component, imports=imports, grants=Grants(http=grants))

    return load


async def fetch(actor: Actor) -> Value:
    answer = await actor.handle(Invocation(actor.id, HANDLE, (FETCH,), deadline=time.monotonic() + 60))
    return json.loads(await read_body(answer["body"]))


@pytest.mark.parametrize("grant", ["upstream:8080", "*:8080", "*:*"])
async def test_a_granted_request_reaches_its_server(fetching, upstream, grant):
    egress, seen = upstream
    assert await fetch(await fetching(egress, grant)) == {"status": 207, "text": "in pieces"}
    assert seen[0].startswith(b"GET http://upstream:8080/thing?x=1 HTTP/1.1\r\n")


@pytest.mark.parametrize("grants", [(), ("upstream",), ("upstream:8081",), ("example.com:8080",), ("0.0.0.0/0:*",)])
async def test_a_request_that_is_not_granted_is_denied_and_the_event_names_the_grant(fetching, upstream, grants):
    egress, seen = upstream
    actor = await fetching(egress, *grants)
    with structlog.testing.capture_logs() as events:
        assert await fetch(actor) == {"error": "ErrorCode_HttpRequestDenied"}
    [event] = [event for event in events if event["event"] == "guest.denied"]
    assert event["interface"] == "wasi:http/outgoing-handler"
    assert 'the http grant "upstream:8080"' in event["grant"]
    assert seen == []
