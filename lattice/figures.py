"""What a host, or a provider in a process of its own, says of its calls and of itself (`subjects.figures`)."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from lattice.histogram import BOUNDS
from lattice.names import EntityId


class Part(BaseModel):
    """A component or a provider that runs there."""

    model_config = ConfigDict(frozen=True)

    id: EntityId
    kind: Literal["component", "provider"]
    app: str | None = None
    instances: int = 1
    """Calls that it takes at a time; of a provider, 1."""
    busy: int | None = None
    """Calls in hand; None where the host of such a process does not know."""
    waiting: int = 0
    """Calls in line."""


class Calls(BaseModel):
    """Calls since the process began, of one kind (`lattice.tracing.Kind`).

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
    """Everything that one process says. Seconds and bytes."""

    model_config = ConfigDict(frozen=True)

    id: str
    """Of a host, its own; of a provider's process, made of that of its host and the provider's."""
    name: str
    host: bool
    """Whether it is one: else it is a process beside one."""
    uptime: float
    cpu: float
    memory: int
    parts: list[Part]
    calls: list[Calls]
