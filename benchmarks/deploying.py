"""From manifests to running instances, and back again when a host is lost: a real lattice, every part its own process.

    python benchmarks/deploying.py [--apps 100] [--hosts 3]

Each app is a component with three instances and a provider on one host, a link between them with its configuration.
Measured is what `trellis deploy` and `trellis status` see: from the first request until every app is ready, and from a
host's death (SIGKILL) until all it ran is running elsewhere.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from pathlib import Path
from typing import Any

sys.path.append(sys.path.pop(0))  # `lattice` is the package, not the file in this folder

from lattice.lattice import Lattice
from trellis.options import Where
from trellis.planner import Planner, granted_by_wadm
from trellis.session import joined
from trellis.stack import HostSpec, Stack

IMAGE = (Path(__file__).parent / "tiny.wat").resolve().as_uri()
INSTANCES = 3


def application(number: int) -> dict[str, Any]:
    target = {"name": "kv", "config": [{"name": "kv", "properties": {"bucket": "b"}}]}
    link = {"target": target, "namespace": "wasi", "package": "keyvalue", "interfaces": ["store"]}
    traits = [
        {"type": "spreadscaler", "properties": {"instances": INSTANCES}},
        {"type": "link", "properties": link},
    ]
    return {
        "apiVersion": "core.oam.dev/v1beta1",
        "kind": "Application",
        "metadata": {"name": f"app-{number}", "annotations": {"version": "v1"}},
        "spec": {
            "components": [
                {"name": "api", "type": "component", "properties": {"image": IMAGE}, "traits": traits},
                {"name": "kv", "type": "capability", "properties": {"image": "builtin:keyvalue-memory"}},
            ]
        },
    }


async def deploy(planner: Planner, manifest: dict[str, Any]) -> None:
    granted_by_wadm(await planner.put(manifest))
    granted_by_wadm(await planner.deploy(manifest["metadata"]["name"], "v1"))


def ready(app: dict[str, Any], lost: str) -> bool:
    """Without what a lost host had."""
    there = [
        sum(host["running"] for host in component["hosts"] if host["id"] != lost) >= component["wanted"]
        for component in app["components"]
    ]
    return app["state"] == "ready" and all(there)


async def until(planner: Planner, ready_apps: int, *, begun: float, lost: str = "") -> dict[int, float]:
    """Until so many apps are ready: the seconds at which the first, half and all of them were."""
    times: dict[int, float] = {}
    while True:
        count = sum(ready(app, lost) for app in (await planner.status())["apps"])
        now = time.perf_counter() - begun
        for part in (1, ready_apps // 2, ready_apps):
            if count >= part:
                times.setdefault(part, now)
        if count >= ready_apps:
            return times
        await asyncio.sleep(0.02)


async def measure(lattice: Lattice, stack: Stack, apps: int) -> None:
    planner = Planner(lattice)
    begun = time.perf_counter()
    await asyncio.gather(*(deploy(planner, application(n)) for n in range(apps)))
    print(f"{apps} apps accepted          {time.perf_counter() - begun:8.2f} s")
    for part, seconds in (await until(planner, apps, begun=begun)).items():
        print(f"{part:>3} ready                  {seconds:8.2f} s")
    lost = next(h for h in (await planner.status())["hosts"] if h["name"] == "host-0")["id"]
    before = (await planner.status())["apps"]
    there = sum(h["running"] for app in before for c in app["components"] for h in c["hosts"] if h["id"] == lost)
    begun = time.perf_counter()
    await stack.hosts["host-0"].kill()
    while any(host["id"] == lost and host["alive"] for host in (await planner.status())["hosts"]):
        await asyncio.sleep(0.02)
    print(f"host lost, {there} parts: noticed {time.perf_counter() - begun:8.2f} s")
    times = await until(planner, apps, begun=begun, lost=lost)
    print(f"all {apps} apps ready again  {times[apps]:8.2f} s")


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--apps", type=int, default=100)
    parser.add_argument("--hosts", type=int, default=3)
    options = parser.parse_args()
    async with Stack([HostSpec(f"host-{n}") for n in range(options.hosts)], lattice="bench") as stack:
        assert stack.nats is not None
        async with joined(Where(stack.nats, "bench", "", stack.settings)) as lattice:
            await measure(lattice, stack, options.apps)


if __name__ == "__main__":
    asyncio.run(main())
