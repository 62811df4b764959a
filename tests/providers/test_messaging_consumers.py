"""JetStream consumers: no message is lost, none is forgotten, and what nobody can handle is put aside."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from servers import Broker

from lattice import BadInput, Busy, DeadlineExceeded, Invocation, Trap, Unreachable, Value, WitError
from lattice.jetstream import JetStream
from lattice.nats_transport import NatsTransport, connect
from providers.link import LinkRecord, link_between
from providers.messaging import consumer as consumers
from providers.messaging.nats import MessagingNats
from providers.testing import PROVIDER, running

pytestmark = pytest.mark.nats


class Peer:
    """The actor: fails as told, then handles what comes."""

    def __init__(self, *fails: BaseException) -> None:
        self.fails = list(fails)
        self.calls: asyncio.Queue[Invocation] = asyncio.Queue()
        self.gate: asyncio.Event | None = None
        self.inside = 0

    async def __call__(self, invocation: Invocation) -> Value:
        self.calls.put_nowait(invocation)
        self.inside += 1
        try:
            if self.gate is not None:
                await self.gate.wait()
            if self.fails:
                raise self.fails.pop(0)
        finally:
            self.inside -= 1

    async def bodies(self, count: int) -> list[bytes]:
        async with asyncio.timeout(10):
            return [(await self.calls.get()).args[0]["body"] for _ in range(count)]


class Stream:
    """A stream of the test's own, with a second one for dead letters."""

    def __init__(self, transport: NatsTransport, name: str) -> None:
        self.jetstream = JetStream(transport)
        self.name = name
        self.dead = f"{name}-dead"

    async def make(self) -> None:
        for name in (self.name, self.dead):
            body = {"name": name, "subjects": [f"{name}.>"], "storage": "memory"}
            await self.jetstream.ask(f"STREAM.CREATE.{name}", body)

    async def put(self, *bodies: bytes, subject: str = "a", headers: dict[str, str] | None = None) -> None:
        for body in bodies:
            await self.jetstream.publish(f"{self.name}.{subject}", body, headers)

    def link(self, target: str = "actor", **more: Any) -> LinkRecord:
        wanted = {"stream": self.name, "consumer": "c", "retry_ms": 1, **more}
        config = {"consumers": json.dumps([wanted])}
        return link_between(PROVIDER, target, "wasmcloud:messaging/handler", source_config=config)

    async def info(self) -> dict[str, Any]:
        return await self.jetstream.ask(f"CONSUMER.INFO.{self.name}.c")

    async def acknowledged(self, count: int) -> None:
        """Wait until the first `count` messages are done with."""
        async with asyncio.timeout(10):
            while (info := await self.info())["ack_floor"]["stream_seq"] < count or info["num_ack_pending"]:
                pass

    async def letters(self) -> list[Any]:
        return [d.message async for d in self.jetstream.walk(self.dead, f"{self.dead}.>")]


@pytest.fixture
async def stream(nats: NatsTransport, lattice_name: str) -> AsyncIterator[Stream]:
    made = Stream(nats, lattice_name)
    await made.make()
    yield made
    for name in (made.name, made.dead):
        await made.jetstream.ask(f"STREAM.DELETE.{name}")


async def test_what_was_published_before_and_after_is_handled_and_acknowledged(nats, stream):
    peer = Peer()
    await stream.put(b"1", b"2")
    async with running(MessagingNats(nats), [stream.link()], peer=peer):
        assert sorted(await peer.bodies(2)) == [b"1", b"2"]
        await stream.put(b"3", headers={"traceparent": "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"})
        async with asyncio.timeout(5):
            call = await peer.calls.get()
        assert call.args[0] == {"subject": f"{stream.name}.a", "body": b"3", "reply-to": None}
        assert call.trace["traceparent"][3:35] == "ab" * 16
        await stream.acknowledged(3)
    async with running(MessagingNats(nats), [stream.link()], peer=peer):
        await stream.put(b"4")
        assert await peer.bodies(1) == [b"4"], "what is acknowledged does not come again"


@pytest.mark.parametrize("error", [WitError("no"), Trap("unreachable executed"), DeadlineExceeded("too slow")])
async def test_a_message_that_the_actor_fails_at_comes_again(nats, stream, error):
    peer = Peer(error, error)
    await stream.put(b"1")
    async with running(MessagingNats(nats), [stream.link()], peer=peer):
        assert await peer.bodies(3) == [b"1"] * 3
        await stream.acknowledged(1)
    assert await stream.letters() == []


