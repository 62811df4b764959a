"""wasi:sockets/ip-name-lookup: what the host's resolver answers, and what that opens."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from actors.grants import Grants
from actors.guest import Guest
from actors.wasi.sockets import lookup, network
from actors.wasi.sockets.lookup import IpNameLookup, ResolveAddressStream
from actors.wasi.sockets.network import Endpoint, Network, Sockets, ip_address
from actors.wasi.sockets.tcp import TcpCreateSocket
from lattice import EntityId, Value, WitError

NETWORK = Network()

ANSWERS: dict[str, list[str] | int] = {
    "private.example": ["10.0.0.5", "10.0.0.5", "fd00::5"],
    "here.example": ["127.0.0.1"],
    "many.example": [f"10.1.0.{number}" for number in range(200)],
    "scoped.example": ["fe80::1%2"],
    "xn--bcher-kva.example": ["192.0.2.1"],
    "nowhere.example": socket.EAI_NONAME,
    "later.example": socket.EAI_AGAIN,
    "never.example": socket.EAI_FAIL,
    "large.example": socket.EAI_MEMORY,
}


@pytest.fixture(autouse=True)
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The operating system's resolver, in a small world of its own; gives the names that were asked for."""
    asked: list[str] = []

    def getaddrinfo(host: str, port: object, **_: object) -> list[Any]:
        asked.append(host)
        answer = ANSWERS[host]
        if isinstance(answer, int):
            raise socket.gaierror(answer, "no")
        return [(None, None, 0, "", (one, 0)) for one in answer]

    monkeypatch.setattr(lookup.socket, "getaddrinfo", getaddrinfo)
    yield asked


def guest(*grants: str) -> Guest:
    return Guest(EntityId("client"), grants=Grants(network=grants))


def code_of(call: Any, *args: Any) -> Value:
    with pytest.raises(WitError) as answer:
        call(*args)
    return answer.value.payload


async def found(stream: ResolveAddressStream) -> list[Value]:
    await stream.subscribe().block()
    addresses = []
    while (one := stream.resolve_next_address()) is not None:
        addresses.append(one)
    return addresses


def wit(text: str) -> Value:
    return ip_address(ipaddress.ip_address(text))


async def test_a_granted_name_has_its_addresses_each_once():
    stream = IpNameLookup.resolve_addresses(guest("private.example:443"), NETWORK, "Private.EXAMPLE.")
    assert code_of(stream.resolve_next_address) == "would-block"
    assert not stream.subscribe().ready()
    assert await found(stream) == [wit("10.0.0.5"), wit("fd00::5")]
    assert stream.resolve_next_address() is None


async def test_names_in_other_scripts_are_looked_up_as_the_network_spells_them(resolver):
    stream = IpNameLookup.resolve_addresses(guest("*.example:*"), NETWORK, "Bücher.example")
    assert await found(stream) == [wit("192.0.2.1")]
    assert resolver == ["xn--bcher-kva.example"]


@pytest.mark.parametrize("text", ["127.0.0.1", "::1", "[::1]", "192.0.2.77"])
async def test_an_address_is_its_own_answer_and_asks_nobody(text, resolver):
    stream = IpNameLookup.resolve_addresses(guest(), NETWORK, text)
    assert stream.subscribe().ready()
    assert await found(stream) == [wit(text.strip("[]"))]
    assert resolver == []


async def test_an_ipv4_address_in_an_ipv6_one_is_answered_as_itself():
    assert await found(IpNameLookup.resolve_addresses(guest(), NETWORK, "::ffff:10.0.0.1")) == [wit("10.0.0.1")]


@pytest.mark.parametrize(
    "text", ["", "a b", "a..b", "127.1", "2130706433", "x" * 300, "exa_mple..", "http://a", "a:80"]
)
async def test_what_is_no_name_is_an_invalid_argument(text, resolver):
    assert code_of(IpNameLookup.resolve_addresses, guest("*:*"), NETWORK, text) == "invalid-argument"
    assert resolver == []


