"""What WASI's byte streams stand on: where an input-stream reads from, and where an output-stream writes to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol


class Source(Protocol):
    """Where an input-stream reads from: a ByteStream's reading end, or something that does as it does."""

    @property
    def ended(self) -> bool:
        """All bytes were taken and no more will come."""

    def readable(self) -> bool:
        """A read would not wait."""

    def read_now(self, size: int) -> bytes:
        """Up to `size` bytes that are there; b"" when there are none (see `ended`). Raises StreamClosed on a break."""

    def watch(self, waiter: asyncio.Future[None]) -> Callable[[], object]:
        """Complete `waiter` once `readable` may have changed."""


class Sink(Protocol):
    """Where an output-stream writes to."""

    def room(self) -> int:
        """Bytes it takes now. Raises WitError with a stream-error when it takes no more, ever."""

    def write(self, data: bytes) -> None:
        """Take all of `data`; the caller asked for room. Raises WitError with a stream-error."""

    def watch(self, waiter: asyncio.Future[None]) -> Callable[[], object]:
        """Complete `waiter` once `room` may have changed."""
