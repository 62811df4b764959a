"""What the lattice costs on top of NATS, and how soon it heals.

    python benchmarks/lattice.py [--seconds 2] [--megabytes 100] [--kills 3]

Calls between two processes, beside bare nats-py between the same two; a call that stays in its process; a body that is
streamed; and hosts in processes of their own, of which one after the other is ended by SIGKILL under traffic.

Needs a nats-server beside this Python or on PATH; everything runs on the loopback address.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import resource
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.append(sys.path.pop(0))  # `lattice` is the package, not this file

import nats
import structlog
from measuring import latency, throughput

from host import Host, HostConfig
from host.configs import Configs
from host.links import Links
from host.router import Router
from lattice import ByteStream, EntityId, Function, HostId, Invocation, LatticeError, Value
from lattice.control import Inventory
from lattice.directory import Directory
from lattice.lattice import Lattice
from lattice.nats_transport import NatsOptions, connect
from lattice.routes import Local
from trellis.broker import Broker
from trellis.planner import Planner
from wadm import Manager

SIZES = (64, 1024, 16 * 1024, 256 * 1024)
TARGET, NODE = EntityId("echo"), HostId("NBENCH")
ECHO, PULL = Function.parse("bench:echo/echo#echo"), Function.parse("bench:echo/echo#pull")


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
    print(round(peak()), flush=True)
    await lattice.close()
    await client.close()


async def fill(body: ByteStream, size: int) -> None:
    chunk = os.urandom(64 * 1024)
    while size > 0:
        await body.write(chunk[: min(size, len(chunk))])
        size -= len(chunk)
    body.finish()


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

        await in_process(lattice, seconds / 4)
        size = megabytes * 1_000_000
        before = peak()
        begun, got = time.perf_counter(), 0
        body = await lattice.invoke_at(NODE, Invocation(TARGET, PULL, (size,)).within(120))
        async for chunk in body:
            got += len(chunk)
        elapsed = time.perf_counter() - begun
        assert got == size, (got, size)
        print(f"streamed: {megabytes} MB in {elapsed:.2f} s, {megabytes / elapsed:.0f} MB/s")
        print(f"memory at most: the reader {peak():.0f} MB, {peak() - before:.0f} MB of them for the stream", end="")
    await client.close()


async def in_process(lattice: Lattice, seconds: float) -> None:
    """What a host's router adds to a call whose target runs in the same process."""
    configs = Configs(await lattice.config_data())
    router = Router(lattice, Links(await lattice.lattice_data(), configs), Directory(NODE))

    async def here(call: Invocation) -> Value:
        return call.args[0]

    router.local[TARGET] = Local(here, lambda: 0.0)
    data = os.urandom(64)
    direct = await latency(lambda: router.route(Invocation(TARGET, ECHO, (data,)).within(10)), seconds)
    print(f"\ndirect, in the same process, 64 bytes: p50 {direct[0]:.1f} us, p99 {direct[1]:.1f} us")


