"""A connection to a broker in memory that can be cut, and made again: for tests of what happens then."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from lattice.errors import Unreachable
from lattice.memory import MemoryBroker, MemoryBucket, MemoryTransport
from lattice.transport import Entry


class Cable(MemoryTransport):
    """While it is cut, who uses it is told Unreachable and hears nothing, and who waits for its answer gets none."""

    def __init__(self, broker: MemoryBroker) -> None:
        super().__init__(broker)
        self.broker = broker
        self.is_cut = False
        self._made_again: list[Callable[[], None]] = []

    def cut(self) -> None:
        """Nothing passes any more, in either direction. A second call does nothing, nor a second `mend`."""
        if self.is_cut:
            return
        self.is_cut = True
        self._listening = [s for s in self.broker.subscriptions if s in self._mine]
        for subscription in self._listening:
            self.broker.subscriptions.remove(subscription)

    def mend(self) -> None:
        if not self.is_cut:
            return
        self.is_cut = False
        self.broker.subscriptions += [s for s in self._listening if s in self._mine]
        for callback in self._made_again:
            callback()

    @property
    def connected(self) -> bool:
        return not self.is_cut and super().connected

    def _check(self, data: bytes = b"") -> None:
        if self.is_cut:
            raise Unreachable("the connection is cut")
        super()._check(data)

    def on_reconnect(self, callback: Callable[[], None]) -> None:
        self._made_again.append(callback)

    async def bucket(self, name: str, *, history: int = 1, create: bool = True) -> MemoryBucket:
        return CableBucket(self, await super().bucket(name, history=history, create=create))


class CableBucket(MemoryBucket):
    """A bucket as seen through a cable."""

    def __init__(self, cable: Cable, there: MemoryBucket) -> None:
        self._cable = cable
        self._there = there

    def _bucket(self) -> MemoryBucket:
        self._cable._check()
        return self._there

    async def get(self, key: str) -> Entry | None:
        return await self._bucket().get(key)

    async def put(self, key: str, value: bytes) -> int:
        return await self._bucket().put(key, value)

    async def create(self, key: str, value: bytes) -> int:
        return await self._bucket().create(key, value)

    async def update(self, key: str, value: bytes, revision: int) -> int:
        return await self._bucket().update(key, value, revision)

    async def delete(self, key: str) -> None:
        await self._bucket().delete(key)

    async def purge(self, key: str) -> None:
        await self._bucket().purge(key)

    async def keys(self) -> list[str]:
        return await self._bucket().keys()

    async def page(self, after: int, most: int) -> list[Entry]:
        return await self._bucket().page(after, most)

    async def incarnation(self) -> str:
        return await self._bucket().incarnation()

    async def watch(self) -> AsyncIterator[Entry | None]:
        async for entry in self._bucket().watch():
            self._cable._check()  # a change that could not come through breaks the watch, as a lost connection does
            yield entry
