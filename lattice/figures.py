"""What a host says of its calls and of itself, when it is asked for `subjects.figures`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from lattice.histogram import BOUNDS
from lattice.names import EntityId, HostId


class Part(BaseModel):
    """A component or a provider on that host."""

    model_config = ConfigDict(frozen=True)

    id: EntityId
    kind: Literal["component", "provider"]
    app: str | None = None
    instances: int = 1
    """Calls that it takes at a time; of a provider, 1."""
    busy: int | None = None
    """Calls in hand; None of a provider in a process of its own."""
    waiting: int = 0
    """Calls in line."""


class Calls(BaseModel):
    """Calls since the host's start of one kind (`lattice.tracing.Kind`).

    `id` is what was called; of requests and messages, the provider that they came to.
    """

    model_config = ConfigDict(frozen=True)

    kind: str
    id: EntityId
    failed: int
    """How many got no answer, or an HTTP status of 500 and above; those that were cancelled did not fail."""
    seconds: float
    counts: list[int] = Field(min_length=len(BOUNDS) + 1, max_length=len(BOUNDS) + 1)
    """Of a `lattice.histogram.Histogram`."""


class Figures(BaseModel):
    """Everything that one host says. Seconds and bytes; `cpu` is of its process."""

    model_config = ConfigDict(frozen=True)

    id: HostId
    name: str
    uptime: float
    cpu: float
    memory: int
    parts: list[Part]
    calls: list[Calls]
