"""Whether an OpenTelemetry collector is told what goes on: `OTEL_*` says so, as for every program that knows it.

| variable                                    | means                                                                 |
|---------------------------------------------|-----------------------------------------------------------------------|
| OTEL_EXPORTER_OTLP_ENDPOINT                 | where the collector takes OTLP over HTTP (not gRPC), of all signals   |
| OTEL_EXPORTER_OTLP_{SIGNAL}_ENDPOINT        | of one signal: TRACES, METRICS or LOGS                                |
| OTEL_{SIGNAL}_EXPORTER=none                 | not this signal                                                       |
| OTEL_SDK_DISABLED=true                      | nothing at all                                                        |

OpenTelemetry's own library reads what else there is (headers, certificates, intervals, resource attributes). It comes
with the extra `otel`, and is loaded only where it is wanted.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Literal, TypeAlias

import structlog

from lattice.journal import Journal
from lattice.tracing import Observer

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

log = structlog.get_logger("lattice")

Signal: TypeAlias = Literal["traces", "metrics", "logs"]


def wanted(signal: Signal, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a collector is to be told."""
    name = signal.upper()
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true" or environment.get(f"OTEL_{name}_EXPORTER") == "none":
        return False
    return any(environment.get(f"OTEL_EXPORTER_OTLP_{of}ENDPOINT") for of in ("", f"{name}_"))


@asynccontextmanager
async def exported(
    who: Mapping[str, str],
    figures: Callable[[], CollectorRegistry] | None = None,
    journal: Journal | None = None,
    observers: list[Observer] | None = None,
) -> AsyncIterator[None]:
    """Within the block, tell a collector the figures, the log lines and the spans of a member, where they are wanted.

    `who` are attributes of the member. Without the library, the log says how to get it, and everything else goes on.
    """
    with_metrics = figures is not None and wanted("metrics")
    with_logs = journal is not None and wanted("logs")
    with_traces = observers is not None and wanted("traces")
    if not (with_metrics or with_logs or with_traces):
        yield
        return
    try:
        from lattice.otlp import logs, metrics, resource
        from lattice.otlp_spans import spans
    except ImportError as error:
        log.warning("otel.missing", why=str(error), fix="pip install 'trellis-lattice[otel]'")
        yield
        return
    us = resource(who)
    async with AsyncExitStack() as stack:
        if figures is not None and with_metrics:
            await stack.enter_async_context(metrics(us, figures()))
        if journal is not None and with_logs:
            await stack.enter_async_context(logs(us, journal))
        if observers is not None and with_traces:
            await stack.enter_async_context(spans(us, observers))
        log.info("otel.exporting", metrics=with_metrics, logs=with_logs, traces=with_traces)
        yield
