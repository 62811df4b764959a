"""What every key-value provider shares: the exported functions, which bucket is meant, and what a store must do.

wasi:keyvalue 0.2.0-draft without resources (keyvalue.wit): the bucket is the first argument, by the name it was opened
with.

| function                             | arguments                    | result                             |
|--------------------------------------|------------------------------|------------------------------------|
| wasi:keyvalue/store#get              | bucket, key                  | the value, or None                 |
| wasi:keyvalue/store#set              | bucket, key, value           |                                    |
| wasi:keyvalue/store#delete           | bucket, key                  |                                    |
| wasi:keyvalue/store#exists           | bucket, key                  | bool                               |
| wasi:keyvalue/store#list-keys        | bucket, cursor or None       | {"keys": [...], "cursor": or None} |
| wasi:keyvalue/atomics#increment      | bucket, key, delta           | the new number                     |
| wasi:keyvalue/atomics#swap           | bucket, key, old, new        | whether `old` was there (or None)  |
| wasi:keyvalue/batch#get-many         | bucket, keys                 | [(key, value) or None, ...]        |
| wasi:keyvalue/batch#set-many         | bucket, [(key, value), ...]  |                                    |
| wasi:keyvalue/batch#delete-many      | bucket, keys                 |                                    |
| wasi:keyvalue/watcher#on-set         | bucket, key, value           | (called on the peer)               |
| wasi:keyvalue/watcher#on-delete      | bucket, key                  | (called on the peer)               |

Errors are answers: WitError("no-such-store"), WitError("access-denied"), WitError({"other": "a sentence"}).
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

import structlog

from lattice import DeadlineExceeded, Denied, Function, LatticeError, WitError
from providers.link import Link, LinkId
from providers.provider import Provider, export

STORE = "wasi:keyvalue/store"
ATOMICS = "wasi:keyvalue/atomics"
BATCH = "wasi:keyvalue/batch"
WATCHER = "wasi:keyvalue/watcher"
ON_SET, ON_DELETE = Function(WATCHER, "on-set"), Function(WATCHER, "on-delete")

PAGE = 1000
"""Keys in one answer of list-keys."""
TOGETHER = 64
"""Requests of one batch that are under way at a time."""
MOST = 2**64 - 1
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0
"""Seconds before a watch that broke is begun again; doubled each time."""

log = structlog.get_logger("providers")

Result = TypeVar("Result")


class Change(NamedTuple):
    """A key was set, or deleted (`value` is None)."""

    key: str
    value: bytes | None


class NotANumber(Exception):
    """`increment` found something else than the decimal digits of a u64."""


class Store(ABC):
    """One bucket. Any string is a key. May raise LatticeError when the back end does not answer.

    What is not abstract here works on every back end; override it where the back end has something better.
    """

    @abstractmethod
    async def get(self, key: str) -> bytes | None: ...

    @abstractmethod
    async def set(self, key: str, value: bytes) -> None: ...

    @abstractmethod
    async def delete(self, key: str) -> None:
        """Deleting what is not there does nothing."""

    @abstractmethod
    async def page(self, cursor: int, most: int) -> tuple[list[str], int | None]:
        """About `most` of the keys, and the cursor of the next page: None after the last, 0 begins.

        A key that is there all the time is listed, whatever happens to others meanwhile.
        """

    @abstractmethod
    async def increment(self, key: str, delta: int) -> int:
        """Add to the number at `key` (0 when there is none) so that no addition is lost; the new number.

        The number is kept as decimal text. Raises NotANumber, and leaves the value, when it is none or grows too big.
        """

    @abstractmethod
    async def swap(self, key: str, old: bytes | None, new: bytes) -> bool:
        """Set the key if its value is `old` (None: if it is not there), at once; whether it was."""

    @abstractmethod
    def watch(self) -> AsyncIterator[Change | None]:
        """None once when it listens, then every change from then on, until closed."""

    async def exists(self, key: str) -> bool:
        return await self.get(key) is not None

    async def get_many(self, keys: list[str]) -> list[bytes | None]:
        return await _together([self.get(key) for key in keys])

    async def set_many(self, values: Mapping[str, bytes]) -> None:
        await _together([self.set(key, value) for key, value in values.items()])

    async def delete_many(self, keys: list[str]) -> None:
        await _together([self.delete(key) for key in keys])


class KeyValue(Provider):
    """Subclass it and say how a link's bucket is opened.

    A link from the provider to an actor, for `wasi:keyvalue/watcher`, has that actor called with every change of the
    link's bucket, one after the other: from whichever instances of the provider have the link.
    """

    wit = Path(__file__).parent / "keyvalue.wit"
    calls = (WATCHER,)

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        self = super().__new__(cls, *args, **kwargs)
        self._watching = {}
        return self

    _watching: dict[LinkId, asyncio.Task[None]]

    async def watch(self, link: Link[Any], store: Store) -> None:
        """Tell the actor at the other end of `link` what changes in `store`. Raises LatticeError when nobody can."""
        changes = store.watch()
        await anext(changes)
        self._watching[link.id] = self.spawn(self._tell(link, store, changes), name=f"watch for {link.peer}")

    def unwatch(self, link: Link[Any]) -> None:
        task = self._watching.pop(link.id, None)
        if task is not None:
            task.cancel()

    async def _tell(self, link: Link[Any], store: Store, changes: AsyncIterator[Change | None]) -> None:
        bucket = link.config.bucket or "default"
        pause = FIRST_PAUSE
        while True:
            try:
                async for change in changes:
                    pause = FIRST_PAUSE
                    if change is not None:
                        await self._told(link, bucket, change)
            except LatticeError as error:
                log.warning("watch.broken", actor=link.peer, error=error.message)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
            changes = store.watch()

    async def _told(self, link: Link[Any], bucket: str, change: Change) -> None:
        try:
            if change.value is None:
                await link.call(ON_DELETE, bucket, change.key)
            else:
                await link.call(ON_SET, bucket, change.key, change.value)
        except WitError as error:
            log.warning("change.refused", actor=link.peer, key=change.key, error=error.payload)
        except LatticeError as error:
            log.warning("change.lost", actor=link.peer, key=change.key, error=error.message)

    async def open(self, link: Link[Any], name: str) -> Store:
        """The bucket of `link` that a guest opened as `name`. Raises WitError("no-such-store")."""
        raise NotImplementedError

    def meant(self, link: Link[Any], name: str) -> Link[Any] | None:
        """Which link of the same actor is meant by the identifier `name`; None: no link is.

        "", "default", the link's own name and its configured bucket mean the link of the call. The name of another of
        the actor's links means that one: this is how wasmCloud's providers let an actor use several buckets.
        """
        if name in ("", "default", link.name, link.config.bucket):
            return link
        for other in self.links.values():
            if other.source == link.source and other.name == name and STORE in other.interfaces:
                return other
        return None

    @export(f"{STORE}#get")
    async def get(self, link: Link[Any], bucket: str, key: str) -> bytes | None:
        with _answers():
            return await (await self.open(link, bucket)).get(key)

    @export(f"{STORE}#set")
    async def set(self, link: Link[Any], bucket: str, key: str, value: bytes) -> None:
        with _answers():
            await (await self.open(link, bucket)).set(key, value)

    @export(f"{STORE}#delete")
    async def delete(self, link: Link[Any], bucket: str, key: str) -> None:
        with _answers():
            await (await self.open(link, bucket)).delete(key)

    @export(f"{STORE}#exists")
    async def exists(self, link: Link[Any], bucket: str, key: str) -> bool:
        with _answers():
            return await (await self.open(link, bucket)).exists(key)

    @export(f"{STORE}#list-keys")
    async def list_keys(self, link: Link[Any], bucket: str, cursor: int | None) -> dict[str, Any]:
        """PAGE keys at a time, or about as many; their order is the back end's."""
        with _answers():
            keys, after = await (await self.open(link, bucket)).page(cursor or 0, PAGE)
        return {"keys": keys, "cursor": after}

    @export(f"{ATOMICS}#increment")
    async def increment(self, link: Link[Any], bucket: str, key: str, delta: int) -> int:
        with _answers():
            return await (await self.open(link, bucket)).increment(key, delta)

    @export(f"{ATOMICS}#swap")
    async def swap(self, link: Link[Any], bucket: str, key: str, old: bytes | None, new: bytes) -> bool:
        with _answers():
            return await (await self.open(link, bucket)).swap(key, old, new)

    @export(f"{BATCH}#get-many")
    async def get_many(self, link: Link[Any], bucket: str, keys: list[str]) -> list[tuple[str, bytes] | None]:
        with _answers():
            values = await (await self.open(link, bucket)).get_many(keys)
        return [None if value is None else (key, value) for key, value in zip(keys, values, strict=True)]

    @export(f"{BATCH}#set-many")
    async def set_many(self, link: Link[Any], bucket: str, pairs: list[tuple[str, bytes]]) -> None:
        """Not all or nothing: as the WIT has it, some may be set when it fails. The last of equal keys wins."""
        with _answers():
            await (await self.open(link, bucket)).set_many(dict(pairs))

    @export(f"{BATCH}#delete-many")
    async def delete_many(self, link: Link[Any], bucket: str, keys: list[str]) -> None:
        with _answers():
            await (await self.open(link, bucket)).delete_many(list(dict.fromkeys(keys)))


def number(value: bytes | None, delta: int) -> int:
    """The number kept as `value`, plus `delta`. Raises NotANumber."""
    text = b"0" if value is None else value.strip()
    if not text.isdigit() or len(text) > 20:
        raise NotANumber("the value is not a number (decimal digits of a u64)")
    result = int(text) + delta
    if not 0 <= result <= MOST:
        raise NotANumber(f"the number would leave the range of a u64: {result}")
    return result


@contextmanager
def _answers() -> Iterator[None]:
    """What a guest can handle becomes an answer; only the end of its time ends the call."""
    try:
        yield
    except DeadlineExceeded:
        raise
    except Denied as error:
        raise WitError("access-denied") from error
    except (LatticeError, NotANumber) as error:
        raise WitError({"other": str(error)}) from error


async def _together(work: list[Awaitable[Result]]) -> list[Result]:
    """All results in order, TOGETHER at a time; the first failure ends the rest."""
    permits = asyncio.Semaphore(TOGETHER)

    async def one(item: Awaitable[Result]) -> Result:
        async with permits:
            return await item

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(item)) for item in work]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]
