"""How long a call takes, one at a time and many at once: what several benchmarks measure."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable

IN_FLIGHT = 64

Call = Callable[[], Awaitable[object]]


async def latency(call: Call, seconds: float) -> tuple[float, float]:
    """p50 and p99 of one call at a time, in microseconds."""
    times: list[float] = []
    until = time.perf_counter() + seconds
    while (begun := time.perf_counter()) < until:
        await call()
        times.append((time.perf_counter() - begun) * 1e6)
    return statistics.median(times), statistics.quantiles(times, n=100)[98]


async def throughput(call: Call, seconds: float) -> float:
    """Calls a second with IN_FLIGHT of them at a time."""
    done = 0
    until = time.perf_counter() + seconds

    async def worker() -> None:
        nonlocal done
        while time.perf_counter() < until:
            await call()
            done += 1

    await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))
    return done / seconds
