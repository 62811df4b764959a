"""Spans come to an OpenTelemetry collector, where `OTEL_*` names one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from collector import Collector, ExportTraceServiceRequest, attributes, collecting
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Wire
from opentelemetry.proto.trace.v1.trace_pb2 import Status
from servers import free_port
from shop import SHOP_ASKER, SHOP_STORE, put_shop

import trellis
from lattice.names import LinkName
from lattice.otel import exported
from lattice.tracing import Kind, Span, child_of

TRACE, CLIENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    monkeypatch.setenv("OTEL_LOGS_EXPORTER", "none")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "the-shop")
    return monkeypatch


def told(collector: Collector) -> list:
    messages = collector.of(ExportTraceServiceRequest)
    return [span for message in messages for span in message.resource_spans[0].scope_spans[0].spans]


async def test_a_collector_gets_a_request_as_one_trace_across_hosts(tmp_path: Path, environment: pytest.MonkeyPatch):
    port = free_port()
    async with collecting() as collector:
        environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        async with trellis.lattice(hosts=[{"zone": "a"}, {"zone": "b"}]) as lattice:
            await lattice.deploy(put_shop(tmp_path, port))
            sent = {"traceparent": f"00-{TRACE}-{CLIENT}-01"}
            async with (
                aiohttp.ClientSession() as client,
                client.get(f"http://127.0.0.1:{port}/o?x=1", headers=sent) as got,
            ):
                assert got.status == 200
            spans = await collector.until(lambda: (found := told(collector)) and len(found) == 5 and found)
    ids = {span.span_id.hex(): span for span in spans}
    assert {span.trace_id.hex() for span in spans} == {TRACE}
    chain, id = [], next(span.span_id.hex() for span in spans if span.name == "demo:math/ops/add")
    while id in ids:
        span = ids[id]
        chain.append((span.name, Wire.SpanKind.Name(span.kind), attributes(span)["trellis.outcome"]))
        id = span.parent_span_id.hex()
    assert id == CLIENT
    assert chain == [
        ("demo:math/ops/add", "SPAN_KIND_INTERNAL", "ok"),
        ("demo:math/asks/ask", "SPAN_KIND_SERVER", "ok"),
        ("demo:math/asks/ask", "SPAN_KIND_CLIENT", "ok"),
        ("wasi:http/incoming-handler/handle", "SPAN_KIND_INTERNAL", "ok"),
        ("GET", "SPAN_KIND_SERVER", "ok"),
    ]
    edge = next(attributes(span) for span in spans if span.name == "GET")
    assert (edge["http.request.method"], edge["url.path"], edge["http.response.status_code"]) == ("GET", "/o", 200)
    resources = [message.resource_spans[0].resource for message in collector.of(ExportTraceServiceRequest)]
    assert {attributes(one)["service.name"] for one in resources} == {"the-shop"}
    assert {attributes(one)["host.name"] for one in resources} == {"host-0", "host-1"}
    for span in spans:
        parent = ids.get(span.parent_span_id.hex(), span)
        assert parent.start_time_unix_nano <= span.start_time_unix_nano < span.end_time_unix_nano


def finished(kind: Kind, traceparent: str, parent: str = "", **more) -> Span:
    ends = SHOP_ASKER, SHOP_STORE, "demo:math/ops#add", LinkName("default")
    return Span(traceparent, parent, 1.0, 0.5, kind, False, *ends, more.pop("outcome", "ok"), **more)


@pytest.mark.parametrize(("sampler", "flags"), [("parentbased_always_off", "00"), ("parentbased_always_on", "01")])
async def test_the_sampler_decides_on_what_begins_here_and_its_caller_on_the_rest(environment, sampler, flags):
    environment.setenv("OTEL_TRACES_SAMPLER", sampler)
    async with collecting() as collector:
        environment.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{collector.url}/v1/traces")
        observers: list = []
        async with exported({}, observers=observers):
            ours = child_of({})["traceparent"]
            assert ours.endswith(f"-{flags}")
            for span in (
                finished("component", ours),
                finished("component", f"00-{TRACE}-{'1' * 16}-00", CLIENT),
                finished("component", f"00-{TRACE}-{'2' * 16}-01", CLIENT),
            ):
                observers[0](span, (), None)
        ids = [span.span_id.hex() for span in told(collector)]
    assert ids == ([ours[36:52]] if flags == "01" else []) + ["2" * 16]
    assert (observers, child_of({})["traceparent"][-2:]) == ([], "01")


async def test_what_failed_says_so_with_its_sentence(environment):
    async with collecting() as collector:
        environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        observers: list = []
        async with exported({}, observers=observers):
            sentence = "nothing on the lattice serves it"
            observers[0](finished("away", f"00-{TRACE}-{'1' * 16}-01", outcome="unreachable", error=sentence), (), None)
            observers[0](finished("message", f"00-{TRACE}-{'2' * 16}-01", outcome="err", subject="orders"), (), None)
        failed, message = told(collector)
    assert (Status.StatusCode.Name(failed.status.code), failed.status.message) == ("STATUS_CODE_ERROR", sentence)
    assert attributes(failed)["error.type"] == "unreachable"
    assert (message.name, message.status.code) == ("process orders", 0)
    assert attributes(message)["messaging.destination.name"] == "orders"
