"""A broker in memory: the Transport for unit tests, held to the same contract as NATS."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import random
from collections.abc import AsyncIterator, Callable, Mapping

import structlog

from lattice.errors import DeadlineExceeded, LatticeError, ProtocolError, Unreachable
from lattice.pending import Pending
from lattice.transport import Entry, Message, NoBucket, OnMessage, WrongRevision

log = structlog.get_logger("lattice")


def matches(pattern: str, subject: str) -> bool:
    """NATS subject matching: `*` is one token, a final `>` is one or more."""
    wanted, given = pattern.split("."), subject.split(".")
    for i, token in enumerate(wanted):
        if token == ">":
            return len(given) > i
        if i >= len(given) or token not in ("*", given[i]):
            return False
    return len(wanted) == len(given)


class MemoryBroker:
    """Connects any number of MemoryTransports in one event loop."""

    def __init__(self, max_payload: int = 1024 * 1024) -> None:
        self.max_payload = max_payload
        self.subscriptions: list[MemorySubscription] = []
        self.buckets: dict[str, MemoryBucket] = {}

    def connect(self) -> MemoryTransport:
        return MemoryTransport(self)

    def deliver(self, message: Message) -> int:
        """Hand `message` to every plain subscriber and to one of each queue group; how many got it."""
        groups: dict[tuple[str, str], list[MemorySubscription]] = {}
        taken = 0
        for subscription in self.subscriptions:
            if matches(subscription.subject, message.subject):
                if subscription.queue is None:
                    subscription.put(message)
                    taken += 1
                else:
                    groups.setdefault((subscription.subject, subscription.queue), []).append(subscription)
        for members in groups.values():
            random.choice(members).put(message)
            taken += 1
        return taken


class MemorySubscription:
    def __init__(self, broker: MemoryBroker, subject: str, on_message: OnMessage, queue: str | None) -> None:
        self.broker = broker
        self.subject = subject
        self.queue = queue
        self._on_message = on_message
        self._arrived: asyncio.Queue[Message | None] = asyncio.Queue()
        self._task = asyncio.create_task(self._run(), name=f"subscription {subject}")

    def put(self, message: Message) -> None:
        self._arrived.put_nowait(message)

    async def _run(self) -> None:
        while (message := await self._arrived.get()) is not None:
            try:
                outcome = self._on_message(message)
                if inspect.isawaitable(outcome):
                    await outcome
            except Exception:
                log.exception("message.handler_failed", subject=self.subject)

    def _leave(self) -> None:
        if self in self.broker.subscriptions:
            self.broker.subscriptions.remove(self)

    async def unsubscribe(self) -> None:
        self._leave()
        if self._task is not asyncio.current_task():
            self._task.cancel()

    async def drain(self) -> None:
        self._leave()
        self._arrived.put_nowait(None)
        if self._task is not asyncio.current_task():
            await asyncio.wait([self._task])


class MemoryTransport:
    """One connection to a MemoryBroker."""

    _numbers = itertools.count(1)

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker
        self._name = f"_INBOX.m{next(self._numbers)}"
        self._inboxes = itertools.count(1)
        self._mine: list[MemorySubscription] = []
        self._waiting: Pending[Message] = Pending()
        self._closed = False

    @property
    def max_payload(self) -> int:
        return self._broker.max_payload

    @property
    def url(self) -> str:
        return "memory://"

    @property
    def connected(self) -> bool:
        return not self._closed

    @property
    def domain(self) -> None:
        return None

    def _check(self, data: bytes = b"") -> None:
        if self._closed:
            raise Unreachable("the connection to the broker is closed")
        if len(data) > self.max_payload:
            raise ProtocolError(f"a message of {len(data)} bytes is above the broker's limit of {self.max_payload}")

    async def publish(
        self, subject: str, data: bytes, *, reply: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        self._check(data)
        self._broker.deliver(Message(subject, bytes(data), reply, headers))

    async def request(
        self, subject: str, data: bytes, *, timeout: float, headers: Mapping[str, str] | None = None
    ) -> Message:
        self._check(data)
        answered: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

        def first(message: Message) -> None:
            if not answered.done():
                answered.set_result(message)

        inbox = self.inbox()
        self._waiting[inbox] = answered, subject
        subscription = await self.subscribe(inbox, first)
        try:
            if not self._broker.deliver(Message(subject, bytes(data), inbox, headers)):
                raise Unreachable(f"nobody listens on {subject}")
            async with asyncio.timeout(timeout):
                return await answered
        except TimeoutError:
            raise DeadlineExceeded(f"no answer on {subject} within {timeout:.3g} s") from None
        finally:
            del self._waiting[inbox]
            await self._forget(subscription)

    async def gather(self, subject: str, data: bytes, *, seconds: float, most: int | None = None) -> list[Message]:
        self._check(data)
        found: list[Message] = []
        enough = asyncio.Event()

        def collect(message: Message) -> None:
            found.append(message)
            if most is not None and len(found) >= most:
                enough.set()

        inbox = self.inbox()
        subscription = await self.subscribe(inbox, collect)
        try:
            if self._broker.deliver(Message(subject, bytes(data), inbox)):
                async with asyncio.timeout(seconds):
                    await enough.wait()
        except TimeoutError:
            pass
        finally:
            await self._forget(subscription)
        return found[:most]

    async def subscribe(self, subject: str, on_message: OnMessage, *, queue: str | None = None) -> MemorySubscription:
        self._check()
        subscription = MemorySubscription(self._broker, subject, on_message, queue)
        self._broker.subscriptions.append(subscription)
        self._mine.append(subscription)
        return subscription

    async def _forget(self, subscription: MemorySubscription) -> None:
        await subscription.unsubscribe()
        self._mine.remove(subscription)

    async def bucket(self, name: str, *, history: int = 1, create: bool = True) -> MemoryBucket:
        self._check()
        if not create and name not in self._broker.buckets:
            raise NoBucket(name)
        return self._broker.buckets.setdefault(name, MemoryBucket())

    def inbox(self) -> str:
        return f"{self._name}.{next(self._inboxes)}"

    def pending_requests(self) -> dict[str, str]:
        return self._waiting.asked()

    def fail_request(self, reply: str, error: LatticeError) -> None:
        self._waiting.fail(reply, error)

    def on_disconnect(self, callback: Callable[[], None]) -> None:
        """Never lost, so never called."""

    def on_reconnect(self, callback: Callable[[], None]) -> None:
        """Never lost, so never called."""

    async def flush(self) -> None:
        self._check()
        await asyncio.sleep(0)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await asyncio.gather(*(s.drain() for s in self._mine))


class MemoryBucket:
    """A KV bucket in memory: revisions count up over the whole bucket, as in JetStream."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._revision = 0
        self._watchers: list[asyncio.Queue[Entry | None]] = []

    def _write(self, key: str, value: bytes | None) -> int:
        self._revision += 1
        entry = Entry(key, None if value is None else bytes(value), self._revision)
        self._entries[key] = entry
        for watcher in self._watchers:
            watcher.put_nowait(entry)
        return self._revision

    async def get(self, key: str) -> Entry | None:
        entry = self._entries.get(key)
        return None if entry is None or entry.value is None else entry

    async def put(self, key: str, value: bytes) -> int:
        return self._write(key, value)

    async def create(self, key: str, value: bytes) -> int:
        if await self.get(key) is not None:
            raise WrongRevision(f"{key} exists already")
        return self._write(key, value)

    async def update(self, key: str, value: bytes, revision: int) -> int:
        entry = self._entries.get(key)
        if (entry.revision if entry else 0) != revision:
            raise WrongRevision(f"{key} is not at revision {revision}")
        return self._write(key, value)

    async def delete(self, key: str) -> None:
        if await self.get(key) is not None:
            self._write(key, None)

    async def purge(self, key: str) -> None:
        await self.delete(key)

    async def keys(self) -> list[str]:
        return [key for key, entry in self._entries.items() if entry.value is not None]

    async def page(self, after: int, most: int) -> list[Entry]:
        live = (entry for entry in self._entries.values() if entry.value is not None and entry.revision > after)
        return sorted(live, key=lambda entry: entry.revision)[:most]

    async def watch(self) -> AsyncIterator[Entry | None]:
        changes: asyncio.Queue[Entry | None] = asyncio.Queue()
        for entry in sorted(self._entries.values(), key=lambda e: e.revision):
            changes.put_nowait(entry)
        changes.put_nowait(None)
        self._watchers.append(changes)
        try:
            while True:
                yield await changes.get()
        finally:
            self._watchers.remove(changes)

    async def incarnation(self) -> str:
        return "the only one"
