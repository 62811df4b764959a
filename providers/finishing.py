"""How what calls actors stops: it takes no more work, and finishes what it has in hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager


@asynccontextmanager
async def finishing(running: Collection[asyncio.Task[None]]) -> AsyncIterator[None]:
    """Leave the block when these tasks have ended, and those that came meanwhile; when it is cancelled, so are they."""
    try:
        yield
        while running:
            await asyncio.wait(running)
    finally:
        for task in running:
            task.cancel()
