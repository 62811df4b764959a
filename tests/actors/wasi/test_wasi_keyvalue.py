"""wasi:keyvalue, wasi:config, wasi:logging, wasmcloud:bus and wasi:filesystem as a guest sees them."""

from __future__ import annotations

import asyncio
import time

import pytest
import structlog

from actors.guest import Guest
from actors.wasi.bus import CallTargetInterface, Lattice
from actors.wasi.config import Runtime, Store
from actors.wasi.filesystem import Preopens, Types
from actors.wasi.io import IoError
from actors.wasi.keyvalue import Atomics, Batch, Cas, Draft2Atomics, Draft2Store
from actors.wasi.keyvalue import Store as KeyValue
from actors.wasi.logging import Logging
from lattice import (
    DeadlineExceeded,
    Denied,
    EntityId,
    Function,
    Handler,
    Invocation,
    LatticeError,
    Unreachable,
    Value,
    WitError,
)

COUNTER = EntityId("counter")


def store(buckets: dict[str, dict[str, bytes]], calls: list[Invocation] | None = None) -> Handler:
    """A provider of wasi:keyvalue in memory."""

    async def handle(invocation: Invocation) -> Value:
        if calls is not None:
            calls.append(invocation)
        bucket, *args = invocation.args
        if bucket not in buckets:
            raise WitError("no-such-store")
        data = buckets[bucket]
        match invocation.function.key, args:
            case "wasi:keyvalue/store#get", [key]:
                return data.get(key)
            case "wasi:keyvalue/store#set", [key, value]:
                data[key] = value
            case "wasi:keyvalue/store#delete", [key]:
                data.pop(key, None)
            case "wasi:keyvalue/store#exists", [key]:
                return key in data
            case "wasi:keyvalue/store#list-keys", [None]:
                return {"keys": sorted(data), "cursor": None}
            case "wasi:keyvalue/atomics#increment", [key, delta]:
                data[key] = str(int(data.get(key, b"0")) + delta).encode()
                return int(data[key])
            case "wasi:keyvalue/atomics#swap", [key, old, new]:
                if data.get(key) != old:
                    return False
                data[key] = new
                return True
            case "wasi:keyvalue/batch#get-many", [keys]:
                return [(key, data[key]) if key in data else None for key in keys]
            case "wasi:keyvalue/batch#set-many", [pairs]:
                data.update(pairs)
            case "wasi:keyvalue/batch#delete-many", [keys]:
                for key in keys:
                    data.pop(key, None)
            case unknown:
                pytest.fail(f"not a keyvalue call: {unknown}")
        return None

    return handle


def failing(error: Exception) -> Handler:
    async def handle(invocation: Invocation) -> Value:
        raise error

    return handle


async def test_a_bucket_does_what_the_store_behind_the_link_does():
    data: dict[str, bytes] = {}
    guest = Guest(COUNTER, imports=store({"visits": data}))
    bucket = KeyValue.open(guest, "visits")
    assert await bucket.get("a") is None
    await bucket.set("a", b"1")
    assert await bucket.get("a") == b"1"
    assert await bucket.exists("a") is True
    assert await bucket.list_keys(None) == {"keys": ["a"], "cursor": None}
    assert await Atomics.increment(guest, bucket, "a", 41) == 42
    await Batch.set_many(guest, bucket, [("b", b"x"), ("c", b"y")])
    assert await Batch.get_many(guest, bucket, ["b", "z"]) == [("b", b"x"), None]
    await Batch.delete_many(guest, bucket, ["b", "c"])
    await bucket.delete("a")
    assert data == {}


async def test_in_the_second_draft_cursors_are_text_and_numbers_have_a_sign():
    async def pages(invocation: Invocation) -> Value:
        return {"keys": ["a"], "cursor": 7} if invocation.args[1] is None else {"keys": ["b"], "cursor": None}

    bucket = Draft2Store.open(Guest(COUNTER, imports=pages), "visits")
    assert await bucket.list_keys(None) == {"keys": ["a"], "cursor": "7"}
    assert await bucket.list_keys("7") == {"keys": ["b"], "cursor": None}
    with pytest.raises(WitError, match="is no cursor"):
        await bucket.list_keys("seven")

    data: dict[str, bytes] = {"name": b"Ada"}
    guest = Guest(COUNTER, imports=store({"visits": data}))
    bucket = Draft2Store.open(guest, "visits")
    assert await Draft2Atomics.increment(guest, bucket, "n", 5) == 5
    assert await asyncio.gather(*(Draft2Atomics.increment(guest, bucket, "n", -1) for _ in range(3))) == [4, 3, 2]
    for key, delta in (("n", -3), ("name", -1), ("n", 2**63 - 1)):
        with pytest.raises(WitError) as answer:
            await Draft2Atomics.increment(guest, bucket, key, delta)
        assert "number" in answer.value.payload["other"]


async def test_a_swap_succeeds_while_the_key_is_as_it_was_and_else_gives_the_latest():
    data = {"a": b"1"}
    guest = Guest(COUNTER, imports=store({"visits": data}))
    bucket = KeyValue.open(guest, "visits")
    cas = await Cas.new(guest, bucket, "a")
    assert cas.current() == b"1"
    data["a"] = b"2"
    with pytest.raises(WitError) as answer:
        await Atomics.swap(guest, cas, b"mine")
    latest = answer.value.payload["cas-failed"]
    assert latest.current() == b"2"
    await Atomics.swap(guest, latest, b"mine")
    assert data == {"a": b"mine"}
    await Atomics.swap(guest, await Cas.new(guest, bucket, "new"), b"3")
    assert data["new"] == b"3"


