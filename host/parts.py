"""What a host runs, and how busy it is."""

from __future__ import annotations

from collections.abc import Iterator

from host.capabilities import Capabilities
from host.components import Components
from lattice.control import APPSPEC
from lattice.figures import Part


def parts(components: Components, capabilities: Capabilities) -> Iterator[Part]:
    for component in components.running.values():
        permits = component.actor.permits
        yield Part(
            id=component.id,
            kind="component",
            app=component.annotations.get(APPSPEC),
            instances=permits.size,
            busy=permits.size - permits.free,
            waiting=len(permits.waiting),
        )
    for provider in capabilities.running.values():
        busy = None if provider.body is None else provider.body.in_hand
        yield Part(id=provider.id, kind="provider", app=provider.annotations.get(APPSPEC), busy=busy)
