"""wasi:sockets/tcp, called as a guest would call it, against real sockets on the loopback."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import structlog

from actors.grants import Grants
from actors.guest import Guest
from actors.wasi.io import InputStream, IoError, OutputStream, Poll
from actors.wasi.sockets import network
from actors.wasi.sockets.network import Endpoint, InstanceNetwork, Network, Networks
from actors.wasi.sockets.tcp import LINGER, TcpCreateSocket, TcpSocket
from lattice import EntityId, Trap, Value, WitError
from lattice.streams import CHUNK

NETWORK = Network()
LOOPBACK = ("127.0.0.0/8:*", "[::1]:*")


def at(host: str, port: int) -> Value:
    return Endpoint(ipaddress.ip_address(host), port).wit()


def code_of(call: Any, *args: Any) -> Value:
    with pytest.raises(WitError) as answer:
        call(*args)
    return answer.value.payload


@pytest.fixture
async def guest() -> AsyncIterator[Guest]:
    made = Guest(EntityId("client"), grants=Grants(network=LOOPBACK))
    yield made
    made.end()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def tcp(guest: Guest, family: str = "ipv4") -> TcpSocket:
    return TcpCreateSocket.create_tcp_socket(guest, family)


def port_of(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


async def connected(
    guest: Guest, listener: socket.socket
) -> tuple[TcpSocket, InputStream, OutputStream, socket.socket]:
    """A guest's connection, and the other end of it."""
    made = tcp(guest)
    made.start_connect(NETWORK, at("127.0.0.1", port_of(listener)))
    await made.subscribe().block()
    incoming, outgoing = made.finish_connect()
    peer, _ = listener.accept()
    peer.settimeout(10)
    return made, incoming, outgoing, peer


def fill(made: TcpSocket, outgoing: OutputStream) -> int:
    """Write until there is no room, and then some that has to wait; gives the number of bytes."""
    made.set_send_buffer_size(4096)
    written = 0
    while (room := outgoing.check_write()) > 0:
        outgoing.write(bytes(room))
        written += room
    return written


async def listening(guest: Guest, family: str = "ipv4") -> tuple[TcpSocket, int]:
    made = tcp(guest, family)
    made.start_bind(NETWORK, at("127.0.0.1" if family == "ipv4" else "::1", 0))
    made.finish_bind()
    made.start_listen()
    made.finish_listen()
    ((_, fields),) = made.local_address().items()
    return made, fields["port"]


# -- a connection


async def test_a_client_says_something_and_hears_the_answer(guest, listener):
    made, incoming, outgoing, peer = await connected(guest, listener)
    assert outgoing.check_write() == CHUNK
    outgoing.write(b"hello")
    await outgoing.blocking_flush()
    assert peer.recv(100) == b"hello"
    assert incoming.read(100) == b""
    waiting = asyncio.create_task(Poll.poll(guest, [incoming.subscribe()]))
    await asyncio.sleep(0)
    assert not waiting.done()
    peer.sendall(b"goodbye")
    assert await waiting == [0]
    assert incoming.read(4) == b"good"
    assert incoming.read(100) == b"bye"
    assert made.remote_address() == at("127.0.0.1", port_of(listener))
    assert made.local_address() == at(*peer.getpeername())
    peer.close()
    assert code_of_closed(await ended(incoming))


async def ended(incoming: InputStream) -> Value:
    with pytest.raises(WitError) as answer:
        await incoming.blocking_read(10)
    return answer.value.payload


def code_of_closed(payload: Value) -> bool:
    return payload == "closed"


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
async def test_a_server_accepts_and_both_ends_are_guests(guest, family):
    server, port = await listening(guest, family)
    assert server.is_listening()
    assert server.address_family() == family
    assert code_of(server.accept) == "would-block"
    assert not server.subscribe().ready()
    waiting = asyncio.create_task(server.subscribe().block())
    await asyncio.sleep(0)
    client = tcp(guest, family)
    client.start_connect(NETWORK, at("127.0.0.1" if family == "ipv4" else "::1", port))
    await waiting
    accepted, incoming, _ = server.accept()
    await client.subscribe().block()
    _, outgoing = client.finish_connect()
    await outgoing.blocking_write_and_flush(b"hi")
    assert await incoming.blocking_read(10) == b"hi"
    assert accepted.local_address() == server.local_address()
    assert accepted.remote_address() == client.local_address()
    assert not accepted.is_listening()