async def test_what_fails_too_often_becomes_a_dead_letter_that_says_why(nats, stream):
    peer = Peer(WitError("no\nthanks"), WitError("no\nthanks"))
    await stream.put(b"bad", subject="orders", headers={"Kind": "order"})
    link = stream.link(max_deliver=2, dead_letter=f"{stream.dead}.x")
    with structlog.testing.capture_logs() as events:
        async with running(MessagingNats(nats), [link], peer=peer):
            assert await peer.bodies(2) == [b"bad", b"bad"]
            await stream.put(b"good")
            assert await peer.bodies(1) == [b"good"]
            await stream.acknowledged(2)
    [letter] = await stream.letters()
    assert (letter.subject, letter.data) == (f"{stream.dead}.x", b"bad")
    assert letter.headers["Kind"] == "order"
    assert letter.headers["Trellis-Subject"] == f"{stream.name}.orders"
    assert letter.headers["Trellis-Reason"] == "no thanks"
    [given_up] = [event for event in events if event["event"] == "message.given_up"]
    assert (given_up["times"], given_up["actor"]) == (2, "actor")


async def test_a_dead_letter_that_finds_no_room_waits_until_there_is_some(nats, stream):
    full = {"name": stream.dead, "subjects": [f"{stream.dead}.>"], "storage": "memory", "discard": "new"}
    await stream.jetstream.ask(f"STREAM.UPDATE.{stream.dead}", {**full, "max_bytes": 1000})
    await stream.jetstream.publish(f"{stream.dead}.x", bytes(500))
    peer = Peer(WitError("no"))
    await stream.put(bytes(800))
    with structlog.testing.capture_logs() as events:
        async with running(
            MessagingNats(nats), [stream.link(max_deliver=1, dead_letter=f"{stream.dead}.y")], peer=peer
        ):
            async with asyncio.timeout(5):
                while not any(event["event"] == "message.not_buried" for event in events):
                    await asyncio.sleep(0.01)
            assert (await stream.info())["num_ack_pending"] == 1, "it is not lost"


async def test_without_a_place_for_dead_letters_they_are_logged_and_gone(nats, stream):
    await stream.put(b"1")
    async with running(MessagingNats(nats), [stream.link(max_deliver=1)], peer=Peer(WitError("no"))):
        await stream.acknowledged(1)


@pytest.mark.parametrize("error", [Unreachable("nobody is there"), Busy("full")])
async def test_an_actor_that_is_away_costs_no_message_its_tries(nats, stream, error):
    peer = Peer(*[error] * 3)
    await stream.put(b"1")
    async with running(MessagingNats(nats), [stream.link(max_deliver=1)], peer=peer):
        assert await peer.bodies(4) == [b"1"] * 4
        await stream.acknowledged(1)
        assert (await stream.info())["num_redelivered"] == 0


async def test_a_message_that_takes_long_stays_with_the_one_who_has_it(nats, stream):
    peer = Peer()
    peer.gate = asyncio.Event()
    await stream.put(b"slow")
    links = [stream.link(ack_wait_ms=100)]
    async with running(MessagingNats(nats), links, peer=peer), running(MessagingNats(nats), links, peer=peer):
        assert await peer.bodies(1) == [b"slow"]
        await asyncio.sleep(0.3)  # three times as long as the server waits for a sign of life
        peer.gate.set()
        await stream.acknowledged(1)
    assert peer.calls.empty()


async def test_what_a_leaving_provider_cannot_finish_another_one_gets_at_once(nats, stream):
    peer = Peer()
    peer.gate = asyncio.Event()
    await stream.put(b"1")
    async with running(MessagingNats(nats), [stream.link()], peer=peer, grace=0.05):
        await peer.bodies(1)
    peer.gate = None
    async with running(MessagingNats(nats), [stream.link()], peer=peer):
        assert await peer.bodies(1) == [b"1"]
        await stream.acknowledged(1)


async def test_a_provider_that_is_about_to_stop_takes_no_more_and_finishes_what_it_has(nats, stream):
    peer = Peer()
    peer.gate = asyncio.Event()
    await stream.put(b"1")
    async with running(MessagingNats(nats), [stream.link()], peer=peer) as messaging:
        await peer.bodies(1)
        await messaging.provider.draining()
        await stream.put(b"2")
        peer.gate.set()
        await stream.acknowledged(1)
        assert peer.calls.empty()
    assert (await stream.info())["num_pending"] == 1


