"""A host's figures as Prometheus has them. Needs prometheus_client, which a host that nobody scrapes does not load."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from host.identity import own_version
from host.parts import parts
from lattice.histogram import Histogram
from lattice.metrics import Metrics

if TYPE_CHECKING:
    from host.host import Host


class HostCollector(Collector):
    """Collects what docs/observing.md lists."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def collect(self) -> Iterator[Metric]:
        host = self._host
        info = GaugeMetricFamily(
            "trellis_host_info", "Which host this is.", labels=("id", "name", "lattice", "version")
        )
        info.add_metric((host.id, host.name, host.lattice.name, own_version()), 1)
        connected = GaugeMetricFamily(
            "trellis_broker_connected", "Whether the broker is there.", labels=("connection",)
        )
        connected.add_metric(("control",), host.lattice.transport.connected)
        connected.add_metric(("data",), host.lattice.data.connected)
        yield from (info, connected)
        yield GaugeMetricFamily("trellis_ready", "Whether the host can do its work.", value=not host.unready())
        dropped = host.journal.dropped
        yield CounterMetricFamily("trellis_log_lines_dropped", "Log lines that never reached the lattice.", dropped)
        yield from _parts(host)
        yield from _calls(host.metrics)


def _parts(host: Host) -> Iterator[Metric]:
    labels = ("kind", "id", "app")
    instances = GaugeMetricFamily("trellis_instances", "Calls that a component takes at a time.", labels=labels)
    in_hand = GaugeMetricFamily("trellis_calls_in_hand", "Calls that are being answered.", labels=labels)
    waiting = GaugeMetricFamily("trellis_calls_waiting", "Calls in line for an instance.", labels=labels)
    healthy = GaugeMetricFamily("trellis_provider_healthy", "Whether a provider is well.", labels=("id", "app"))
    for part in parts(host.components, host.capabilities):
        values = (part.kind, part.id, part.app or "")
        if part.busy is not None:
            in_hand.add_metric(values, part.busy)
        if part.kind == "component":
            instances.add_metric(values, part.instances)
            waiting.add_metric(values, part.waiting)
        else:
            healthy.add_metric(values[1:], host.capabilities.running[part.id].health.healthy)
    yield from (instances, in_hand, waiting, healthy)


def _calls(metrics: Metrics) -> Iterator[Metric]:
    labels: tuple[str, ...] = ("kind", "source", "target", "function", "outcome")
    calls = CounterMetricFamily("trellis_calls", "Calls that have ended.", labels=labels)
    times: dict[tuple[str, str, str], Histogram] = defaultdict(Histogram)
    for key, histogram in metrics.calls.items():
        kind, _, target, function, _ = key
        times[kind, target, function].add(histogram)
        calls.add_metric(key, histogram.count)
    yield calls
    labels = ("kind", "target", "function")
    durations = HistogramMetricFamily("trellis_call_duration_seconds", "How long calls took.", labels=labels)
    for values, histogram in times.items():
        durations.add_metric(values, histogram.up_to(), histogram.seconds)
    yield durations
    labels = ("provider", "component", "method", "status")
    responses = CounterMetricFamily("trellis_http_responses", "Responses to HTTP requests that came in.", labels=labels)
    for (provider, component, method, status), number in metrics.responses.items():
        responses.add_metric((provider, component, method, str(status)), number)
    yield responses
