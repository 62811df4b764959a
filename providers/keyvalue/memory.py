"""Key-value in memory: for development, tests, and data that may vanish with the provider."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from providers.keyvalue.store import KeyValue, Store, number, page_of
from providers.link import Link


class MemoryLink(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    bucket: str = "default"
    """What the link's default bucket is called; links with the same name share it."""


class MemoryStore(Store):
    """A dict as a Store."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    async def get(self, key: str) -> bytes | None:
        return self.values.get(key)

    async def set(self, key: str, value: bytes) -> None:
        self.values[key] = bytes(value)

    async def delete(self, key: str) -> None:
        self.values.pop(key, None)

    async def page(self, cursor: int, most: int) -> tuple[list[str], int | None]:
        return page_of(list(self.values), cursor, most)

    async def increment(self, key: str, delta: int) -> int:
        result = number(self.values.get(key), delta)
        self.values[key] = b"%d" % result
        return result


class MemoryKeyValue(KeyValue):
    """`builtin:keyvalue-memory`. A bucket is there as soon as somebody opens it, and shared by all linked actors."""

    link_config = MemoryLink

    def __init__(self) -> None:
        self.stores: dict[str, MemoryStore] = {}

    async def open(self, link: Link[Any], name: str) -> MemoryStore:
        meant = self.meant(link, name)
        return self.stores.setdefault(name if meant is None else meant.config.bucket, MemoryStore())
