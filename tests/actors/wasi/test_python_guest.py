"""Python actors, built by componentize-py and run as users run them."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest
import structlog

from actors.actor import Actor
from actors.engine import Engine, EngineConfig
from actors.limits import MIB, Limits
from lattice import (
    BadValue,
    ByteStream,
    DeadlineExceeded,
    EntityId,
    Function,
    Handler,
    Invocation,
    LimitExceeded,
    Trap,
    Value,
    WitError,
)
from lattice.http import HANDLE
from lattice.streams import StreamClosed, read_body
from trellis.building import build, recipe

pytestmark = pytest.mark.toolchain

COUNTER = EntityId("counter")
EXAMPLE = Path(__file__).parents[3] / "examples" / "counter" / "actor"


def request(path: str, method: str = "GET", body: bytes | ByteStream = b"", deadline: float = 60.0) -> Invocation:
    value = {
        "method": method,
        "path-with-query": path,
        "scheme": "http",
        "authority": "example.com",
        "headers": [("Accept", b"*/*"), ("X-Twice", b"1"), ("X-Twice", b"2")],
        "body": body,
    }
    trace = {"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"}
    return Invocation(COUNTER, HANDLE, (value,), deadline=time.monotonic() + deadline, trace=trace)


def memory_store(buckets: dict[str, dict[str, bytes]]) -> Handler:
    """What a key-value provider does, without a provider."""

    async def handle(invocation: Invocation) -> Value:
        bucket, *args = invocation.args
        if bucket not in buckets:
            raise WitError("no-such-store")
        data = buckets[bucket]
        await asyncio.sleep(0)
        match invocation.function.name, args:
            case "get", [key]:
                return data.get(key)
            case "increment", [key, delta]:
                data[key] = str(int(data.get(key, b"0")) + delta).encode()
                return int(data[key])
            case "swap", [key, old, new]:
                if data.get(key) != old:
                    return False
                data[key] = new
                return True
            case "set", [key, value]:
                data[key] = value
                return None
            case "delete", [key]:
                data.pop(key, None)
                return None
            case "set-many", [pairs]:
                data.update(pairs)
                return None
            case "get-many", [keys]:
                return [(key, data[key]) if key in data else None for key in keys]
            case "delete-many", [keys]:
                for key in keys:
                    data.pop(key, None)
                return None
            case "list-keys", [None]:
                return {"keys": sorted(data), "cursor": None}
            case unknown:
                pytest.fail(f"not expected: {unknown}")

    return handle


@pytest.fixture
async def example() -> Path:
    return (await build(recipe(EXAMPLE))).recipe.output


@pytest.fixture
def python(engine, deployed):
    async def load(component: Path, **options) -> Actor:
        return deployed(COUNTER, await engine.load(component), **options)

    return load


@pytest.fixture
def counter(python, example):
    return lambda **options: python(example, **options)


@pytest.fixture
def guest(python, python_guest):
    return lambda **options: python(python_guest, **options)


async def ask(actor: Actor, path: str, **options) -> Value:
    answer = await actor.handle(request(path, **options))
    body = await read_body(answer["body"])
    await actor.drain()
    return json.loads(body)


# -- the counter example


async def test_the_counter_counts_and_says_where(counter):
    buckets: dict[str, dict[str, bytes]] = {"default": {}}
    actor = await counter(imports=memory_store(buckets), config={"trellis.host": "calm-forest-1234"})
    answers = [await ask(actor, "/") for _ in range(3)]
    assert answers == [{"count": n, "host": "calm-forest-1234"} for n in (1, 2, 3)]
    assert buckets == {"default": {"count": b"3"}}


async def test_the_counter_without_a_store_says_so(counter):
    answer = await (await counter()).handle(request("/"))
    assert answer["status"] == 503
    assert b"not linked" in await read_body(answer["body"])


async def test_echo_gives_back_a_body_that_was_sent_whole(counter):
    actor = await counter()
    answer = await actor.handle(request("/echo", "POST", b"hello " * 5000))
    assert await read_body(answer["body"]) == b"hello " * 5000


async def test_echo_streams_both_ways_at_once(counter):
    actor = await counter()
    upload = ByteStream()
    answer = await actor.handle(request("/echo", "POST", upload))
    download = answer["body"]
    for piece in (b"one", b"two", b"three"):
        await upload.write(piece)
        assert await download.read() == piece, "each piece comes back before the next is sent"
    upload.finish()
    assert await download.read() == b""


@pytest.mark.parametrize("path", ["/", "/echo", "/nowhere"])
async def test_the_counter_ends_well_after_its_answer(counter, path):
    actor = await counter(imports=memory_store({"default": {}}))
    with structlog.testing.capture_logs() as events:
        await read_body((await actor.handle(request(path, body=b"hello")))["body"])
        await actor.drain()
    assert "guest.failed_after_answer" not in [event["event"] for event in events]


async def test_an_exception_is_a_trap_with_the_python_traceback(counter):
    actor = await counter()
    with pytest.raises(Trap) as trap:
        await actor.handle(request("/crash"))
    assert "Traceback (most recent call last)" in trap.value.details["output"]
    assert "RuntimeError: this actor was asked to crash" in trap.value.details["output"]


async def test_an_infinite_loop_ends_at_the_deadline_while_others_are_served(counter):
    actor = await counter(imports=memory_store({"default": {}}))
    await ask(actor, "/")
    spinning = asyncio.create_task(actor.handle(request("/spin", deadline=0.5)))
    begun = time.monotonic()
    assert (await actor.handle(request("/")))["status"] == 200
    assert not spinning.done()
    with pytest.raises(DeadlineExceeded):
        await spinning
    assert time.monotonic() - begun < 5


async def test_a_memory_hog_exceeds_its_limit(counter):
    actor = await counter(limits=Limits(memory=64 * MIB))
    with pytest.raises(LimitExceeded) as exceeded:
        await actor.handle(request("/eat"))
    assert exceeded.value.details["limit"] == "memory"


# -- everything else


async def test_a_guest_sees_the_request_as_it_was_sent(guest):
    actor = await guest()
    seen = await ask(actor, "/request?a=b")
    assert seen == {
        "get": True,
        "http": True,
        "authority": "example.com",
        "path": "/request?a=b",
        "headers": [["Accept", "*/*"], ["X-Twice", "1"], ["X-Twice", "2"]],
    }
    answer = await actor.handle(request("/wall"))
    assert answer["headers"] == [("content-type", b"application/json"), ("x-guest", b"python")]
    assert abs(json.loads(await read_body(answer["body"])) - time.time()) < 5


async def test_asyncio_in_the_guest_streams_both_ways(guest):
    actor = await guest()
    upload = ByteStream()
    answer = await actor.handle(request("/upper", "POST", upload))
    for piece in (b"one", b"two"):
        await upload.write(piece)
        assert await answer["body"].read() == piece.upper()
    upload.finish()
    assert await answer["body"].read() == b""


async def test_what_a_guest_prints_is_passed_on_line_by_line(guest):
    lines: list[tuple[str, str]] = []
    actor = await guest(on_line=lambda _, stream, line: lines.append((stream, line)))
    await ask(actor, "/print")
    assert sorted(lines) == [("stderr", "to stderr"), ("stdout", "to stdout")]


@pytest.mark.parametrize(("limit", "most", "path"), [("output", 5, "/print"), ("handles", 3, "/environment")])
async def test_a_breach_of_a_limit_on_the_hosts_side_names_it_and_ends_that_call_alone(guest, limit, most, path):
    actor = await guest(limits=Limits(**{limit: most}))
    for _ in range(2):
        with pytest.raises(LimitExceeded) as caught:
            await actor.handle(request(path))
        assert (caught.value.details["limit"], caught.value.details["amount"]) == (limit, most)
    actor.limit(Limits())
    assert (await actor.handle(request(path)))["status"] == 200


async def test_more_than_may_be_buffered_breaks_the_body_off_and_is_logged_with_its_limit(guest):
    actor = await guest(limits=Limits(buffered=5))
    with structlog.testing.capture_logs() as logs:
        answer = await actor.handle(request("/environment"))
        with pytest.raises(StreamClosed):
            await read_body(answer["body"])
        await actor.drain()
    assert any("wrote more than 5 bytes into streams that nobody read" in str(log) for log in logs)


async def test_a_guest_that_sleeps_costs_no_thread_and_no_others_time(guest):
    actor = await guest()
    await ask(actor, "/wall")
    begun = time.monotonic()
    answers = await asyncio.gather(*[actor.handle(request("/sleep")) for _ in range(20)])
    assert time.monotonic() - begun < 20 * 0.05
    assert all([json.loads(await read_body(answer["body"])) >= 0.05 for answer in answers])


async def test_every_instance_has_randomness_of_its_own(guest):
    actor = await guest()
    assert await ask(actor, "/random") != await ask(actor, "/random")


async def test_config_and_environment_are_what_the_actor_was_given(guest):
    actor = await guest(config={"greeting": "hi"}, environment={"LANG": "en"})
    seen = await ask(actor, "/environment")
    assert seen["config"] == {"greeting": "hi"}
    assert seen["environment"]["LANG"] == "en"


async def test_secrets_are_revealed_to_the_guest_that_was_trusted_with_them(guest):
    async def trusted(name):
        return {"password": "hush", "key": b"\x00\xff"}.get(name)

    seen = await ask(await guest(secrets=trusted), "/secrets")
    assert seen == ["SecretValue_String", "hush", "SecretValue_Bytes", "00ff", "SecretsError_NotFound"]


async def test_a_guest_that_fails_after_its_answer_is_logged_with_its_traceback(guest):
    actor = await guest()
    with structlog.testing.capture_logs() as events:
        answer = await actor.handle(request("/late"))
        assert await read_body(answer["body"]) == b"done"
        await actor.drain()
    [event] = [event for event in events if event["event"] == "guest.failed_after_answer"]
    assert "ValueError: too late" in event["output"]


async def test_a_log_line_carries_actor_and_trace(guest):
    actor = await guest()
    with structlog.testing.capture_logs() as events:
        await ask(actor, "/log")
    [event] = [event for event in events if event["event"] == "guest.logged"]
    assert (event["actor"], event["level"], event["context"], event["message"], event["trace"]) == (
        "counter",
        "warn",
        "shop",
        "sold out",
        "ab" * 16,
    )


async def test_batches_go_over_the_link_the_guest_chose(guest):
    used: set[tuple[str, str]] = set()
    store = memory_store({"things": {}})

    async def imports(invocation: Invocation) -> Value:
        used.add((invocation.function.interface, invocation.link))
        return await store(invocation)

    actor = await guest(imports=imports)
    assert await ask(actor, "/batch") == {"found": [["a", "1"], ["b", "2"], None], "keys": ["b"]}
    assert used == {("wasi:keyvalue/batch", "cache"), ("wasi:keyvalue/store", "default")}


async def test_a_swap_that_comes_too_late_gives_the_guest_a_handle_of_the_latest(guest):
    buckets: dict[str, dict[str, bytes]] = {"things": {"a": b"first"}}
    actor = await guest(imports=memory_store(buckets))
    assert await ask(actor, "/swap") == {"seen": "theirs", "now": "mine"}


async def test_a_watcher_is_given_the_bucket_that_changed(guest):
    buckets: dict[str, dict[str, bytes]] = {"things": {}}
    actor = await guest(imports=memory_store(buckets))
    on_set, on_delete = (Function("wasi:keyvalue/watcher", name) for name in ("on-set", "on-delete"))
    await actor.handle(Invocation(COUNTER, on_set, ("things", "a", b"1")))
    assert buckets == {"things": {"a-seen": b"1"}}
    await actor.handle(Invocation(COUNTER, on_delete, ("things", "a")))
    assert buckets == {"things": {}}
    with pytest.raises(BadValue):
        await actor.handle(Invocation(COUNTER, on_set, ()))


async def test_an_unlinked_store_is_an_error_the_guest_can_handle(guest):
    seen = await ask(await guest(), "/unlinked")
    assert seen.startswith("Error_Other: ")
    assert "not linked" in seen


async def test_there_are_no_sockets_and_no_files(guest):
    actor = await guest()
    with structlog.testing.capture_logs() as events:
        assert await ask(actor, "/socket") in ("PermissionError", "OSError", "gaierror")
    assert [event["actor"] for event in events if event["event"] == "guest.denied"]
    assert await ask(actor, "/file") in ("FileNotFoundError", "OSError", "PermissionError")


async def test_a_request_of_the_guests_own_goes_over_its_link(guest):
    asked: list[Value] = []

    async def upstream(invocation: Invocation) -> Value:
        asked.append(invocation.args[0])
        body = ByteStream()
        body.write_now(b"a thing, ")
        asyncio.get_running_loop().call_later(0.01, body.write_now, b"in pieces")
        asyncio.get_running_loop().call_later(0.02, body.finish)
        return {"status": 207, "headers": [], "body": body}

    assert await ask(await guest(imports=upstream), "/fetch") == {"status": 207, "text": "a thing, in pieces"}
    assert asked[0]["authority"] == "upstream:8080"
    assert asked[0]["path-with-query"] == "/thing?x=1"


async def test_a_request_of_the_guests_own_without_a_link_is_denied(guest):
    assert await ask(await guest(), "/fetch") == {"error": "ErrorCode_HttpRequestDenied"}


async def test_a_guest_that_exits_without_an_answer_says_its_code(guest):
    actor = await guest()
    with pytest.raises(Trap, match="exit") as trap:
        await actor.handle(request("/exit"))
    assert "bye" in trap.value.details["output"]


async def test_python_guests_run_in_the_pool_as_well(example):
    engine = Engine(EngineConfig(pool=20))
    actor = Actor(
        COUNTER,
        await engine.load(example),
        imports=memory_store({"default": {}}),
    )
    answers = await asyncio.gather(*[actor.handle(request("/")) for _ in range(20)])
    counts = [json.loads(await read_body(answer["body"]))["count"] for answer in answers]
    assert max(counts) == 20
    await actor.drain()
    engine.close()
