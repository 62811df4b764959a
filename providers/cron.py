"""Schedules that call an actor, each tick once in the whole lattice. Needs the extra `cron`.

| function                         | arguments |                      |
|----------------------------------|-----------|----------------------|
| wasmcloud:cron/scheduler#invoke  | payload   | (called on the peer) |

Every instance of the provider wakes at every tick and claims it in a bucket, by compare and swap: one gets it and makes
the call. A tick is claimed before its call, so it is never called for twice, and lost with a host that dies over it.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Protocol, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import structlog
from cronsim import CronSim, CronSimError
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from lattice import Busy, Function, LatticeError, NotLinked, WitError, read_json
from lattice.nats_transport import NatsOptions
from lattice.transport import Bucket, Entry, Transport, swap
from providers.finishing import finishing
from providers.link import Link, LinkId
from providers.nats import Connections, NatsLogin
from providers.provider import Provider, Spawn
from providers.wit import GUESTS

log = structlog.get_logger("providers")

SCHEDULER = "wasmcloud:cron/scheduler"
INVOKE = Function(SCHEDULER, "invoke")

BUCKET = "trellis_cron"
"""Which tick of each job was claimed last."""

LONGEST_SLEEP = 30.0
"""Seconds: the clock is looked at this often, so that one that is set does not make a job late."""
LATE = timedelta(minutes=1)
"""After this, a tick was missed."""
INSTANT = timedelta(microseconds=1)

Result = TypeVar("Result")


class Job(BaseModel):
    """One schedule: five fields, or six with the seconds first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    schedule: str
    payload: str = ""

    @field_validator("schedule")
    @classmethod
    def _possible(cls, schedule: str) -> str:
        schedule = schedule.strip().replace("?", "*")
        try:
            next(CronSim(schedule, datetime(2024, 1, 1)))
        except StopIteration:
            raise ValueError("never comes") from None
        except CronSimError as error:
            raise ValueError(f"not a schedule: {error}") from None
        return schedule


def _jobs(text: Any) -> Any:
    """wasmCloud's `name=schedule:payload;...`, or a JSON array of jobs. Raises ValueError."""
    if not isinstance(text, str):
        return text
    if text.lstrip().startswith("["):
        return tuple(read_json(text))
    found = []
    for part in filter(None, re.split(r";\s*(?=[\w.-]+\s*=|$)", text.strip())):
        name, equals, rest = part.partition("=")
        if not equals:
            raise ValueError(f"{part!r} is not name=schedule:payload")
        schedule, _, payload = rest.partition(":")
        found.append({"name": name.strip(), "schedule": schedule, "payload": payload})
    return tuple(found)


class CronLink(NatsLogin):
    """A link's source_config."""

    cronjobs: Annotated[tuple[Job, ...], BeforeValidator(_jobs), Field(min_length=1)]
    timezone: str = "UTC"
    """What the schedules' hours and days are of, such as Europe/Berlin."""
    catch_up: bool = False
    """Call once for all that was missed while no host ran the provider, or it was asleep."""
    timeout_ms: int = Field(60_000, ge=1)
    """What one call may take."""
    cluster_uri: str | None = Field(None, repr=False)
    """Another NATS server than the lattice's, to agree over."""

    @field_validator("cronjobs")
    @classmethod
    def _apart(cls, jobs: tuple[Job, ...]) -> tuple[Job, ...]:
        names = [job.name for job in jobs]
        if len(set(names)) < len(names):
            raise ValueError("two jobs of one name")
        return jobs

    @field_validator("timezone")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError("not a time zone that is known here") from None
        return name

    def options(self) -> NatsOptions | None:
        """The connection it wants for itself; None: the lattice's own will do."""
        return self.connection("trellis cron", self.cluster_uri)


class Clock(Protocol):
    """What tells the time, so that tests need not wait for it."""

    def now(self) -> datetime: ...

    def until(self, moment: datetime) -> Awaitable[None]: ...


class WallClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    async def until(self, moment: datetime) -> None:
        while (left := (moment - self.now()).total_seconds()) > 0:
            await asyncio.sleep(min(left, LONGEST_SLEEP))


