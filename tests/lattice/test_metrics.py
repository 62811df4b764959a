"""What a process counts of its calls."""

from __future__ import annotations

import itertools
import random

import pytest

from lattice import metrics
from lattice.histogram import BOUNDS, Histogram
from lattice.metrics import OTHER, SERVER_ERROR, Metrics
from lattice.names import EntityId, LinkName
from lattice.tracing import Http, Kind, Span


def span(kind: Kind = "component", function: str = "a:b/c#d", outcome: str = "ok", http: Http | None = None) -> Span:
    context = f"00-{'ab' * 16}-{'cd' * 8}-01"
    source, target = EntityId("web"), EntityId("api")
    return Span(context, "", 0.0, 0.003, kind, False, source, target, function, LinkName("default"), outcome, "", http)


def counted(*spans: Span) -> Metrics:
    made = Metrics()
    for one in spans:
        made.observe(one, (), None)
    return made


def test_calls_are_counted_by_what_they_were_and_how_they_ended():
    made = counted(span(), span(), span(outcome="trap"), span("away"))
    assert {key: times.count for key, times in made.calls.items()} == {
        ("component", "", "api", "a:b/c#d", "ok"): 2,
        ("component", "", "api", "a:b/c#d", "trap"): 1,
        ("away", "web", "api", "a:b/c#d", "ok"): 1,
    }


def test_requests_are_counted_by_status_and_those_that_the_server_failed_did_not_go_well():
    made = counted(
        span("request", http=Http("GET", "/", 200)),
        span("request", http=Http("BREW", "/", 503)),
        span("component", http=Http("GET", "/", 500)),
    )
    assert made.responses == {("web", "api", "GET", 200): 1, ("web", "api", OTHER, 503): 1}
    assert [key[4] for key in made.calls] == ["ok", SERVER_ERROR, SERVER_ERROR]


def test_functions_that_callers_make_up_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(metrics, "SERIES", 10)
    made = counted(*(span(function=f"a:b/c#f{number}", outcome="unknown-function") for number in range(100)))
    assert len(made.calls) == 11
    assert made.calls["component", OTHER, OTHER, OTHER, OTHER].count == 90
    assert made.calls["component", "", "api", "a:b/c#f3", "unknown-function"].count == 1


def test_quantiles_are_right_to_the_bucket():
    drawn, times = sorted(random.Random(7).expovariate(20) for _ in range(10_000)), Histogram()
    for one in drawn:
        times.observe(one)
    for part in (0.5, 0.9, 0.99):
        true = drawn[int(part * len(drawn))]
        ends = (0.0, *BOUNDS)
        begin, end = next(pair for pair in itertools.pairwise(ends) if pair[0] <= true <= pair[1])
        found = times.quantile(part)
        assert found is not None and begin <= found <= end
    assert Histogram().quantile(0.5) is None
    slow = Histogram()
    slow.observe(1000.0)
    assert slow.quantile(0.5) == BOUNDS[-1]
    assert times.since(times).count == 0
