"""What keeps a Directory: signs of life, events, and what hosts that were not known before say they run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from pydantic import ValidationError

from lattice import events, subjects
from lattice.control import HostInfo, Inventory, Reply
from lattice.directory import Directory
from lattice.errors import LatticeError
from lattice.invocation import Middleware
from lattice.lattice import Lattice
from lattice.names import HostId
from lattice.routes import Routes
from lattice.tracing import unobserved
from lattice.transport import Message

log = structlog.get_logger("lattice")

LOOK = 1.0
"""Seconds between two looks at who has fallen silent."""


class Presence:
    """Listens for one Directory. `listen`, then run `follow` beside it."""

    def __init__(self, lattice: Lattice, directory: Directory) -> None:
        self._lattice = lattice
        self._directory = directory
        self._asking: set[asyncio.Task[None]] = set()

    async def listen(self) -> None:
        await self._lattice.on_events(self._directory.fold)
        await self._lattice.transport.subscribe(subjects.alive(self._lattice.name), self._alive)

    async def call_out(self) -> None:
        """Know the hosts as soon as they answer, without waiting for their next sign of life."""
        transport = self._lattice.transport
        inbox = transport.inbox()
        await transport.subscribe(inbox, self._answered)
        await transport.publish(subjects.control(self._lattice.name, "host", "ping"), b"", reply=inbox)

    async def follow(self, pause: float = LOOK) -> None:
        """Look every `pause` seconds who has fallen silent, for ever."""
        while True:
            before = time.monotonic()
            await asyncio.sleep(pause)
            if time.monotonic() - before > 2 * pause:
                self._directory.forgive()  # this process stood still, and heard nobody
            for gone in self._directory.sweep():
                log.warning("host.lost", id=gone)

    def _alive(self, message: Message) -> None:
        if message.data.isalnum() and len(message.data) <= 64:  # else it is no host's id, but somebody's noise
            self._heard(HostId(message.data.decode()))

    def _answered(self, message: Message) -> None:
        try:
            reply = Reply.model_validate_json(message.data)
            self._heard(HostInfo.model_validate(reply.response).id)
        except ValidationError:
            pass  # nobody listens, or a host that speaks otherwise

    def _heard(self, host: HostId) -> None:
        """Note it; ask a host that we had not heard of what it runs."""
        if self._directory.alive(host):
            task = asyncio.create_task(self._get_to_know(host))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)

    async def _get_to_know(self, host: HostId) -> None:
        try:
            reply = await self._lattice.control("host", "get", host)
            inventory = Inventory.model_validate(reply.response)
        except (LatticeError, ValidationError):
            return  # its heartbeat will tell
        self._directory.fold(host, events.HostHeartbeat(inventory=inventory))


@asynccontextmanager
async def routes(lattice: Lattice, observed: Middleware = unobserved) -> AsyncIterator[Routes]:
    """For who is no host: calls go to hosts that are known to live, and end when those fall silent."""
    directory = Directory()
    presence = Presence(lattice, directory)
    await presence.listen()
    await presence.call_out()
    following = asyncio.create_task(presence.follow())
    try:
        yield Routes(lattice, directory, observed)
    finally:
        following.cancel()
