"""A bucket of the lattice's state that a host follows."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable

from lattice.transport import Bucket, Entry
from lattice.watching import follow


class Followed(ABC):
    """Knows what is in the bucket. Run `follow` beside it."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self.revision = 0
        """Of the bucket, up to which it was followed."""
        self.ready = asyncio.Event()
        """Set while all that is in the bucket is known."""
        self.on_advance: Callable[[], None] = lambda: None
        """Called after `revision` has advanced."""

    async def follow(self) -> None:
        await follow(self._bucket, self._followed, self.ready)

    def _followed(self, entry: Entry) -> None:
        self._seen(entry)
        self.revision = max(self.revision, entry.revision)
        self.on_advance()

    @abstractmethod
    def _seen(self, entry: Entry) -> None:
        """Take it in."""
