"""What a host is started with."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from actors import Limits
from host.grants import Allowed
from host.images import ImageSettings
from host.policy import PolicySettings
from lattice.nats_transport import NatsOptions


@dataclass(frozen=True, slots=True)
class HostConfig:
    """All durations in seconds."""

    lattice: str = "default"
    nats: NatsOptions = field(default_factory=NatsOptions)
    data: NatsOptions | None = None
    """The connection for calls; None: the same one."""
    labels: dict[str, str] = field(default_factory=dict)
    name: str | None = None
    """What people call it; None: one is made up."""
    heartbeat: float = 30.0
    alive: float = 1.0
    """Between two signs of life, beside the heartbeat."""
    dead_after: float = 4.0
    """Silence of another host after which it is taken for dead."""
    health: float = 30.0
    """Between two health checks of a provider."""
    grace: float = 10.0
    """For work in hand when the host stops."""
    stack: int = 512 * 1024
    """Bytes of a guest's stack that Wasm may use: the same for all components."""
    limits: Limits = field(default_factory=Limits)
    """Of each component; its manifest can lower them. With one of fuel, guests' instructions are counted."""
    allowed: Allowed = field(default_factory=Allowed)
    """What components may be granted beyond their links; nothing, unless the host is started with more."""
    config_folder: Path | None = None
    """Where values are that configurations leave to this host (`host.own_values`)."""
    secrets_folder: Path | None = None
    """Where the secrets of the back end `files` are."""
    secrets_key: Path | None = None
    """The file with what opens the secrets of `nats-kv`."""
    images: ImageSettings = field(default_factory=ImageSettings)
    """Where component images may come from, and how they are fetched."""
    policy: PolicySettings = field(default_factory=PolicySettings)
    config_service: bool = False
    """Ask wasmCloud's configuration service for the logins of registries, once, at the start."""
    metrics: str | None = None
    """HOST:PORT to answer `/metrics`, `/livez` and `/readyz` at."""
    max_instances: int = 1000
    """Concurrent instances that "unbounded" means, per component."""
