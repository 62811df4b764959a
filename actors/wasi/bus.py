"""wasmcloud:bus: which of its links an actor's next calls use."""

from __future__ import annotations

from actors.guest import Guest
from actors.host_api import Resource, serves
from lattice import LinkName


class CallTargetInterface(Resource, interface="wasmcloud:bus/lattice", name="call-target-interface"):
    """`call-target-interface`: an interface, by name without version."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    @classmethod
    def new(cls, guest: Guest, namespace: str, package: str, interface: str) -> CallTargetInterface:
        return cls(f"{namespace}:{package}/{interface}")


@serves("wasmcloud:bus/lattice", CallTargetInterface)
class Lattice:
    @staticmethod
    def set_link_name(guest: Guest, name: str, interfaces: list[CallTargetInterface]) -> None:
        """From now on calls of `interfaces` go over the link `name`. A name without a link fails at the call."""
        for interface in interfaces:
            guest.links[interface.name] = LinkName(name)
