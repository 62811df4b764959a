"""Figures and log lines come to an OpenTelemetry collector, where `OTEL_*` names one."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from collector import Collector, ExportLogsServiceRequest, ExportMetricsServiceRequest, attributes, collecting
from worlds import ADD, ADDER, world_on

from host import Host
from lattice.journal import to_journal
from lattice.otel import wanted

TRACE = "ab" * 16


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """Events that were logged, which also go to the journal."""
    events: list[str] = []

    def note(logger, method, event):
        events.append(event["event"])
        raise structlog.DropEvent

    processors = [structlog.contextvars.merge_contextvars, structlog.processors.add_log_level, to_journal, note]
    structlog.configure(processors=processors)
    yield events


def points(collector: Collector, name: str) -> list:
    found = []
    for message in collector.of(ExportMetricsServiceRequest):
        for metric in message.resource_metrics[0].scope_metrics[0].metrics:
            kind = metric.WhichOneof("data")  # none while there is nothing to tell
            if metric.name == name and kind is not None:
                found = list(getattr(metric, kind).data_points)
    return found


def records(collector: Collector) -> list:
    told = collector.of(ExportLogsServiceRequest)
    return [record for message in told for record in message.resource_logs[0].scope_logs[0].log_records]


@pytest.mark.nats
async def test_a_collector_gets_the_figures_and_the_lines_of_a_host(
    nats_url: str, lattice_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: list[str]
):
    async with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
        monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "100")
        monkeypatch.setenv("OTEL_BLRP_SCHEDULE_DELAY", "50")
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
        monkeypatch.setattr("lattice.otlp.LEAVING", 20.0)  # this machine may be busy with other tests
        async with world_on(nats_url, lattice_name, tmp_path) as world:
            host = await world.host(name="a")
            await world.scale(host, "sum", world.wasm("adder", ADDER))
            for _ in range(3):
                await world.call("sum", ADD, 1, 2)

            def counted() -> list:
                return [p for p in points(collector, "trellis_calls") if p.as_double == 3 or p.as_int == 3]

            (calls,) = await collector.until(counted)
            assert attributes(calls)["function"] == "demo:math/ops#add" and attributes(calls)["outcome"] == "ok"
            assert calls.start_time_unix_nano < calls.time_unix_nano
            (took,) = points(collector, "trellis_call_duration_seconds")
            assert (
                took.count == sum(took.bucket_counts) == 3 and len(took.bucket_counts) == len(took.explicit_bounds) + 1
            )
            assert points(collector, "process_resident_memory_bytes")
            structlog.get_logger("test").error("guest.logged", actor="sum", message="no stock", trace=TRACE, n=7, x=[1])

            def printed() -> list:
                return [record for record in records(collector) if record.body.string_value == "no stock"]

            (record,) = await collector.until(printed)
            assert (record.severity_text, record.trace_id.hex()) == ("error", TRACE)
            assert abs(record.time_unix_nano / 1e9 - time.time()) < 30
            about = attributes(record)
            assert (about["component"], about["n"], about["x"]) == ("sum", 7, "[1]")
        told = collector.of(ExportLogsServiceRequest)[0].resource_logs[0].resource
        assert attributes(told)["service.instance.id"] == host.id and attributes(told)["host.name"] == "a"
        assert attributes(told)["deployment.environment"] == "test"
        assert "host.stopping" in [record.body.string_value for record in records(collector)], "the last ones, too"
    assert "otel.exporting" in logged


@pytest.mark.nats
async def test_a_collector_that_is_away_keeps_no_host_from_working_or_ending(
    nats_url: str, lattice_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: list[str]
):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    monkeypatch.setattr("lattice.otlp.LEAVING", 0.1)
    async with world_on(nats_url, lattice_name, tmp_path) as world:
        host = await world.host()
        await world.scale(host, "sum", world.wasm("adder", ADDER))
        assert await world.call("sum", ADD, 1, 2) == 3
        async with asyncio.timeout(10):
            await host.stop()


@pytest.mark.nats
async def test_without_the_library_the_log_says_how_to_get_it(
    nats_url: str, lattice_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: list[str]
):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    monkeypatch.setitem(sys.modules, "lattice.otlp", None)
    async with world_on(nats_url, lattice_name, tmp_path) as world:
        assert isinstance(await world.host(), Host)
    assert "otel.missing" in logged and "otel.exporting" not in logged


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://c:4318/v1/logs"}, True),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://c:4318/v1/metrics"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_LOGS_EXPORTER": "none"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_SDK_DISABLED": "true"}, False),
    ],
)
def test_a_collector_is_told_what_the_environment_asks_for(environment: dict[str, str], expected: bool):
    assert wanted("logs", environment) is expected
