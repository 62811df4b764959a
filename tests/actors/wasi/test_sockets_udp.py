"""wasi:sockets/udp, called as a guest would call it, against real sockets on the loopback."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import structlog

from actors.grants import Grants
from actors.guest import Guest
from actors.wasi.sockets import network
from actors.wasi.sockets.network import Endpoint, Network
from actors.wasi.sockets.udp import AT_ONCE, IncomingDatagramStream, OutgoingDatagramStream, UdpCreateSocket, UdpSocket
from lattice import EntityId, Trap, Value, WitError

NETWORK = Network()


def at(host: str, port: int) -> Value:
    return Endpoint(ipaddress.ip_address(host), port).wit()


def code_of(call: Any, *args: Any) -> Value:
    with pytest.raises(WitError) as answer:
        call(*args)
    return answer.value.payload


def datagram(data: bytes, to: Value = None) -> Value:
    return {"data": data, "remote-address": to}


@pytest.fixture
async def guest() -> AsyncIterator[Guest]:
    made = Guest(EntityId("client"), grants=Grants(network=("127.0.0.0/8:*", "[::1]:*")))
    yield made
    made.end()


@pytest.fixture
def peer() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind(("127.0.0.1", 0))
        made.settimeout(10)
        yield made


def udp(guest: Guest, family: str = "ipv4") -> UdpSocket:
    return UdpCreateSocket.create_udp_socket(guest, family)


def bound(guest: Guest, host: str = "127.0.0.1", family: str = "ipv4") -> UdpSocket:
    made = udp(guest, family)
    made.start_bind(NETWORK, at(host, 0))
    made.finish_bind()
    return made


def name_of(made: UdpSocket) -> tuple[str, int]:
    host, port, *_ = Endpoint.of(made.local_address()).name()
    return host, port


async def received(incoming: IncomingDatagramStream) -> list[Value]:
    await incoming.subscribe().block()
    return incoming.receive(100)


def send(outgoing: OutgoingDatagramStream, *datagrams: Value) -> int:
    assert outgoing.check_send() >= len(datagrams)
    return outgoing.send(list(datagrams))


async def test_datagrams_go_to_and_come_from_anybody_that_is_granted(guest, peer):
    made = bound(guest)
    incoming, outgoing = made.stream(None)
    assert incoming.receive(10) == []
    assert not incoming.subscribe().ready()
    assert send(outgoing, datagram(b"one", at(*peer.getsockname())), datagram(b"", at(*peer.getsockname()))) == 2
    assert peer.recvfrom(100) == (b"one", name_of(made))
    assert peer.recvfrom(100) == (b"", name_of(made))
    waiting = asyncio.create_task(incoming.subscribe().block())
    await asyncio.sleep(0)
    assert not waiting.done()
    peer.sendto(b"two", name_of(made))
    await waiting
    assert incoming.receive(10) == [{"data": b"two", "remote-address": at(*peer.getsockname())}]
    assert code_of(made.remote_address) == "invalid-state"


async def test_ipv6_works_as_ipv4_does(guest):
    one, other = bound(guest, "::1", "ipv6"), bound(guest, "::1", "ipv6")
    assert one.address_family() == "ipv6"
    incoming, _ = other.stream(None)
    _, outgoing = one.stream(None)
    assert send(outgoing, datagram(b"x" * 1000, other.local_address())) == 1
    [one_datagram] = await received(incoming)
    assert one_datagram == {"data": b"x" * 1000, "remote-address": one.local_address()}


async def test_a_stream_with_an_address_hears_and_speaks_to_that_one_only(guest, peer):
    made = bound(guest)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.sendto(b"before", name_of(made))
        incoming, outgoing = made.stream(at(*peer.getsockname()))
        stranger.sendto(b"after", name_of(made))
        peer.sendto(b"mine", name_of(made))
        assert [one["data"] for one in await received(incoming)] in ([b"mine"], [])
        assert made.remote_address() == at(*peer.getsockname())
        assert send(outgoing, datagram(b"a"), datagram(b"b", at(*peer.getsockname()))) == 2
        assert code_of(send, outgoing, datagram(b"c", at(*stranger.getsockname()))) == "invalid-argument"
        assert send(outgoing, datagram(b"d"), datagram(b"e", at(*stranger.getsockname()))) == 1
    assert [peer.recv(10) for _ in range(3)] == [b"a", b"b", b"d"]


async def test_the_address_can_be_changed_and_dissolved(guest, peer):
    made = bound(guest)
    local = made.local_address()
    made.set_unicast_hop_limit(9)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as second:
        second.bind(("127.0.0.1", 0))
        second.settimeout(10)
        for target in (peer, second):
            incoming, outgoing = made.stream(at(*target.getsockname()))
            send(outgoing, datagram(b"hi"))
            assert target.recv(10) == b"hi"
            incoming.dropped()
            outgoing.dropped()
        incoming, _ = made.stream(None)
        assert made.local_address() == local
        assert made.unicast_hop_limit() == 9
        assert code_of(made.remote_address) == "invalid-state"
        peer.sendto(b"anybody", name_of(made))
        assert [one["data"] for one in await received(incoming)] == [b"anybody"]


async def test_streams_must_be_dropped_before_there_are_others(guest):
    made = bound(guest)
    incoming, outgoing = made.stream(None)
    with pytest.raises(Trap, match="streams of the last call"):
        made.stream(None)
    incoming.dropped()
    with pytest.raises(Trap):
        made.stream(None)
    outgoing.dropped()
    made.stream(None)


async def test_what_nobody_answers_is_connection_refused_at_the_next_look(guest):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
        gone.bind(("127.0.0.1", 0))
        address = at(*gone.getsockname())
    incoming, outgoing = bound(guest).stream(address)
    assert send(outgoing, datagram(b"x")) == 1
    await incoming.subscribe().block()
    assert code_of(incoming.receive, 1) == "connection-refused"


async def test_a_receive_gives_as_many_as_asked_and_never_too_many(guest, peer):
    made = bound(guest)
    incoming, _ = made.stream(None)
    for number in range(AT_ONCE + 4):
        peer.sendto(bytes([number]), name_of(made))
    await incoming.subscribe().block()
    assert incoming.receive(0) == []
    assert [one["data"] for one in incoming.receive(2)] == [b"\0", b"\1"]
    assert len(incoming.receive(2**64 - 1)) == AT_ONCE
    assert len(incoming.receive(2**64 - 1)) == 2


async def test_sending_more_than_permitted_traps(guest, peer):
    _, outgoing = bound(guest).stream(None)
    one = datagram(b"x", at(*peer.getsockname()))
    with pytest.raises(Trap, match="check-send permitted 0"):
        outgoing.send([one])
    assert outgoing.check_send() == AT_ONCE
    with pytest.raises(Trap, match=f"check-send permitted {AT_ONCE}"):
        outgoing.send([one] * (AT_ONCE + 1))
    assert outgoing.check_send() == AT_ONCE
    assert outgoing.send([]) == 0


async def test_a_full_system_is_waited_for(guest, peer, monkeypatch):
    _, outgoing = bound(guest).stream(at(*peer.getsockname()))
    port = outgoing._port

    class Full:
        def send(self, data: bytes) -> int:
            raise BlockingIOError

    monkeypatch.setattr(port.ready, "socket", Full())
    monkeypatch.setattr(type(port.ready), "writable", lambda _: False)
    assert send(outgoing, datagram(b"x")) == 0
    assert outgoing.check_send() == 0
    assert not outgoing.subscribe().ready()
    monkeypatch.undo()
    await outgoing.subscribe().block()
    assert send(outgoing, datagram(b"x")) == 1
    assert peer.recv(10) == b"x"


async def test_datagrams_that_cannot_be(guest, peer):
    _, outgoing = bound(guest).stream(None)
    target = at(*peer.getsockname())
    assert code_of(send, outgoing, datagram(bytes(70_000), target)) == "datagram-too-large"
    assert code_of(send, outgoing, datagram(bytes(65_530), target)) == "datagram-too-large"
    assert code_of(send, outgoing, datagram(b"x")) == "invalid-argument"
    for wrong in (at("::1", 5), at("127.0.0.1", 0), at("0.0.0.0", 5)):
        assert code_of(send, outgoing, datagram(b"x", wrong)) == "invalid-argument"


async def test_the_state_machine(guest, peer):
    made = udp(guest)
    target = at(*peer.getsockname())
    assert code_of(made.finish_bind) == "not-in-progress"
    for call, *args in ((made.stream, None), (made.stream, target), (made.local_address,), (made.remote_address,)):
        assert code_of(call, *args) == "invalid-state"
    made.start_bind(NETWORK, at("127.0.0.1", 0))
    assert code_of(made.start_bind, NETWORK, at("127.0.0.1", 0)) == "concurrency-conflict"
    assert code_of(made.stream, None) == "invalid-state"
    assert code_of(made.local_address) == "invalid-state"
    made.finish_bind()
    assert code_of(made.finish_bind) == "not-in-progress"
    assert code_of(made.start_bind, NETWORK, at("127.0.0.1", 0)) == "invalid-state"
    for wrong in (at("::1", 5), at("127.0.0.1", 0), at("0.0.0.0", 5)):
        assert code_of(made.stream, wrong) == "invalid-argument"
    assert made.subscribe().ready()
    await made.subscribe().block()
    assert code_of(udp(guest, "ipv6").start_bind, NETWORK, at("127.0.0.1", 0)) == "invalid-argument"
    taken = Endpoint.of(made.local_address())
    assert code_of(udp(guest).start_bind, NETWORK, taken.wit()) == "address-in-use"


async def test_every_option_can_be_set_and_read(guest):
    for family in ("ipv4", "ipv6"):
        made = udp(guest, family)
        made.set_unicast_hop_limit(12)
        assert made.unicast_hop_limit() == 12
        made.set_receive_buffer_size(20_000)
        assert made.receive_buffer_size() == 20_000
        made.set_send_buffer_size(30_000)
        assert made.send_buffer_size() == 30_000
        for setter in (made.set_unicast_hop_limit, made.set_receive_buffer_size, made.set_send_buffer_size):
            assert code_of(setter, 0) == "invalid-argument"


# -- grants


async def test_a_client_needs_no_grant_to_be_somewhere_but_hears_only_whom_it_may_ask(peer):
    guest = Guest(EntityId("client"), grants=Grants(network=(f"127.0.0.1:{peer.getsockname()[1]}",)))
    made = bound(guest, "0.0.0.0")
    _, port = name_of(made)
    incoming, outgoing = made.stream(None)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.sendto(b"psst", ("127.0.0.1", port))
        with structlog.testing.capture_logs() as events:
            denied = datagram(b"x", at(*stranger.getsockname()))
            assert code_of(send, outgoing, denied) == "access-denied"
        assert [event["grant"] for event in events] == [f'the network grant "127.0.0.1:{stranger.getsockname()[1]}"']
    assert send(outgoing, datagram(b"ask", at(*peer.getsockname()))) == 1
    assert peer.recv(10) == b"ask"
    peer.sendto(b"answer", ("127.0.0.1", port))
    heard: list[bytes] = []
    while not heard:
        heard += [one["data"] for one in await received(incoming)]
    assert heard == [b"answer"]
    guest.end()


async def test_what_is_not_granted_is_denied():
    guest = Guest(EntityId("client"), grants=Grants(network=("127.0.0.1:53",)))
    with structlog.testing.capture_logs() as events:
        assert code_of(udp(guest).start_bind, NETWORK, at("127.0.0.1", 0)) == "access-denied"
        assert code_of(udp(guest).start_bind, NETWORK, at("0.0.0.0", 53)) == "access-denied"
        assert code_of(bound(guest, "0.0.0.0").stream, at("127.0.0.1", 54)) == "access-denied"
    assert [(event["function"], event["grant"]) for event in events] == [
        ("start-bind", 'the network grant "127.0.0.1:0"'),
        ("start-bind", 'the network grant "0.0.0.0:53"'),
        ("stream", 'the network grant "127.0.0.1:54"'),
    ]
    nothing = Guest(EntityId("client"))
    with structlog.testing.capture_logs() as events:
        assert code_of(udp(nothing).start_bind, NETWORK, at("0.0.0.0", 0)) == "access-denied"
    assert len(events) == 1
    guest.end()


async def test_everything_is_closed_when_dropped_or_when_the_instance_ends(guest):
    made, other = bound(guest), bound(guest)
    incoming, outgoing = made.stream(None)
    sockets = [incoming._port.ready, other._port.ready]
    made.dropped()
    outgoing.dropped()
    assert not sockets[0].closed
    incoming.dropped()
    assert sockets[0].closed
    guest.end()
    assert sockets[1].closed
    other.dropped()


async def test_udp_sockets_count_as_sockets(guest, monkeypatch):
    monkeypatch.setattr(network, "MOST_SOCKETS", 1)
    made = udp(guest)
    assert code_of(udp, guest) == "new-socket-limit"
    made.dropped()
    udp(guest)
