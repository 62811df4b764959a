"""Requests per second over real HTTP: server on one core, load on another, each server in turn in the same run.

    python benchmarks/serving.py [--seconds 5] [--connections 64] [--rounds 3] [--core]

| row             | what answers                                                                          |
|-----------------|---------------------------------------------------------------------------------------|
| trellis, fresh  | a whole host: HTTP provider -> link -> actor, a new instance for each request         |
| provider only   | the same HTTP provider, answered by a Python function: what HTTP itself costs         |
| httptools       | asyncio and httptools, which the provider parses with, and the same answer each time  |
| aiohttp         | aiohttp's low-level server with the same answer, as a measure that others know        |

Load comes from `wrk` when it is on PATH, otherwise from a small asyncio client in a process of its own (slower, so
its figures are a floor). Absolute figures move with the machine: read the ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

sys.path.append(sys.path.pop(0))  # `providers` is the package, not the file in this folder

WAT = Path(__file__).with_name("hello_http.wat")
BODY = b"Hello from WebAssembly!\n"


def pin(core: int) -> None:
    """Stay on one core, where the system lets us."""
    if hasattr(os, "sched_setaffinity") and core in os.sched_getaffinity(0):
        os.sched_setaffinity(0, {core})


# -- the servers, each in a process of its own


async def serve_trellis(port: int) -> None:
    from host import Host, HostConfig
    from lattice import EntityId
    from lattice.control import ScaleComponent, StartProvider
    from lattice.links import LinkDefinition
    from lattice.memory import MemoryBroker

    async with Host(HostConfig(lattice="bench"), MemoryBroker().connect()) as host:
        await host.configs.put("address", {"address": f"127.0.0.1:{port}"})
        await host.links.put(
            LinkDefinition(
                source_id=EntityId("http"),
                target=EntityId("hello"),
                wit_namespace="wasi",
                wit_package="http",
                interfaces=("incoming-handler",),
                source_config=("address",),
            )
        )
        await host.components.scale(
            ScaleComponent(component_id=EntityId("hello"), component_ref=WAT.as_uri(), count=100)
        )
        await host.capabilities.start(StartProvider(provider_id=EntityId("http"), provider_ref="builtin:http-server"))
        await asyncio.Event().wait()


async def serve_provider(port: int) -> None:
    from lattice import Invocation
    from providers.http.server import HttpServer
    from providers.testing import ACTOR, PROVIDER, link_between, running

    async def answer(invocation: Invocation) -> dict[str, object]:
        return {"status": 200, "headers": [], "body": BODY}

    link = link_between(PROVIDER, ACTOR, "wasi:http/incoming-handler", source_config={"address": f"127.0.0.1:{port}"})
    async with running(HttpServer(), [link], peer=answer):
        await asyncio.Event().wait()


async def serve_aiohttp(port: int) -> None:
    from aiohttp import web

    async def answer(request: web.BaseRequest) -> web.Response:
        return web.Response(body=BODY)

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


class Bare(asyncio.Protocol):
    """As little as answers a request at all."""

    ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(BODY), BODY)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        import httptools

        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_complete(self) -> None:
        self.transport.write(self.ANSWER)  # type: ignore[attr-defined]


async def serve_httptools(port: int) -> None:
    await asyncio.get_running_loop().create_server(Bare, "127.0.0.1", port)
    await asyncio.Event().wait()


SERVERS: dict[str, Callable[[int], Awaitable[None]]] = {
    "trellis, fresh": serve_trellis,
    "provider only": serve_provider,
    "httptools": serve_httptools,
    "aiohttp": serve_aiohttp,
}


def serve(name: str, port: int, uvloop: bool) -> None:
    import structlog

    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING), cache_logger_on_first_use=True
    )
    pin(0)
    work = SERVERS[name](port)
    if uvloop:
        import uvloop as loop

        loop.run(work)
    else:
        asyncio.run(work)  # type: ignore[arg-type]


# -- the load


def load_wrk(port: int, seconds: float, connections: int) -> tuple[float, float, float]:
    """(requests a second, p50 ms, p99 ms)"""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--latency", f"http://127.0.0.1:{port}/"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, preexec_fn=lambda: pin(1)).stdout
    errors = re.search(r"Non-2xx.*|Socket errors:.*", said)
    if errors:
        raise SystemExit(f"the load failed: {errors[0].strip()}")

    def milliseconds(percent: str) -> float:
        found = re.search(rf"{percent}%\s+([\d.]+)(us|ms|s)\b", said)
        assert found is not None, said
        return float(found[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[found[2]]

    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    assert rate is not None, said
    return float(rate[1]), milliseconds("50"), milliseconds("99")


async def load_python(port: int, seconds: float, connections: int) -> tuple[float, float, float]:
    request = f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
    until = time.perf_counter() + seconds
    taken: list[float] = []

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (begun := time.perf_counter()) < until:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            if b" 200 " not in head[:16]:
                raise SystemExit(f"the load failed: {head!r}")
            found = re.search(rb"content-length: (\d+)", head.lower())
            await reader.readexactly(int(found[1]) if found else 0)
            taken.append(time.perf_counter() - begun)
        writer.close()

    begun = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(connections)))
    rate = len(taken) / (time.perf_counter() - begun)
    taken.sort()
    return rate, taken[len(taken) // 2] * 1000, taken[len(taken) * 99 // 100] * 1000


def load(port: int, seconds: float, connections: int) -> tuple[float, float, float]:
    if shutil.which("wrk"):
        return load_wrk(port, seconds, connections)
    before = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    pin(1)
    try:
        return asyncio.run(load_python(port, seconds, connections))
    finally:
        if before is not None:
            os.sched_setaffinity(0, before)


# -- side by side


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    import urllib.error
    import urllib.request

    until = time.monotonic() + 30
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2) as answer:
                assert answer.read() == BODY
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.02)
    raise SystemExit("a server did not start")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="of load for each server and round")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--uvloop", action="store_true", help="run every server on uvloop")
    parser.add_argument("--serve", choices=SERVERS, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve(options.serve, options.port, options.uvloop)

    show(SERVERS, options.seconds, options.connections, options.rounds, options.uvloop)
    return None


def show(names: Iterable[str], seconds: float, connections: int, rounds: int, uvloop: bool) -> None:
    """Measure the servers of these names in turn, and print what they did."""
    import socket

    from rich.console import Console
    from rich.table import Table

    processes: dict[str, tuple[int, subprocess.Popen[bytes]]] = {}
    results: dict[str, list[tuple[float, float, float]]] = {name: [] for name in names}
    try:
        for name in results:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            command = [sys.executable, __file__, "--serve", name, "--port", str(port)]
            processes[name] = port, subprocess.Popen(command + ["--uvloop"] * uvloop)
        for port, process in processes.values():
            wait_for(port, process)
            load(port, 1.0, connections)  # warm up
        for _ in range(rounds):
            for name, (port, _) in processes.items():
                results[name].append(load(port, seconds, connections))
    finally:
        for _, process in processes.values():
            process.terminate()
        for _, process in processes.values():
            process.wait(10)
    tool = "wrk" if shutil.which("wrk") else "asyncio client"
    table = Table(
        "server",
        "req/s",
        "p50 ms",
        "p99 ms",
        "ratio",
        title=f"{connections} connections, one core, {tool}, medians of {rounds}",
    )
    base = statistics.median(r[0] for r in results["provider only"])
    for name, measured in results.items():
        rate, p50, p99 = (statistics.median(r[i] for r in measured) for i in range(3))
        table.add_row(name, f"{rate:,.0f}", f"{p50:.2f}", f"{p99:.2f}", f"{rate / base:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