async def test_a_write_waits_for_a_slow_reader_and_nothing_is_lost(guest, listener):
    made, _, outgoing, peer = await connected(guest, listener)
    written = fill(made, outgoing)
    assert not outgoing.subscribe().ready()
    flushing = asyncio.create_task(outgoing.blocking_flush())
    await asyncio.sleep(0)
    assert not flushing.done(), "what the system has no room for is not flushed"

    received = 0
    loop = asyncio.get_running_loop()
    peer.setblocking(False)
    while received < written:
        received += len(await loop.sock_recv(peer, CHUNK))
    await flushing
    await outgoing.subscribe().block()
    assert outgoing.check_write() == CHUNK


async def test_what_was_written_is_sent_though_the_guest_is_gone(guest, listener):
    made, incoming, outgoing, peer = await connected(guest, listener)
    written = fill(made, outgoing)
    for resource in (outgoing, incoming, made):
        resource.dropped()
    guest.end()
    loop = asyncio.get_running_loop()
    peer.setblocking(False)
    received = 0
    while chunk := await loop.sock_recv(peer, CHUNK):
        received += len(chunk)
    assert received == written
    assert LINGER < 30


async def test_a_guest_that_reads_slowly_slows_its_peer(guest, listener):
    _, incoming, _, peer = await connected(guest, listener)
    peer.setblocking(False)
    sent = 0
    with pytest.raises(BlockingIOError):
        for _ in range(1000):
            sent += peer.send(bytes(CHUNK))
    received = 0
    while received < sent:
        received += len(await incoming.blocking_read(CHUNK))
    await asyncio.get_running_loop().sock_sendall(peer, b"more")
    assert await incoming.blocking_read(10) == b"more"


async def test_shutting_down_one_direction_leaves_the_other(guest, listener):
    made, incoming, outgoing, peer = await connected(guest, listener)
    made.shutdown("send")
    assert peer.recv(10) == b""
    assert code_of(outgoing.check_write) == "closed"
    assert code_of(outgoing.flush) == "closed"
    peer.sendall(b"still")
    assert await incoming.blocking_read(10) == b"still"
    made.shutdown("receive")
    assert code_of(incoming.read, 10) == "closed"
    made.shutdown("both")


async def test_bytes_written_before_a_shutdown_arrive_before_the_end(guest, listener):
    made, _, outgoing, peer = await connected(guest, listener)
    written = fill(made, outgoing)
    made.shutdown("send")
    peer.setblocking(False)
    received = 0
    while chunk := await asyncio.get_running_loop().sock_recv(peer, CHUNK):
        received += len(chunk)
    assert received == written


async def test_a_reset_is_an_error_with_a_network_code(guest, listener):
    _, incoming, outgoing, peer = await connected(guest, listener)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    payload = await ended(incoming)
    error = payload["last-operation-failed"]
    assert Networks.network_error_code(guest, error) == "connection-reset"
    assert "reset" in error.to_debug_string()
    assert await ended(incoming) == "closed"
    with pytest.raises(WitError):
        while True:
            await outgoing.blocking_write_and_flush(b"x")
    assert code_of(outgoing.check_write) == "closed"


async def test_other_errors_have_no_network_code(guest):
    assert Networks.network_error_code(guest, IoError("broken")) is None


async def test_nobody_listening_is_connection_refused_and_the_socket_is_spent(guest):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        made = tcp(guest)
        made.start_connect(NETWORK, at("127.0.0.1", port_of(taken)))
        await made.subscribe().block()
        assert code_of(made.finish_connect) == "connection-refused"
    assert code_of(made.finish_connect) == "not-in-progress"
    assert code_of(made.start_connect, NETWORK, at("127.0.0.1", 1)) == "invalid-state"
    assert code_of(made.hop_limit) == "invalid-state"
    assert made.subscribe().ready()


# -- the state machine


