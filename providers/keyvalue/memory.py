"""Key-value in memory: for development, tests, and data that may vanish with the provider."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

from pydantic import BaseModel, ConfigDict

from providers.keyvalue.store import Change, KeyValue, Store, number
from providers.link import Link


class MemoryLink(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    bucket: str = "default"
    """What the link's default bucket is called; links with the same name share it."""


class MemoryStore(Store):
    """A dict as a Store. `_listed` numbers its keys in the order they came, for cursors."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self._listed: dict[str, int] = {}
        self._numbers = itertools.count(1)
        self._watchers: set[asyncio.Queue[Change]] = set()

    def _write(self, key: str, value: bytes | None) -> None:
        if value is None:
            if self.values.pop(key, None) is None:
                return
            del self._listed[key]
        else:
            value = self.values[key] = bytes(value)
            if key not in self._listed:
                self._listed[key] = next(self._numbers)
        for watcher in self._watchers:
            watcher.put_nowait(Change(key, value))

    async def get(self, key: str) -> bytes | None:
        return self.values.get(key)

    async def set(self, key: str, value: bytes) -> None:
        self._write(key, value)

    async def delete(self, key: str) -> None:
        self._write(key, None)

    async def page(self, cursor: int, most: int) -> tuple[list[str], int | None]:
        """The cursor is the number of the last key that was listed."""
        rest = (key for key, number in self._listed.items() if number > cursor)
        keys = list(itertools.islice(rest, most))
        return keys, self._listed[keys[-1]] if next(rest, None) is not None else None

    async def increment(self, key: str, delta: int) -> int:
        result = number(self.values.get(key), delta)
        self._write(key, b"%d" % result)
        return result

    async def swap(self, key: str, old: bytes | None, new: bytes) -> bool:
        if self.values.get(key) != old:
            return False
        self._write(key, new)
        return True

    async def get_many(self, keys: list[str]) -> list[bytes | None]:
        return [self.values.get(key) for key in keys]

    async def watch(self) -> AsyncIterator[Change | None]:
        changes: asyncio.Queue[Change] = asyncio.Queue()
        self._watchers.add(changes)
        try:
            yield None
            while True:
                yield await changes.get()
        finally:
            self._watchers.discard(changes)


class MemoryKeyValue(KeyValue):
    """`builtin:keyvalue-memory`. A bucket is there as soon as somebody opens it, and shared by all linked actors."""

    link_config = MemoryLink

    def __init__(self) -> None:
        self.stores: dict[str, MemoryStore] = {}

    async def link_added(self, link: Link[MemoryLink]) -> None:
        if not link.incoming:
            await self.watch(link, await self.open(link, ""))

    async def link_removed(self, link: Link[Any]) -> None:
        self.unwatch(link)

    async def open(self, link: Link[Any], name: str) -> MemoryStore:
        meant = self.meant(link, name)
        return self.stores.setdefault(name if meant is None else meant.config.bucket, MemoryStore())
