"""The contract of Transport and Bucket, on NATS and in memory alike."""

import asyncio
import contextlib
import uuid

import pytest

from lattice import nats_transport
from lattice.errors import DeadlineExceeded, ProtocolError, Unreachable
from lattice.memory import MemoryBroker
from lattice.nats_transport import NatsOptions, connect
from lattice.transport import Message, WrongRevision


@pytest.fixture(params=["memory", pytest.param("nats", marks=pytest.mark.nats)])
async def pair(request):
    """Two connections to the same broker, and a subject prefix nobody else uses."""
    if request.param == "memory":
        broker = MemoryBroker()
        a, b = broker.connect(), broker.connect()
    else:
        url = request.getfixturevalue("nats_url")
        a, b = await connect(url), await connect(url)
    yield a, b, f"test.{uuid.uuid4().hex}"
    await a.close()
    await b.close()


def collector(enough: int):
    got: list[Message] = []
    done = asyncio.Event()

    def on_message(message: Message) -> None:
        got.append(message)
        if len(got) >= enough:
            done.set()

    return got, done, on_message


async def test_a_published_message_reaches_every_plain_subscriber_in_order(pair):
    a, b, prefix = pair
    got, done, on_message = collector(3)
    await b.subscribe(f"{prefix}.*", on_message)
    await b.flush()
    for i in range(3):
        await a.publish(f"{prefix}.x", b"%d" % i)
    await asyncio.wait_for(done.wait(), 5)
    assert [m.data for m in got] == [b"0", b"1", b"2"]
    assert got[0].subject == f"{prefix}.x"


async def test_one_member_of_a_queue_group_gets_each_message(pair):
    a, b, prefix = pair
    first, second, all_in = [], [], asyncio.Event()

    def note(where):
        def on_message(message):
            where.append(message.data)
            if len(first) + len(second) == 40:
                all_in.set()

        return on_message

    await a.subscribe(f"{prefix}.q", note(first), queue="g")
    await b.subscribe(f"{prefix}.q", note(second), queue="g")
    await a.flush()
    await b.flush()
    for i in range(40):
        await a.publish(f"{prefix}.q", b"%d" % i)
    await asyncio.wait_for(all_in.wait(), 5)
    assert first and second
    assert sorted(int(d) for d in first + second) == list(range(40))


async def test_a_greater_than_wildcard_takes_one_or_more_tokens(pair):
    a, b, prefix = pair
    got, done, on_message = collector(2)
    await b.subscribe(f"{prefix}.>", on_message)
    await b.flush()
    await a.publish(prefix, b"none")
    await a.publish(f"{prefix}.a", b"one")
    await a.publish(f"{prefix}.a.b.c", b"three")
    await asyncio.wait_for(done.wait(), 5)
    assert [m.data for m in got] == [b"one", b"three"]


async def test_a_request_gets_the_answer_and_its_headers_arrive(pair):
    a, b, prefix = pair

    async def answer(message: Message) -> None:
        assert message.reply is not None
        await b.publish(message.reply, message.data + (message.headers or {}).get("k", "").encode())

    await b.subscribe(prefix, answer)
    await b.flush()
    assert (await a.request(prefix, b"hi ", timeout=5, headers={"k": "v"})).data == b"hi v"


async def test_a_request_that_nobody_listens_to_fails_at_once(pair):
    a, _, prefix = pair
    with pytest.raises(Unreachable, match=prefix):
        await asyncio.wait_for(a.request(prefix, b"", timeout=30), 5)


async def test_a_request_without_an_answer_ends_at_its_time_limit(pair):
    a, b, prefix = pair
    await b.subscribe(prefix, lambda m: None)
    await b.flush()
    with pytest.raises(DeadlineExceeded):
        await a.request(prefix, b"", timeout=0.05)


async def test_gather_collects_the_answers_of_all(pair):
    a, b, prefix = pair
    for side, word in ((a, b"a"), (b, b"b")):

        async def answer(message: Message, side=side, word=word) -> None:
            await side.publish(message.reply, word)

        await side.subscribe(prefix, answer)
        await side.flush()
    assert sorted(m.data for m in await a.gather(prefix, b"", seconds=5, most=2)) == [b"a", b"b"]
    assert len(await a.gather(prefix, b"", seconds=0.2)) == 2


