"""A Python component with plain `socket`, over real sockets on the loopback."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable

import pytest
import structlog

from actors.actor import Actor
from actors.grants import Grants
from lattice import DeadlineExceeded, EntityId, Function, Invocation

pytestmark = pytest.mark.toolchain

RUN = Function("tests:guest/sockets", "run")


@pytest.fixture
def network(engine, deployed, python_guest) -> Callable[..., object]:
    async def load(*grants: str, **options: object) -> Actor:
        component = await engine.load(python_guest)
        return deployed(EntityId("networker"), component, grants=Grants(network=grants), **options)

    return load


async def run(actor: Actor, what: str, host: str = "127.0.0.1", port: int = 0, within: float = 60.0) -> str:
    deadline = time.monotonic() + within
    answer: str = await actor.handle(Invocation(actor.id, RUN, (what, host, port), deadline=deadline))
    return answer


def says(port: asyncio.Future[int]) -> Callable[..., None]:
    """What to do with the line in which a server in a guest says its port."""
    return lambda _invocation, _stream, line: port.set_result(int(line))


async def said(port: asyncio.Future[int], serving: asyncio.Task[str]) -> int:
    await asyncio.wait((port, serving), return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        pytest.fail(f"the server ended: {serving.result()}")
    return port.result()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(1 << 16):
        writer.write(chunk)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


async def test_a_python_program_talks_to_a_tcp_server(network):
    actor = await network("127.0.0.1:*")
    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await run(actor, "echo_client", port=port) == "hello world"
        assert await run(actor, "large_client", port=port) == f"{1 << 20} {1 << 20}"


async def test_a_granted_name_is_enough_to_connect(network):
    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        actor = await network(f"localhost:{port}")
        assert await run(actor, "echo_client", "localhost", port) == "hello world"
        assert "127.0.0.1" in await run(actor, "resolve", "LOCALHOST", port)
        assert "PermissionError" in await run(actor, "echo_client", "127.0.0.1", port)


async def test_a_python_program_is_a_tcp_server(network):
    ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    actor = await network("127.0.0.1:0", on_line=says(ready))
    serving = asyncio.create_task(run(actor, "echo_server"))
    reader, writer = await asyncio.open_connection("127.0.0.1", await said(ready, serving))
    for piece in (b"one", b"two"):
        writer.write(piece)
        assert await reader.readexactly(3) == piece.upper()
    writer.close()
    await writer.wait_closed()
    assert await serving == "served"


async def test_a_python_program_asks_and_answers_over_udp(network):
    ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    server = await network("127.0.0.1:*", on_line=says(ready))
    serving = asyncio.create_task(run(server, "udp_server"))
    port = await said(ready, serving)
    client = await network(f"127.0.0.1:{port}")
    assert await run(client, "udp_client", port=port) == "OVER HERE from 127.0.0.1"
    assert await serving == "served"


async def test_a_connected_udp_socket_works_too(network):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.setblocking(False)
        peer.bind(("127.0.0.1", 0))
        actor = await network("127.0.0.1:*")
        asking = asyncio.create_task(run(actor, "udp_connected", port=peer.getsockname()[1]))
        loop = asyncio.get_running_loop()
        data, sender = await loop.sock_recvfrom(peer, 100)
        await loop.sock_sendto(peer, data[::-1], sender)
        assert await asking == "detcennoc"


@pytest.mark.parametrize("what", ["echo_client", "echo_server", "udp_client", "udp_server"])
async def test_without_a_grant_python_raises_a_permission_error(network, what):
    actor = await network()
    with structlog.testing.capture_logs() as events:
        assert (await run(actor, what, port=80)).startswith("PermissionError")
    assert [event["grant"] for event in events if event["event"] == "guest.denied"]


async def test_a_refused_connection_is_what_python_calls_it(network):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        actor = await network("127.0.0.1:*")
        assert (await run(actor, "echo_client", port=taken.getsockname()[1])).startswith("ConnectionRefusedError")


async def test_a_guest_that_waits_for_the_network_ends_at_its_deadline_and_leaves_no_socket(network):
    ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    actor = await network("127.0.0.1:0", on_line=says(ready))
    serving = asyncio.create_task(run(actor, "echo_server", within=2.0))
    port = await said(ready, serving)
    with pytest.raises(DeadlineExceeded):
        await serving
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