async def test_providers_on_several_hosts_share_the_messages_of_a_consumer(nats, stream):
    one, other = Peer(), Peer()
    async with running(MessagingNats(nats), [stream.link(max_messages=1)], peer=one):
        async with running(MessagingNats(nats), [stream.link(max_messages=1)], peer=other):
            await stream.put(*(b"%d" % n for n in range(40)))
            await stream.acknowledged(40)
    handled = [(await peer.calls.get()).args[0]["body"] for peer in (one, other) for _ in range(peer.calls.qsize())]
    assert sorted(handled) == sorted(b"%d" % n for n in range(40))


async def test_messages_in_hand_are_bounded(nats, stream):
    peer = Peer()
    peer.gate = asyncio.Event()
    await stream.put(*(b"%d" % n for n in range(10)))
    async with running(MessagingNats(nats), [stream.link(max_messages=3)], peer=peer):
        await peer.bodies(3)
        await nats.flush()
        assert peer.inside == 3
        assert (await stream.info())["num_ack_pending"] == 3
        peer.gate.set()
        await peer.bodies(7)
        await stream.acknowledged(10)


async def test_a_consumer_that_is_there_is_used_as_it_is(nats, stream):
    config = {"durable_name": "c", "ack_policy": "explicit", "filter_subject": f"{stream.name}.mine"}
    body = {"stream_name": stream.name, "config": config}
    await stream.jetstream.ask(f"CONSUMER.CREATE.{stream.name}.c.{stream.name}.mine", body)
    peer = Peer()
    await stream.put(b"theirs", subject="other")
    await stream.put(b"mine", subject="mine")
    async with running(MessagingNats(nats), [stream.link()], peer=peer):
        assert await peer.bodies(1) == [b"mine"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"stream": "nowhere"}, "there is no such stream"),
        ({"dead_letter": "nobody.takes.this"}, "no stream takes its dead_letter subject"),
    ],
)
async def test_what_is_not_there_refuses_the_link(nats, stream, change, said):
    async with running(MessagingNats(nats), []) as messaging:
        with pytest.raises(BadInput, match=said) as refused:
            await messaging.runtime.put_link(stream.link(**change))
        assert refused.value.findings[0].code == "TRL-PRV-012"


async def test_what_is_the_lattices_own_is_in_nobodys_stream(nats, stream, lattice_name):
    await nats.bucket(f"kv-{lattice_name}")
    async with running(MessagingNats(nats), []) as messaging:
        with pytest.raises(BadInput, match="is the lattice's own"):
            await messaging.runtime.put_link(stream.link(stream=f"KV_kv-{lattice_name}"))


async def test_a_consumer_that_acknowledges_by_itself_is_refused(nats, stream):
    body = {"stream_name": stream.name, "config": {"durable_name": "c", "ack_policy": "none"}}
    await stream.jetstream.ask(f"CONSUMER.CREATE.{stream.name}.c", body)
    async with running(MessagingNats(nats), []) as messaging:
        with pytest.raises(BadInput, match="explicit acknowledgement"):
            await messaging.runtime.put_link(stream.link())


async def test_messages_go_on_when_the_broker_was_away(tmp_path: Path, lattice_name: str, monkeypatch):
    monkeypatch.setattr(consumers, "HEARTBEAT", 0.2)
    broker = Broker(tmp_path)
    broker.start()
    peer = Peer()
    config = {
        "cluster_uris": broker.url,
        "consumers": json.dumps([{"stream": lattice_name, "consumer": "c", "max_messages": 1}]),
    }
    link = link_between(PROVIDER, "actor", "wasmcloud:messaging/handler", source_config=config)
    try:
        transport = await connect(broker.url)
        jetstream = JetStream(transport, timeout=0.5)
        await jetstream.ask(f"STREAM.CREATE.{lattice_name}", {"name": lattice_name, "subjects": [f"{lattice_name}.>"]})
        async with running(MessagingNats(), [link], peer=peer) as messaging:
            await jetstream.publish(f"{lattice_name}.a", b"before")
            assert await peer.bodies(1) == [b"before"]
            async with asyncio.timeout(20):
                broker.kill()
                while (await messaging.runtime.health()).healthy:
                    await asyncio.sleep(0.01)
                broker.start()
                while True:
                    try:
                        await jetstream.publish(f"{lattice_name}.a", b"after")
                        break
                    except Unreachable:
                        await asyncio.sleep(0.01)
                while await peer.bodies(1) != [b"after"]:
                    pass  # "before" again, when its acknowledgement was lost with the broker
                while not (await messaging.runtime.health()).healthy:
                    await asyncio.sleep(0.01)
        await transport.close()
    finally:
        broker.stop()
