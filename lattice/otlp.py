"""Figures and log lines, told to an OpenTelemetry collector. Needs the extra `otel`; see `lattice.otel`."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from itertools import pairwise
from typing import Any

from opentelemetry import trace
from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import export
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from prometheus_client import CollectorRegistry
from prometheus_client import Metric as Family

from lattice.journal import Journal

LEAVING = 2.0
"""Seconds that a collector has to take what is left when the process leaves."""

CUMULATIVE = export.AggregationTemporality.CUMULATIVE
SCOPE = InstrumentationScope("trellis")
UNITS = {"_seconds": "s", "_bytes": "By"}

SEVERITIES = {
    "debug": SeverityNumber.DEBUG,
    "info": SeverityNumber.INFO,
    "warning": SeverityNumber.WARN,
    "error": SeverityNumber.ERROR,
    "critical": SeverityNumber.FATAL,
}

ATTRIBUTE = (str, bool, int, float)


def resource(who: Mapping[str, str]) -> Resource:
    """Who tells: `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` count before `who`."""
    return Resource.create(dict(who)).merge(OTELResourceDetector().detect())


# -- figures


@asynccontextmanager
async def metrics(resource: Resource, figures: CollectorRegistry) -> AsyncIterator[None]:
    """Within the block, tell them every `OTEL_METRIC_EXPORT_INTERVAL` milliseconds, and once at its end."""
    interval = float(os.environ.get("OTEL_METRIC_EXPORT_INTERVAL") or 60_000) / 1000
    exporter, begun = OTLPMetricExporter(), time.time_ns()

    async def tell() -> None:
        data = metrics_data(figures.collect(), resource, begun, time.time_ns())
        await in_thread(lambda: exporter.export(data))

    async def tell_for_ever() -> None:
        while True:
            await asyncio.sleep(interval)
            await tell()

    telling = asyncio.create_task(tell_for_ever(), name="metrics to the collector")
    try:
        yield
    finally:
        telling.cancel()
        await asyncio.wait([telling, last := asyncio.ensure_future(tell())], timeout=LEAVING)
        last.cancel()
        exporter.shutdown()


def metrics_data(families: Iterable[Family], resource: Resource, begun: int, now: int) -> export.MetricsData:
    """The figures as OpenTelemetry has them, counted since `begun` (nanoseconds since 1970, as `now`)."""
    told = [export.Metric(one.name, one.documentation, _unit(one), _data(one, begun, now)) for one in families]
    scope = export.ScopeMetrics(SCOPE, told, "")
    return export.MetricsData([export.ResourceMetrics(resource, [scope], "")])


def _unit(family: Family) -> str:
    return next((unit for ending, unit in UNITS.items() if family.name.endswith(ending)), "1")


def _data(family: Family, begun: int, now: int) -> export.DataT:
    if family.type == "histogram":
        return export.Histogram([*_histograms(family, begun, now)], CUMULATIVE)
    samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
    points = [export.NumberDataPoint(sample.labels, begun, now, float(sample.value)) for sample in samples]
    return export.Sum(points, CUMULATIVE, is_monotonic=True) if family.type == "counter" else export.Gauge(points)


def _histograms(family: Family, begun: int, now: int) -> Iterator[export.HistogramDataPoint]:
    upto: dict[tuple[tuple[str, str], ...], list[tuple[float, int]]] = {}
    sums: dict[tuple[tuple[str, str], ...], float] = {}
    for sample in family.samples:
        labels = tuple(item for item in sample.labels.items() if item[0] != "le")
        if sample.name.endswith("_bucket"):
            upto.setdefault(labels, [(0.0, 0)]).append((float(sample.labels["le"]), int(sample.value)))
        elif sample.name.endswith("_sum"):
            sums[labels] = sample.value
    for labels, buckets in upto.items():
        counts = [later - earlier for (_, earlier), (_, later) in pairwise(buckets)]
        bounds = [end for end, _ in buckets[1:-1]]
        unknown: Any = None  # the least and the most: the protocol can do without
        yield export.HistogramDataPoint(
            dict(labels), begun, now, sum(counts), sums[labels], counts, bounds, unknown, unknown
        )


# -- log lines


@asynccontextmanager
async def logs(resource: Resource, journal: Journal) -> AsyncIterator[None]:
    """Within the block, tell each line of `journal`, soon after it was logged."""
    provider = LoggerProvider(resource, shutdown_on_exit=False)
    provider.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
    logger = provider.get_logger(SCOPE.name)

    def tell(line: Mapping[str, Any]) -> None:
        logger.emit(
            timestamp=_nanoseconds(line["time"]),
            context=_context(str(line.get("trace") or "")),
            severity_number=SEVERITIES.get(line["level"], SeverityNumber.UNSPECIFIED),
            severity_text=str(line["level"]),
            body=str(line.get("line") or line.get("message") or line["event"]),
            attributes={key: value if isinstance(value, ATTRIBUTE) else str(value) for key, value in line.items()},
        )

    journal.readers.append(tell)
    try:
        yield
    finally:
        journal.readers.remove(tell)
        await asyncio.wait([in_thread(provider.shutdown)], timeout=LEAVING)


def _nanoseconds(time: str) -> int:
    return int(datetime.fromisoformat(time).timestamp() * 1e6) * 1000


def _context(trace_id: str) -> Any:
    """The request that a line belongs to; which of its calls, nobody has said."""
    if len(trace_id) != 32:
        return None
    return trace.set_span_in_context(NonRecordingSpan(SpanContext(int(trace_id, 16), 0, False, TraceFlags(1))))


def in_thread(work: Callable[[], object]) -> asyncio.Future[None]:
    """Done when `work` is, in a thread that no end of the process waits for: a collector may hang."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def run() -> None:
        try:
            work()
        finally:
            try:
                loop.call_soon_threadsafe(lambda: None if done.done() else done.set_result(None))
            except RuntimeError:
                pass  # the process did not wait

    threading.Thread(target=run, name="otel", daemon=True).start()
    return done
