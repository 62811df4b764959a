"""The spans of a request as a tree in time, whatever the clocks of its hosts say."""

from __future__ import annotations

import pytest

from lattice.names import EntityId, LinkName
from lattice.traces import Seen
from lattice.tracing import Http, Kind, Span
from trellis.waterfall import document, rows, trees

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def seen(host: str, kind: Kind, id: int, parent: int, at: float, seconds: float, target: str, **more) -> Seen:
    """By `host`; span ids are small numbers, 0 is none. `at` is by the host's own clock."""
    context = f"00-{TRACE}-{id:016x}-01"
    ends = EntityId("source"), EntityId(target), "demo:shop/stock#take", LinkName("default")
    direct, outcome = more.pop("direct", kind in ("component", "provider")), more.pop("outcome", "ok")
    span = Span(context, f"{parent:016x}" if parent else "", at, seconds, kind, direct, *ends, outcome, **more)
    return Seen(f"N{host}", host, span)


def drawn(found: list[Seen]) -> list[tuple[str, float, float, str]]:
    """(tree and name, start and duration in ms, where) of each row."""
    return [
        (row.tree + row.what, round(row.start * 1000, 6), round(row.seconds * 1000, 6), row.where)
        for row in rows(trees(found))
    ]


def order(ahead: float) -> list[Seen]:
    """A request of 100 ms on host a, 80 of them on b, whose clock is so many seconds ahead."""
    return [
        seen("a", "request", 1, 0, 10.0, 0.100, "api", http=Http("POST", "/orders", 200)),
        seen("a", "component", 2, 1, 10.005, 0.090, "api"),
        seen("a", "away", 3, 2, 10.010, 0.080, "stock"),
        seen("b", "component", 4, 3, 10.020 + ahead, 0.060, "stock", direct=False),
        seen("b", "provider", 5, 4, 10.030 + ahead, 0.010, "store"),
    ]


@pytest.mark.parametrize("ahead", [0.0, 3600.0, -0.05])
def test_a_call_lies_within_its_caller_whatever_the_clocks_say(ahead):
    assert drawn(order(ahead)) == [
        ("POST /orders 200", 0, 100, "a"),
        ("└ api stock.take", 5, 90, "direct"),
        ("  ├ guest", 5, 5, ""),
        ("  ├ stock stock.take", 10, 80, "over the lattice to b, 60.0 ms there"),
        ("  │ ├ guest", 20, 10, ""),
        ("  │ ├ store stock.take", 30, 10, "direct"),
        ("  │ └ guest", 40, 40, ""),
        ("  └ guest", 90, 5, ""),
    ]


def test_what_the_order_of_the_answers_was_does_not_matter():
    assert drawn(order(1.0)[::-1]) == drawn(order(1.0))


def test_a_call_that_nobody_is_known_to_have_answered_says_what_came_of_it():
    found = [
        seen("a", "component", 1, 0, 10.0, 2.0, "api", direct=False),
        seen("a", "away", 2, 1, 10.0, 2.0, "gone", outcome="unreachable", error="the host is gone"),
    ]
    assert drawn(found) == [("api stock.take", 0, 2000, "a"), ("└ gone stock.take", 0, 2000, "over the lattice")]
    [top] = trees(found)
    assert [(node.span.outcome, node.span.error) for _, node in top.walk()][1] == ("unreachable", "the host is gone")


def test_calls_at_the_same_time_leave_no_own_time_between_them():
    found = [
        seen("a", "component", 1, 0, 10.0, 0.100, "api", direct=False),
        seen("a", "provider", 2, 1, 10.010, 0.050, "one"),
        seen("a", "provider", 3, 1, 10.020, 0.060, "two"),
    ]
    assert [row[:3] for row in drawn(found)] == [
        ("api stock.take", 0, 100),
        ("├ guest", 0, 10),
        ("├ one stock.take", 10, 50),
        ("├ two stock.take", 20, 60),
        ("└ guest", 80, 20),
    ]


def test_what_goes_on_after_the_answer_is_shown_after_it():
    found = [
        seen("a", "component", 1, 0, 10.0, 0.010, "api", direct=False),
        seen("a", "provider", 2, 1, 10.020, 0.005, "audit"),
    ]
    assert drawn(found)[-1][:3] == ("└ audit stock.take", 20, 5)
    assert document(trees(found))["seconds"] == pytest.approx(0.025)


def test_calls_whose_caller_is_unknown_stand_beside_each_other():
    found = [
        seen("a", "component", 1, 77, 10.0, 0.010, "api", direct=False),
        seen("b", "component", 2, 78, 10.004, 0.001, "stock", direct=False),
    ]
    assert [row[:2] for row in drawn(found)] == [("api stock.take", 0), ("stock stock.take", 4)]