class Timetable:
    """The jobs of one link. `owner` is what makes its jobs different from another provider's."""

    def __init__(self, link: Link[CronLink], bucket: Bucket, clock: Clock, owner: str, spawn: Spawn) -> None:
        self._link = link
        self._bucket = bucket
        self._clock = clock
        self._owner = owner
        self._me = secrets.token_hex(8)
        self._zone = ZoneInfo(link.config.timezone)
        self._waiting = [spawn(self._keep(job), name=f"job {job.name}") for job in link.config.cronjobs]
        self._running: set[asyncio.Task[None]] = set()
        self.trouble: str | None = None
        """Why no tick can be claimed at present."""

    def leave(self) -> None:
        """Take no more ticks."""
        for task in self._waiting:
            task.cancel()

    async def stop(self) -> None:
        """Take no more ticks, and finish the calls in hand. When this is cancelled, so are they."""
        async with finishing(self._running):
            self.leave()

    # -- waiting

    async def _keep(self, job: Job) -> None:
        """One job, tick after tick."""
        after = self._clock.now()
        if self._link.config.catch_up:
            last = await self._insist(lambda: self._claimed(job))
            after = last or after
        while True:
            tick = next(CronSim(job.schedule, after.astimezone(self._zone)))
            await self._clock.until(tick)
            now = self._clock.now()
            if now - tick > LATE:
                tick = next(CronSim(job.schedule, now.astimezone(self._zone) + INSTANT, reverse=True))
                if not self._link.config.catch_up and now - tick > LATE:
                    log.warning("job.missed", job=job.name, actor=self._link.peer, tick=tick.isoformat())
                    after = now
                    continue
            # leaving does not come between a claim and its call
            await asyncio.shield(self._spawn(self._tick(job, tick)))
            after = max(tick, now)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def _tick(self, job: Job, tick: datetime) -> None:
        if await self._insist(lambda: self._claim(job, tick)):
            self._spawn(self._run(job, tick))

    async def _insist(self, ask: Callable[[], Awaitable[Result]]) -> Result:
        """Ask the bucket until it answers."""
        pause = 0.1
        while True:
            try:
                answer = await ask()
                self.trouble = None
                return answer
            except LatticeError as error:
                if self.trouble is None:
                    log.warning("job.delayed", actor=self._link.peer, error=error.message)
                self.trouble = error.message
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_SLEEP)

    # -- one tick, once

    def _key(self, job: Job) -> str:
        record = self._link.record
        return hashlib.sha256("\0".join((self._owner, record.target, record.name, job.name)).encode()).hexdigest()

    async def _claimed(self, job: Job) -> datetime | None:
        """The last tick that anybody claimed."""
        entry = await self._bucket.get(self._key(job))
        return None if entry is None else _read(entry)[0]

    async def _claim(self, job: Job, tick: datetime) -> bool:
        """Whether the tick is ours to call for. Says the same again when it is asked again."""
        key, value = self._key(job), f"{tick.astimezone(UTC).isoformat()} {self._me}".encode()
        entry = await self._bucket.get(key)
        if entry is not None and (last := _read(entry))[0] >= tick:
            return last == (tick, self._me)
        return await swap(self._bucket, key, entry, value)

    async def _run(self, job: Job, tick: datetime) -> None:
        """Call the actor. One that nobody runs just now, or that is busy, is waited for; what began is not repeated."""
        about = {"job": job.name, "actor": self._link.peer, "tick": tick.isoformat()}
        until, pause = time.monotonic() + self._link.config.timeout_ms / 1000, 0.1
        while True:
            try:
                await self._link.call(INVOKE, job.payload.encode(), timeout=until - time.monotonic())
                log.debug("job.done", **about)
                return
            except WitError as error:
                log.warning("job.refused", error=error.payload, **about)
                return
            except LatticeError as error:
                begun = not isinstance(error, (Busy, NotLinked)) and error.details.get("target") != self._link.peer
                if begun or time.monotonic() + pause >= until:
                    log.error("job.failed", error=error.message, **about)
                    return
            await asyncio.sleep(pause)
            pause = min(pause * 2, 5.0)


def _read(entry: Entry) -> tuple[datetime, str]:
    """(the tick, who claimed it); long ago, when somebody else wrote there."""
    moment, _, who = (entry.value or b"").decode("utf-8", "replace").partition(" ")
    try:
        return datetime.fromisoformat(moment).astimezone(UTC), who
    except ValueError:
        return datetime.fromtimestamp(0, UTC), who


class Cron(Provider):
    """`builtin:cron`."""

    wit = GUESTS / "cron.wit"
    calls = (SCHEDULER,)
    link_config = CronLink

    def __init__(self, transport: Transport | None = None, clock: Clock | None = None) -> None:
        self._timetables: dict[LinkId, Timetable] = {}
        self._connections = Connections(transport)
        self._clock = clock or WallClock()

    async def link_added(self, link: Link[CronLink]) -> None:
        transport = await self._connections.of(self, link.config.options())
        bucket = await transport.bucket(BUCKET)
        owner = f"{'' if self.lattice is None else self.lattice.name}.{self.id}"
        self._timetables[link.id] = Timetable(link, bucket, self._clock, owner, self.spawn)

    async def link_removed(self, link: Link[Any]) -> None:
        timetable = self._timetables.pop(link.id, None)
        if timetable is not None:
            await timetable.stop()

    async def draining(self) -> None:
        for timetable in self._timetables.values():
            timetable.leave()

    async def healthy(self) -> bool | str:
        return next((timetable.trouble for timetable in self._timetables.values() if timetable.trouble), True)

    async def stopped(self) -> None:
        await self._connections.close()