@pytest.mark.parametrize(
    "grants", [(), ("10.0.0.0/8:*", "[::/0]:*"), ("private.example.com:*",), ("*.private.example:1",)]
)
async def test_a_name_that_is_not_granted_is_not_looked_up(grants, resolver):
    with structlog.testing.capture_logs() as events:
        code = code_of(IpNameLookup.resolve_addresses, guest(*grants), NETWORK, "private.example")
    assert code == "access-denied"
    assert resolver == []
    [event] = events
    assert event["grant"] == 'the network grant "private.example:PORT"'
    assert event["interface"] == "wasi:sockets/ip-name-lookup"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("nowhere.example", "name-unresolvable"),
        ("later.example", "temporary-resolver-failure"),
        ("never.example", "permanent-resolver-failure"),
        ("large.example", "out-of-memory"),
        ("scoped.example", "name-unresolvable"),
    ],
)
async def test_a_lookup_that_fails_says_how(name, code):
    stream = IpNameLookup.resolve_addresses(guest("*:*"), NETWORK, name)
    await stream.subscribe().block()
    assert code_of(stream.resolve_next_address) == code
    assert code_of(stream.resolve_next_address) == code


async def test_a_name_with_very_many_addresses_has_only_some():
    stream = IpNameLookup.resolve_addresses(guest("many.example:1"), NETWORK, "many.example")
    assert len(await found(stream)) == lookup.MOST_ADDRESSES


async def test_the_addresses_of_a_granted_name_are_reachable_on_its_ports_from_then_on():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        one = guest(f"here.example:{port}", "10.0.0.0/8:1")
        target = Endpoint(ipaddress.ip_address("127.0.0.1"), port).wit()
        made = TcpCreateSocket.create_tcp_socket(one, "ipv4")
        assert code_of(made.start_connect, NETWORK, target) == "access-denied", "not yet: nobody looked the name up"
        await found(IpNameLookup.resolve_addresses(one, NETWORK, "here.example"))
        other_port = Endpoint(ipaddress.ip_address("127.0.0.1"), port % 65535 + 1).wit()
        assert code_of(made.start_connect, NETWORK, other_port) == "access-denied"
        made.start_connect(NETWORK, target)
        await made.subscribe().block()
        made.finish_connect()
        another = TcpCreateSocket.create_tcp_socket(guest(f"here.example:{port}"), "ipv4")
        assert code_of(another.start_connect, NETWORK, target) == "access-denied", (
            "what one instance learned is its own"
        )
        one.end()


async def test_an_instance_remembers_only_so_many_addresses(monkeypatch):
    monkeypatch.setattr(network, "MOST_LEARNED", 2)
    sockets = guest("a.example:*").kept(Sockets)
    addresses = [ipaddress.ip_address(f"10.0.0.{number}") for number in range(3)]
    sockets.learn(addresses, sockets.named("a.example"))
    assert [sockets.allows(Endpoint(one, 1)) for one in addresses] == [False, True, True]


async def test_lookups_end_with_their_stream_and_with_the_instance(monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(lookup.socket, "getaddrinfo", lambda *_, **__: release.wait(10) and [])
    one = guest("*:*")
    streams = [IpNameLookup.resolve_addresses(one, NETWORK, f"n{number}.example") for number in range(3)]
    waiting = asyncio.create_task(streams[0].subscribe().block())
    await asyncio.sleep(0)
    streams[0].dropped()
    await waiting
    one.end()
    for stream in streams[1:]:
        await stream.subscribe().block()
        assert code_of(stream.resolve_next_address) == "temporary-resolver-failure"
    release.set()


async def test_an_instance_looks_up_only_so_many_names_at_a_time(monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(lookup.socket, "getaddrinfo", lambda *_, **__: release.wait(10) and [])
    monkeypatch.setattr(network, "MOST_LOOKUPS", 2)
    one = guest("*:*")
    streams = [IpNameLookup.resolve_addresses(one, NETWORK, "a.example") for _ in range(2)]
    assert code_of(IpNameLookup.resolve_addresses, one, NETWORK, "a.example") == "temporary-resolver-failure"
    release.set()
    for stream in streams:
        await stream.subscribe().block()
    IpNameLookup.resolve_addresses(one, NETWORK, "a.example")
    one.end()


async def test_the_real_resolver_knows_this_machine(monkeypatch):
    monkeypatch.undo()
    addresses = await found(IpNameLookup.resolve_addresses(guest("localhost:*"), NETWORK, "localhost"))
    assert wit("127.0.0.1") in addresses or wit("::1") in addresses
