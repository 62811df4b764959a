"""wasmcloud:messaging on NATS: what actors send, and what they are called with."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
import structlog
from servers import Broker

from lattice import BadInput, BadValue, Busy, DeadlineExceeded, Invocation, Unreachable, Value, WitError
from lattice.memory import MemoryBroker
from lattice.tracing import Span
from lattice.transport import Message, Transport
from providers.link import LinkRecord, link_between
from providers.load import builtin_name, resolve
from providers.messaging import nats as messaging_nats
from providers.messaging.nats import MessagingNats
from providers.testing import PROVIDER, running

PUBLISH = "wasmcloud:messaging/consumer#publish"
REQUEST = "wasmcloud:messaging/consumer#request"
TRACE = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"


def consumer(source: str = "actor", **config: str) -> LinkRecord:
    return link_between(source, PROVIDER, "wasmcloud:messaging/consumer", target_config=config)


def handler(target: str = "actor", name: str = "default", **config: str) -> LinkRecord:
    return link_between(PROVIDER, target, "wasmcloud:messaging/handler", name=name, source_config=config)


def message(subject: str, body: bytes = b"", reply: str | None = None) -> dict[str, Value]:
    return {"subject": subject, "body": body, "reply-to": reply}


class Peer:
    """The actors that messages are handled by."""

    def __init__(self) -> None:
        self.calls: asyncio.Queue[Invocation] = asyncio.Queue()
        self.fails: list[BaseException] = []
        self.gate: asyncio.Event | None = None
        self.inside = 0
        self.most = 0

    async def __call__(self, invocation: Invocation) -> Value:
        assert invocation.function.key == "wasmcloud:messaging/handler#handle-message"
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.calls.put_nowait(invocation)
        try:
            if self.gate is not None:
                await self.gate.wait()
            if self.fails:
                raise self.fails.pop()
        finally:
            self.inside -= 1

    async def handled(self) -> dict[str, Value]:
        async with asyncio.timeout(5):
            return (await self.calls.get()).args[0]


@pytest.fixture
def peer() -> Peer:
    return Peer()


async def heard(transport: Transport, subject: str) -> asyncio.Queue[Message]:
    messages: asyncio.Queue[Message] = asyncio.Queue()
    await transport.subscribe(subject, messages.put_nowait)
    await transport.flush()
    return messages


async def answer_upper(transport: Transport, subject: str) -> None:
    async def answer(asked: Message) -> None:
        assert asked.reply
        await transport.publish(asked.reply, asked.data.upper())

    await transport.subscribe(subject, answer)
    await transport.flush()


async def refusal(call) -> str:
    with pytest.raises(WitError) as error:
        await call
    return error.value.payload


@pytest.mark.parametrize("ref", ["builtin:messaging-nats", "ghcr.io/wasmcloud/messaging-nats:0.28.0"])
def test_it_answers_to_wasmclouds_references(ref):
    assert builtin_name(ref) == "messaging-nats"
    assert resolve(ref) is MessagingNats


# -- what actors send


async def test_what_is_published_arrives_with_its_reply_subject_and_trace(transport, lattice_name):
    messages = await heard(transport, f"{lattice_name}.>")
    async with running(MessagingNats(transport), [consumer()]) as messaging:
        sent = message(f"{lattice_name}.a", b"\0\xff", f"{lattice_name}.back")
        assert await messaging.call(PUBLISH, sent, trace={"traceparent": TRACE}) is None
        got = await messages.get()
    assert (got.subject, got.data, got.reply) == (f"{lattice_name}.a", b"\0\xff", f"{lattice_name}.back")
    assert got.headers is not None
    assert got.headers["traceparent"] == TRACE


async def test_a_request_gives_the_first_answer(transport, lattice_name):
    await answer_upper(transport, f"{lattice_name}.upper")
    async with running(MessagingNats(transport), [consumer()]) as messaging:
        answer = await messaging.call(REQUEST, f"{lattice_name}.upper", b"hi", 2000)
    assert answer["body"] == b"HI"
    assert answer["reply-to"] is None


async def test_a_request_that_nobody_hears_is_an_answer_at_once(transport, lattice_name):
    async with running(MessagingNats(transport), [consumer()]) as messaging:
        async with asyncio.timeout(5):
            said = await refusal(messaging.call(REQUEST, f"{lattice_name}.void", b"", 60_000))
    assert "nobody listens" in said


async def test_the_end_of_a_requests_time_is_an_answer(transport, lattice_name):
    await heard(transport, f"{lattice_name}.mute")
    async with running(MessagingNats(transport), [consumer()]) as messaging:
        said = await refusal(messaging.call(REQUEST, f"{lattice_name}.mute", b"", 20))
        assert "within 0.02 s" in said
        with pytest.raises(DeadlineExceeded):
            await messaging.call(REQUEST, f"{lattice_name}.mute", b"", 60_000, timeout=0.02)


@pytest.mark.parametrize("subject", ["", ".", "a..b", "a b", "a\r\nPUB b 0", "a.*", "a.>", ">", "*", "a\0b"])
async def test_what_is_no_subject_is_refused(transport, subject):
    async with running(MessagingNats(transport), [consumer()]) as messaging:
        assert "not a subject" in await refusal(messaging.call(PUBLISH, message(subject)))
        assert "not a subject" in await refusal(messaging.call(REQUEST, subject, b"", 10))
        if "*" not in subject and ">" not in subject:
            assert "not a subject" in await refusal(messaging.call(PUBLISH, message("a", b"", subject)))


@pytest.mark.parametrize("subject", ["wasmbus.ctl.v1.default.host.stop.X", "$JS.API.STREAM.LIST", "trellis.rpc.a.b"])
async def test_an_actor_cannot_speak_on_the_lattices_own_subjects(transport, subject):
    messages = await heard(transport, subject)
    async with running(MessagingNats(transport), [consumer()]) as messaging:
        with structlog.testing.capture_logs() as events:
            assert "the lattice's own" in await refusal(messaging.call(PUBLISH, message(subject)))
            assert "the lattice's own" in await refusal(messaging.call(REQUEST, subject, b"", 10))
        assert [(e["event"], e["actor"]) for e in events] == [("message.denied", "actor")] * 2
        await transport.flush()
    assert messages.empty()


async def test_a_message_above_the_brokers_limit_is_an_answer(transport, lattice_name):
    async with running(MessagingNats(transport), [consumer()]) as messaging:
        said = await refusal(messaging.call(PUBLISH, message(f"{lattice_name}.big", bytes(2_000_000))))
    assert "above the broker's limit" in said


@pytest.mark.parametrize("value", [None, "text", {}, {"subject": "a"}])
async def test_what_is_no_message_is_refused(transport, value):
    async with running(MessagingNats(transport), [consumer()]) as messaging:
        with pytest.raises(BadValue):
            await messaging.call(PUBLISH, value)


# -- what actors are called with


async def test_a_subscribed_actor_is_called_with_each_message(transport, lattice_name, peer):
    async with running(MessagingNats(transport), [handler(subscriptions=f"{lattice_name}.a")], peer=peer):
        await transport.publish(f"{lattice_name}.a", b"one", reply="back")
        await transport.publish(f"{lattice_name}.b", b"not this")
        await transport.publish(f"{lattice_name}.a", b"two")
        assert await peer.handled() == message(f"{lattice_name}.a", b"one", "back")
        assert await peer.handled() == message(f"{lattice_name}.a", b"two")


async def test_subscriptions_are_a_list_with_wildcards_and_queues(transport, lattice_name, peer):
    listed = f"{lattice_name}.*.x , {lattice_name}.deep.>, {lattice_name}.work|workers,"
    async with running(MessagingNats(transport), [handler(subscriptions=listed)], peer=peer):
        for tail in ("1.x", "deep.a.b", "work"):
            await transport.publish(f"{lattice_name}.{tail}", b"")
            assert (await peer.handled())["subject"] == f"{lattice_name}.{tail}"


async def test_one_of_a_queue_gets_each_message_and_everybody_without_one(transport, lattice_name, peer):
    links = [handler(subscriptions=f"{lattice_name}.work|workers,{lattice_name}.news")]
    async with running(MessagingNats(transport), links, peer=peer):
        async with running(MessagingNats(transport), links, peer=peer):
            for n in range(10):
                await transport.publish(f"{lattice_name}.work", b"%d" % n)
            assert sorted([(await peer.handled())["body"] for _ in range(10)]) == [b"%d" % n for n in range(10)]
            await transport.publish(f"{lattice_name}.news", b"n")
            assert [(await peer.handled())["body"] for _ in range(2)] == [b"n", b"n"]
            await transport.flush()
    assert peer.calls.empty()


async def test_links_of_several_actors_are_apart(transport, lattice_name, peer):
    links = [handler(actor, subscriptions=f"{lattice_name}.{actor}") for actor in ("a", "b")]
    async with running(MessagingNats(transport), links, peer=peer) as messaging:
        await transport.publish(f"{lattice_name}.b", b"")
        assert (await peer.calls.get()).target == "b"
        await messaging.runtime.delete_link(links[1].id)
        await transport.publish(f"{lattice_name}.b", b"")
        await transport.publish(f"{lattice_name}.a", b"")
        assert (await peer.calls.get()).target == "a"


async def test_a_messages_trace_goes_on_in_the_call_through_a_span_of_the_message(transport, lattice_name, peer):
    links = [handler(subscriptions=f"{lattice_name}.a")]
    spans: asyncio.Queue[Span] = asyncio.Queue()

    def observe(span: Span, _args: tuple[Value, ...], _answer: Value) -> None:
        spans.put_nowait(span)

    async with running(MessagingNats(transport), links, peer=peer, observe=observe), asyncio.timeout(5):
        await transport.publish(f"{lattice_name}.a", b"", headers={"traceparent": TRACE})
        call, span = await peer.calls.get(), await spans.get()
    assert call.trace["traceparent"] == span.context
    assert (span.trace, span.parent) == (TRACE[3:35], TRACE[36:52])
    assert (span.kind, span.subject, span.target, span.outcome) == ("message", f"{lattice_name}.a", "actor", "ok")


@pytest.mark.parametrize(
    ("error", "event"),
    [(WitError("no thanks"), "message.refused"), (Busy("full"), "message.lost"), (BadValue("x"), "message.lost")],
)
async def test_a_message_that_the_actor_fails_at_is_logged_and_the_next_one_comes(
    transport, lattice_name, peer, error, event
):
    peer.fails.append(error)
    with structlog.testing.capture_logs() as events:
        async with running(MessagingNats(transport), [handler(subscriptions=f"{lattice_name}.a")], peer=peer):
            await transport.publish(f"{lattice_name}.a", b"1")
            assert (await peer.handled())["body"] == b"1"
            await transport.publish(f"{lattice_name}.a", b"2")
            assert (await peer.handled())["body"] == b"2"
    [seen] = [e for e in events if e["event"] == event]
    assert (seen["actor"], seen["subject"]) == ("actor", f"{lattice_name}.a")
    assert seen["error"] == (error.payload if isinstance(error, WitError) else error.message)


async def test_messages_in_hand_are_bounded_and_none_is_lost(transport, lattice_name, peer, monkeypatch):
    monkeypatch.setattr(messaging_nats, "TOGETHER", 3)
    peer.gate = asyncio.Event()
    async with running(MessagingNats(transport), [handler(subscriptions=f"{lattice_name}.a")], peer=peer):
        for n in range(20):
            await transport.publish(f"{lattice_name}.a", b"%d" % n)
        for _ in range(3):
            await peer.handled()
        await transport.flush()
        assert peer.calls.empty()
        peer.gate.set()
        for _ in range(17):
            await peer.handled()
    assert peer.most == 3


async def test_leaving_finishes_the_messages_that_arrived(transport, lattice_name, peer):
    peer.gate = asyncio.Event()
    async with running(MessagingNats(transport), [handler(subscriptions=f"{lattice_name}.a")], peer=peer) as messaging:
        await transport.publish(f"{lattice_name}.a", b"1")
        await peer.handled()
        leaving = asyncio.create_task(messaging.runtime.delete_link(handler(subscriptions="x").id))
        await asyncio.sleep(0)
        assert peer.inside == 1
        assert not leaving.done()
        peer.gate.set()
        await leaving
        assert peer.inside == 0


async def test_what_never_ends_is_cancelled_when_the_provider_stops(transport, lattice_name, peer):
    peer.gate = asyncio.Event()
    links = [handler(subscriptions=f"{lattice_name}.a")]
    async with running(MessagingNats(transport), links, peer=peer, grace=0.1):
        await transport.publish(f"{lattice_name}.a", b"1")
        await peer.handled()
    async with asyncio.timeout(5):
        while peer.inside:
            await asyncio.sleep(0)


async def test_the_lattices_own_messages_are_not_passed_on(transport, lattice_name, peer):
    async with running(MessagingNats(transport), [handler(subscriptions=">")], peer=peer):
        for subject in ("wasmbus.evt.default.x", "_INBOX.abc", "$SYS.x", f"{lattice_name}.mine"):
            await transport.publish(subject, b"")
        while (subject := (await peer.handled())["subject"]) != f"{lattice_name}.mine":
            assert not subject.startswith(("wasmbus", "_INBOX", "$SYS"))


# -- links


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (handler(), '"subscriptions" is missing'),
        (handler(subscriptions=" , "), '"subscriptions" is missing'),
        (handler(subscriptions="a..b"), "is not a subject"),
        (handler(subscriptions="a b"), "is not a subject"),
        (handler(subscriptions="a.>.b"), "is not a subject"),
        (handler(subscriptions="a|"), "is not a subject"),
        (handler(subscriptions="wasmbus.evt.>"), "a subject of the lattice"),
        (handler(subscriptions="_INBOX.>"), "a subject of the lattice"),
        (handler(consumers="x"), "not JSON"),
        (handler(consumers="{}"), "not a JSON array"),
        (handler(consumers='[{"stream": "s"}]'), '"consumers.0.consumer" is missing'),
        (
            handler(consumers='[{"stream": "s", "consumer": "c", "maxdeliver": 1}]'),
            '"consumers.0.maxdeliver" extra inputs',
        ),
        (handler(consumers='[{"stream": "s", "consumer": "c", "dead_letter": "wadm.x"}]'), "a subject of the lattice"),
        (handler(consumers='[{"stream": "s", "consumer": "c"}]'), "JetStream does not answer"),
        (consumer(client_jwt="ey"), "client_jwt needs client_seed"),
        (link_between("actor", PROVIDER, "wasmcloud:messaging/handler"), "link the provider to the component"),
    ],
)
async def test_a_link_that_would_never_carry_a_message_is_refused(record, said):
    async with running(MessagingNats(MemoryBroker().connect()), []) as messaging:
        with pytest.raises((BadInput, Unreachable)) as refused:
            await messaging.runtime.put_link(record)
        assert said in str(refused.value)


@pytest.mark.nats
async def test_another_cluster_is_connected_to_once_and_all_of_its_subjects_are_free(
    nats, nats_url, peer, lattice_name
):
    place = nats_url.removeprefix("nats://")
    links = [consumer(cluster_uris=place), handler(cluster_uris=place, subscriptions=f"wadm.{lattice_name}")]
    provider = MessagingNats()
    async with running(provider, links, peer=peer) as messaging:
        await messaging.call(PUBLISH, message(f"wadm.{lattice_name}", b"x"))
        assert (await peer.handled())["body"] == b"x"
        assert len(provider._connections) == 1


async def test_a_broker_that_is_not_there_refuses_the_link():
    async with running(MessagingNats(), []) as messaging:
        with pytest.raises(Exception, match="no NATS server answers at nats://127.0.0.1:1"):
            await messaging.runtime.put_link(consumer(cluster_uris="127.0.0.1:1"))


@pytest.mark.nats
async def test_answers_come_to_the_inbox_that_the_link_names(nats, nats_url, lattice_name):
    replies: asyncio.Queue[str | None] = asyncio.Queue()

    async def answer(asked: Message) -> None:
        replies.put_nowait(asked.reply)
        await nats.publish(asked.reply, b"yes")

    await nats.subscribe(f"{lattice_name}.ask", answer)
    await nats.flush()
    async with running(MessagingNats(), [consumer(cluster_uris=nats_url, custom_inbox_prefix="_MINE")]) as messaging:
        assert (await messaging.call(REQUEST, f"{lattice_name}.ask", b"", 2000))["body"] == b"yes"
    assert (await replies.get()).startswith("_MINE.")


@pytest.mark.nats
async def test_a_wrong_login_refuses_the_link_without_saying_it(tmp_path):
    broker = Broker(tmp_path, config='authorization { user: "me", password: "right" }')
    broker.start()
    place = f"127.0.0.1:{broker.port}"
    try:
        async with running(MessagingNats(), []) as messaging:
            with pytest.raises(Unreachable, match="refuses the login") as refused:
                await messaging.runtime.put_link(consumer(cluster_uris=f"me:hush@{place}"))
            assert "hush" not in str(refused.value)
            await messaging.runtime.put_link(consumer(cluster_uris=f"me:right@{place}"))
    finally:
        broker.stop()


@pytest.mark.nats
async def test_subscriptions_go_on_when_the_broker_was_away_or_silent(tmp_path, lattice_name: str):
    broker, peer = Broker(tmp_path), Peer()
    broker.start()
    place = {"cluster_uris": broker.url}
    links = [consumer(**place), handler(**place, subscriptions=lattice_name)]
    try:
        async with running(MessagingNats(), links, peer=peer) as messaging:
            await messaging.call(PUBLISH, message(lattice_name, b"before"))
            assert (await peer.calls.get()).args[0]["body"] == b"before"
            with broker.paused(), pytest.raises(WitError, match="within 0.1 s"):
                await messaging.call(REQUEST, f"{lattice_name}.nobody", b"", 100)
            broker.kill()
            with pytest.raises(WitError):
                await messaging.call(REQUEST, f"{lattice_name}.nobody", b"", 100)
            broker.start()
            async with asyncio.timeout(20):
                while peer.calls.empty():
                    with contextlib.suppress(WitError):
                        await messaging.call(PUBLISH, message(lattice_name, b"after"))
                    await asyncio.sleep(0.02)
            assert (await peer.calls.get()).args[0]["body"] == b"after"
    finally:
        broker.stop()
