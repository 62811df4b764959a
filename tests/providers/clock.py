"""A clock for schedules under test."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.time = NEW_YEAR
        self.sleepers: list[tuple[datetime, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        return self.time

    async def until(self, moment: datetime) -> None:
        if moment > self.time:
            woken = asyncio.get_running_loop().create_future()
            self.sleepers.append((moment, woken))
            await woken

    async def asleep(self, count: int = 1) -> list[datetime]:
        """Wait until `count` jobs wait for their ticks, and say for which."""
        async with asyncio.timeout(5):
            while len([s for s in self.sleepers if not s[1].done()]) < count:
                await asyncio.sleep(0)
        return sorted(moment for moment, woken in self.sleepers if not woken.done())

    def pass_to(self, moment: datetime) -> None:
        self.time = moment
        for due, woken in self.sleepers:
            if due <= moment and not woken.done():
                woken.set_result(None)
