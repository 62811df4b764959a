"""The last spans of each process that observes calls, kept in its memory, and how all are asked for them.

A question on `subjects.traces`, JSON:    {"trace": "9be1"}, which is how its id begins,
                                      or  {"recent": 20, "order": "slowest" | "latest", "failed": true}
Everybody answers with an Answer; of `recent`, with the first spans of traces, as far as it has them.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator
from heapq import nlargest
from itertools import islice
from typing import Any, Literal, NamedTuple

import structlog
from pydantic import BaseModel, Field, ValidationError

from lattice import subjects
from lattice.lattice import ENVELOPE, Lattice
from lattice.replies import reply_on
from lattice.tracing import Http, Span
from lattice.values import Value

log = structlog.get_logger("lattice")

KEPT = 20_000
"""Spans, the latest."""


class Question(BaseModel):
    trace: str = Field(default="", pattern=r"^[0-9a-f]{0,32}$")
    recent: int = Field(default=0, ge=0, le=1000)
    order: Literal["latest", "slowest"] = "latest"
    failed: bool = False


class Answer(BaseModel):
    """`more`: there are spans that did not fit into the message."""

    id: str
    name: str
    spans: list[Span]
    more: bool = False


class Seen(NamedTuple):
    """A span, and who has it: the id and the name of a host, or of a provider's process."""

    id: str
    name: str
    span: Span


class Traces:
    """Remembers, and answers once it listens. `id` and `name` are those of the process."""

    def __init__(self, id: str, name: str) -> None:
        self._id = id
        self._name = name
        self._rows: deque[tuple[Any, ...]] = deque(maxlen=KEPT)
        """Spans as plain tuples of plain values: the garbage collector need not look at those again and again."""

    def observe(self, span: Span, args: tuple[Value, ...], answer: Value) -> None:
        """An Observer."""
        http = span.http
        self._rows.append(tuple(span) if http is None else (*span[:-2], tuple(http), span.subject))

    async def listen(self, lattice: Lattice) -> None:
        """Answer what is asked on `lattice`, until that is closed."""

        def asked(data: bytes) -> bytes:
            return self._answer(Question.model_validate_json(data), lattice.transport.max_payload)

        await reply_on(lattice.transport, subjects.traces(lattice.name), asked)

    def _answer(self, question: Question, most: int) -> bytes:
        if question.trace:
            chosen: Iterable[Span] = self.of(question.trace)
        else:
            chosen = self.recent(question)
        head = json.dumps({"id": self._id, "name": self._name})
        rows: list[str] = []
        left = most - ENVELOPE - len(head.encode())
        for span in chosen:
            row = json.dumps(span)
            left -= len(row) + 1
            if left < 0:
                break
            rows.append(row)
        more = "true" if left < 0 else "false"
        return f'{head[:-1]}, "more": {more}, "spans": [{",".join(rows)}]}}'.encode()

    def of(self, prefix: str) -> Iterator[Span]:
        """The spans of the traces whose ids begin so."""
        begin = f"00-{prefix}"
        return (_span(row) for row in self._rows if row[0].startswith(begin))

    def recent(self, question: Question) -> Iterable[Span]:
        spans = (_span(row) for row in reversed(self._rows))
        wanted = (span for span in spans if _begins(span) and (not question.failed or span.failed))
        if question.order == "slowest":
            return nlargest(question.recent, wanted, key=lambda span: span.seconds)
        return islice(wanted, question.recent)


def _span(row: tuple[Any, ...]) -> Span:
    *others, http, subject = row
    return Span._make((*others, None if http is None else Http._make(http), subject))


def _begins(span: Span) -> bool:
    """It is the first of its trace, or may be: called by somebody else, who may not observe."""
    return span.is_root or (span.kind in ("component", "provider") and not span.direct)


async def spans_of(lattice: Lattice, prefix: str, seconds: float) -> tuple[list[Seen], bool]:
    """All that is remembered of the traces whose ids begin so, as far as it is told within `seconds`.

    And whether there is more than that.
    """
    answers = await _ask(lattice, Question(trace=prefix), seconds)
    return [seen for answer in answers for seen in _seen(answer)], any(answer.more for answer in answers)


async def recent(lattice: Lattice, question: Question, seconds: float) -> list[Seen]:
    """The first spans of traces, in the order that is asked for."""
    found = [seen for answer in await _ask(lattice, question, seconds) for seen in _seen(answer)]
    begun = {seen.span.trace for seen in found if seen.span.is_root}
    first = [seen for seen in found if seen.span.is_root or seen.span.trace not in begun]
    if question.order == "slowest":
        first.sort(key=lambda seen: -seen.span.seconds)
    else:
        first.sort(key=lambda seen: -(seen.span.at + seen.span.seconds))
    return first[: question.recent]


def _seen(answer: Answer) -> Iterator[Seen]:
    return (Seen(answer.id, answer.name, span) for span in answer.spans)


async def _ask(lattice: Lattice, question: Question, seconds: float) -> list[Answer]:
    asked = question.model_dump_json().encode()
    found = []
    for message in await lattice.transport.gather(subjects.traces(lattice.name), asked, seconds=seconds):
        try:
            found.append(Answer.model_validate_json(message.data))
        except ValidationError:
            log.warning("trace.answer_unreadable")  # of another version: it does not hide the others
    return found