async def test_what_an_unbound_socket_cannot_do(guest):
    made = tcp(guest)
    assert code_of(made.finish_bind) == "not-in-progress"
    assert code_of(made.finish_connect) == "not-in-progress"
    assert code_of(made.finish_listen) == "not-in-progress"
    for call in (made.start_listen, made.accept, made.local_address, made.remote_address):
        assert code_of(call) == "invalid-state"
    assert code_of(made.shutdown, "both") == "invalid-state"
    assert not made.is_listening()
    assert made.subscribe().ready()


async def test_what_a_socket_that_binds_cannot_do(guest):
    made = tcp(guest)
    made.start_bind(NETWORK, at("127.0.0.1", 0))
    assert code_of(made.start_bind, NETWORK, at("127.0.0.1", 0)) == "concurrency-conflict"
    for call in (made.start_listen, made.accept, made.local_address, made.remote_address):
        assert code_of(call) == "invalid-state"
    assert code_of(made.start_connect, NETWORK, at("127.0.0.1", 1)) == "invalid-state"
    made.finish_bind()
    assert code_of(made.finish_bind) == "not-in-progress"
    assert code_of(made.start_bind, NETWORK, at("127.0.0.1", 0)) == "invalid-state"
    assert made.local_address()["ipv4"]["port"] > 0


async def test_what_a_listening_socket_cannot_do(guest):
    made, _ = await listening(guest)
    assert code_of(made.start_listen) == "invalid-state"
    assert code_of(made.finish_listen) == "not-in-progress"
    assert code_of(made.remote_address) == "invalid-state"
    assert code_of(made.start_bind, NETWORK, at("127.0.0.1", 0)) == "invalid-state"
    assert code_of(made.start_connect, NETWORK, at("127.0.0.1", 1)) == "invalid-state"
    assert code_of(made.shutdown, "send") == "invalid-state"


async def test_listening_is_started_once(guest):
    made = tcp(guest)
    made.start_bind(NETWORK, at("127.0.0.1", 0))
    made.finish_bind()
    made.start_listen()
    assert code_of(made.start_listen) == "concurrency-conflict"
    assert code_of(made.accept) == "invalid-state"
    made.finish_listen()


async def test_what_a_connecting_and_a_connected_socket_cannot_do(guest, listener):
    made = tcp(guest)
    target = at("127.0.0.1", port_of(listener))
    made.start_connect(NETWORK, target)
    assert code_of(made.start_connect, NETWORK, target) == "concurrency-conflict"
    assert code_of(made.shutdown, "both") == "concurrency-conflict"
    assert code_of(made.hop_limit) == "invalid-state"
    assert code_of(made.local_address) == "invalid-state"
    await made.subscribe().block()
    made.finish_connect()
    assert code_of(made.finish_connect) == "not-in-progress"
    assert code_of(made.start_connect, NETWORK, target) == "invalid-state"
    assert code_of(made.start_bind, NETWORK, at("127.0.0.1", 0)) == "invalid-state"
    assert code_of(made.start_listen) == "invalid-state"
    assert code_of(made.accept) == "invalid-state"
    assert code_of(made.set_listen_backlog_size, 5) == "invalid-state"


async def test_a_connect_that_takes_time_would_block_and_can_be_dropped(guest):
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [tcp(guest) for _ in range(8)]
        codes = set()
        for made in waiting:
            made.start_connect(NETWORK, at("127.0.0.1", port_of(full)))
            try:
                made.finish_connect()
            except WitError as error:
                codes.add(error.payload)
        assert codes == {"would-block"}
        polling = asyncio.create_task(waiting[-1].subscribe().block())
        await asyncio.sleep(0)
        assert not polling.done()
        waiting[-1].dropped()
        await polling


async def test_a_bound_socket_connects_from_where_it_is_bound(guest, listener):
    made = tcp(guest)
    made.start_bind(NETWORK, at("127.0.0.2", 0))
    made.finish_bind()
    local = made.local_address()
    made.start_connect(NETWORK, at("127.0.0.1", port_of(listener)))
    await made.subscribe().block()
    made.finish_connect()
    peer, name = listener.accept()
    peer.close()
    assert at(*name) == local


# -- arguments


