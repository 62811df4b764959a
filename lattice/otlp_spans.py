"""Spans, told to an OpenTelemetry collector. Needs the extra `otel`; see `lattice.otel`.

`OTEL_TRACES_SAMPLER` decides, as everywhere. A trace that begins here is decided on when it begins, so its context says
to whoever is called what became of that.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import Decision, Sampler
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)
from opentelemetry.util.types import AttributeValue

from lattice import tracing
from lattice.otlp import LEAVING, SCOPE, in_thread
from lattice.tracing import Observer, Span
from lattice.values import Value

KINDS = {
    "request": SpanKind.SERVER,
    "message": SpanKind.CONSUMER,
    "component": SpanKind.SERVER,
    "provider": SpanKind.SERVER,
    "away": SpanKind.CLIENT,
    "outgoing": SpanKind.CLIENT,
}

SAMPLED = TraceFlags(1)


@asynccontextmanager
async def spans(resource: Resource, observers: list[Observer]) -> AsyncIterator[None]:
    """Within the block, tell each span that is observed, in batches and from a thread: the call does not wait."""
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    processor = BatchSpanProcessor(OTLPSpanExporter())

    def tell(span: Span, args: tuple[Value, ...], answer: Value) -> None:
        if _sampled(provider.sampler, span):
            processor.on_end(told(span, provider.resource))

    observers.append(tell)
    try:
        with _deciding(provider.sampler):
            yield
    finally:
        observers.remove(tell)
        await asyncio.wait([in_thread(processor.shutdown)], timeout=LEAVING)


@contextmanager
def _deciding(sampler: Sampler) -> Iterator[None]:
    """Traces that begin in this process begin as it says."""
    before = tracing.sampler
    tracing.sampler = lambda trace: sampler.should_sample(None, trace, "").decision is Decision.RECORD_AND_SAMPLE
    try:
        yield
    finally:
        tracing.sampler = before


def _sampled(sampler: Sampler, span: Span) -> bool:
    parent = _parent(span)
    context = None if parent is None else set_span_in_context(NonRecordingSpan(parent))
    decision = sampler.should_sample(context, int(span.trace, 16), span.function).decision
    return decision is Decision.RECORD_AND_SAMPLE


def _parent(span: Span) -> SpanContext | None:
    if not span.parent:
        return None
    return SpanContext(int(span.trace, 16), int(span.parent, 16), not span.direct, TraceFlags(int(span.flags, 16)))


def told(span: Span, resource: Resource) -> ReadableSpan:
    """As OpenTelemetry has it, in the names of its semantic conventions."""
    begun = int(span.at * 1e9)
    return ReadableSpan(
        _name(span),
        SpanContext(int(span.trace, 16), int(span.id, 16), False, SAMPLED),
        _parent(span),
        resource,
        _attributes(span),
        kind=SpanKind.INTERNAL if span.direct else KINDS[span.kind],
        status=Status(StatusCode.ERROR, span.error or None) if span.failed else Status(),
        start_time=begun,
        end_time=begun + int(span.seconds * 1e9),
        instrumentation_scope=SCOPE,
    )


def _name(span: Span) -> str:
    """Not too many different ones: no path, no id."""
    if span.kind == "message":
        return f"process {span.subject}"
    if span.http is not None and span.kind in ("request", "outgoing"):
        return span.http.method
    return span.function.replace("#", "/")


def _attributes(span: Span) -> dict[str, AttributeValue]:
    interface, _, name = span.function.partition("#")
    found: dict[str, AttributeValue] = {
        "rpc.system": "trellis",
        "rpc.service": interface,
        "rpc.method": name,
        "trellis.source": span.source,
        "trellis.target": span.target,
        "trellis.link": span.link,
        "trellis.outcome": span.outcome,
    }
    if span.http is not None:
        found["http.request.method"] = span.http.method
        found["url.path" if span.http.url.startswith("/") else "url.full"] = span.http.url
        if span.http.status:
            found["http.response.status_code"] = span.http.status
    if span.kind == "message":
        found |= {"messaging.system": "nats", "messaging.destination.name": span.subject}
    if span.failed:
        found["error.type"] = span.outcome if span.outcome != "ok" else str(found["http.response.status_code"])
    return found
