"""An OpenTelemetry collector for tests: it takes OTLP over HTTP, and keeps what it was told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

KINDS = {
    "/v1/traces": ExportTraceServiceRequest,
    "/v1/metrics": ExportMetricsServiceRequest,
    "/v1/logs": ExportLogsServiceRequest,
}


class Collector:
    """At `url`. `told` has each request's message."""

    def __init__(self) -> None:
        self.url = ""
        self.told: list[Any] = []
        self._came = asyncio.Condition()

    async def take(self, request: web.Request) -> web.Response:
        message = KINDS[request.path]()
        message.ParseFromString(await request.read())
        async with self._came:
            self.told.append(message)
            self._came.notify_all()
        return web.Response(content_type="application/x-protobuf")

    async def until(self, found: Callable[[], Any]) -> Any:
        """What `found` says of what was told, as soon as it says anything."""
        async with asyncio.timeout(20), self._came:
            await self._came.wait_for(lambda: bool(found()))
            return found()

    def of(self, kind: type[Any]) -> list[Any]:
        """All messages of one of KINDS."""
        return [message for message in self.told if isinstance(message, kind)]


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    collector = Collector()
    app = web.Application()
    app.add_routes([web.post(path, collector.take) for path in KINDS])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    collector.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield collector
    finally:
        await runner.cleanup()


def attributes(told: Any) -> dict[str, Any]:
    """Of a resource, a span, a point or a log record, as plain values."""
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in told.attributes}
