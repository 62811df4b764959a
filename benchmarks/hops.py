"""What the lattice costs on top of NATS: calls between two processes, beside bare nats-py between the same two.

    python benchmarks/hops.py [--seconds 2] [--megabytes 100]

Needs a nats-server beside this Python or on PATH; everything runs on the loopback address.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import statistics
import sys
import time
from collections.abc import Awaitable, Callable

sys.path.append(sys.path.pop(0))  # `providers` is the package, not the file in this folder

import nats

from lattice import ByteStream, EntityId, Function, HostId, Invocation
from lattice.lattice import Lattice
from lattice.nats_transport import connect
from trellis.broker import Broker

SIZES = (64, 1024, 16 * 1024, 256 * 1024)
TARGET, NODE = EntityId("echo"), HostId("NBENCH")
ECHO, PULL = Function.parse("bench:echo/echo#echo"), Function.parse("bench:echo/echo#pull")
IN_FLIGHT = 64

Call = Callable[[], Awaitable[object]]


async def serve(url: str) -> None:
    """The other process: echoes, on bare NATS and as a target on the lattice; `pull` sends a stream of that size."""
    client = await nats.connect(url)

    async def answer(message) -> None:
        await message.respond(message.data)

    await client.subscribe("bench.echo", cb=answer)
    lattice = await Lattice("bench", await connect(url)).start()

    async def handler(call: Invocation):
        if call.function.name == "echo":
            return call.args[0]
        body = ByteStream()
        asyncio.get_running_loop().create_task(fill(body, call.args[0]))
        return body

    await lattice.serve(TARGET, handler, host=NODE)
    await lattice.transport.flush()
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, flush=True)
    await lattice.close()
    await client.close()


async def fill(body: ByteStream, size: int) -> None:
    chunk = os.urandom(64 * 1024)
    while size > 0:
        await body.write(chunk[: min(size, len(chunk))])
        size -= len(chunk)
    body.finish()


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


async def measure(url: str, seconds: float, megabytes: int) -> None:
    client = await nats.connect(url)
    async with Lattice("bench", await connect(url)) as lattice:
        print(f"{'bytes':>8}  {'bare p50':>9} {'ours p50':>9} {'added':>8} {'ours p99':>9}", end="")
        print(f"  {'bare/s':>8} {'ours/s':>8} {'ratio':>6}")
        for size in SIZES:
            data = os.urandom(size)

            async def bare(data: bytes = data) -> object:
                return await client.request("bench.echo", data, timeout=10)

            async def ours(data: bytes = data) -> object:
                return await lattice.invoke_at(NODE, Invocation(TARGET, ECHO, (data,)).within(10))

            await asyncio.gather(*(ours() for _ in range(50)), *(bare() for _ in range(50)))
            plain, hop = await latency(bare, seconds), await latency(ours, seconds)
            rate, own = await throughput(bare, seconds), await throughput(ours, seconds)
            print(
                f"{size:>8}  {plain[0]:>6.0f} us {hop[0]:>6.0f} us {hop[0] - plain[0]:>5.0f} us {hop[1]:>6.0f} us"
                f"  {rate:>8.0f} {own:>8.0f} {own / rate:>6.2f}"
            )

        async def here(call: Invocation):
            return call.args[0]

        data = os.urandom(64)
        direct = await latency(lambda: here(Invocation(TARGET, ECHO, (data,)).within(10)), seconds / 4)
        print(f"\ndirect, in the same process: {direct[0]:.1f} us; a hop is what the table says")
        size = megabytes * 1_000_000
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        begun, got = time.perf_counter(), 0
        body = await lattice.invoke_at(NODE, Invocation(TARGET, PULL, (size,)).within(120))
        async for chunk in body:
            got += len(chunk)
        elapsed = time.perf_counter() - begun
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        assert got == size, (got, size)
        rate = megabytes / elapsed
        print(f"streamed: {megabytes} MB in {elapsed:.2f} s, {rate:.0f} MB/s; the reader grew by {grown:.0f} MB")
    await client.close()


async def main(seconds: float, megabytes: int) -> None:
    async with Broker() as broker:
        other = await asyncio.create_subprocess_exec(
            *(sys.executable, __file__, "--serve", broker.url),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert other.stdout is not None
        try:
            assert await other.stdout.readline() == b"ready\n"
            await measure(broker.url, seconds, megabytes)
        finally:
            said, _ = await other.communicate(b"")
        print(f"the writer's memory at most: {said.decode().strip()} MB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each measurement")
    parser.add_argument("--megabytes", type=int, default=100, help="to stream")
    parser.add_argument("--serve", metavar="URL", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.serve))
    else:
        asyncio.run(main(options.seconds, options.megabytes))
