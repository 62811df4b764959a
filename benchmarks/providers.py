"""What first-party providers cost on top of their client libraries: each back end beside the bare client, same run.

    python benchmarks/providers.py [--seconds 0.5] [--rounds 3] [--http]

| row        | what answers a `get` or `set` of 64 bytes                                    |
|------------|------------------------------------------------------------------------------|
| bare       | the client library alone (of memory: a dict)                                 |
| direct     | the provider in the caller's host: link, checks, answer, client library      |
| process    | the provider in a process of its own on the same host: one hop more          |
| across     | the provider in another host: one hop more, in a host that does other things |

Calls are made as a guest's imports are. Needs a nats-server beside this Python or on PATH; without a redis-server its
rows are left out. The rows of a back end take turns, and medians of the rounds are shown. `--http` measures hello over
HTTP, too, as `serving.py` does, beside bare httptools.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import shutil
import socket
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

sys.path.append(sys.path.pop(0))  # `providers` is the package, not this file

import nats
import serving
import structlog
from measuring import IN_FLIGHT, Call, latency, throughput
from redis.asyncio import Redis
from rich.console import Console
from rich.table import Table

from host import Host, HostConfig
from lattice import EntityId, Function, Invocation, LinkName
from lattice.errors import NotLinked, Unreachable
from lattice.links import LinkDefinition
from lattice.nats_transport import NatsOptions
from trellis.broker import Broker

CALLER = EntityId("bench")
GET, SET = Function.parse("wasi:keyvalue/store#get"), Function.parse("wasi:keyvalue/store#set")
VALUE = os.urandom(64)


# -- the bare clients


@asynccontextmanager
async def bare_memory() -> AsyncIterator[tuple[Call, Call]]:
    values = {"k": VALUE}

    async def get() -> object:
        return values.get("k")

    async def put() -> None:
        values["k"] = VALUE

    yield get, put


@asynccontextmanager
async def bare_nats(url: str) -> AsyncIterator[tuple[Call, Call]]:
    client = await nats.connect(url)
    bucket = await client.jetstream().create_key_value(bucket="bare")
    await bucket.put("k", VALUE)
    yield lambda: bucket.get("k"), lambda: bucket.put("k", VALUE)
    await client.close()


@asynccontextmanager
async def bare_redis(url: str) -> AsyncIterator[tuple[Call, Call]]:
    client = Redis.from_url(url)
    await client.set("k", VALUE)
    yield lambda: client.get("k"), lambda: client.set("k", VALUE)
    await client.aclose()


# -- the providers


async def linked(host: Host, provider: str, config: dict[str, str]) -> tuple[Call, Call]:
    """`get` and `set` through a link to a provider that runs somewhere, as a guest's imports make them."""
    await host.configs.put(provider, config)
    await host.links.put(
        LinkDefinition(
            source_id=CALLER,
            target=EntityId(provider),
            name=LinkName(provider),
            wit_namespace="wasi",
            wit_package="keyvalue",
            interfaces=("store",),
            target_config=(provider,),
        )
    )

    async def call(function: Function, *args: Any) -> object:
        invocation = Invocation(EntityId(provider), function, ("default", "k", *args), CALLER, LinkName(provider))
        return await host.router.imports(invocation.within(10))

    async with asyncio.timeout(20):
        while True:  # the link is on its way
            try:
                await call(SET, VALUE)
                break
            except (NotLinked, Unreachable):
                await asyncio.sleep(0.02)
    return lambda: call(GET), lambda: call(SET, VALUE)


async def started(host: Host, at: str, provider: str, kind: str, placement: str) -> None:
    await host.configs.put(f"{provider}-placement", {"placement": placement})
    body = {"provider_id": provider, "provider_ref": f"builtin:{kind}", "config": [f"{provider}-placement"]}
    reply = await host.lattice.control("provider", "start", at, body=body)
    assert reply.success, reply.message


# -- servers of the run's own


@asynccontextmanager
async def redis_server() -> AsyncIterator[str | None]:
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        yield None
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        options = ("--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", folder)
        process = await asyncio.create_subprocess_exec(program, *options, stdout=asyncio.subprocess.DEVNULL)
        try:
            async with asyncio.timeout(10):
                while True:
                    try:
                        (await asyncio.open_connection("127.0.0.1", port))[1].close()
                        break
                    except OSError:
                        await asyncio.sleep(0.02)
            yield f"redis://127.0.0.1:{port}/"
        finally:
            process.terminate()
            await process.wait()


@asynccontextmanager
async def other_host(url: str) -> AsyncIterator[str]:
    """Another host in a process of its own: its id."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, __file__, "--host", url), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        yield (await process.stdout.readline()).decode().strip()
    finally:
        process.stdin.close()
        await process.wait()


async def run_host(url: str) -> None:
    async with Host(HostConfig(lattice="bench", nats=NatsOptions(url))) as host:
        print(host.id, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


# -- side by side


async def figures(get: Call, put: Call, seconds: float) -> tuple[float, ...]:
    """One row of the table."""
    got, set_ = await latency(get, seconds), await latency(put, seconds)
    return *got, *set_, await throughput(get, seconds), await throughput(put, seconds)


async def measure(seconds: float, rounds: int) -> None:
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(Broker())
        redis = await stack.enter_async_context(redis_server())
        other = await stack.enter_async_context(other_host(broker.url))
        host = await stack.enter_async_context(Host(HostConfig(lattice="bench", nats=NatsOptions(broker.url))))
        back_ends = {
            "memory": (bare_memory(), {"bucket": "bench"}),
            "nats": (bare_nats(broker.url), {"bucket": "bench", "enable_bucket_auto_create": "true"}),
        }
        if redis is not None:
            back_ends["redis"] = (bare_redis(redis), {"bucket": "bench", "url": redis})
        table = Table(
            *("back end", "where", "get p50 us", "p99 us", "set p50 us", "p99 us", "get/s", "set/s", "get/s to bare"),
            title=f"64 bytes; one call at a time, then {IN_FLIGHT}",
        )
        for kind, (bare, config) in back_ends.items():
            rows = {"bare": await stack.enter_async_context(bare)}
            for where, at in (("direct", host.id), ("process", host.id), ("across", other)):
                provider = f"{kind}-{where}"
                placement = "process" if where == "process" else "host"
                await started(host, at, provider, f"keyvalue-{kind}", placement)
                rows[where] = await linked(host, provider, config)
            for get, put in rows.values():  # warm up
                await throughput(get, seconds / 5)
                await throughput(put, seconds / 5)
            taken: dict[str, list[tuple[float, ...]]] = {where: [] for where in rows}
            for _ in range(rounds):
                for where, calls in rows.items():
                    taken[where].append(await figures(*calls, seconds))
            medians = {
                where: [statistics.median(column) for column in zip(*each, strict=True)]
                for where, each in taken.items()
            }
            for where, row in medians.items():
                table.add_row(kind, where, *(f"{cell:,.0f}" for cell in row), f"{row[4] / medians['bare'][4]:.2f}")
        Console(width=120).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.5, help="for each figure and round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--http", action="store_true", help="hello over HTTP, too")
    parser.add_argument("--host", metavar="URL", help=argparse.SUPPRESS)
    options = parser.parse_args()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    asyncio.run(run_host(options.host) if options.host else measure(options.seconds, options.rounds))
    if options.http and not options.host:
        serving.show(("provider only", "httptools"), max(1.0, options.seconds), 64, options.rounds, uvloop=False)


if __name__ == "__main__":
    main()
