"""A large lattice: how long 1,000 components with 5,000 links take to run, and a late host or manager to know them.

    python benchmarks/size.py [--components 1000] [--links 5] [--hosts 2]

Needs a nats-server beside this Python or on PATH; hosts run in processes of their own, on the loopback address.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.append(sys.path.pop(0))  # `lattice` is the package, not the file in this folder

import structlog

from host import Host, HostConfig
from lattice import DeadlineExceeded, EntityId, Function, Invocation
from lattice.lattice import Lattice
from lattice.nats_transport import NatsOptions, connect
from trellis.broker import Broker
from trellis.planner import Planner
from wadm import Manager

NAME = "large"
ONE = Function.parse("demo:math/numbers#one")
GUEST = """(component
  (core module $m (func (export "one") (result i32) (i32.const 1)))
  (core instance $i (instantiate $m))
  (func $one (result u32) (canon lift (core func $i "one")))
  (instance $numbers (export "one" (func $one)))
  (export "demo:math/numbers@0.1.0" (instance $numbers)))"""


def manifest(image: str, components: int, links: int) -> dict[str, object]:
    """Each component is linked to the next ones, under a name for each."""

    def component(number: int) -> dict[str, object]:
        linked = [
            {
                "type": "link",
                "properties": {
                    "target": {"name": f"c{(number + step) % components}"},
                    "namespace": "demo",
                    "package": "math",
                    "interfaces": ["numbers"],
                    "name": f"n{step}",
                },
            }
            for step in range(1, links + 1)
        ]
        spread = {"type": "spreadscaler", "properties": {"instances": 2}}
        return {
            "name": f"c{number}",
            "type": "component",
            "properties": {"image": image},
            "traits": [spread, *linked],
        }

    return {
        "apiVersion": "core.oam.dev/v1beta1",
        "kind": "Application",
        "metadata": {"name": "app", "annotations": {"version": "1"}},
        "spec": {"components": [component(n) for n in range(components)]},
    }


@contextlib.contextmanager
def timed(what: str) -> Iterator[None]:
    begun, cpu = time.perf_counter(), time.process_time()
    yield
    spent = time.process_time() - cpu
    print(f"{what:<58} {time.perf_counter() - begun:>7.2f} s  ({spent:.2f} s of CPU in this process)", flush=True)


async def main(components: int, links: int, hosts: int) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    async with contextlib.AsyncExitStack() as stack:
        broker = await stack.enter_async_context(Broker())

        async def member() -> Lattice:
            patient = NatsOptions(broker.url, connect_timeout=20.0)  # the manager's rounds are in this process, too
            return await stack.enter_async_context(Lattice(NAME, await connect(patient)))

        async def host() -> Host:
            return await stack.enter_async_context(Host(HostConfig(lattice=NAME, nats=NatsOptions(broker.url))))

        client = await member()
        running = [await start(stack, broker.url, f"host-{n}") for n in range(hosts)]
        while len(await client.control_all("host", "ping", seconds=0.5, most=hosts)) < hosts:
            pass
        await stack.enter_async_context(Manager(await member(), discovery=0.3))
        planner = Planner(client)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "guest.wat").write_text(GUEST)
        data = manifest((folder / "guest.wat").as_uri(), components, links)
        print(
            f"{components} components, {components * links} links, {hosts} hosts, manifest of {len(json.dumps(data))} B"
        )

        async def ready() -> bool:
            with contextlib.suppress(DeadlineExceeded):
                app = await planner.app("app")
                return app is not None and app["state"] == "ready"
            return False

        with timed("deployed until ready"):
            for request in (planner.put(data), planner.deploy("app", "1")):
                with contextlib.suppress(DeadlineExceeded):  # on a busy machine; it is carried out all the same
                    await request
            while not await ready():
                await asyncio.sleep(0.5)
        with timed("a late host until it knows every link"):
            late = await host()
            assert len(late.links.all()) == components * links
        with timed("a late manager until it has planned"):
            async with Manager(await member(), discovery=0.3) as second:
                assert sum(len(some) for some in second.world.observed.links.values()) == components * links
        call = Invocation(EntityId("app-c7"), ONE)
        with timed("100 calls, one after the other"):
            for _ in range(100):
                assert await client.invoke(call.within(10)) == 1
        with timed("10 s of nothing"):
            await asyncio.sleep(10)
        with timed("a host leaves, until the others run its share"):
            running[0].terminate()
            await running[0].wait()
            while not await ready():
                await asyncio.sleep(0.5)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    hosts_peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"memory at most: {peak:.0f} MB here (manager, client, late host), {hosts_peak:.0f} MB a host")


async def start(stack: contextlib.AsyncExitStack, url: str, name: str) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "trellis", "host", "start", "--name", name, "--lattice", NAME, "--nats", url),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    stack.push_async_callback(process.wait)
    stack.callback(end, process)
    return process


def end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--components", type=int, default=1000)
    parser.add_argument("--links", type=int, default=5, help="of each component")
    parser.add_argument("--hosts", type=int, default=2)
    options = parser.parse_args()
    asyncio.run(main(options.components, options.links, options.hosts))
