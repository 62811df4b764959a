"""The same guest in each language, side by side in one run: size, compile time, and a fresh instance per request.

    python benchmarks/guests.py [--requests 50] [NAME=FILE.wasm ...]

Builds nothing: measures the components that `pytest tests/guests` left in pytest's cache, or those named. `-P`, so that
the benchmark `lattice.py` beside this file is not taken for the package.

| column  | what it is                                                                                    |
|---------|-----------------------------------------------------------------------------------------------|
| size    | of the component                                                                              |
| compile | to native code, with nothing in the cache: once per machine and component                     |
| load    | from the cache of compiled code                                                               |
| hello   | one `GET /` in process: a fresh instance, the request, the answer; the median                 |
| 1 in 20 | the same: one request in twenty took longer                                                   |

Absolute figures move with the machine: read the ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.append(sys.path.pop(0))  # `lattice` is the package, not the file in this folder

import structlog

import actors.wasi  # noqa: F401  registers the interfaces
from actors import Actor, Component, Engine, EngineConfig
from lattice import EntityId, Invocation
from lattice.http import HANDLE
from lattice.streams import read_body

BUILT = Path(__file__).parents[1] / ".pytest_cache" / "d" / "components"
REQUEST = {
    "method": "GET",
    "path-with-query": "/",
    "scheme": "http",
    "authority": "example.com",
    "headers": [],
    "body": b"",
}


def built() -> dict[str, Path]:
    """The newest component of each language."""
    files = sorted(BUILT.glob("guest-*-*.wasm"), key=lambda file: file.stat().st_mtime)
    return {file.stem.split("-")[1]: file for file in files}


async def loaded(file: Path, cache: Path) -> tuple[Engine, Component, float]:
    engine = Engine(EngineConfig(pool=0, cache=cache))
    begun = time.perf_counter()
    component = await engine.load(file)
    return engine, component, time.perf_counter() - begun


async def requests(component: Component, count: int) -> list[float]:
    """Seconds, for each of `count` requests one after another, after one that is not counted."""
    actor = Actor(EntityId("subject"), component)
    taken = []
    for _ in range(count + 1):
        begun = time.perf_counter()
        answer = await actor.handle(Invocation(actor.id, HANDLE, (REQUEST,)))
        await read_body(answer["body"])
        taken.append(time.perf_counter() - begun)
    await actor.drain()
    return taken[1:]


async def main() -> None:
    parser = argparse.ArgumentParser(description="The same guest in each language, side by side.")
    parser.add_argument("--requests", type=int, default=50)
    parser.add_argument("guests", nargs="*", metavar="NAME=FILE.wasm")
    options = parser.parse_args()
    guests = {name: Path(file) for name, _, file in (guest.partition("=") for guest in options.guests)} or built()
    if not guests:
        parser.error("no components are built: run `pytest tests/guests` first, or name some")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    print(f"{'guest':12} {'size':>10} {'compile':>10} {'load':>10} {'hello':>10} {'1 in 20':>10}")
    for name, file in guests.items():
        with tempfile.TemporaryDirectory() as cache:
            engine, _, compiling = await loaded(file, Path(cache))
            engine.close()
            engine, component, loading = await loaded(file, Path(cache))
            taken = sorted(await requests(component, options.requests))
            engine.close()
        median, slow = statistics.median(taken), taken[int(len(taken) * 0.95)]
        print(
            f"{name:12} {file.stat().st_size / 1e6:7.2f} MB {compiling:8.2f} s {loading * 1e3:7.1f} ms "
            f"{median * 1e3:7.2f} ms {slow * 1e3:7.2f} ms",
            flush=True,
        )


if __name__ == "__main__":
    asyncio.run(main())
