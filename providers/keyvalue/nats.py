"""Key-value in NATS JetStream: durable, shared by every host of the lattice, with wasmCloud's configuration keys."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator
from typing import Any
from weakref import WeakValueDictionary

from pydantic import Field

from lattice import BadInput, Finding, LatticeError, WitError
from lattice.nats_transport import NatsOptions
from lattice.transport import Bucket, NoBucket, Transport, swap
from providers.keyvalue.store import Change, KeyValue, Store, number
from providers.link import Link, LinkId
from providers.nats import Connections, NatsLogin

ATTEMPTS = 200
"""How often an increment is tried against other writers before it gives up."""


class NatsLink(NatsLogin):
    """A link's target_config."""

    bucket: str = Field(pattern=r"^[A-Za-z0-9_-]+$")
    enable_bucket_auto_create: bool = False
    cluster_uri: str | None = Field(None, repr=False)
    """Another NATS server than the lattice's."""
    js_domain: str | None = None

    def options(self) -> NatsOptions | None:
        """The connection it wants for itself; None: the lattice's own will do."""
        return self.connection("trellis keyvalue-nats", self.cluster_uri, domain=self.js_domain)


_SAFE = re.compile(r"^(?!\.)(?!.*\.\.)(?!.*\.$)(?!.*=[0-9A-F]{2})[-/_=.a-zA-Z0-9]+$")
_PLAIN = frozenset(b"-/_=.abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_ESCAPE = re.compile(rb"=([0-9A-F]{2})")
_LOOKS_ESCAPED = re.compile(rb"=(?=[0-9A-F]{2})")
EMPTY_KEY = "="


def escaped(key: str) -> str:
    """`key` as NATS takes it: what it forbids, as `=XX` for each UTF-8 byte. Most keys stay as they are."""
    if not key:
        return EMPTY_KEY
    if key != EMPTY_KEY and _SAFE.match(key) and "\n" not in key:
        return key
    raw = _LOOKS_ESCAPED.sub(b"=3D", key.encode("utf-8", "surrogatepass")) if key != EMPTY_KEY else b"=3D"
    out = bytearray()
    for index, byte in enumerate(raw):
        bare_dot = byte == 0x2E and (index in (0, len(raw) - 1) or raw[index - 1] == 0x2E)
        out += b"=%02X" % byte if byte not in _PLAIN or bare_dot else bytes([byte])
    return out.decode("ascii")


def unescaped(name: str) -> str:
    """The key that `escaped` made `name` from; a foreign key that cannot have come from it stays as it is."""
    if name == EMPTY_KEY:
        return ""
    if "=" not in name:
        return name
    try:
        return _ESCAPE.sub(lambda m: bytes([int(m[1], 16)]), name.encode()).decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return name


class NatsStore(Store):
    """A JetStream bucket as a Store."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def get(self, key: str) -> bytes | None:
        entry = await self.bucket.get(escaped(key))
        return None if entry is None else entry.value

    async def set(self, key: str, value: bytes) -> None:
        await self.bucket.put(escaped(key), bytes(value))

    async def delete(self, key: str) -> None:
        await self.bucket.delete(escaped(key))

    async def page(self, cursor: int, most: int) -> tuple[list[str], int | None]:
        """The cursor is the revision of the last key that was listed; one that is written meanwhile may come again."""
        entries = await self.bucket.page(cursor, most)
        return [unescaped(entry.key) for entry in entries], entries[-1].revision if len(entries) == most else None

    async def increment(self, key: str, delta: int) -> int:
        """By compare and swap: other hosts count too. Callers of this provider queue, so as not to race each other."""
        name = escaped(key)
        lock = self._locks.setdefault(name, asyncio.Lock())
        async with lock:
            for attempt in range(ATTEMPTS):
                entry = await self.bucket.get(name)
                result = number(None if entry is None else entry.value, delta)
                if await swap(self.bucket, name, entry, b"%d" % result):
                    return result
                await asyncio.sleep(random.random() * min(0.05, 0.001 * 2 ** min(attempt, 6)))
        raise LatticeError(f"too many others write {key!r} at the same time")

    async def swap(self, key: str, old: bytes | None, new: bytes) -> bool:
        name = escaped(key)
        entry = await self.bucket.get(name)
        there = None if entry is None else entry.value
        return there == old and await swap(self.bucket, name, entry, new)

    async def watch(self) -> AsyncIterator[Change | None]:
        listening = False
        entries = self.bucket.watch()
        async for entry in entries:
            if entry is None:
                listening = True
                yield None
            elif listening:
                yield Change(unescaped(entry.key), entry.value)


class NatsKeyValue(KeyValue):
    """`builtin:keyvalue-nats`. A link reaches its configured bucket and no other."""

    link_config = NatsLink

    def __init__(self, transport: Transport | None = None) -> None:
        self._stores: dict[LinkId, NatsStore] = {}
        self._connections = Connections(transport)

    async def link_added(self, link: Link[NatsLink]) -> None:
        transport = await self._connections.of(self, link.config.options())
        try:
            bucket = await transport.bucket(link.config.bucket, create=link.config.enable_bucket_auto_create)
        except NoBucket:
            raise BadInput(
                Finding(
                    "TRL-PRV-008",
                    f'link {link.record}: there is no bucket "{link.config.bucket}"',
                    fix='create it (nats kv add), or set "enable_bucket_auto_create" to "true"',
                )
            ) from None
        store = NatsStore(bucket)
        if link.incoming:
            self._stores[link.id] = store
        else:
            await self.watch(link, store)

    async def link_changed(self, old: Link[Any], new: Link[Any]) -> None:
        self.unwatch(old)
        await self._add_instead(old, new)

    async def link_removed(self, link: Link[NatsLink]) -> None:
        self.unwatch(link)
        self._stores.pop(link.id, None)

    async def stopped(self) -> None:
        await self._connections.close()

    async def open(self, link: Link[Any], name: str) -> NatsStore:
        meant = self.meant(link, name)
        store = None if meant is None else self._stores.get(meant.id)
        if store is None:
            raise WitError("no-such-store")
        return store
