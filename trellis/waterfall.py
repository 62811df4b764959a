"""One request across hosts: its spans as a tree in time.

Hosts' clocks differ. What one process has seen stays as it is; what others have seen for it is moved together, to the
middle of the span that it belongs to, since a call takes about as long to arrive as its answer. So whatever the clocks
say, a call lies within the one that made it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import Any

import click

from lattice.traces import Seen
from lattice.tracing import Span

SHORT = 0.01
"""The part of its span that an own time between two calls must have to be shown."""

_OWN = {"component": "guest", "provider": "provider"}
"""What it is called where a call spends time that it does not spend waiting for others."""


@dataclass(slots=True)
class Node:
    """A span, `start` seconds after its trace began, and what was called in it, in order of time."""

    id: str
    """Of the process that has seen it."""
    name: str
    span: Span
    start: float = 0.0
    children: list[Node] = field(default_factory=list)

    @property
    def end(self) -> float:
        return self.start + self.span.seconds

    def walk(self, depth: int = 0) -> Iterator[tuple[int, Node]]:
        """It, and all below it, each with its depth."""
        yield depth, self
        for child in self.children:
            yield from child.walk(depth + 1)

    def gaps(self) -> Iterator[tuple[float, float]]:
        """(start, seconds) of its own time, between its children and around them."""
        at = self.start
        for child in self.children:
            if child.start > at:
                yield at, child.start - at
            at = max(at, child.end)
        if self.end > at:
            yield at, self.end - at

    @property
    def answerer(self) -> Node | None:
        """The other side of a call over the lattice, where just one is known."""
        if self.span.kind != "away" or len(self.children) != 1:
            return None
        return self.children[0]


def trees(found: Iterable[Seen]) -> list[Node]:
    """The spans of one trace. More than one tree when some of its spans are unknown: each begins by its own clock."""
    nodes = {seen.span.id: Node(*seen) for seen in found}
    tops: list[Node] = []
    for node in sorted(nodes.values(), key=lambda node: node.span.at):
        parent = nodes.get(node.span.parent)
        (tops if parent is None else parent.children).append(node)
    if tops:
        begin = tops[0].span.at
        for top in tops:
            top.start = top.span.at - begin
            _place(top)
    return tops


def _place(parent: Node) -> None:
    """Give `start` to all below it."""
    for process, same in groupby(sorted(parent.children, key=attrgetter("id")), key=attrgetter("id")):
        together = list(same)
        shift = parent.start - parent.span.at
        if process != parent.id:
            first = min(child.span.at for child in together)
            lasts = max(child.span.at + child.span.seconds for child in together) - first
            shift = parent.start + max(0.0, (parent.span.seconds - lasts) / 2) - first
        for child in together:
            child.start = child.span.at + shift
    parent.children.sort(key=attrgetter("start"))
    for child in parent.children:
        _place(child)


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the waterfall, `start` seconds from the beginning of the trace."""

    tree: str
    """What is drawn before it."""
    what: str
    start: float
    seconds: float
    span: Span | None = None
    """None for a call's own time."""
    where: str = ""
    blamed: bool = False
    """It failed, and nothing that it called did."""


def rows(tops: list[Node]) -> list[Row]:
    return [row for top in tops for row in _rows(top, top, "", "")]


def _rows(node: Node, shown: Node, before: str, branch: str) -> Iterator[Row]:
    """`node` is what was called, `shown` the side of it whose calls are shown: the answering one, if that is known."""
    answerer = shown.answerer
    if answerer is not None:
        yield from _rows(node, answerer, before, branch)
        return
    span = node.span
    blamed = span.failed and not any(child.span.failed for child in shown.children)
    yield Row(before + branch, what(shown.span), node.start, span.seconds, span, _where(node, shown), blamed)
    below = before + {"": "", "├ ": "│ ", "└ ": "  "}[branch]
    parts: list[tuple[float, Node | None, float]] = [(child.start, child, 0.0) for child in shown.children]
    own = _OWN.get(shown.span.kind)
    if own is not None and shown.children:
        least = shown.span.seconds * SHORT
        parts += [(start, None, seconds) for start, seconds in shown.gaps() if seconds > least]
    parts.sort(key=lambda part: part[0])
    for number, (start, child, seconds) in enumerate(parts, 1):
        line = "└ " if number == len(parts) else "├ "
        if child is not None:
            yield from _rows(child, child, below, line)
        else:
            yield Row(below + line, own or "", start, seconds)


def what(span: Span) -> str:
    """`GET /orders 500`, `shop-kv store.get`"""
    if span.http is not None and span.kind in ("request", "outgoing"):
        return str(span.http)
    if span.kind == "message":
        return f"message {span.subject}"
    interface, _, name = span.function.partition("#")
    called = f"{span.target} {interface.rpartition('/')[2]}.{name}"
    if span.http is not None and not span.direct:
        return f"{called}  {span.http}"
    return called


def _where(node: Node, shown: Node) -> str:
    """Where it was answered, and how it came there."""
    if node is not shown:
        return f"over the lattice to {shown.name}, {took(shown.span.seconds)} there"
    match node.span.kind:
        case "away":
            return "over the lattice"
        case "component" | "provider" if node.span.direct:
            return "direct"
    return node.name


def took(seconds: float) -> str:
    """`0.85 ms`, `61.2 ms`, `1.24 s`"""
    milliseconds = seconds * 1000
    if milliseconds >= 1000:
        return f"{seconds:.2f} s"
    return f"{milliseconds:.1f} ms" if milliseconds >= 10 else f"{milliseconds:.2f} ms"


def outcome(span: Span, *, told: bool = True) -> str:
    """With its sentence, if that is to be `told`: a waterfall has it once, though all callers repeat it."""
    if span.outcome == "ok":
        return ""
    said = " ".join(span.error.split()) if told else ""
    return styled(f"{span.outcome}: {said}" if said else span.outcome, span.failed, "yellow")


def styled(text: str, failed: bool, otherwise: str | None = None) -> str:
    return click.style(text, fg="red" if failed else otherwise)


def document(tops: list[Node]) -> dict[str, Any]:
    """The same for programs: the spans in the order of the tree."""
    placed = [(depth, node) for top in tops for depth, node in top.walk()]
    first = tops[0].span
    return {
        "trace": first.trace,
        "at": first.at,
        "seconds": max(node.end for _, node in placed),
        "failed": any(top.span.failed for top in tops),
        "spans": [{"depth": depth, "start": round(node.start, 9), **described(node.id, node.name, node.span)}
                  for depth, node in placed],
    }  # fmt: skip


def described(id: str, name: str, span: Span) -> Mapping[str, Any]:
    """A span as JSON has it, with the process that has seen it."""
    fields = span._asdict()
    del fields["context"]
    fields["http"] = None if span.http is None else span.http._asdict()
    return {"id": span.id, "trace": span.trace, "host": name, "host_id": id, **fields}
