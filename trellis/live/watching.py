"""Which files change."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path

from watchfiles import DefaultFilter, awatch

STEP, MOST = 5, 50
"""Milliseconds without a change that end a burst of them, and how long one may be: editors save in several steps."""

SEEN = DefaultFilter(ignore_dirs=())
"""Passes over files that editors write for themselves; folders are chosen before."""

AGAIN = 0.1
"""Seconds before it is tried again to watch what is there."""

RECENT = 2.0
"""Seconds: a file that changed longer ago was not what we were told of."""


async def changes(folders: Callable[[], set[Path]]) -> AsyncIterator[set[Path]]:
    """The files directly in `folders()` that changed, for ever.

    When these are others than before, watching begins anew; then, as at the beginning, an empty set comes: what changed
    meanwhile is for the caller to find out. Raises OSError where the system lets us watch no more.
    """
    while True:
        watched = folders()
        yield set()
        try:
            async for batch in awatch(
                *watched, watch_filter=SEEN, step=STEP, debounce=MOST, recursive=False, ignore_permission_denied=True
            ):
                yield {Path(path) for _, path in batch}
                if folders() != watched:
                    break
        except FileNotFoundError:
            await asyncio.sleep(AGAIN)  # a folder went just now


def since(files: Iterable[Path]) -> float:
    """Seconds that have passed since the last of these files was written, or put in another's place."""
    now = time.time()
    last = max(map(changed_at, files), default=now)
    return now - last if 0 <= now - last < RECENT else 0.0


def changed_at(file: Path) -> float:
    """When it was written, or put in another's place, by time.time(); long ago when it is not there."""
    try:
        return file.stat().st_ctime
    except FileNotFoundError:
        return 0.0
