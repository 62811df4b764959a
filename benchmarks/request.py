"""Microseconds for one invocation, each in a fresh instance: ours beside wasmtime-py's own synchronous classes.

    python benchmarks/request.py [rounds]

All contenders take turns within one run, so that a busy machine is unfair to all of them alike. `best` and `median` are
over the rounds; the ratio compares medians with the first row of the group. Absolute figures are this machine's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import platform
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

sys.path.append(sys.path.pop(0))  # `lattice` is the package, not the file in this folder

import structlog
import wasmtime
from wasmtime import component as wc

import actors.wasi
from actors import Actor, Engine, EngineConfig
from lattice import Body, ByteStream, EntityId, Function, Invocation, Value
from lattice.http import HANDLE

HERE = Path(__file__).parent
COUNTER = HERE.parent / "examples" / "counter" / "actor" / "build" / "counter.wasm"
ME = EntityId("benchmark")

Contender = Callable[[], Awaitable[object]]
Group = tuple[str, int, dict[str, Contender]]
"""A title, calls in one round, and the contenders, the reference first."""


def synchronous(source: Path) -> Contender:
    """wasmtime-py as its documentation has it: a Store, a Linker's instance, a call."""
    config = wasmtime.Config()
    config.epoch_interruption = True
    engine = wasmtime.Engine(config)
    component = wc.Component(engine, source.read_text())
    linker = wc.Linker(engine)
    index = component.get_export_index("add")
    assert index is not None

    async def call() -> object:
        store = wasmtime.Store(engine)
        store.set_epoch_deadline(1_000_000)
        function = linker.instantiate(store, component).get_func(store, index)
        assert function is not None
        return function(store, 2, 3)

    return call


async def added(engine: Engine, source: Path) -> Contender:
    actor = Actor(ME, await engine.load(source))
    invocation = Invocation(ME, Function("", "add"), (2, 3))

    async def call() -> Value:
        return await actor.handle(invocation)

    return call


async def requested(engine: Engine, source: Path, body: Body = b"", method: str = "GET") -> Contender:
    """A whole wasi:http request, the body of the response read to its end, the guest too."""

    async def imports(invocation: Invocation) -> Value:
        return 1 if "increment" in invocation.function.name else None

    actor = Actor(ME, await engine.load(source), imports=imports)
    request = {
        "method": method,
        "path-with-query": "/",
        "scheme": "http",
        "authority": "localhost",
        "headers": [("accept", b"*/*")],
        "body": body,
    }
    invocation = Invocation(ME, HANDLE, (request,))

    async def call() -> Value:
        response = await actor.handle(invocation)
        if isinstance(response["body"], ByteStream):
            await response["body"].read_all()
        await actor.drain()
        return response

    return call


async def instantiated(engine: Engine, source: Path) -> Contender:
    """What comes before the call: a store, the instance in it, and their end."""

    async def imports(invocation: Invocation) -> Value:
        raise AssertionError(f"{invocation.function} was called")

    actor = Actor(ME, await engine.load(source), imports=imports)
    export, invocation = actor.exports[HANDLE.key], Invocation(ME, HANDLE)

    async def call() -> object:
        await actor.permits.acquire(math.inf)
        instance = actor.instance(export, invocation, math.inf)
        try:
            await instance.begin()
        finally:
            instance.close()
        return instance

    return call


async def groups(pooled: Engine, demand: Engine) -> list[Group]:
    tiny, hello = HERE / "tiny.wat", HERE / "hello_http.wat"
    found: list[Group] = [
        (
            "two numbers added",
            500,
            {
                "wasmtime-py, synchronous": synchronous(tiny),
                "actor, on demand": await added(demand, tiny),
                "actor, pooled": await added(pooled, tiny),
            },
        ),
        (
            "wasi:http, hand-written",
            200,
            {
                "actor, on demand": await requested(demand, hello),
                "actor, pooled": await requested(pooled, hello),
            },
        ),
    ]
    if COUNTER.exists():
        found.append(
            (
                "Python counter, instantiated",
                50,
                {
                    "actor, on demand": await instantiated(demand, COUNTER),
                    "actor, pooled": await instantiated(pooled, COUNTER),
                },
            )
        )
        found.append(
            (
                "wasi:http, Python counter",
                20,
                {
                    "actor, on demand": await requested(demand, COUNTER),
                    "actor, pooled": await requested(pooled, COUNTER),
                },
            )
        )
    return found


async def measure(group: Group, rounds: int) -> None:
    title, calls, contenders = group
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for call in contenders.values():
        for _ in range(calls):
            await call()
    for _ in range(rounds):
        for name, call in contenders.items():
            begun = time.perf_counter()
            for _ in range(calls):
                await call()
            seconds[name].append((time.perf_counter() - begun) / calls)
    reference = statistics.median(next(iter(seconds.values())))
    print(f"\n{title:<28} {'best':>10} {'median':>10} {'ratio':>7}")
    for name, measured in seconds.items():
        median = statistics.median(measured)
        print(f"  {name:<26} {min(measured) * 1e6:>7.1f} us {median * 1e6:>7.1f} us {median / reference:>7.2f}")


async def main(rounds: int) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    print(f"Python {platform.python_version()}, {platform.machine()}, {len(actors.wasi.__all__)} WASI packages served")
    pooled, demand = Engine(EngineConfig(pool=100)), Engine(EngineConfig(pool=0))
    with contextlib.closing(pooled), contextlib.closing(demand):
        for group in await groups(pooled, demand):
            await measure(group, rounds)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 20))
