"""What a process tells by HTTP to those who watch over it.

/metrics    its figures, for Prometheus
/livez      200 as long as it answers at all
/readyz     200 when it can do its work, else 503, and why not
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from lattice.errors import BadInput, Finding

log = structlog.get_logger("lattice")

Unready = Callable[[], list[str]]
"""Why the process cannot do its work just now; empty when it can."""


def registry(collector: Collector) -> CollectorRegistry:
    """The figures of `collector`, and those of the process as such."""
    made = CollectorRegistry()
    made.register(collector)
    ProcessCollector(registry=made)
    return made


@asynccontextmanager
async def monitored(address: str, figures: CollectorRegistry, unready: Unready) -> AsyncIterator[None]:
    """Answer at `address`, HOST:PORT, within the block. Raises BadInput when it cannot be had."""

    async def metrics(request: web.Request) -> web.Response:
        encode, kind = choose_encoder(request.headers.get("accept", ""))
        return web.Response(body=encode(figures), headers={"content-type": kind})

    async def livez(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        why = unready()
        return web.Response(text="".join(f"{reason}\n" for reason in why or ["ready"]), status=503 if why else 200)

    app = web.Application()
    app.add_routes([web.get("/metrics", metrics), web.get("/livez", livez), web.get("/readyz", readyz)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        host, _, port = address.rpartition(":")
        try:
            if not host or not port.isdecimal():
                raise OSError(None, "it is not HOST:PORT")
            await web.TCPSite(runner, host.strip("[]"), int(port)).start()
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", "") or str(error)
            fix = "--metrics 127.0.0.1:9090, or another address that is free"
            raise BadInput(Finding("TRL-HST-005", f"cannot listen at `{address}`", why=why, fix=fix)) from error
        bound, port = runner.addresses[0][:2]
        log.info("monitor.listening", url=f"http://{f'[{bound}]' if ':' in bound else bound}:{port}")
        yield
    finally:
        await runner.cleanup()