def peak() -> float:
    """This process's memory at most, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# -- a host is killed


@dataclass(frozen=True)
class Outcome:
    """One call under traffic; times by `time.perf_counter`."""

    begun: float
    ended: float
    answered: bool


async def killed(url: str, kills: int) -> None:
    """Calls through one host's router to a component on three others, one of which is killed; then again."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(Lattice("killed", await connect(url)))
        settings = HostConfig(lattice="killed", nats=NatsOptions(url), labels={"runs": "nothing"})
        entry = await stack.enter_async_context(Host(settings))
        await stack.enter_async_context(Manager(Lattice("killed", await connect(url))))
        others = [await start(stack, url, f"host-{n}") for n in range(3)]
        planner = Planner(client)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "one.wat").write_text(ONE_WAT)
        while len(await client.control_all("host", "ping", seconds=0.5, most=4)) < 4:
            pass
        await planner.put(application((folder / "one.wat").as_uri()))
        await planner.deploy("app", "1")
        await runs(entry, len(others))
        print("\nkilled   calls  lost   the last lost call began   ended   its share runs elsewhere")
        for round in range(kills):
            outcomes: list[Outcome] = []
            traffic = [asyncio.create_task(call(entry, outcomes)) for _ in range(CALLERS)]
            await asyncio.sleep(2)
            at = time.perf_counter()
            others[round % 3].kill()
            await replaced(client, len(others) - 1)
            elsewhere = time.perf_counter() - at
            await asyncio.sleep(2)
            for task in traffic:
                task.cancel()
            lost = [o for o in outcomes if not o.answered]
            began, ended = (max((getattr(o, w) - at for o in lost), default=0.0) for w in ("begun", "ended"))
            line = f"{round + 1:>6} {len(outcomes):>7} {len(lost):>5} {began:>22.3f} s {ended:>7.3f} s"
            print(f"{line} {elsewhere:>22.1f} s", flush=True)
            others[round % 3] = await start(stack, url, f"host-{round + 3}")
            await runs(entry, len(others))


CALLERS = 20
INSTANCES = 30
ONE = Function.parse("demo:math/numbers#one")
ONE_WAT = """(component
  (core module $m (func (export "one") (result i32) (i32.const 1)))
  (core instance $i (instantiate $m))
  (func $one (result u32) (canon lift (core func $i "one")))
  (instance $numbers (export "one" (func $one)))
  (export "demo:math/numbers@0.1.0" (instance $numbers)))"""


def application(image: str) -> dict[str, object]:
    spread = {
        "type": "spreadscaler",
        "properties": {"instances": INSTANCES, "spread": [{"name": "all", "requirements": {"runs": "all"}}]},
    }
    component = {"name": "one", "type": "component", "properties": {"image": image}, "traits": [spread]}
    return {
        "apiVersion": "core.oam.dev/v1beta1",
        "kind": "Application",
        "metadata": {"name": "app", "annotations": {"version": "1"}},
        "spec": {"components": [component]},
    }


async def start(stack: contextlib.AsyncExitStack, url: str, name: str) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "trellis", "host", "start", "--name", name, "--label", "runs=all"),
        *("--lattice", "killed", "--nats", url),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    stack.push_async_callback(process.wait)
    stack.callback(end, process)
    return process


def end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()


async def call(entry: Host, outcomes: list[Outcome]) -> None:
    while True:
        begun = time.perf_counter()
        try:
            await entry.router.route(Invocation(EntityId("app-one"), ONE).within(10))
            answered = True
        except LatticeError:
            answered = False
        outcomes.append(Outcome(begun, time.perf_counter(), answered))
        await asyncio.sleep(0.005)


async def runs(entry: Host, hosts: int) -> None:
    """Until the component runs on that many hosts, as far as `entry` knows."""
    while len(entry.directory.others(EntityId("app-one"))) < hosts:
        await asyncio.sleep(0.1)


async def replaced(client: Lattice, hosts: int) -> None:
    """Until so many hosts say that they run all instances together."""
    while True:
        found = []
        for reply in await client.control_all("host", "ping", seconds=0.3, most=hosts + 1):
            with contextlib.suppress(LatticeError):
                got = await client.control("host", "get", reply.response["id"], timeout=0.5)
                inventory = Inventory.model_validate(got.response)
                found += [c.max_instances for c in inventory.components if c.id == "app-one"]
        if len(found) == hosts and sum(found) == INSTANCES:
            return


async def main(seconds: float, megabytes: int, kills: int) -> None:
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
        print(f"; the writer {said.decode().strip()} MB")
        await killed(broker.url, kills)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each measurement")
    parser.add_argument("--megabytes", type=int, default=100, help="to stream")
    parser.add_argument("--kills", type=int, default=3, help="hosts to kill")
    parser.add_argument("--serve", metavar="URL", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.serve))
    else:
        asyncio.run(main(options.seconds, options.megabytes, options.kills))
