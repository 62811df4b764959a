"""What every key-value provider shares: the exported functions, which bucket is meant, and what a store must do.

wasi:keyvalue 0.2.0-draft without resources: the bucket is the first argument, by the name it was opened with.

| function                             | arguments                    | result                             |
|--------------------------------------|------------------------------|------------------------------------|
| wasi:keyvalue/store#get              | bucket, key                  | the value, or None                 |
| wasi:keyvalue/store#set              | bucket, key, value           |                                    |
| wasi:keyvalue/store#delete           | bucket, key                  |                                    |
| wasi:keyvalue/store#exists           | bucket, key                  | bool                               |
| wasi:keyvalue/store#list-keys        | bucket, cursor or None       | {"keys": [...], "cursor": or None} |
| wasi:keyvalue/atomics#increment      | bucket, key, delta           | the new number                     |
| wasi:keyvalue/batch#get-many         | bucket, keys                 | [[key, value] or None, ...]        |
| wasi:keyvalue/batch#set-many         | bucket, [(key, value), ...]  |                                    |
| wasi:keyvalue/batch#delete-many      | bucket, keys                 |                                    |

Errors are answers: WitError("no-such-store"), WitError("access-denied"), WitError({"other": "a sentence"}).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from lattice import DeadlineExceeded, Denied, LatticeError, WitError
from providers.link import Link
from providers.provider import Provider, export

STORE = "wasi:keyvalue/store"
ATOMICS = "wasi:keyvalue/atomics"
BATCH = "wasi:keyvalue/batch"

PAGE = 1000
"""Keys in one answer of list-keys."""
TOGETHER = 64
"""Requests of one batch that are under way at a time."""
MOST = 2**64 - 1

Result = TypeVar("Result")


class NotANumber(Exception):
    """`increment` found something else than the decimal digits of a u64."""


class Store(Protocol):
    """One bucket. Any string is a key. May raise LatticeError when the back end does not answer."""

    async def get(self, key: str) -> bytes | None: ...

    async def set(self, key: str, value: bytes) -> None: ...

    async def delete(self, key: str) -> None:
        """Deleting what is not there does nothing."""

    async def keys(self) -> list[str]:
        """All of them, in any order."""

    async def increment(self, key: str, delta: int) -> int:
        """Add to the number at `key` (0 when there is none) so that no addition is lost; the new number.

        The number is kept as decimal text. Raises NotANumber, and leaves the value, when it is none or grows too big.
        """


class KeyValue(Provider):
    """Subclass it and say how a link's bucket is opened."""

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
            return await (await self.open(link, bucket)).get(key) is not None

    @export(f"{STORE}#list-keys")
    async def list_keys(self, link: Link[Any], bucket: str, cursor: int | None = None) -> dict[str, Any]:
        """In order, PAGE at a time; `cursor` is how many were listed before."""
        with _answers():
            keys = sorted(await (await self.open(link, bucket)).keys())
        begin = cursor or 0
        end = begin + PAGE
        return {"keys": keys[begin:end], "cursor": end if end < len(keys) else None}

    @export(f"{ATOMICS}#increment")
    async def increment(self, link: Link[Any], bucket: str, key: str, delta: int) -> int:
        with _answers():
            return await (await self.open(link, bucket)).increment(key, delta)

    @export(f"{BATCH}#get-many")
    async def get_many(self, link: Link[Any], bucket: str, keys: list[str]) -> list[list[Any] | None]:
        with _answers():
            store = await self.open(link, bucket)
            values = await _together([store.get(key) for key in keys])
        return [None if value is None else [key, value] for key, value in zip(keys, values, strict=True)]

    @export(f"{BATCH}#set-many")
    async def set_many(self, link: Link[Any], bucket: str, pairs: list[tuple[str, bytes]]) -> None:
        """Not all or nothing: as the WIT has it, some may be set when it fails. The last of equal keys wins."""
        with _answers():
            store = await self.open(link, bucket)
            await _together([store.set(key, value) for key, value in dict(pairs).items()])

    @export(f"{BATCH}#delete-many")
    async def delete_many(self, link: Link[Any], bucket: str, keys: list[str]) -> None:
        with _answers():
            store = await self.open(link, bucket)
            await _together([store.delete(key) for key in dict.fromkeys(keys)])


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