async def test_gather_returns_early_and_empty_when_nobody_listens(pair):
    a, _, prefix = pair
    assert await asyncio.wait_for(a.gather(prefix, b"", seconds=30), 5) == []


async def test_an_unsubscribed_callback_hears_no_more(pair):
    a, b, prefix = pair
    got, _, on_message = collector(99)
    subscription = await b.subscribe(prefix, on_message)
    await subscription.unsubscribe()
    await subscription.unsubscribe()
    await b.flush()
    with pytest.raises(Unreachable):
        await a.request(prefix, b"", timeout=5)
    assert got == []


async def test_a_callback_that_fails_does_not_end_the_subscription(pair):
    a, b, prefix = pair
    got, done, on_message = collector(2)

    def fail_first(message: Message) -> None:
        on_message(message)
        if len(got) == 1:
            raise RuntimeError("a bug in a callback")

    await b.subscribe(prefix, fail_first)
    await b.flush()
    await a.publish(prefix, b"1")
    await a.publish(prefix, b"2")
    await asyncio.wait_for(done.wait(), 5)


async def test_a_message_above_the_limit_is_refused_before_it_is_sent(pair):
    a, _, prefix = pair
    with pytest.raises(ProtocolError, match="limit"):
        await a.publish(prefix, b"x" * (a.max_payload + 1))


async def test_a_closed_connection_says_that_it_is_unreachable(pair):
    a, _, prefix = pair
    await a.close()
    await a.close()
    with pytest.raises(Unreachable):
        await a.publish(prefix, b"")


async def test_drain_finishes_what_had_arrived(pair):
    a, b, prefix = pair
    got, _, on_message = collector(99)
    started = asyncio.Event()

    async def slow(message: Message) -> None:
        started.set()
        await asyncio.sleep(0.01)
        on_message(message)

    subscription = await b.subscribe(prefix, slow)
    await b.flush()
    for _ in range(3):
        await a.publish(prefix, b"")
    await a.flush()
    await started.wait()
    await subscription.drain()
    async with asyncio.timeout(5):
        while len(got) < 3:
            await asyncio.sleep(0.005)


async def test_no_request_is_lost_to_a_member_of_a_queue_group_that_drains(pair):
    a, b, prefix = pair
    over = False

    async def answer(message: Message) -> None:
        await b.publish(message.reply, b"")

    async def ask() -> None:
        while not over:
            await a.request(prefix, b"", timeout=5)
            await asyncio.sleep(0.001)

    await b.subscribe(prefix, answer, queue="g")
    await b.flush()
    asking = [asyncio.create_task(ask()) for _ in range(20)]
    for _ in range(60):
        leaving = await b.subscribe(prefix, answer, queue="g")
        await b.flush()
        await asyncio.gather(*(a.request(prefix, b"", timeout=5) for _ in range(10)))
        await leaving.drain()
    over = True
    await asyncio.gather(*asking)


async def test_a_bucket_keeps_values_with_revisions(pair):
    a, b, prefix = pair
    bucket = await a.bucket(prefix.replace(".", "_"))
    same = await b.bucket(prefix.replace(".", "_"))
    assert await bucket.get("k") is None
    first = await bucket.put("k", b"1")
    entry = await same.get("k")
    assert entry is not None and (entry.value, entry.revision) == (b"1", first)
    assert await same.put("k", b"") > first
    assert (await bucket.get("k")).value == b""
    assert await bucket.keys() == ["k"]
    await bucket.delete("k")
    await bucket.delete("k")
    assert await bucket.get("k") is None
    assert await bucket.keys() == []


async def test_a_write_at_an_old_revision_is_refused(pair):
    a, _, prefix = pair
    bucket = await a.bucket(prefix.replace(".", "_"))
    first = await bucket.create("k", b"1")
    with pytest.raises(WrongRevision):
        await bucket.create("k", b"2")
    second = await bucket.update("k", b"2", first)
    with pytest.raises(WrongRevision):
        await bucket.update("k", b"3", first)
    await bucket.purge("k")
    assert await bucket.create("k", b"4") > second


async def test_what_is_cancelled_as_its_answer_comes_is_cancelled(pair):
    a, _, prefix = pair
    bucket = await a.bucket(prefix.replace(".", "_"))
    for passes in range(100):
        task = asyncio.create_task(bucket.put("key", b"value"))
        for _ in range(passes):
            await asyncio.sleep(0)
        if task.cancel():
            await asyncio.wait({task})
            assert task.cancelled(), f"not after {passes} passes of the loop"


