"""A bucket's image in memory that survives broken connections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing

import structlog

from lattice import LatticeError
from lattice.transport import Bucket, Entry

log = structlog.get_logger("host")

RETRY = 1.0
"""Seconds before a watch that broke is begun again."""


async def follow(bucket: Bucket, on_entry: Callable[[Entry], None], ready: asyncio.Event) -> None:
    """Call back for each key's entry and each change, for ever; `ready` is set once the first replay is done.

    A watch that breaks is begun again, which replays every key: `on_entry` must not mind seeing one twice.
    """
    while True:
        try:
            async with aclosing(bucket.watch()) as changes:  # type: ignore[type-var]
                async for entry in changes:
                    if entry is None:
                        ready.set()
                    else:
                        on_entry(entry)
        except LatticeError as error:
            log.warning("watch.broken", error=error.message)
        await asyncio.sleep(RETRY)
