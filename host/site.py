"""What the parts of one host have in common."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from host.config import HostConfig
from host.configs import Configs
from host.links import Links
from host.policy import Policy
from host.router import Router
from host.secrets import SecretReferences
from lattice import HostId
from lattice.events import Event
from lattice.lattice import Lattice
from lattice.observing import Observing


@dataclass(frozen=True, slots=True)
class Site:
    """`id` is the host's; `emit` tells the lattice of an event there."""

    config: HostConfig
    id: HostId
    lattice: Lattice
    router: Router
    links: Links
    configs: Configs
    secrets: SecretReferences
    policy: Policy
    emit: Callable[[Event], Awaitable[None]]
    observing: Observing
