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
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Literal, TypeAlias

import structlog

from lattice.journal import Journal

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
    who: Mapping[str, str], figures: Callable[[], CollectorRegistry], journal: Journal
) -> AsyncIterator[None]:
    """Within the block, tell a collector the figures and the log lines of a member, where they are wanted.

    `who` are attributes of the member. Without the library, the log says how to get it, and everything else goes on.
    """
    with_metrics, with_logs = wanted("metrics"), wanted("logs")
    if not (with_metrics or with_logs):
        yield
        return
    try:
        from lattice.otlp import logs, metrics, resource
    except ImportError as error:
        log.warning("otel.missing", why=str(error), fix="pip install 'trellis-lattice[otel]'")
        yield
        return
    us = resource(who)
    async with metrics(us, figures() if with_metrics else None), logs(us, journal if with_logs else None):
        log.info("otel.exporting", metrics=with_metrics, logs=with_logs)
        yield
