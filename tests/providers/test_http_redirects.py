"""Redirects that the HTTP client follows when it is asked to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from lattice import ByteStream, Denied
from lattice.http import OUTGOING, Request
from lattice.streams import read_body
from providers.http.client import HttpClient
from providers.http.redirects import redirected
from providers.testing import Running, linked, running


def request(**changes: Any) -> Request:
    made: Any = {
        "method": "GET",
        "path-with-query": "/old/page?x=1",
        "scheme": "https",
        "authority": "a.example",
        "headers": [("authorization", b"secret"), ("content-type", b"text/plain"), ("accept", b"*/*")],
        "body": b"",
        **changes,
    }
    return made


def to(location: str, status: int, **changes: Any) -> Request | None:
    return redirected(request(**changes), {"status": status, "headers": [("location", location.encode())], "body": b""})


@pytest.mark.parametrize(
    ("location", "place"),
    [
        ("new", ("https", "a.example", "/old/new")),
        ("/new?y=2#part", ("https", "a.example", "/new?y=2")),
        ("//b.example", ("https", "b.example", "/")),
        ("http://a.example:81/", ("http", "a.example:81", "/")),
    ],
)
def test_a_location_is_read_from_where_the_request_went(location: str, place: tuple[str, str, str]):
    found = to(location, 302)
    assert found is not None
    assert (found["scheme"], found["authority"], found["path-with-query"]) == place


@pytest.mark.parametrize(
    ("method", "status", "then"),
    [
        *(("POST", 301, "GET"), ("POST", 303, "GET"), ("PUT", 303, "GET"), ("HEAD", 303, "HEAD")),
        *(("PUT", 302, "PUT"), ("POST", 307, "POST"), ("POST", 308, "POST")),
    ],
)
def test_a_body_goes_along_only_where_the_method_stays(method: str, status: int, then: str):
    found = to("/new", status, method=method, body=b"data")
    assert found is not None
    assert found["method"] == then
    kept = then not in ("GET", "HEAD")
    assert found["body"] == (b"data" if kept else b"")
    assert ("content-type" in dict(found["headers"])) is kept


def test_another_site_does_not_see_who_asks():
    same, other, unsafe = to("/new", 302), to("https://b.example/", 302), to("http://a.example/", 302)
    assert same is not None and other is not None and unsafe is not None
    assert [dict(found["headers"]).get("authorization") for found in (same, other, unsafe)] == [b"secret", None, None]


@pytest.mark.parametrize(
    ("location", "status", "body"),
    [
        *(("/new", 200, b""), ("/new", 304, b""), ("ftp://a/", 302, b""), ("https://me:pw@a/", 302, b"")),
        ("/new", 307, ByteStream()),
    ],
)
def test_what_cannot_be_followed_is_the_response(location: str, status: int, body: Any):
    assert to(location, status, method="PUT", body=body) is None


@asynccontextmanager
async def chain() -> AsyncIterator[int]:
    """A server that answers /3 with a redirect to /2, and so on; /0 is a page, and /away is elsewhere."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := (await reader.readuntil(b"\r\n\r\n") if not reader.at_eof() else b""):
            path = line.split()[1].decode()
            if path == "/0":
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nhere")
            else:
                there = "http://127.0.0.2:1/" if path == "/away" else f"/{int(path[1:]) - 1}"
                writer.write(f"HTTP/1.1 302 Found\r\nlocation: {there}\r\ncontent-length: 2\r\n\r\nno".encode())

    async def quietly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await connected(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(quietly, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def get(client: Running, port: int, path: str) -> tuple[int, bytes]:
    asked = request(scheme="http", authority=f"127.0.0.1:{port}", **{"path-with-query": path})
    response: Any = await client.call(OUTGOING.key, asked, None)
    return response["status"], await read_body(response["body"])


async def test_as_many_redirects_are_followed_as_the_link_says_and_none_unless_it_does():
    provider = HttpClient()
    links = [*linked(provider, redirects="2"), *linked(provider, source="careful")]
    async with chain() as port, running(provider, links) as client:
        assert await get(client, port, "/2") == (200, b"here")
        assert await get(client, port, "/3") == (302, b"no")
        asked = request(scheme="http", authority=f"127.0.0.1:{port}", **{"path-with-query": "/1"})
        assert (await client.call(OUTGOING.key, asked, None, source="careful"))["status"] == 302


async def test_a_redirect_leads_nowhere_that_could_not_be_asked_directly():
    provider = HttpClient()
    async with chain() as port, running(provider, linked(provider, redirects="2", allow=f"127.0.0.1:{port}")) as client:
        with pytest.raises(Denied, match=r'"127\.0\.0\.2:1" in "allow" of the link'):
            await get(client, port, "/away")
