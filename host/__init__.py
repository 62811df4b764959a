"""A process that keeps promises: composes actors and providers on the lattice."""

from host.config import HostConfig
from host.host import Host

__all__ = ["Host", "HostConfig"]
