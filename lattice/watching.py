"""A bucket's image in memory, which outlives broken connections and a broker that loses its data."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import aclosing

import structlog

from lattice.errors import LatticeError
from lattice.transport import Bucket, Entry, WrongRevision

log = structlog.get_logger("lattice")

RETRY = 0.5
"""Seconds before a watch that broke is begun again."""


async def follow(bucket: Bucket, on_entry: Callable[[Entry], None], ready: asyncio.Event) -> None:
    """Call back for each key's entry and each change, for ever; `ready` is set while all that is there was told.

    A watch that breaks is begun again, and what has changed in the meantime is told. When the broker lost the bucket,
    everyone who follows it puts back what is missing in the new one.
    """
    image = _Image(on_entry)
    made: str | None = None
    while True:
        try:
            now = await bucket.incarnation()
            if made not in (None, now):
                await _put_back(bucket, image.entries.values())
            made = now
            await _watch(bucket, image, ready)
        except LatticeError as error:
            log.warning("watch.broken", error=error.message)
        ready.clear()
        await asyncio.sleep(RETRY)


class _Image:
    """What was told of a bucket."""

    def __init__(self, on_entry: Callable[[Entry], None]) -> None:
        self.entries: dict[str, Entry] = {}
        self._on_entry = on_entry

    def tell(self, entry: Entry) -> None:
        """Unless that is known."""
        if self.entries.get(entry.key) == entry:
            return
        if entry.value is None:
            self.entries.pop(entry.key, None)
        else:
            self.entries[entry.key] = entry
        try:
            self._on_entry(entry)
        except Exception:
            log.exception("entry.failed", key=entry.key)


async def _watch(bucket: Bucket, image: _Image, ready: asyncio.Event) -> None:
    """Tell all that is there, then each change, until the watch breaks."""
    there: set[str] = set()
    async with aclosing(bucket.watch()) as changes:  # type: ignore[type-var]
        async for entry in changes:
            if entry is None:
                break
            image.tell(entry)
            there.add(entry.key)
        else:
            return
        for key in image.entries.keys() - there:
            image.tell(Entry(key, None, 0))
        ready.set()
        async for entry in changes:
            if entry is not None:
                image.tell(entry)


async def _put_back(bucket: Bucket, image: Iterable[Entry]) -> None:
    there = set(await bucket.keys())
    missing = [entry for entry in image if entry.key not in there]
    for entry in missing:
        try:
            await bucket.update(entry.key, entry.value or b"", 0)
        except WrongRevision:
            pass  # somebody else put it back, or has deleted it since
    log.warning("bucket.lost", put_back=len(missing))
