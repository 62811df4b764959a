"""What hosts tell of calls as they end (`lattice.tap`), put together: both sides of a call over the lattice are one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import click

from lattice.tap import Told
from lattice.tracing import Span
from trellis.show import clock
from trellis.waterfall import described, outcome, styled, took, what

SETTLED = 0.2
"""Seconds that a call is held back: the other side of it may be told of in another batch."""

LOOK = 0.05


@dataclass(slots=True)
class Side:
    """A span, with the arguments and the answer as far as that side shows them."""

    id: str
    name: str
    span: Span
    args: str
    answer: str
    arrived: float


@dataclass(frozen=True, slots=True)
class Call:
    """`asked` is the side of the caller where that was told, `answered` the other one, if there is another one."""

    asked: Side
    answered: Side | None

    def document(self) -> Mapping[str, Any]:
        found = {**described(self.asked.id, self.asked.name, self.asked.span)}
        if self.answered is not None:
            found["answered"] = described(self.answered.id, self.answered.name, self.answered.span)
        return {**found, "args": self.args, "answer": self.answer}

    @property
    def args(self) -> str:
        return self.asked.args

    @property
    def answer(self) -> str:
        return (self.answered or self.asked).answer

    @property
    def where(self) -> str:
        if self.answered is not None:
            return f"{self.asked.name} to {self.answered.name}"
        return self.asked.name


class Merged:
    """The calls that are told of, in the order in which they ended."""

    def __init__(self, told: asyncio.Queue[Told]) -> None:
        self._told = told
        self._held: dict[str, Side] = {}
        """By span id, in the order in which they arrived."""
        self.dropped = 0

    async def __aiter__(self) -> AsyncIterator[Call]:
        while True:
            try:
                async with asyncio.timeout(LOOK if self._held else None):
                    self._take(await self._told.get())
            except TimeoutError:
                pass
            for call in self.settled(time.monotonic() - SETTLED):
                yield call

    def _take(self, told: Told) -> None:
        self.dropped += told.dropped
        values = told.values or [("", "")] * len(told.spans)
        for span, (args, answer) in zip(told.spans, values, strict=True):
            self._held[span.id] = Side(told.id, told.name, span, args, answer, time.monotonic())

    def settled(self, before: float) -> list[Call]:
        """The calls whose first side arrived before then; they are held no longer."""
        answers = {side.span.parent: side for side in self._held.values() if not side.span.direct}
        found = []
        for id, side in list(self._held.items()):
            if side.arrived > before or id not in self._held:
                continue
            asked = self._held.get(side.span.parent, side)
            if asked.span.kind != "away":
                asked = side
            answered = answers.get(asked.span.id) if asked.span.kind == "away" else None
            for one in filter(None, (asked, answered)):
                self._held.pop(one.span.id, None)
            found.append(Call(asked, answered))
        return sorted(found, key=lambda call: call.asked.span.at + call.asked.span.seconds)


def _called(span: Span) -> str:
    """`shop-kv store.get`, `shop-api GET /orders 200`"""
    return what(span) if span.http is None or span.kind == "outgoing" else f"{span.target} {span.http}"


class Printer:
    """Lines of text, in columns that grow with what is in them."""

    def __init__(self) -> None:
        self._widths = [0, 0, 0]

    def text(self, call: Call) -> str:
        """`12:58:03.120  shop-api -> shop-kv store.get   0.94 ms  host-a  9be14d0a`"""
        span = call.asked.span
        words = [f"{span.source or 'outside'} -> {_called(span)}", took(span.seconds), call.where]
        self._widths = [max(width, len(word)) for width, word in zip(self._widths, words, strict=True)]
        said, long, where = (word.ljust(width) for word, width in zip(words, self._widths, strict=True))
        end = [clock(span.at), styled(said, span.failed), long, where, click.style(span.trace[:8], dim=True)]
        line = "  ".join(filter(None, [*end, outcome(span)]))
        if call.args or call.answer:
            line += f"\n              ({call.args}) -> {call.answer or 'not shown'}"
        return line
