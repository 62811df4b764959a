"""Schedules: each tick is called for once, whoever is awake, and what cannot be a schedule is refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog
from clock import NEW_YEAR, Clock
from servers import Broker

from lattice import BadInput, Busy, Invocation, LatticeError, Trap, Unreachable, Value, WitError
from lattice.memory import MemoryBroker
from providers import cron
from providers.cron import Cron, WallClock
from providers.link import LinkRecord, link_between
from providers.load import builtin_name, resolve
from providers.testing import PROVIDER, running


class Peer:
    """The actor: what it was called with, and how it fails first."""

    def __init__(self, *fails: BaseException) -> None:
        self.fails = list(fails)
        self.calls: asyncio.Queue[bytes] = asyncio.Queue()

    async def __call__(self, invocation: Invocation) -> Value:
        assert invocation.function.key == "wasmcloud:cron/scheduler#invoke"
        self.calls.put_nowait(invocation.args[0])
        if self.fails:
            raise self.fails.pop(0)

    async def called(self) -> bytes:
        async with asyncio.timeout(5):
            return await self.calls.get()


@pytest.fixture
def clock() -> Clock:
    return Clock()


Jobs = Callable[..., LinkRecord]


@pytest.fixture
def jobs(lattice_name: str) -> Jobs:
    """A link whose jobs no other test has, by their target."""

    def link(cronjobs: str = "a=0 * * * *:x", target: str = lattice_name, **config: str) -> LinkRecord:
        return link_between(
            PROVIDER, target, "wasmcloud:cron/scheduler", source_config={"cronjobs": cronjobs, **config}
        )

    return link


def at(hour: int, minute: int = 0, second: int = 0) -> datetime:
    return NEW_YEAR + timedelta(hours=hour, minutes=minute, seconds=second)


@pytest.mark.parametrize("ref", ["builtin:cron", "builtin:cron-scheduler", "ghcr.io/wasmcloud/cron-scheduler:0.1.0"])
def test_it_answers_to_wasmclouds_references(ref):
    assert builtin_name(ref) == "cron"
    assert resolve(ref) is Cron


async def test_an_actor_is_called_at_each_tick_with_its_payload(transport, clock, jobs):
    peer = Peer()
    links = [jobs('daily=0 9 * * *:{"kind": "a;b"};\n often=*/20 * * * * ?:{}')]
    async with running(Cron(transport, clock), links, peer=peer):
        assert await clock.asleep(2) == [at(0, 0, 20), at(9)]
        clock.pass_to(at(0, 0, 20))
        assert await peer.called() == b"{}"
        assert await clock.asleep(2) == [at(0, 0, 40), at(9)]
        clock.pass_to(at(0, 0, 40))
        assert await peer.called() == b"{}"
        await clock.asleep(2)
        clock.pass_to(at(9))
        assert {await peer.called(), await peer.called()} == {b'{"kind": "a;b"}', b"{}"}


async def test_of_several_hosts_one_calls_at_each_tick(transport, clock, jobs):
    peer = Peer()
    links = [jobs()]
    async with running(Cron(transport, clock), links, peer=peer), running(Cron(transport, clock), links, peer=peer):
        async with running(Cron(transport, clock), links, peer=peer):
            for hour in range(1, 11):
                assert await clock.asleep(3) == [at(hour)] * 3
                clock.pass_to(at(hour))
        for hour in range(11, 14):  # and when one has left
            await clock.asleep(2)
            clock.pass_to(at(hour))
        assert await clock.asleep(2) == [at(14)] * 2
    assert peer.calls.qsize() == 13


async def test_schedules_are_of_their_time_zone_and_summer_time_skips_none(transport, clock, jobs):
    clock.time = datetime(2026, 3, 28, 12, tzinfo=UTC)
    async with running(Cron(transport, clock), [jobs("a=30 2 * * *", timezone="Europe/Berlin")]):
        # 02:30 does not exist on the 29th: cron runs it when the clocks have gone forward
        assert await clock.asleep() == [datetime(2026, 3, 29, 1, tzinfo=UTC)]


async def test_what_nobody_was_there_for_is_skipped(transport, clock, jobs):
    peer = Peer()
    async with running(Cron(transport, clock), [jobs()], peer=peer):
        await clock.asleep()
        clock.pass_to(at(3, 30))  # asleep for hours
        assert await clock.asleep() == [at(4)]
        assert peer.calls.empty()


async def test_what_nobody_was_there_for_is_caught_up_with_once(transport, clock, jobs):
    peer = Peer()
    links = [jobs(catch_up="true")]
    async with running(Cron(transport, clock), links, peer=peer):
        await clock.asleep()
        clock.pass_to(at(1))
        await peer.called()
        await clock.asleep()
        clock.pass_to(at(3, 30))
        await peer.called()
        assert await clock.asleep() == [at(4)]
    clock.time = at(7, 30)
    async with running(Cron(transport, clock), links, peer=peer), running(Cron(transport, clock), links, peer=peer):
        await peer.called()
        assert await clock.asleep(2) == [at(8)] * 2
    assert peer.calls.empty()


@pytest.mark.parametrize("error", [Busy("full"), Unreachable("nobody", target="TARGET")])
async def test_an_actor_that_is_away_is_waited_for(transport, clock, jobs, lattice_name, error):
    error.details = dict.fromkeys(error.details, lattice_name)
    peer = Peer(error, error)
    async with running(Cron(transport, clock), [jobs()], peer=peer):
        await clock.asleep()
        clock.pass_to(at(1))
        for _ in range(3):
            await peer.called()


@pytest.mark.parametrize(
    ("error", "event"),
    [
        (WitError("no"), "job.refused"),
        (Trap("unreachable executed"), "job.failed"),
        (Unreachable("the host went away with the call in hand"), "job.failed"),
    ],
)
async def test_a_call_that_was_begun_is_not_repeated(transport, clock, jobs, error, event):
    peer = Peer(error)
    with structlog.testing.capture_logs() as events:
        async with running(Cron(transport, clock), [jobs()], peer=peer):
            await clock.asleep()
            clock.pass_to(at(1))
            await peer.called()
            await clock.asleep()
            clock.pass_to(at(2))
            await peer.called()
    assert [e["job"] for e in events if e["event"] == event] == ["a"]
    assert peer.calls.empty()


async def test_leaving_finishes_the_calls_in_hand_and_takes_no_more_ticks(transport, clock, jobs):
    gate, done = asyncio.Event(), []

    async def slow(invocation: Invocation) -> Value:
        await gate.wait()
        done.append(invocation.args[0])

    async with running(Cron(transport, clock), [jobs()], peer=slow) as started:
        await clock.asleep()
        clock.pass_to(at(1))
        await clock.asleep()
        leaving = asyncio.create_task(started.runtime.delete_link(jobs().id))
        await asyncio.sleep(0)
        assert not leaving.done()
        gate.set()
        await leaving
    assert done == [b"x"]


async def test_leaving_does_not_lose_a_tick_that_was_just_claimed(clock, jobs, monkeypatch):
    broker = MemoryBroker()
    peer, claimed, gate = Peer(), asyncio.Event(), asyncio.Event()
    async with running(Cron(broker.connect(), clock), [jobs()], peer=peer) as started:
        await clock.asleep()
        bucket = broker.buckets[cron.BUCKET]
        create = bucket.create

        async def slow(key: str, value: bytes) -> int:
            revision = await create(key, value)
            claimed.set()
            await gate.wait()
            return revision

        monkeypatch.setattr(bucket, "create", slow)
        clock.pass_to(at(1))
        await claimed.wait()
        leaving = asyncio.create_task(started.runtime.delete_link(jobs().id))
        await asyncio.sleep(0)
        gate.set()
        await leaving
        assert await peer.called() == b"x"


async def test_without_a_bucket_a_tick_is_late_and_not_lost(clock, jobs, monkeypatch):
    broker = MemoryBroker()
    peer = Peer()
    async with running(Cron(broker.connect(), clock), [jobs()], peer=peer) as started:
        await clock.asleep()
        bucket = broker.buckets[cron.BUCKET]

        async def away(*_: object) -> None:
            raise LatticeError("the broker is away")

        with monkeypatch.context() as patch:
            patch.setattr(bucket, "get", away)
            clock.pass_to(at(1))
            async with asyncio.timeout(5):
                while (await started.runtime.health()).healthy:
                    await asyncio.sleep(0)
        assert await peer.called() == b"x"
        assert (await started.runtime.health()).healthy


async def test_the_wall_clock_keeps_its_appointments():
    clock = WallClock()
    moment = clock.now() + timedelta(milliseconds=20)
    await clock.until(moment)
    assert clock.now() >= moment


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, '"cronjobs" is missing'),
        ({"cronjobs": ""}, "at least 1 item"),
        ({"cronjobs": "0 * * * *"}, "not name=schedule:payload"),
        ({"cronjobs": "a=0 * * *"}, "not a schedule"),
        ({"cronjobs": "a=0 25 * * *"}, "not a schedule: Bad hour"),
        ({"cronjobs": "a=0 0 31 2 *"}, "not a schedule"),
        ({"cronjobs": "a=* * * * *;a=1 * * * *"}, "two jobs of one name"),
        ({"cronjobs": json.dumps([{"name": "a", "cron": "* * * * *"}])}, '"cronjobs.0.schedule" is missing'),
        ({"cronjobs": "a=* * * * *", "timezone": "Mars/Olympus"}, "not a time zone"),
    ],
)
async def test_what_cannot_be_a_schedule_is_refused(config, said):
    record = link_between(PROVIDER, "actor", "wasmcloud:cron/scheduler", source_config=config)
    async with running(Cron(MemoryBroker().connect()), []) as started:
        with pytest.raises(BadInput) as refused:
            await started.runtime.put_link(record)
        assert said in str(refused.value)


async def test_a_link_the_wrong_way_round_is_refused(jobs):
    config = {"cronjobs": "a=* * * * *"}
    record = link_between("actor", PROVIDER, "wasmcloud:cron/scheduler", target_config=config)
    async with running(Cron(MemoryBroker().connect()), []) as started:
        with pytest.raises(BadInput, match="it calls it"):
            await started.runtime.put_link(record)


@pytest.mark.nats
async def test_a_server_that_is_down_or_refuses_the_login_refuses_the_link(tmp_path: Path, jobs: Jobs):
    broker = Broker(tmp_path, config='authorization { user: "me", password: "right" }')
    broker.start()
    place = f"127.0.0.1:{broker.port}"
    try:
        async with running(Cron(), []) as started:
            with pytest.raises(Unreachable, match="no NATS server answers"):
                await started.runtime.put_link(jobs(cluster_uri="127.0.0.1:1"))
            with pytest.raises(Unreachable, match="refuses the login") as refused:
                await started.runtime.put_link(jobs(cluster_uri=f"me:hush@{place}"))
            assert "hush" not in str(refused.value)
            await started.runtime.put_link(jobs(cluster_uri=f"me:right@{place}"))
            assert (await started.runtime.health()).healthy
    finally:
        broker.stop()