@pytest.mark.parametrize(
    ("family", "host", "port"),
    [
        ("ipv4", "::1", 80),
        ("ipv6", "127.0.0.1", 80),
        ("ipv6", "::ffff:127.0.0.1", 80),
        ("ipv6", "::127.0.0.1", 80),
        ("ipv4", "0.0.0.0", 80),
        ("ipv6", "::", 80),
        ("ipv4", "127.0.0.1", 0),
        ("ipv4", "224.0.0.1", 80),
        ("ipv4", "255.255.255.255", 80),
        ("ipv6", "ff02::1", 80),
    ],
)
async def test_an_address_that_nobody_can_have_is_an_invalid_argument(guest, family, host, port):
    assert code_of(tcp(guest, family).start_connect, NETWORK, at(host, port)) == "invalid-argument"


@pytest.mark.parametrize(
    ("family", "host"), [("ipv4", "::1"), ("ipv6", "::ffff:127.0.0.1"), ("ipv4", "224.0.0.1"), ("ipv6", "ff02::1")]
)
async def test_nobody_binds_to_a_group_or_to_another_family(guest, family, host):
    assert code_of(tcp(guest, family).start_bind, NETWORK, at(host, 0)) == "invalid-argument"


async def test_a_taken_port_and_an_address_of_another_machine():
    guest = Guest(EntityId("server"), grants=Grants(network=("*:*",)))
    _, port = await listening(guest)
    made = tcp(guest)
    assert code_of(made.start_bind, NETWORK, at("127.0.0.1", port)) == "address-in-use"
    assert code_of(made.start_bind, NETWORK, at("192.0.2.1", port)) == "address-not-bindable"
    made.start_bind(NETWORK, at("127.0.0.1", 0))
    guest.end()


async def test_every_option_can_be_set_and_read(guest):
    for family in ("ipv4", "ipv6"):
        made = tcp(guest, family)
        assert made.keep_alive_enabled() is False
        made.set_keep_alive_enabled(True)
        assert made.keep_alive_enabled() is True
        made.set_keep_alive_idle_time(90 * 10**9)
        assert made.keep_alive_idle_time() == 90 * 10**9
        made.set_keep_alive_interval(1)
        assert made.keep_alive_interval() == 10**9, "less than a second is a second"
        made.set_keep_alive_count(2**32 - 1)
        assert made.keep_alive_count() == 127
        made.set_hop_limit(42)
        assert made.hop_limit() == 42
        made.set_receive_buffer_size(10_000)
        assert made.receive_buffer_size() == 10_000
        made.set_send_buffer_size(2**64 - 1)
        assert made.send_buffer_size() >= 10_000
        made.set_listen_backlog_size(2**64 - 1)
        assert made.address_family() == family


async def test_zero_is_no_value_for_an_option(guest):
    made = tcp(guest)
    for setter in (
        made.set_keep_alive_idle_time,
        made.set_keep_alive_interval,
        made.set_keep_alive_count,
        made.set_hop_limit,
        made.set_receive_buffer_size,
        made.set_send_buffer_size,
        made.set_listen_backlog_size,
    ):
        assert code_of(setter, 0) == "invalid-argument"


async def test_accepted_connections_have_the_listeners_options(guest):
    server = tcp(guest)
    server.set_hop_limit(7)
    server.set_keep_alive_enabled(True)
    server.set_keep_alive_idle_time(33 * 10**9)
    server.start_bind(NETWORK, at("127.0.0.1", 0))
    server.finish_bind()
    server.start_listen()
    server.finish_listen()
    server.set_listen_backlog_size(5)
    with socket.create_connection(("127.0.0.1", server.local_address()["ipv4"]["port"])):
        await server.subscribe().block()
        accepted, _, _ = server.accept()
        assert accepted.hop_limit() == 7
        assert accepted.keep_alive_enabled() is True
        assert accepted.keep_alive_idle_time() == 33 * 10**9


# -- grants


@pytest.mark.parametrize("grants", [(), ("example.com:*",), ("127.0.0.1:81",), ("127.0.0.2:*", "[::1]:*")])
async def test_what_is_not_granted_is_denied_and_the_event_names_the_grant(grants):
    guest = Guest(EntityId("client"), grants=Grants(network=grants))
    made = tcp(guest)
    with structlog.testing.capture_logs() as events:
        assert code_of(made.start_connect, NETWORK, at("127.0.0.1", 80)) == "access-denied"
    [event] = events
    assert event == {
        "event": "guest.denied",
        "log_level": "warning",
        "actor": "client",
        "interface": "wasi:sockets/tcp",
        "function": "start-connect",
        "grant": 'the network grant "127.0.0.1:80"',
    }
    with structlog.testing.capture_logs() as events:
        assert code_of(made.start_bind, NETWORK, at("0.0.0.0", 0)) == "access-denied"
    assert [event["grant"] for event in events] == ['the network grant "0.0.0.0:0"']
    guest.end()


