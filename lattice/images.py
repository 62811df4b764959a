"""Components kept by the lattice itself, by content: what was deployed from one machine can run on every other.

They lie in the KV bucket `TRELLIS_IMAGES_{lattice}`: `{digest}.{n}` is the n-th part, and `{digest}` a record of how
many parts there are, written after the last of them. So an image that has a record is whole, and an upload that was
broken off is begun again. Who reads verifies the digest: the store is only where bytes are found.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from lattice import subjects
from lattice.transport import Bucket, NoBucket, Transport

PART = 512 * 1024
"""Bytes of one part, unless the broker takes only less."""

ROOM = 4096
"""Bytes of a message that are the broker's."""

AT_ONCE = 2
"""Parts on their way at a time: enough to hide the round trip, few enough for a slow line."""

KEPT_BYTES = 1024**3
KEPT_SECONDS = 30 * 86400.0
"""What nobody refers to is kept up to this size and age, so that going back to an older version works."""

UNTOUCHED_SECONDS = 3600.0
"""An image this young is never removed: whoever uploaded it may be about to deploy it."""


class NoImage(Exception):
    """The lattice does not have that image, or not all of it."""


@dataclass(frozen=True, slots=True)
class StoredImage:
    """One image of the store. `used` is when it was last deployed, in seconds since the epoch."""

    digest: str
    name: str
    size: int
    used: float


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str = ""
    size: int
    parts: int
    used: float = 0.0


class ImageStore:
    """The images of one lattice. The bucket is made when the first one is put."""

    def __init__(self, transport: Transport, lattice: str) -> None:
        self._transport = transport
        self._name = subjects.images(lattice)

    async def _bucket(self) -> Bucket | None:
        try:
            return await self._transport.bucket(self._name, create=False)
        except NoBucket:
            return None

    async def put(
        self, digest: str, data: bytes, name: str = "", progress: Callable[[int], None] = lambda _: None
    ) -> bool:
        """Keep `data`; False when the lattice has it already, which counts as using it.

        `progress` is told how many bytes are there. Raises ValueError when `digest` is not the sha256 of `data`.
        """
        if hashlib.sha256(data).hexdigest() != digest:
            raise ValueError(f"{name or 'the image'} is not sha256:{digest}")
        bucket = await self._transport.bucket(self._name)
        known = await _record(bucket, digest)
        if known is not None:
            await self._write(bucket, digest, known.model_copy(update={"used": time.time()}))
            return False
        part = min(PART, self._transport.max_payload - ROOM)
        parts = [data[at : at + part] for at in range(0, len(data), part)]
        sent = 0
        numbers = iter(range(len(parts)))

        async def carry() -> None:
            nonlocal sent
            for number in numbers:
                await bucket.put(f"{digest}.{number}", parts[number])
                sent += len(parts[number])
                progress(sent)

        await _together(carry() for _ in range(AT_ONCE))
        await self._write(bucket, digest, _Record(name=name, size=len(data), parts=len(parts), used=time.time()))
        return True

    async def _write(self, bucket: Bucket, digest: str, record: _Record) -> None:
        await bucket.put(digest, record.model_dump_json().encode())

    async def find(self, digest: str) -> StoredImage | None:
        """What the lattice knows of this image; None when it does not have it."""
        bucket = await self._bucket()
        record = None if bucket is None else await _record(bucket, digest)
        return None if record is None else StoredImage(digest, record.name, record.size, record.used)

    async def read(self, digest: str) -> AsyncIterator[bytes]:
        """Its bytes, part by part, unverified. Raises NoImage, also when it is removed meanwhile."""
        bucket = await self._bucket()
        record = None if bucket is None else await _record(bucket, digest)
        if bucket is None or record is None:
            raise NoImage(f"the lattice does not have the image sha256:{digest}")
        for number in range(record.parts):
            entry = await bucket.get(f"{digest}.{number}")
            if entry is None or entry.value is None:
                raise NoImage(f"part {number} of the image sha256:{digest} is gone from the lattice")
            yield entry.value

    async def all(self) -> list[StoredImage]:
        """Every image that is whole, the longest unused first."""
        bucket = await self._bucket()
        found = []
        for key in [] if bucket is None else await bucket.keys():
            record = None if "." in key or bucket is None else await _record(bucket, key)
            if record is not None:
                found.append(StoredImage(key, record.name, record.size, record.used))
        return sorted(found, key=lambda image: image.used)

    async def remove(self, digest: str) -> None:
        """The record first, so that nobody takes what is left of it for an image."""
        bucket = await self._bucket()
        if bucket is None:
            return
        await bucket.purge(digest)
        for key in await bucket.keys():
            if key.startswith(f"{digest}."):
                await bucket.purge(key)

    async def tidy(
        self,
        needed: Collection[str],
        *,
        most_bytes: int = KEPT_BYTES,
        now: float | None = None,
    ) -> list[StoredImage]:
        """Remove what is not among `needed` and too old, or, the longest unused first, too much; which those were."""
        at = time.time() if now is None else now
        images = await self.all()
        total = sum(image.size for image in images)
        removed = []
        for image in images:
            age = at - image.used
            if image.digest in needed or age < UNTOUCHED_SECONDS:
                continue
            if age > KEPT_SECONDS or total > most_bytes:
                await self.remove(image.digest)
                total -= image.size
                removed.append(image)
        return removed


async def _record(bucket: Bucket, digest: str) -> _Record | None:
    entry = await bucket.get(digest)
    if entry is None or entry.value is None:
        return None
    try:
        return _Record.model_validate_json(entry.value)
    except ValidationError:
        return None  # an upload puts a readable one in its place


async def _together(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run the coroutines side by side; the first failure is raised as it is, after the others were cancelled."""
    tasks = [asyncio.create_task(w) for w in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
