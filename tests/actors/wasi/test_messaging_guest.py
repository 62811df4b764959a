"""A Python actor on wasmcloud:messaging: its records need no code of ours, on either side of the guest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import structlog

from actors.actor import Actor
from lattice import EntityId, Function, Invocation, WitError
from lattice.memory import MemoryBroker, MemoryTransport
from providers.link import link_between
from providers.messaging.nats import MessagingNats
from providers.testing import PROVIDER, running

pytestmark = pytest.mark.toolchain

ECHO = EntityId("echo")
HANDLE = Function("wasmcloud:messaging/handler", "handle-message")


@pytest.fixture
async def component(engine, python_guest):
    return await engine.load(python_guest)


@pytest.fixture
async def outside(component, deployed) -> AsyncIterator[MemoryTransport]:
    """Somebody else on the broker, where the actor is subscribed."""
    broker = MemoryBroker()
    provider = MessagingNats(broker.connect())
    actor: Actor
    links = [
        link_between(ECHO, PROVIDER, "wasmcloud:messaging/consumer"),
        link_between(
            PROVIDER, ECHO, "wasmcloud:messaging/handler", source_config={"subscriptions": "upper,ask,refuse"}
        ),
    ]
    async with running(provider, links, peer=lambda call: actor.handle(call)) as messaging:
        actor = deployed(ECHO, component, imports=messaging.runtime.handle)
        transport = broker.connect()
        yield transport
        await transport.close()


async def test_a_message_is_handled_and_answered(outside: MemoryTransport):
    answer = await outside.request("upper", b"hello", timeout=30)
    assert answer.data == b"HELLO"


async def test_a_request_of_the_guests_own_is_answered_by_others(outside: MemoryTransport):
    async def answer(message) -> None:
        await outside.publish(message.reply, b"42")

    await outside.subscribe("oracle", answer)
    asked = await outside.request("ask", b"oracle", timeout=30)
    assert asked.data.startswith(b"42 from _INBOX")


async def test_a_request_that_nobody_hears_is_an_error_the_guest_can_handle(outside: MemoryTransport):
    assert (await outside.request("ask", b"void", timeout=30)).data == b"error: nobody listens on void"


async def test_a_guest_cannot_reach_the_lattices_own_subjects(outside: MemoryTransport):
    asked = await outside.request("ask", b"wasmbus.ctl.v1.default.host.get", timeout=30)
    assert b"the lattice's own subject" in asked.data


async def test_what_the_guest_refuses_is_logged(outside: MemoryTransport):
    with structlog.testing.capture_logs() as events:
        await outside.publish("refuse", b"")
        async with asyncio.timeout(30):
            while not [e for e in events if e["event"] == "message.refused"]:
                await asyncio.sleep(0)
    [event] = [e for e in events if e["event"] == "message.refused"]
    assert event["error"] == "not today"


async def test_without_a_link_the_missing_one_is_named(component, deployed):
    assert component.needs_links() == ["wasmcloud:messaging/consumer", "demo:text/transform"]
    actor = deployed(ECHO, component)
    message = {"subject": "upper", "body": b"x", "reply-to": "back"}
    with pytest.raises(WitError, match="not linked to wasmcloud:messaging/consumer"):  # the guest passes it on
        await actor.handle(Invocation(ECHO, HANDLE, (message,)))


async def test_a_handlers_err_is_an_answer(component, deployed):
    actor = deployed(ECHO, component)
    message = {"subject": "refuse", "body": b"", "reply-to": None}
    with pytest.raises(WitError, match="not today"):
        await actor.handle(Invocation(ECHO, HANDLE, (message,)))