async def test_the_grant_that_an_event_names_is_the_one_that_helps():
    guest = Guest(EntityId("client"))
    with structlog.testing.capture_logs() as events:
        assert code_of(tcp(guest, "ipv6").start_bind, NETWORK, at("::1", 0)) == "access-denied"
    pattern = events[0]["grant"].split('"')[1]
    assert pattern == "[::1]:0"
    helped = Guest(EntityId("client"), grants=Grants(network=(pattern,)))
    tcp(helped, "ipv6").start_bind(NETWORK, at("::1", 0))
    helped.end()


async def test_without_a_grant_there_is_no_socket_of_the_system(monkeypatch):
    monkeypatch.setattr(network.socket, "socket", pytest.fail)
    made = tcp(Guest(EntityId("client")))
    with structlog.testing.capture_logs() as events:
        assert code_of(made.set_hop_limit, 5) == "access-denied"
        assert code_of(made.start_connect, NETWORK, at("127.0.0.1", 80)) == "access-denied"
    assert len(events) == 2


async def test_a_grant_that_is_no_pattern_traps_with_a_sentence():
    with pytest.raises(Trap, match='"client" has a network grant that cannot be used: .*HOST:PORT'):
        tcp(Guest(EntityId("client"), grants=Grants(network=("example.com",))))


# -- ends


async def test_everything_is_closed_when_the_instance_ends(guest, listener):
    made, incoming, outgoing, peer = await connected(guest, listener)
    server, port = await listening(guest)
    waiting = asyncio.create_task(Poll.poll(guest, [incoming.subscribe(), server.subscribe()]))
    await asyncio.sleep(0)
    guest.end()
    assert await waiting == [0, 1]
    assert peer.recv(10) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    for resource in (made, incoming, outgoing, server):
        resource.dropped()


async def test_a_connection_lives_until_socket_and_streams_are_dropped(guest, listener):
    made, incoming, outgoing, peer = await connected(guest, listener)
    made.dropped()
    await outgoing.blocking_write_and_flush(b"a")
    assert peer.recv(10) == b"a"
    incoming.dropped()
    await outgoing.blocking_write_and_flush(b"b")
    assert peer.recv(10) == b"b"
    outgoing.dropped()
    assert peer.recv(10) == b""


async def test_an_instance_has_so_many_sockets_and_no_more(guest, monkeypatch):
    monkeypatch.setattr(network, "MOST_SOCKETS", 3)
    server, port = await listening(guest)
    others = [tcp(guest), tcp(guest)]
    assert code_of(tcp, guest) == "new-socket-limit"
    with socket.create_connection(("127.0.0.1", port)):
        await server.subscribe().block()
        assert code_of(server.accept) == "new-socket-limit"
        others.pop().dropped()
        accepted, _, _ = server.accept()
        accepted.dropped()
        assert code_of(server.accept) == "would-block"


async def test_the_systems_own_limit_is_the_same_error(guest, monkeypatch):
    def none_left(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(network.socket, "socket", none_left)
    assert code_of(tcp(guest).start_bind, NETWORK, at("127.0.0.1", 0)) == "new-socket-limit"


def test_every_error_of_the_system_becomes_a_code_of_the_wit():
    known = {
        *("unknown", "access-denied", "not-supported", "invalid-argument", "out-of-memory", "timeout"),
        *("concurrency-conflict", "not-in-progress", "would-block", "invalid-state", "new-socket-limit"),
        *("address-not-bindable", "address-in-use", "remote-unreachable", "connection-refused", "connection-reset"),
        *("connection-aborted", "datagram-too-large", "name-unresolvable", "temporary-resolver-failure"),
        "permanent-resolver-failure",
    }
    assert {network.error_code(number) for number in [*errno.errorcode, None]} <= known


def test_there_is_one_network():
    assert isinstance(InstanceNetwork.instance_network(Guest(EntityId("client"))), Network)
