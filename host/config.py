"""What a host is started with."""

from __future__ import annotations

from dataclasses import dataclass, field

from host.grants import Allowed
from host.images import ImageSettings
from lattice.nats_transport import NatsOptions


@dataclass(frozen=True, slots=True)
class HostConfig:
    """All durations in seconds."""

    lattice: str = "default"
    nats: NatsOptions = field(default_factory=NatsOptions)
    labels: dict[str, str] = field(default_factory=dict)
    name: str | None = None
    """What people call it; None: one is made up."""
    heartbeat: float = 30.0
    alive: float = 1.0
    """Between two signs of life, beside the heartbeat."""
    health: float = 30.0
    """Between two health checks of a provider."""
    execution: float = 30.0
    """For one invocation of a component, unless its limits say less."""
    grace: float = 10.0
    """For work in hand when the host stops."""
    max_memory: int = 256 * 1024 * 1024
    """Bytes of linear memory per instance, and the ceiling for what a component's limits may ask."""
    allowed: Allowed = field(default_factory=Allowed)
    """What components may be granted beyond their links; nothing, unless the host is started with more."""
    images: ImageSettings = field(default_factory=ImageSettings)
    """Where component images may come from, and how they are fetched."""
    max_instances: int = 1000
    """Concurrent instances that "unbounded" means, per component."""
