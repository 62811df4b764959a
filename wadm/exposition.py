"""A manager's figures as Prometheus has them. Needs prometheus_client: not loaded where nobody scrapes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from wadm.loop import Manager


class ManagerCollector(Collector):
    """Collects what docs/observing.md lists."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager

    def collect(self) -> Iterator[Metric]:
        manager = self._manager
        yield GaugeMetricFamily("trellis_manager_acting", "Whether this manager holds the lease.", manager.acting)
        yield GaugeMetricFamily("trellis_ready", "Whether the manager can do its work.", not manager.unready())
        yield GaugeMetricFamily("trellis_manager_commands_pending", "Commands under way.", len(manager.world.pending))
        rounds = HistogramMetricFamily("trellis_manager_round_duration_seconds", "How long rounds of planning took.")
        rounds.add_metric((), manager.rounds.up_to(), manager.rounds.seconds)
        commands = CounterMetricFamily(
            "trellis_manager_commands", "Commands that were sent to hosts.", labels=("command", "outcome")
        )
        for labels, number in manager.commands.items():
            commands.add_metric(labels, number)
        apps = GaugeMetricFamily("trellis_apps", "Applications in this state.", labels=("state",))
        for state, number in Counter(manager.states().values()).items():
            apps.add_metric((state,), number)
        yield from (rounds, commands, apps)