async def test_a_swap_that_the_store_cannot_do_is_a_store_error():
    guest = Guest(COUNTER, imports=failing(Unreachable("nobody is there")))
    cas = Cas(KeyValue.open(guest, "visits"), "a", None)
    with pytest.raises(WitError) as answer:
        await Atomics.swap(guest, cas, b"x")
    assert answer.value.payload == {"store-error": {"other": "nobody is there"}}


async def test_a_call_carries_source_link_deadline_and_trace_of_the_invocation_it_serves():
    calls: list[Invocation] = []
    serving = Invocation(
        COUNTER,
        Function.parse("wasi:http/incoming-handler#handle"),
        deadline=time.monotonic() + 5,
        trace={"traceparent": "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"},
    )
    guest = Guest(COUNTER, imports=store({"visits": {}}, calls), invocation=serving)
    Lattice.set_link_name(guest, "cache", [CallTargetInterface.new(guest, "wasi", "keyvalue", "store")])
    bucket = KeyValue.open(guest, "visits")
    await bucket.get("a")
    await Atomics.increment(guest, bucket, "a", 1)
    assert [(call.source, call.link) for call in calls] == [(COUNTER, "cache"), (COUNTER, "default")]
    assert calls[0].deadline == serving.deadline
    assert calls[0].trace == serving.trace


async def test_opening_a_bucket_asks_nobody_and_an_unknown_one_answers_at_its_first_use():
    calls: list[Invocation] = []
    bucket = KeyValue.open(Guest(COUNTER, imports=store({}, calls)), "nope")
    assert calls == []
    with pytest.raises(WitError) as answer:
        await bucket.get("a")
    assert answer.value.payload == "no-such-store"


async def test_a_lattice_failure_is_an_answer_the_guest_can_handle():
    bucket = KeyValue.open(Guest(COUNTER, imports=failing(Unreachable("nobody is there"))), "visits")
    with pytest.raises(WitError) as answer:
        await bucket.get("a")
    assert answer.value.payload == {"other": "nobody is there"}


@pytest.mark.parametrize("end", [DeadlineExceeded("too late"), asyncio.CancelledError()])
async def test_the_end_of_the_callers_time_ends_the_guest_too(end):
    bucket = KeyValue.open(Guest(COUNTER, imports=failing(end)), "visits")
    with pytest.raises(type(end)):
        await bucket.get("a")


async def test_an_actor_without_a_link_is_told_and_the_missing_grant_is_logged():
    bucket = KeyValue.open(Guest(COUNTER), "visits")
    with structlog.testing.capture_logs() as events, pytest.raises(WitError) as answer:
        await bucket.get("a")
    assert "not linked" in answer.value.payload["other"]
    assert [(e["event"], e["actor"], e["interface"]) for e in events] == [
        ("guest.denied", "counter", "wasi:keyvalue/store")
    ]
    assert "wasi:keyvalue/store" in events[0]["grant"]


async def test_a_policy_that_says_no_is_access_denied():
    bucket = KeyValue.open(Guest(COUNTER, imports=failing(Denied("reads only"))), "visits")
    with structlog.testing.capture_logs() as events, pytest.raises(WitError) as answer:
        await bucket.set("a", b"1")
    assert answer.value.payload == "access-denied"
    assert events[0]["function"] == "set"


async def test_config_is_the_actors_own():
    guest = Guest(COUNTER, config={"b": "2", "a": "1"})
    assert Store.get(guest, "a") == "1"
    assert Store.get(guest, "z") is None
    assert Store.get_all(guest) == Runtime.get_all(guest) == [("a", "1"), ("b", "2")]
    assert Runtime.get(guest, "b") == "2"


@pytest.mark.parametrize(
    ("level", "as_level"), [("trace", "debug"), ("warn", "warning"), ("error", "error"), ("critical", "critical")]
)
async def test_a_guests_log_line_is_an_event_bound_to_actor_and_trace(level, as_level):
    call = Invocation(COUNTER, Function.parse("a:b/c#d"), trace={"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"})
    with structlog.testing.capture_logs() as events:
        Logging.log(Guest(COUNTER, invocation=call), level, "shop", "sold out")
    assert events == [
        {
            "event": "guest.logged",
            "actor": "counter",
            "level": level,
            "context": "shop",
            "message": "sold out",
            "trace": "ab" * 16,
            "log_level": as_level,
        }
    ]


async def test_there_are_no_files():
    assert Preopens.get_directories(Guest(COUNTER)) == []
    assert Types.filesystem_error_code(Guest(COUNTER), IoError("x")) is None


async def test_every_lattice_error_is_handled_by_the_guest_or_ends_it():
    for error in LatticeError.__subclasses__():
        bucket = KeyValue.open(Guest(COUNTER, imports=failing(error("said why"))), "visits")
        with pytest.raises((WitError, DeadlineExceeded)) as outcome:
            await bucket.get("a")
        if isinstance(outcome.value, WitError):
            assert outcome.value.payload in ({"other": "said why"}, "access-denied")
