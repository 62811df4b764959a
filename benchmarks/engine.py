"""The engine beside wasmtime-py's own synchronous classes, in one run: calls, host calls, bytes, memory, threads.

    python benchmarks/engine.py [rounds]

Contenders take turns, so that a busy machine is unfair to all of them alike. `best` and `median` are over the rounds;
the ratio compares medians with the first row of the group. Absolute figures are this machine's.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import platform
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.append(sys.path.pop(0))  # `lattice` is the package, not the file in this folder

import structlog
import wasmtime
from request import HERE, ME, Contender, Group, added, measure, requested, synchronous
from wasmtime import component as wc

from actors import Actor, Engine, EngineConfig, Limits, Session
from actors.guest import Guest
from actors.host_api import serves
from lattice import Function, Invocation, Value

TURNS = 1000
"""Host calls that one invocation makes."""

CALLER = """(component
  (import "benchmark:host/clock" (instance $clock (export "FUNCTION" (func (result u32)))))
  (alias export $clock "FUNCTION" (func $f))
  (core func $f-core (canon lower (func $f)))
  (core module $m
    (import "clock" "f" (func $f (result i32)))
    (func (export "run") (param $turns i32) (result i32)
      (loop $l
        (drop (call $f))
        (br_if $l (local.tee $turns (i32.sub (local.get $turns) (i32.const 1)))))
      (i32.const 0)))
  (core instance $i (instantiate $m (with "clock" (instance (export "f" (func $f-core))))))
  (func (export "run") (param "turns" u32) (result u32) (canon lift (core func $i "run"))))"""

ECHO = """(component
  (core module $m
    (memory (export "memory") 64)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 64))
    (func (export "echo") (param i32 i32) (result i32)
      (i32.store (i32.const 16) (local.get 0))
      (i32.store (i32.const 20) (local.get 1))
      (i32.const 16)))
  (core instance $i (instantiate $m))
  (func (export "echo") (param "x" (list u8)) (result (list u8))
    (canon lift (core func $i "echo") (memory (core memory $i "memory")) (realloc (core func $i "realloc")))))"""

WORK = """(component
  (core module $m
    (func (export "run") (param i32) (result i32)
      (loop $l (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
      (local.get 0))
    (func (export "spin") (loop $l (br $l))))
  (core instance $i (instantiate $m))
  (func (export "run") (param "turns" u32) (result u32) (canon lift (core func $i "run")))
  (func (export "spin") (canon lift (core func $i "spin"))))"""

PATIENT = CALLER.replace("(func (export", "(memory 1) (func (export", 1)


@serves("benchmark:host/clock")
class Clock:
    gate: asyncio.Event
    waiting = 0

    @staticmethod
    def now(guest: Guest) -> int:
        return 1

    @staticmethod
    async def soon(guest: Guest) -> int:
        return 1

    @staticmethod
    async def later(guest: Guest) -> int:
        await asyncio.sleep(0)
        return 1

    @staticmethod
    async def wait(guest: Guest) -> int:
        Clock.waiting += 1
        await Clock.gate.wait()
        return 1


def invocation(name: str, *args: Value) -> Invocation:
    return Invocation(ME, Function("", name), args)


# -- wasmtime-py as its documentation has it


class Synchronous:
    def __init__(self, wat: str) -> None:
        config = wasmtime.Config()
        config.epoch_interruption = True
        self.engine = wasmtime.Engine(config)
        self.component = wc.Component(self.engine, wat)
        self.linker = wc.Linker(self.engine)

    def instance(self) -> tuple[wasmtime.Store, Any]:
        store = wasmtime.Store(self.engine)
        store.set_epoch_deadline(1_000_000_000)
        return store, self.linker.instantiate(store, self.component)

    def function(self, name: str) -> tuple[wasmtime.Store, Any]:
        store, instance = self.instance()
        index = self.component.get_export_index(name)
        assert index is not None
        return store, instance.get_func(store, index)


def instantiated_synchronously() -> Contender:
    subject = Synchronous((HERE / "tiny.wat").read_text())

    async def call() -> object:
        return subject.instance()

    return call


def called_synchronously(wat: str, name: str, *args: Any) -> Contender:
    store, function = Synchronous(wat).function(name)

    async def call() -> object:
        answer = function(store, *args)
        function.post_return(store)
        return answer

    return call


def host_called_synchronously() -> Contender:
    subject = Synchronous(CALLER.replace("FUNCTION", "now"))
    with subject.linker.root() as root, root.add_instance("benchmark:host/clock") as clock:
        clock.add_func("now", lambda _: 1)
    store, function = subject.function("run")

    async def call() -> object:
        answer = function(store, TURNS)
        function.post_return(store)
        return answer

    return call


# -- ours


async def instantiated(engine: Engine) -> Contender:
    actor = Actor(ME, await engine.load(HERE / "tiny.wat"))
    export = actor.exports["#add"]

    async def call() -> None:
        await actor.permits.acquire(0)
        instance = actor.instance(export, invocation("add"), float("inf"))
        await instance.begin()
        instance.close()

    return call


async def called(engine: Engine, wat: str, name: str, *args: Value) -> Contender:
    """A fresh instance for each call."""
    actor = Actor(ME, await engine.load(wat.encode()), limits=Limits(execution=600))
    asked = invocation(name, *args)

    async def call() -> object:
        return await actor.handle(asked)

    return call


async def called_in_session(
    stack: contextlib.AsyncExitStack, engine: Engine, wat: str, name: str, *args: Value
) -> Contender:
    actor = Actor(ME, await engine.load(wat.encode()), limits=Limits(execution=600))
    session = await stack.enter_async_context(Session(actor))
    function = Function("", name)

    async def call() -> object:
        return await session.call(function, *args)

    return call


async def groups(stack: contextlib.AsyncExitStack, pooled: Engine, demand: Engine) -> list[Group]:
    tiny = HERE / "tiny.wat"
    found: list[Group] = [
        (
            "instantiate",
            500,
            {
                "wasmtime-py": instantiated_synchronously(),
                "on demand": await instantiated(demand),
                "pooled": await instantiated(pooled),
            },
        ),
        (
            "call, fresh instance",
            500,
            {
                "wasmtime-py": synchronous(tiny),
                "on demand": await added(demand, tiny),
                "pooled": await added(pooled, tiny),
            },
        ),
        (
            "call, kept instance",
            500,
            {
                "wasmtime-py": called_synchronously(tiny.read_text(), "add", 2, 3),
                "session": await called_in_session(stack, pooled, tiny.read_text(), "add", 2, 3),
            },
        ),
        (
            f"{TURNS} host calls (ms are us each)",
            2,
            {
                "wasmtime-py, synchronous": host_called_synchronously(),
                "synchronous": await called(pooled, CALLER.replace("FUNCTION", "now"), "run", TURNS),
                "async, done at once": await called(pooled, CALLER.replace("FUNCTION", "soon"), "run", TURNS),
                "async, waits": await called(pooled, CALLER.replace("FUNCTION", "later"), "run", TURNS),
            },
        ),
    ]
    for size, calls in ((16, 500), (4096, 20), (65536, 2), (1024**2, 1)):
        data = os.urandom(size)
        contenders = {"engine": await called(pooled, ECHO, "echo", data)}
        if size < 1024**2:
            contenders = {"wasmtime-py": called_synchronously(ECHO, "echo", data)} | contenders
        found.append((f"{size} bytes in and out", calls, contenders))
    hello, echo = HERE / "hello_http.wat", HERE / "echo_http.wat"
    body = os.urandom(65536)
    found += [
        (
            "wasi:http hello",
            200,
            {"on demand": await requested(demand, hello), "pooled": await requested(pooled, hello)},
        ),
        (
            "wasi:http echo of 64 KiB",
            5,
            {
                "on demand": await requested(demand, echo, body, "POST"),
                "pooled": await requested(pooled, echo, body, "POST"),
            },
        ),
    ]
    return found


# -- guests that compute, and guests that wait


async def threads(engine: Engine) -> None:
    """Compute-bound calls in one worker thread and in two."""
    actor = Actor(ME, await engine.load(WORK.encode()), limits=Limits(execution=600))
    asked = invocation("run", 50_000_000)
    whole = engine.workers
    print(f"\n{'compute-bound guests':<28} {'calls/s':>10} {'':>10} {'ratio':>7}")
    first = 0.0
    for count in (1, 2):
        with ThreadPoolExecutor(count) as engine.workers:
            begun = time.perf_counter()
            await asyncio.gather(*[actor.handle(asked) for _ in range(16)])
            rate = 16 / (time.perf_counter() - begun)
            first = first or rate
            print(f"  {f'{count} worker threads':<26} {rate:>10.1f} {'':>10} {rate / first:>7.2f}")
    engine.workers = whole


async def beside_spinners(engine: Engine) -> None:
    """A small call, every few milliseconds, while one guest per core spins."""
    spinner = Actor(ME, await engine.load(WORK.encode()), limits=Limits(execution=600))
    small = Actor(ME, await engine.load(HERE / "tiny.wat"))
    asked = invocation("add", 2, 3)
    print(f"\n{'small call beside spinners':<28} {'p50':>10} {'p99':>10} {'worst':>10}")
    for spinners in (0, os.cpu_count() or 1):
        spinning = [asyncio.create_task(spinner.handle(invocation("spin"))) for _ in range(spinners)]
        await asyncio.sleep(0.1)
        taken = []
        for _ in range(1000):
            begun = time.perf_counter()
            await small.handle(asked)
            taken.append(time.perf_counter() - begun)
            await asyncio.sleep(0.001)
        for task in spinning:
            task.cancel()
        await asyncio.gather(*spinning, return_exceptions=True)
        cuts = statistics.quantiles(taken, n=100)
        median, most, worst = (seconds * 1e6 for seconds in (cuts[49], cuts[98], max(taken)))
        print(f"  {f'{spinners} spinning':<26} {median:>7.0f} us {most:>7.0f} us {worst:>7.0f} us")


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def suspended(count: int) -> None:
    """In a process of its own: what `count` guests cost that wait in a host call."""
    Clock.gate = asyncio.Event()
    with contextlib.closing(Engine(EngineConfig())) as engine:
        component = await engine.load(PATIENT.replace("FUNCTION", "wait").encode())
        actor = Actor(ME, component, limits=Limits(concurrent=count, execution=600))
        before, begun = resident(), time.perf_counter()
        calls = [asyncio.create_task(actor.handle(invocation("run", 1))) for _ in range(count)]
        while Clock.waiting < count:
            await asyncio.sleep(0)
        seconds, used = time.perf_counter() - begun, resident() - before
        Clock.gate.set()
        await asyncio.gather(*calls)
    print(json.dumps({"bytes": used, "seconds": seconds}))


def memory() -> None:
    print(f"\n{'guests waiting at once':<28} {'memory':>10} {'each':>10} {'begun in':>10}")
    for count in (1_000, 10_000):
        done = subprocess.run(
            [sys.executable, __file__, "--suspended", str(count)], capture_output=True, text=True, check=True
        )
        found = json.loads(done.stdout)
        print(
            f"  {count:<26} {found['bytes'] / 2**20:>6.0f} MiB {found['bytes'] / count / 1024:>6.1f} KiB"
            f" {found['seconds']:>8.2f} s"
        )


async def main(rounds: int) -> None:
    print(f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores")
    async with contextlib.AsyncExitStack() as stack:
        pooled = stack.enter_context(contextlib.closing(Engine(EngineConfig(pool=100))))
        demand = stack.enter_context(contextlib.closing(Engine(EngineConfig(pool=0))))
        async with contextlib.AsyncExitStack() as sessions:
            for group in await groups(sessions, pooled, demand):
                await measure(group, rounds)
        await threads(pooled)
        await beside_spinners(pooled)
    memory()


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    if sys.argv[1:2] == ["--suspended"]:
        asyncio.run(suspended(int(sys.argv[2])))
    else:
        asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10))
