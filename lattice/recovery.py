"""Calls whose question or answer was lost with the connection to the broker: nobody tells of them but by being asked.

Once a connection is there again, its calls that still wait are asked after: those who serve the target say which of
them they have in hand, and a call that nobody has ends. Until the others who lost the broker too can be back, no call
and no answer is sent, since nobody would hear it.
"""

from __future__ import annotations

import asyncio

from lattice import subjects
from lattice.errors import LatticeError, Unreachable
from lattice.names import EntityId
from lattice.transport import Transport

SETTLING = 0.5
"""Seconds from our own return to that of the others, who all try several times a second."""

ANSWERING = 1.0
"""Seconds that those who serve a target have to say what they have in hand."""

MOST = 10_000
"""Calls in one question: about 350 kB."""

LOST = "lost"
"""What the Unreachable of such a call has as `details["because"]`: it may have been carried out."""


class Recovery:
    """Of the calls of one Lattice, over the connection `transport`."""

    def __init__(self, lattice: str, transport: Transport) -> None:
        self._lattice = lattice
        self._transport = transport
        self._recovering: asyncio.Task[None] | None = None
        self.settled = asyncio.Event()
        """Unset from the loss of the connection until the others can be back, too."""
        self.settled.set()
        transport.on_disconnect(self._lost)
        transport.on_reconnect(self._back)

    def stop(self) -> None:
        if self._recovering is not None:
            self._recovering.cancel()

    def _lost(self) -> None:
        self.stop()
        self.settled.clear()

    def _back(self) -> None:
        self.stop()
        self._recovering = asyncio.create_task(self._recover(), name="recovery of calls")

    async def _recover(self) -> None:
        await asyncio.sleep(SETTLING)
        unknown = set(self._waiting())
        self.settled.set()
        while unknown:
            asked: dict[EntityId, list[str]] = {}
            for reply, target in self._waiting().items():
                if reply in unknown:
                    asked.setdefault(target, []).append(reply)
            decided = await asyncio.gather(*(self._ask(target, calls[:MOST]) for target, calls in asked.items()))
            unknown = set().union(*asked.values()).difference(*decided)

    def _waiting(self) -> dict[str, EntityId]:
        """The target of each call that waits for an answer, by where that answer goes."""
        pending = self._transport.pending_requests().items()
        return {reply: to for reply, subject in pending if (to := subjects.called(self._lattice, subject)) is not None}

    async def _ask(self, target: EntityId, calls: list[str]) -> list[str]:
        """End those of `calls` that nobody has in hand. The calls that are decided: none, when nobody answers."""
        question = "\n".join(calls).encode()
        try:
            answers = await self._transport.gather(subjects.in_hand(self._lattice, target), question, seconds=ANSWERING)
        except LatticeError:
            answers = []  # lost once more
        if not answers:
            await asyncio.sleep(ANSWERING)
            return []
        held = {reply for answer in answers for reply in answer.data.decode(errors="replace").split("\n")}
        for reply in calls:
            if reply not in held:
                gone = f'the broker was lost with a call of "{target}", which may have been carried out'
                self._transport.fail_request(reply, Unreachable(gone, because=LOST))
        return calls
