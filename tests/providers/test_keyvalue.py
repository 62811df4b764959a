"""One contract for every key-value provider, then what is particular to NATS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from servers import Broker

from lattice import BadInput, Invocation, NotLinked, Unreachable, Value, WitError, nats_transport
from lattice.jetstream import JetStream
from lattice.memory import MemoryBroker
from lattice.nats_transport import NatsOptions, NatsTransport, connect
from lattice.transport import Transport
from providers.keyvalue import nats as keyvalue_nats
from providers.keyvalue import store as keyvalue_store
from providers.keyvalue.memory import MemoryKeyValue
from providers.keyvalue.nats import NatsKeyValue, escaped, unescaped
from providers.keyvalue.store import KeyValue
from providers.link import LinkRecord, link_between
from providers.load import resolve
from providers.nats import NatsLogin, at_own_server
from providers.testing import PROVIDER, Running, running

KEYVALUE = "wasi:keyvalue/store,atomics,batch"
GET, SET, DELETE, EXISTS, LIST = (f"wasi:keyvalue/store#{f}" for f in ("get", "set", "delete", "exists", "list-keys"))
INCREMENT, SWAP = "wasi:keyvalue/atomics#increment", "wasi:keyvalue/atomics#swap"
GET_MANY, SET_MANY, DELETE_MANY = (f"wasi:keyvalue/batch#{f}-many" for f in ("get", "set", "delete"))


def link(source: str = "actor", name: str = "default", **config: str) -> LinkRecord:
    return link_between(source, PROVIDER, KEYVALUE, name=name, target_config=config)


@pytest.fixture
def bucket(lattice_name: str) -> str:
    return f"kv-{lattice_name}"


class Told:
    """The actors that watch: what they were called with."""

    def __init__(self) -> None:
        self.calls: asyncio.Queue[tuple[Value, ...]] = asyncio.Queue()

    async def __call__(self, invocation: Invocation) -> Value:
        assert invocation.function.interface == "wasi:keyvalue/watcher"
        self.calls.put_nowait((invocation.target, invocation.function.name, *invocation.args))

    async def next(self) -> tuple[Value, ...]:
        async with asyncio.timeout(5):
            return await self.calls.get()


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture(
    params=[
        "memory",
        "nats over memory",
        pytest.param("nats", marks=pytest.mark.nats),
        pytest.param("redis", marks=pytest.mark.redis),
    ]
)
async def kv(request: pytest.FixtureRequest, bucket: str, told: Told) -> AsyncIterator[Running]:
    transport: Transport = MemoryBroker().connect()
    config: dict[str, str] = {}
    provider: KeyValue
    match request.param:
        case "memory":
            provider = MemoryKeyValue()
        case "redis":
            config = {"URL": request.getfixturevalue("redis_server").url}
            provider = resolve("builtin:keyvalue-redis")()
        case _:
            if request.param == "nats":
                transport = await connect(request.getfixturevalue("nats_url"))
            provider = NatsKeyValue(transport)
    links = [link(bucket=bucket, enable_bucket_auto_create="true")]
    async with running(provider, links, config=config, peer=told) as started:
        yield started
    await transport.close()


# -- the contract


async def test_what_was_set_can_be_read_until_it_is_deleted(kv: Running):
    assert await kv.call(GET, "default", "k") is None
    assert not await kv.call(EXISTS, "default", "k")
    await kv.call(SET, "default", "k", b"one")
    await kv.call(SET, "default", "k", b"two")
    assert await kv.call(GET, "default", "k") == b"two"
    assert await kv.call(EXISTS, "default", "k")
    await kv.call(DELETE, "default", "k")
    await kv.call(DELETE, "default", "k")
    assert await kv.call(GET, "default", "k") is None


async def test_an_empty_value_is_a_value(kv: Running):
    await kv.call(SET, "default", "k", b"")
    assert await kv.call(GET, "default", "k") == b""
    assert await kv.call(EXISTS, "default", "k")


@pytest.mark.parametrize("key", ["", " ", ".", "..", "a.b", ".a.", "a..b", "=", "=41", "a b", "ключ", "k/*/>", "\n\0"])
async def test_any_string_is_a_key(kv: Running, key: str):
    await kv.call(SET, "default", key, b"v")
    assert await kv.call(GET, "default", key) == b"v"
    assert (await kv.call(LIST, "default", None))["keys"] == [key]
    await kv.call(DELETE, "default", key)
    assert (await kv.call(LIST, "default", None))["keys"] == []


async def test_keys_are_listed_page_by_page(kv: Running, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(keyvalue_store, "PAGE", 30)
    await kv.call(SET_MANY, "default", [[f"k{n}", b""] for n in range(200)])
    pages, cursor = [], None
    while True:
        page = await kv.call(LIST, "default", cursor)
        pages.append(page["keys"])
        cursor = page["cursor"]
        if cursor is None:
            break
    assert len(pages) > 2
    assert sorted(key for page in pages for key in page) == sorted(f"k{n}" for n in range(200))


async def test_an_empty_bucket_has_one_empty_page(kv: Running):
    assert await kv.call(LIST, "default", None) == {"keys": [], "cursor": None}


async def test_keys_that_stay_are_listed_whatever_happens_to_others(kv: Running, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(keyvalue_store, "PAGE", 30)
    stay = {f"stay{n}" for n in range(100)}
    await kv.call(SET_MANY, "default", [[key, b""] for n in range(100) for key in (f"go{n}", f"stay{n}")])
    seen: set[str] = set()
    cursor = None
    while True:
        page = await kv.call(LIST, "default", cursor)
        seen.update(page["keys"])
        await kv.call(DELETE_MANY, "default", [key for key in page["keys"] if key.startswith("go")])
        await kv.call(SET, "default", f"new{len(seen)}", b"")
        cursor = page["cursor"]
        if cursor is None:
            break
    assert stay <= seen


async def test_numbers_go_up_to_the_end_of_a_u64(kv: Running):
    assert await kv.call(INCREMENT, "default", "n", 2**63) == 2**63
    assert await kv.call(INCREMENT, "default", "n", 2**63 - 1) == 2**64 - 1
    with pytest.raises(WitError):
        await kv.call(INCREMENT, "default", "n", 1)
    assert await kv.call(INCREMENT, "default", "n", 0) == 2**64 - 1


async def test_increment_begins_at_nothing_and_is_kept_as_text(kv: Running):
    assert await kv.call(INCREMENT, "default", "n", 5) == 5
    assert await kv.call(INCREMENT, "default", "n", 2) == 7
    assert await kv.call(GET, "default", "n") == b"7"
    await kv.call(DELETE, "default", "n")
    assert await kv.call(INCREMENT, "default", "n", 1) == 1


async def test_no_increment_is_lost(kv: Running):
    counted = await asyncio.gather(*(kv.call(INCREMENT, "default", "n", 1) for _ in range(50)))
    assert sorted(counted) == list(range(1, 51))


async def test_a_swap_sets_only_what_is_as_it_was(kv: Running):
    assert not await kv.call(SWAP, "default", "k", b"", b"never")
    assert await kv.call(SWAP, "default", "k", None, b"")
    assert not await kv.call(SWAP, "default", "k", None, b"never")
    assert await kv.call(SWAP, "default", "k", b"", b"two")
    assert not await kv.call(SWAP, "default", "k", b"one", b"never")
    assert await kv.call(GET, "default", "k") == b"two"
    await kv.call(DELETE, "default", "k")
    assert await kv.call(SWAP, "default", "k", None, b"three")


async def test_of_many_swaps_one_succeeds(kv: Running):
    await kv.call(SET, "default", "k", b"free")
    done = await asyncio.gather(*(kv.call(SWAP, "default", "k", b"free", b"%d" % n) for n in range(20)))
    assert done.count(True) == 1
    assert await kv.call(GET, "default", "k") == b"%d" % done.index(True)


async def test_a_watcher_is_called_with_every_change_of_its_bucket(kv: Running, bucket: str, told: Told):
    await kv.call(SET, "default", "before", b"x")
    config = {"bucket": bucket, "enable_bucket_auto_create": "true"}
    watcher = link_between(PROVIDER, "watcher", "wasi:keyvalue/watcher", source_config=config)
    await kv.runtime.put_link(watcher)
    await kv.call(SET, "default", "a key", b"one")
    assert await told.next() == ("watcher", "on-set", bucket, "a key", b"one")
    await kv.call(INCREMENT, "default", "n", 3)
    assert await told.next() == ("watcher", "on-set", bucket, "n", b"3")
    await kv.call(SWAP, "default", "a key", b"one", b"two")
    assert await told.next() == ("watcher", "on-set", bucket, "a key", b"two")
    await kv.call(DELETE, "default", "a key")
    assert await told.next() == ("watcher", "on-delete", bucket, "a key")
    await kv.runtime.delete_link(watcher.id)
    await kv.call(SET, "default", "after", b"x")
    await kv.runtime.put_link(watcher)
    await kv.call(SET, "default", "again", b"x")
    assert await told.next() == ("watcher", "on-set", bucket, "again", b"x")


async def test_a_link_to_an_actor_is_for_watchers_alone(kv: Running, bucket: str):
    config = {"bucket": bucket, "enable_bucket_auto_create": "true"}
    with pytest.raises(BadInput, match="calls wasi:keyvalue/watcher and nothing else"):
        await kv.runtime.put_link(link_between(PROVIDER, "a", "wasi:keyvalue/store", source_config=config))


@pytest.mark.parametrize("value", [b"abc", b"-1", b"18446744073709551615", b""])
async def test_what_is_not_a_number_is_not_counted(kv: Running, value: bytes):
    await kv.call(SET, "default", "n", value)
    with pytest.raises(WitError) as error:
        await kv.call(INCREMENT, "default", "n", 1)
    assert "other" in error.value.payload
    assert await kv.call(GET, "default", "n") == value


async def test_batches_keep_the_order_of_their_keys(kv: Running):
    await kv.call(SET_MANY, "default", [["a", b"1"], ["b", b"2"], ["a", b"3"]])
    assert await kv.call(GET_MANY, "default", ["b", "x", "a"]) == [("b", b"2"), None, ("a", b"3")]
    await kv.call(DELETE_MANY, "default", ["a", "x", "a"])
    assert await kv.call(GET_MANY, "default", ["a", "b"]) == [None, ("b", b"2")]
    assert await kv.call(GET_MANY, "default", []) == []


async def test_a_bucket_goes_by_default_by_its_own_name_and_by_its_link(kv: Running, bucket: str):
    await kv.runtime.put_link(link(name="second", bucket=bucket + "-2", enable_bucket_auto_create="true"))
    await kv.call(SET, "", "k", b"first")
    await kv.call(SET, "default", "k", b"second", link="second")
    assert await kv.call(GET, bucket, "k") == b"first"
    assert await kv.call(GET, "second", "k") == b"second"
    assert await kv.call(GET, "second", "k", link="second") == b"second"


async def test_an_actor_without_a_link_gets_nothing(kv: Running):
    with pytest.raises(NotLinked):
        await kv.call(GET, "default", "k", source="stranger")


# -- NATS


async def test_an_actor_cannot_open_a_bucket_that_it_is_not_linked_to(nats: NatsTransport, bucket: str):
    await nats.bucket(bucket + "-private")
    async with running(NatsKeyValue(nats), [link(bucket=bucket, enable_bucket_auto_create="true")]) as kv:
        await kv.runtime.put_link(link("other", "theirs", bucket=bucket + "-private", enable_bucket_auto_create="true"))
        for name in (bucket + "-private", "theirs"):
            with pytest.raises(WitError) as error:
                await kv.call(GET, name, "k")
            assert error.value.payload == "no-such-store"


async def test_a_bucket_is_made_only_when_that_is_allowed(nats: NatsTransport, bucket: str):
    async with running(NatsKeyValue(nats), []) as kv:
        with pytest.raises(BadInput, match="there is no bucket"):
            await kv.runtime.put_link(link(bucket=bucket))
        await kv.runtime.put_link(link("b", bucket=bucket, enable_bucket_auto_create="true"))
        await kv.runtime.put_link(link(bucket=bucket))
        with pytest.raises(BadInput, match='"bucket" is missing'):
            await kv.runtime.put_link(link("c"))


async def test_providers_on_several_hosts_count_together(nats: NatsTransport, bucket: str):
    links = [link(bucket=bucket, enable_bucket_auto_create="true")]
    async with running(NatsKeyValue(nats), links) as one, running(NatsKeyValue(nats), links) as two:
        await asyncio.gather(*(kv.call(INCREMENT, "default", "n", 1) for kv in (one, two) for _ in range(25)))
        assert await one.call(GET, "default", "n") == b"50"


async def test_another_cluster_is_connected_to_once(nats_url: str, bucket: str):
    links = [
        link(source, bucket=bucket, enable_bucket_auto_create="true", cluster_uri=nats_url) for source in ("a", "b")
    ]
    provider = NatsKeyValue()
    async with running(provider, links) as kv:
        await kv.call(SET, "default", "k", b"v", source="a")
        assert await kv.call(GET, "default", "k", source="b") == b"v"
        assert len(provider._connections) == 1


async def test_a_link_that_names_only_a_domain_stays_at_the_lattices_server_and_with_its_login(
    tmp_path: Path, bucket: str
):
    broker = Broker(tmp_path, config='jetstream { domain: edge }\nauthorization { user: "me", password: "right" }')
    broker.start()
    lattices = await connect(NatsOptions(broker.url, user="me", password="right"))
    try:
        config = {"bucket": bucket, "enable_bucket_auto_create": "true"}
        async with running(NatsKeyValue(lattices), [link(js_domain="edge", **config)]) as kv:
            await kv.call(SET, "default", "k", b"v")
            assert await (await lattices.bucket(bucket)).get("k") is not None
            with pytest.raises(Unreachable, match="JetStream"):
                await kv.runtime.put_link(link("other", js_domain="nowhere", **config))
    finally:
        await lattices.close()
        broker.stop()


def test_a_login_without_a_server_is_to_the_lattices_own_and_takes_the_place_of_its_login():
    lattices = NatsOptions("nats://far:4222", user="host", password="secret", ca_file="/ca.pem")
    wanted = NatsLogin(creds_file="/me.creds").connection("mine", None)
    assert wanted is not None
    assert at_own_server(lattices, wanted) == NatsOptions(
        "nats://far:4222", ca_file="/ca.pem", creds_file="/me.creds", name="mine"
    )


async def test_a_broker_that_is_not_there_refuses_the_link(bucket: str):
    async with running(NatsKeyValue(), []) as kv:
        with pytest.raises(Exception, match="no NATS server answers at nats://127.0.0.1:1"):
            await kv.runtime.put_link(link(bucket=bucket, cluster_uri="nats://127.0.0.1:1"))


async def test_a_failing_broker_is_an_answer_that_the_guest_can_handle(bucket: str):
    transport = MemoryBroker().connect()
    async with running(NatsKeyValue(transport), [link(bucket=bucket, enable_bucket_auto_create="true")]) as kv:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(keyvalue_nats, "ATTEMPTS", 0)
            with pytest.raises(WitError) as error:
                await kv.call(INCREMENT, "default", "n", 1)
            assert "too many others" in error.value.payload["other"]


async def test_a_bucket_with_history_is_listed_page_by_page_too(nats: NatsTransport, bucket: str, monkeypatch):
    monkeypatch.setattr(keyvalue_store, "PAGE", 2)
    made = await nats.bucket(bucket, history=3)
    for name in ("a", "b", "a", "gone", "c"):
        await made.put(name, b"")
    await made.delete("gone")
    async with running(NatsKeyValue(nats), [link(bucket=bucket)]) as kv:
        first = await kv.call(LIST, "default", None)
        assert first["keys"] == ["b", "a"]
        assert await kv.call(LIST, "default", first["cursor"]) == {"keys": ["c"], "cursor": None}


async def test_a_full_bucket_is_an_answer(nats: NatsTransport, bucket: str):
    stream = {"name": f"KV_{bucket}", "subjects": [f"$KV.{bucket}.>"], "storage": "memory", "discard": "new"}
    settings = {"max_msgs_per_subject": 1, "max_bytes": 1000, "allow_direct": True, "allow_rollup_hdrs": True}
    await JetStream(nats).ask(f"STREAM.CREATE.KV_{bucket}", {**stream, **settings})
    async with running(NatsKeyValue(nats), [link(bucket=bucket)]) as kv:
        await kv.call(SET, "default", "k", b"old")
        with pytest.raises(WitError) as error:
            await kv.call(SET, "default", "k", bytes(2000))
        assert "maximum bytes exceeded" in error.value.payload["other"]
        assert await kv.call(GET, "default", "k") == b"old"


async def test_a_broker_that_is_slow_or_away_is_an_answer_in_time(tmp_path: Path, bucket: str, monkeypatch):
    monkeypatch.setattr(nats_transport, "ANSWERING", 0.2)
    broker = Broker(tmp_path)
    broker.start()
    config = {"bucket": bucket, "enable_bucket_auto_create": "true", "cluster_uri": broker.url}
    try:
        async with running(NatsKeyValue(), [link(**config)]) as kv:
            await kv.call(SET, "default", "k", b"v")
            with broker.paused():
                for call in (kv.call(GET, "default", "k"), kv.call(SET, "default", "k", b"w")):
                    with pytest.raises(WitError) as error:
                        await call
                    assert "in time" in error.value.payload["other"]
            assert await kv.call(GET, "default", "k") in (b"v", b"w")
            broker.kill()
            with pytest.raises(WitError) as error:
                await kv.call(GET, "default", "k")
            assert "other" in error.value.payload
            broker.start()
            async with asyncio.timeout(10):
                while True:
                    try:
                        assert await kv.call(GET, "default", "k") in (b"v", b"w")
                        break
                    except WitError:
                        pass
    finally:
        broker.stop()


async def test_a_wrong_login_refuses_the_link_without_saying_it(tmp_path: Path, bucket: str):
    broker = Broker(tmp_path, config='authorization { user: "me", password: "right" }')
    broker.start()
    place = f"127.0.0.1:{broker.port}"
    config = {"bucket": bucket, "enable_bucket_auto_create": "true"}
    try:
        async with running(NatsKeyValue(), []) as kv:
            with pytest.raises(Unreachable, match="refuses the login") as refused:
                await kv.runtime.put_link(link(cluster_uri=f"nats://me:hush@{place}", **config))
            assert "hush" not in str(refused.value)
            await kv.runtime.put_link(link(cluster_uri=f"nats://me:right@{place}", **config))
            assert "right" not in repr([each.config for each in kv.provider.links.values()])
    finally:
        broker.stop()


async def test_a_watch_goes_on_when_the_broker_was_away(tmp_path: Path, bucket: str, told: Told):
    broker = Broker(tmp_path)
    broker.start()
    config = {"bucket": bucket, "enable_bucket_auto_create": "true", "cluster_uri": broker.url}
    links = [link(**config), link_between(PROVIDER, "watcher", "wasi:keyvalue/watcher", source_config=config)]
    try:
        async with running(NatsKeyValue(), links, peer=told) as kv:
            await kv.call(SET, "default", "k", b"before")
            assert (await told.next())[-1] == b"before"
            broker.kill()
            broker.start()
            writer = await connect(broker.url)
            written = await writer.bucket(bucket)
            async with asyncio.timeout(20):
                while told.calls.empty():
                    await written.put("k", b"after")
                    await asyncio.sleep(0.02)
            await writer.close()
            assert (await told.next())[-1] == b"after"
    finally:
        broker.stop()


@given(st.text())
def test_keys_come_back_from_their_escape(key: str):
    assert unescaped(escaped(key)) == key


@given(st.text(alphabet="=4A.é/ ", max_size=6), st.text(alphabet="=4A.é/ ", max_size=6))
def test_two_keys_never_share_an_escape(one: str, other: str):
    assert (escaped(one) == escaped(other)) == (one == other)


@given(st.text(alphabet=st.one_of(st.sampled_from(".=A4 "), st.characters())))
def test_every_escape_is_a_key_that_nats_takes(key: str):
    name = escaped(key)
    assert name
    assert all(c in "-/_=." or (c.isascii() and c.isalnum()) for c in name)
    assert not name.startswith(".")
    assert not name.endswith(".")
    assert ".." not in name


@pytest.mark.parametrize("key", ["a", "user/42", "a.b.c", "UPPER_lower-9", "abc=="])
def test_ordinary_keys_stay_as_they_are(key: str):
    assert escaped(key) == key