async def test_a_bucket_is_always_listed_whole(pair):
    a, _, prefix = pair
    bucket = await a.bucket(prefix.replace(".", "_"))
    assert await bucket.keys() == []
    wanted = {f"k{n}" for n in range(300)}
    await asyncio.gather(*(bucket.put(key, b"") for key in wanted))
    await bucket.put("gone", b"")
    await bucket.delete("gone")
    for _ in range(20):
        assert set(await bucket.keys()) == wanted
        async with contextlib.aclosing(bucket.watch()) as watch:
            replayed = []
            while (entry := await anext(watch)) is not None:
                replayed.append(entry.key)
        assert set(replayed) - {"gone"} == wanted


async def test_a_bucket_is_listed_page_by_page_by_when_keys_were_written(pair):
    a, _, prefix = pair
    bucket = await a.bucket(prefix.replace(".", "_"))
    assert await bucket.page(0, 10) == []
    for key in ("a", "b", "gone", "c", "a"):
        await bucket.put(key, b"x")
    await bucket.delete("gone")
    first = await bucket.page(0, 2)
    assert [entry.key for entry in first] == ["b", "c"]
    rest = await bucket.page(first[-1].revision, 2)
    assert [entry.key for entry in rest] == ["a"]
    assert await bucket.page(rest[-1].revision, 2) == []


async def test_a_watch_replays_then_follows(pair):
    a, b, prefix = pair
    bucket = await a.bucket(prefix.replace(".", "_"))
    await bucket.put("old", b"1")
    watch = bucket.watch()
    async with asyncio.timeout(5), contextlib.aclosing(watch):
        seen = await anext(watch)
        assert seen is not None and (seen.key, seen.value) == ("old", b"1")
        assert await anext(watch) is None
        other = await b.bucket(prefix.replace(".", "_"))
        await other.put("new", b"2")
        seen = await anext(watch)
        assert seen is not None and (seen.key, seen.value) == ("new", b"2")
        await other.delete("old")
        seen = await anext(watch)
        assert seen is not None and (seen.key, seen.value) == ("old", None)


async def test_a_watch_of_an_empty_bucket_says_so_at_once(pair):
    a, _, prefix = pair
    bucket = await a.bucket(prefix.replace(".", "_"))
    watch = bucket.watch()
    async with asyncio.timeout(5), contextlib.aclosing(watch):
        assert await anext(watch) is None


@pytest.mark.nats
async def test_a_bucket_that_is_lost_ends_its_watches_and_is_made_again(nats, monkeypatch):
    monkeypatch.setattr(nats_transport, "LOOK_AFTER", 0.05)
    bucket = await nats.bucket(f"lost_{uuid.uuid4().hex}")
    made = await bucket.incarnation()
    await bucket.put("k", b"1")
    async with asyncio.timeout(10), contextlib.aclosing(bucket.watch()) as watch:
        assert (await anext(watch)).value == b"1" and await anext(watch) is None
        await nats._client.jetstream().delete_stream(f"KV_{bucket.name}")
        with pytest.raises(Unreachable, match="was lost"):
            await anext(watch)
    assert await bucket.incarnation() != made
    await nats._client.jetstream().delete_stream(f"KV_{bucket.name}")
    await bucket.put("k", b"2")
    assert (await bucket.get("k")).value == b"2"


@pytest.mark.nats
async def test_no_subject_ends_the_connection(nats):
    long = "k" * 5000
    bucket = await nats.bucket(f"long_{uuid.uuid4().hex}")
    for attempt in (nats.publish(long, b""), nats.subscribe(long, print), bucket.put(long, b"1")):
        with pytest.raises(ProtocolError, match="too long"):
            await attempt
    back = asyncio.Event()
    nats.on_reconnect(back.set)
    await nats._client._send_publish(long, "", b"", 0, None)  # the server hangs up
    await asyncio.wait_for(back.wait(), 10)
    await bucket.put("k", b"1")


async def test_connecting_to_nothing_says_where():
    with pytest.raises(Unreachable, match="127.0.0.1:1"):
        await connect(NatsOptions("nats://user:secret@127.0.0.1:1", connect_timeout=0.5))


def test_options_never_show_their_secrets():
    assert "secret" not in repr(NatsOptions("nats://user:secret@127.0.0.1:4222", password="secret"))
