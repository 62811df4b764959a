"""Hosts and managers in processes of their own, as `trellis` starts them, and what hosts say they run."""

from __future__ import annotations

import asyncio
import contextlib
import sys

from lattice.control import Inventory
from lattice.lattice import Lattice

TRELLIS = ("-m", "trellis")


async def start_host(
    stack: contextlib.AsyncExitStack, url: str, lattice: str, name: str, *, program: tuple[str, ...] = TRELLIS
) -> asyncio.subprocess.Process:
    """Killed when `stack` is left. `program` is what Python runs in place of `-m trellis`."""
    return await _start(stack, *program, "host", "start", "--name", name, "--lattice", lattice, "--nats", url)


async def start_manager(stack: contextlib.AsyncExitStack, url: str, lattice: str) -> asyncio.subprocess.Process:
    """Killed when `stack` is left."""
    return await _start(stack, *TRELLIS, "wadm", "start", "--lattice", lattice, "--nats", url)


async def _start(stack: contextlib.AsyncExitStack, *command: str) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", *command), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    stack.push_async_callback(process.wait)
    stack.callback(_kill, process)
    return process


def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()


async def held(lattice: Lattice, component: str, hosts: int = 2) -> dict[str, int]:
    """Instances of `component` on each host that answers, by the host's name; at most `hosts` are waited for."""
    found = {}
    for reply in await lattice.control_all("host", "ping", seconds=0.5, most=hosts):
        got = await lattice.control("host", "get", reply.response["id"], timeout=0.5)
        inventory = Inventory.model_validate(got.response)
        found[inventory.friendly_name] = sum(c.max_instances for c in inventory.components if c.id == component)
    return found
