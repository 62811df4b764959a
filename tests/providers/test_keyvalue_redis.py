"""What is particular to Redis. The contract that it shares with the others is in test_keyvalue."""

from __future__ import annotations

import asyncio
import builtins
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from servers import RedisServer, free_port

from lattice import BadInput, Invocation, WitError
from providers.link import LinkRecord, link_between
from providers.load import builtin_name, resolve
from providers.testing import PROVIDER, Running, running

pytestmark = pytest.mark.redis

GET, SET, LIST = (f"wasi:keyvalue/store#{f}" for f in ("get", "set", "list-keys"))
INCREMENT = "wasi:keyvalue/atomics#increment"
SET_MANY = "wasi:keyvalue/batch#set-many"


def provider():
    return resolve("builtin:keyvalue-redis")()


def link(source: str = "actor", name: str = "default", **config: str) -> LinkRecord:
    return link_between(source, PROVIDER, "wasi:keyvalue/store,atomics,batch", name=name, target_config=config)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that the test may stop, not started."""
    server = RedisServer(tmp_path)
    yield server
    server.stop()


async def payload(call) -> object:
    with pytest.raises(WitError) as error:
        await call
    return error.value.payload


@pytest.mark.parametrize(
    "ref",
    [
        "builtin:keyvalue-redis",
        "wasmcloud+builtin://keyvalue-redis",
        "ghcr.io/wasmcloud/keyvalue-redis:0.30.0",
        "ghcr.io/wasmcloud/kvredis:0.26.0",
    ],
)
def test_it_answers_to_wasmclouds_references(ref):
    assert builtin_name(ref) == "keyvalue-redis"


def test_without_the_client_library_the_pip_line_is_named(monkeypatch: pytest.MonkeyPatch):
    real = builtins.__import__

    def missing(name, *args, **kwargs):
        if name.partition(".")[0] == "redis":
            raise ModuleNotFoundError("No module named 'redis'", name="redis")
        return real(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "providers.keyvalue.redis", raising=False)
    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(BadInput) as refused:
        resolve("builtin:keyvalue-redis")
    [finding] = refused.value.findings
    assert (finding.code, finding.fix) == ("TRL-PRV-009", "pip install 'trellis-lattice[redis]'")


@pytest.mark.parametrize("key", ["URL", "url", "Url"])
async def test_the_url_is_found_in_any_case(redis_server, lattice_name, key):
    async with running(provider(), [link(**{key: redis_server.url, "bucket": lattice_name})]) as kv:
        await kv.call(SET, "default", "k", b"v")
        assert await kv.call(GET, "default", "k") == b"v"


async def test_a_link_without_a_url_uses_the_providers(redis_server, lattice_name):
    async with running(provider(), [link(bucket=lattice_name)], config={"URL": redis_server.url}) as kv:
        await kv.call(SET, "default", "k", b"v")
        assert await kv.call(GET, "default", "k") == b"v"


async def test_a_default_connection_can_be_forbidden(redis_server):
    config = {"URL": redis_server.url, "DISABLE_DEFAULT_CONNECTION": "true"}
    async with running(provider(), [], config=config) as kv:
        with pytest.raises(BadInput, match='"url" is missing'):
            await kv.runtime.put_link(link())
        await kv.runtime.put_link(link(url=redis_server.url))


async def test_without_a_bucket_a_link_has_the_whole_database_under_any_name(own):
    own.start()
    async with running(provider(), [link(url=own.url), link("other", url=own.url, bucket="theirs")]) as kv:
        await kv.call(SET, "default", "plain", b"1", source="other")
        await kv.call(SET, "anything", "k", b"2")
        assert await kv.call(GET, "default", "theirs:plain") == b"1"
        assert await kv.call(GET, "else", "k") == b"2"
        assert sorted((await kv.call(LIST, "", None))["keys"]) == ["k", "theirs:plain"]


async def test_a_link_with_a_bucket_reaches_no_other(redis_server, lattice_name):
    links = [
        link(url=redis_server.url, bucket=lattice_name),
        link("other", "theirs", url=redis_server.url, bucket=lattice_name + "-private"),
    ]
    async with running(provider(), links) as kv:
        for name in (lattice_name + "-private", "theirs"):
            assert await payload(kv.call(GET, name, "k")) == "no-such-store"


async def test_databases_are_chosen_by_the_urls_path(own):
    own.start()
    links = [link(url=own.url + "1"), link(name="two", url=own.url + "2")]
    async with running(provider(), links) as kv:
        await kv.call(SET, "default", "k", b"one")
        assert await kv.call(GET, "default", "k", link="two") is None


async def test_many_keys_are_listed_by_cursors_that_redis_keeps(own):
    own.start()
    async with running(provider(), [link(url=own.url, bucket="a"), link(name="b", url=own.url, bucket="b")]) as kv:
        wanted = {f"key-{n}" for n in range(5000)}
        await kv.call(SET_MANY, "default", [[key, b""] for key in wanted])
        await kv.call(SET_MANY, "default", [[f"other-{n}", b""] for n in range(5000)], link="b")
        found: set[str] = set()
        cursor, pages = None, 0
        while True:
            page = await kv.call(LIST, "default", cursor)
            assert (
                page["keys"] or page["cursor"] is None
            )  # the last may be empty: what it went through is the other bucket's
            found |= set(page["keys"])
            cursor, pages = page["cursor"], pages + 1
            if cursor is None:
                break
        assert found == wanted
        assert pages > 4


async def test_counting_keeps_the_time_to_live_that_somebody_else_set(own):
    own.start()
    async with running(provider(), [link(url=own.url)]) as kv:
        server = next(iter(kv.provider._servers.values()))
        await server.ask("SET", "n", "1", "EX", 1000)
        assert await kv.call(INCREMENT, "default", "n", 1) == 2
        assert await server.ask("TTL", "n") > 900


async def test_what_is_not_a_string_is_an_answer(own):
    own.start()
    async with running(provider(), [link(url=own.url)]) as kv:
        server = next(iter(kv.provider._servers.values()))
        await server.ask("LPUSH", "list", "x")
        await server.ask("SET", b"\xff\xfe", b"not text")
        for call in (kv.call(GET, "default", "list"), kv.call(INCREMENT, "default", "list", 1)):
            assert "WRONGTYPE" in (await payload(call))["other"]
        assert (await kv.call(LIST, "default", None))["keys"] == ["list"]


async def test_a_value_of_five_megabytes_goes_there_and_back(redis_server, lattice_name):
    async with running(provider(), [link(url=redis_server.url, bucket=lattice_name)]) as kv:
        value = bytes(range(256)) * 20_000
        await kv.call(SET, "default", "big", value)
        assert await kv.call(GET, "default", "big") == value


async def test_a_full_server_is_an_answer(tmp_path):
    server = RedisServer(tmp_path, "--maxmemory", "1kb")
    server.start()
    try:
        async with running(provider(), [link(url=server.url)]) as kv:
            assert "maxmemory" in (await payload(kv.call(SET, "default", "k", b"v")))["other"]
    finally:
        server.stop()


# -- connections


async def test_links_with_the_same_settings_share_their_connections_and_the_last_closes_them(redis_server):
    links = [link(source, url=redis_server.url, bucket=source) for source in ("a", "b")]
    async with running(provider(), links) as kv:
        assert len(kv.provider._servers) == 1
        await kv.runtime.delete_link(links[0].id)
        await kv.call(SET, "default", "k", b"v", source="b")
        await kv.runtime.delete_link(links[1].id)
        assert kv.provider._servers == {}


async def test_more_calls_than_connections_wait_for_one(redis_server, lattice_name):
    async with running(provider(), [link(url=redis_server.url, bucket=lattice_name)]) as kv:
        counted = await asyncio.gather(*(kv.call(INCREMENT, "default", "n", 1) for _ in range(200)))
        assert sorted(counted) == list(range(1, 201))
        server = next(iter(kv.provider._servers.values()))
        assert 1 < (await server.ask("CLIENT", "LIST")).count(b"\n") < 100


async def test_links_move_when_the_providers_url_changes(redis_server, own, lattice_name):
    own.start()
    async with running(provider(), [link(bucket=lattice_name)], config={"url": redis_server.url}) as kv:
        await kv.call(SET, "default", "k", b"v")
        await kv.runtime.set_config({"url": own.url})
        assert await kv.call(GET, "default", "k") is None
        assert len(kv.provider._servers) == 1


# -- failures


@pytest.mark.parametrize("url", ["http://127.0.0.1:6379", "127.0.0.1:6379", "redis://:hush@127.0.0.1:port/"])
async def test_a_url_that_is_none_of_redis_refuses_the_link_without_repeating_it(url):
    async with running(provider(), []) as kv:
        with pytest.raises(BadInput, match='"url" is not the URL of a Redis server') as refused:
            await kv.runtime.put_link(link(url=url))
        assert "hush" not in str(refused.value)


async def test_a_server_that_is_down_refuses_the_link_and_takes_it_once_it_is_up(own):
    record = link(url=own.url)
    async with running(provider(), []) as kv:
        with pytest.raises(BadInput, match=f"Redis at {own.url} does not answer") as refused:
            await kv.runtime.put_link(record)
        assert refused.value.findings[0].code == "TRL-PRV-010"
        assert record.id in kv.runtime.refused
        own.start()
        await kv.runtime.put_link(record)
        await kv.call(SET, "default", "k", b"v")
        assert await kv.call(GET, "default", "k") == b"v"


async def test_a_server_that_dies_is_an_answer_until_it_is_back(own):
    own.start()
    async with running(provider(), [link(url=own.url)]) as kv:
        await kv.call(SET, "default", "k", b"v")
        assert (await kv.runtime.health()).healthy
        own.stop()
        for call in (kv.call(GET, "default", "k"), kv.call(INCREMENT, "default", "n", 1)):
            assert "does not answer" in (await payload(call))["other"]
        health = await kv.runtime.health()
        assert not health.healthy
        assert own.url in health.message
        own.start()
        assert await kv.call(INCREMENT, "default", "n", 1) == 1
        assert await kv.call(GET, "default", "k") is None
        assert (await kv.runtime.health()).healthy


async def test_a_restart_between_two_calls_goes_unnoticed(own):
    own.start()
    async with running(provider(), [link(url=own.url)]) as kv:
        await asyncio.gather(*(kv.call(INCREMENT, "default", f"n{n}", 1) for n in range(20)))
        await asyncio.to_thread(own.stop)
        await asyncio.to_thread(own.start)
        assert await asyncio.gather(*(kv.call(INCREMENT, "default", f"n{n}", 1) for n in range(20))) == [1] * 20


async def test_reads_outlast_a_short_absence(own):
    own.start()
    patient = link(url=own.url, backend_reconnect_num_retries="100", backend_reconnect_max_delay_ms="20")
    async with running(provider(), [patient]) as kv:
        await kv.call(SET, "default", "k", b"v")
        own.stop()
        reading = asyncio.create_task(kv.call(GET, "default", "k"))
        await asyncio.to_thread(own.start)
        assert await reading is None


async def test_a_slow_server_is_an_answer_in_time_and_counting_is_not_repeated():
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(4096):
            asked.extend(word for word in (b"EVAL", b"GET") if word in data and b"redis.call" not in data[:20])
            if b"EVAL" not in data and b"GET\r\n" not in data:
                writer.write(b"+OK\r\n" * data.count(b"*"))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", free_port())
    port = server.sockets[0].getsockname()[1]
    slow = link(url=f"redis://127.0.0.1:{port}/", backend_response_timeout_ms="50", backend_reconnect_num_retries="1")
    async with running(provider(), [slow]) as kv:
        counting = await payload(kv.call(INCREMENT, "default", "n", 1))
        assert "did not answer within 0.05 s" in counting["other"]
        assert asked.count(b"EVAL") == 1
        asked.clear()
        reading = await payload(kv.call(GET, "default", "k"))
        assert "did not answer within 0.05 s" in reading["other"]
        assert asked.count(b"GET") == 2, "reading is"
    server.close()
    await server.wait_closed()


async def test_a_wrong_password_refuses_the_link_without_saying_it(tmp_path):
    server = RedisServer(tmp_path, "--requirepass", "right")
    server.start()
    place = f"127.0.0.1:{server.port}"
    try:
        async with running(provider(), []) as kv:
            for wrong in (f"redis://{place}/", f"redis://:hush@{place}/", f"redis://user:hush@{place}/"):
                with pytest.raises(BadInput, match=f"redis://{place}/ refuses the login") as refused:
                    await kv.runtime.put_link(link(url=wrong))
                assert "hush" not in str(refused.value)
            await kv.runtime.put_link(link(url=f"redis://:right@{place}/"))
            await kv.call(SET, "default", "k", b"v")
            assert "right" not in repr(kv.provider._servers) + repr(kv.provider.links)
    finally:
        server.stop()


async def test_what_a_user_may_not_do_is_access_denied(own):
    own.start()
    async with running(provider(), [link(url=own.url)]) as kv:
        server = next(iter(kv.provider._servers.values()))
        await server.ask("ACL", "SETUSER", "reader", "on", ">pw", "~*", "+get", "+ping", "+client")
        await kv.runtime.put_link(link("reader", url=f"redis://reader:pw@127.0.0.1:{own.port}/"))
        assert await kv.call(GET, "default", "k", source="reader") is None
        assert await payload(kv.call(SET, "default", "k", b"v", source="reader")) == "access-denied"
        assert isinstance(kv, Running)


async def test_tls_is_checked_against_the_authority_that_the_url_names(tmp_path):
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    issued.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    issued.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    port = free_port()
    server = RedisServer(
        tmp_path,
        *("--tls-port", str(port), "--tls-auth-clients", "no", "--tls-ca-cert-file", str(tmp_path / "ca.pem")),
        *("--tls-cert-file", str(tmp_path / "cert.pem"), "--tls-key-file", str(tmp_path / "key.pem")),
    )
    server.start()
    place = f"rediss://127.0.0.1:{port}/"
    try:
        async with running(provider(), []) as kv:
            for wrong in (place, f"{place}?ssl_ca_certs={tmp_path}/other.pem"):
                with pytest.raises(BadInput, match="certificate verify failed"):
                    await kv.runtime.put_link(link(url=wrong))
            await kv.runtime.put_link(link(url=f"{place}?ssl_ca_certs={tmp_path}/ca.pem"))
            await kv.call(SET, "default", "k", b"v")
            assert await kv.call(GET, "default", "k") == b"v"
    finally:
        server.stop()


# -- watching


class Told:
    def __init__(self) -> None:
        self.changes: asyncio.Queue[tuple[object, ...]] = asyncio.Queue()

    async def __call__(self, invocation: Invocation) -> None:
        self.changes.put_nowait((invocation.function.name, *invocation.args[1:]))

    async def next(self) -> tuple[object, ...]:
        async with asyncio.timeout(5):
            return await self.changes.get()


def watcher(**config: str) -> LinkRecord:
    return link_between(PROVIDER, "watcher", "wasi:keyvalue/watcher", source_config=config)


async def test_a_watcher_hears_what_others_write_and_what_expires_and_goes_on_after_a_restart(own):
    told = Told()
    own.start()
    async with running(provider(), [watcher(url=own.url, bucket="mine")], peer=told) as kv:
        server = next(iter(kv.provider._servers.values()))
        await server.ask("SET", "theirs:k", "x")
        await server.ask("SET", "mine:k", "1", "PX", 20)
        assert await told.next() == ("on-set", "k", b"1")
        await asyncio.sleep(0.02)
        await server.ask("GET", "mine:k")  # at the latest now it has expired
        assert await told.next() == ("on-delete", "k")
        await asyncio.to_thread(own.stop)
        await asyncio.to_thread(own.start)
        async with asyncio.timeout(10):
            while told.changes.empty():
                await server.ask("SET", "mine:k", "2")
                await asyncio.sleep(0.02)
        assert await told.next() == ("on-set", "k", b"2")


async def test_a_watcher_that_would_never_hear_anything_is_refused(own):
    own.start()
    async with running(provider(), [link(url=own.url)]) as kv:
        server = next(iter(kv.provider._servers.values()))
        await server.ask("ACL", "SETUSER", "reader", "on", ">pw", "~*", "&*", "+get", "+ping", "+config|get", "+client")
        with pytest.raises(BadInput, match="notify-keyspace-events") as refused:
            await kv.runtime.put_link(watcher(url=f"redis://reader:pw@127.0.0.1:{own.port}/"))
        assert refused.value.findings[0].code == "TRL-PRV-010"
        assert len(kv.provider._servers) == 1
