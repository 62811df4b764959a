"""Tells the lattice how applications stand: wadm's status of each when it changes, and an event."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from lattice import HostId, LatticeError
from lattice.events import AppChanged
from lattice.lattice import Lattice
from wadm.world import World

log = structlog.get_logger("wadm")

SOURCE = HostId("wadm")
"""The source of the manager's own events, where hosts' have their id."""


class Teller:
    """`acting`: whether others are to hear it from us."""

    def __init__(self, lattice: Lattice, world: World, acting: Callable[[], bool]) -> None:
        self.lattice = lattice
        self.world = world
        self.acting = acting
        self.since: dict[str, tuple[str, str]] = {}
        """The state of each application, and since when (UTC)."""
        self._tell_all = False

    def begin_afresh(self) -> None:
        """Another manager may have said something else meanwhile."""
        self._tell_all = True

    async def tell(self) -> None:
        """What changed since it was told last, or all that there is when we have just begun to act."""
        world = self.world
        again, self._tell_all = self._tell_all and self.acting(), False
        names = set(world.apps) | {n for n, told in world.told.items() if told["status"]["type"] != "undeployed"}
        for name in sorted(names):
            stored = world.apps.get(name)
            word = world.word(name)
            before = self.since.get(name)
            if before is None or before[0] != word:
                self.since[name] = (word, utc())
                log.info("app.changed", app=name, state=word)
                if before is not None and self.acting():
                    await self.lattice.emit(self._changed(name, word), SOURCE)
            deployed = stored is not None and stored.deployed_version is not None
            if not deployed and name not in world.told:
                continue
            status = world.app_status(name, stored)
            if world.told.get(name) == status and not again:
                continue
            world.told[name] = status
            if self.acting():
                await publish(self.lattice, f"wadm.status.{self.lattice.name}.{name}", status)

    def _changed(self, name: str, word: str) -> AppChanged:
        stored, status = self.world.apps.get(name), self.world.plan.apps.get(name)
        reason = next(iter(status.reasons()), None) if status is not None else None
        return AppChanged(
            app=name,
            state=word,
            version=stored.deployed_version if stored is not None else None,
            code=reason.code if reason is not None else None,
            message=reason.message if reason is not None else None,
        )


async def publish(lattice: Lattice, subject: str, body: object) -> None:
    """As JSON. What cannot be sent is logged."""
    try:
        await lattice.transport.publish(subject, json.dumps(body).encode())
    except LatticeError as error:
        log.warning("message.unsent", subject=subject, error=error.message)


def utc() -> str:
    """Now, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
