"""Which one of several managers acts: a lease in KV that its holder renews.

The holder trusts its lease for a shorter time after a renewal than the others wait for the next one, so two never act
at once as long as their clocks run equally fast (what the clocks show does not matter: everybody measures from what
they wrote or saw themselves). A manager that was stalled finds its lease run out before it does anything else.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable

import structlog

from lattice import LatticeError, read_json
from lattice.transport import Bucket, Entry, WrongRevision

log = structlog.get_logger("wadm")

RENEW = 2.0
"""Seconds between two renewals. The lease is trusted for 2.5 times as long, and taken over after 3.5 times."""


def lease_key(lattice: str) -> str:
    return f"{lattice}.lease"


class Lease:
    """The claim of one manager, called `holder`, to act for `lattice`. `changed` is called when `held` may be another.

    `run()` competes until cancelled; then `release()` lets another one take over at once.
    """

    def __init__(
        self,
        bucket: Bucket,
        lattice: str,
        holder: str,
        *,
        renew: float = RENEW,
        clock: Callable[[], float] = time.monotonic,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.key = lease_key(lattice)
        self.holder = holder
        self.renew = renew
        self.seen_holder: str | None = None
        """Who held it when we last looked; None for nobody."""
        self._bucket = bucket
        self._clock = clock
        self._changed = changed
        self._until = float("-inf")
        self._revision = 0
        self._seen_revision = -1
        self._seen_since = 0.0
        self._wake = asyncio.Event()
        self._was_held = False

    @property
    def held(self) -> bool:
        """May we act now?"""
        return self._clock() < self._until

    async def run(self) -> None:
        """Renew what we hold, and take what nobody renews, until cancelled."""
        while True:
            self._wake.clear()
            try:
                await self.turn()
            except LatticeError as error:
                log.warning("lease.unreachable", error=error.message)
            except WrongRevision:
                pass  # somebody was quicker; what they wrote is looked at next
            try:
                async with asyncio.timeout(self._pause()):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def turn(self) -> None:
        """One step: write when the lease is ours or free. Raises WrongRevision when somebody else did."""
        begun = self._clock()
        if self._was_held:
            try:
                self._take(await self._bucket.update(self.key, self._value(self.holder), self._revision), begun)
                return
            except WrongRevision:  # another's, or our own renewal of which the answer was lost: read who wrote it
                self._revision = 0
        entry = await self._bucket.get(self.key)
        self.notice(entry or Entry(self.key, None, 0))
        if entry is None:
            self._take(await self._bucket.create(self.key, self._value(self.holder)), begun)
        elif self.seen_holder in (None, self.holder) or begun - self._seen_since >= 3.5 * self.renew:
            self._take(await self._bucket.update(self.key, self._value(self.holder), entry.revision), begun)

    def notice(self, entry: Entry) -> None:
        """What the bucket holds under our key, as soon as it is known."""
        if entry.revision <= self._revision and self._was_held:
            return  # our own writing, or something older
        holder = _holder(entry)
        if entry.revision != self._seen_revision:
            self._seen_revision, self._seen_since = entry.revision, self._clock()
            if holder is None:
                self._wake.set()
        self.seen_holder = holder
        if holder not in (None, self.holder):
            self._lose(holder)

    async def release(self) -> None:
        """Stop acting, and say so. Nothing happens when the lease is not ours, or the broker is gone."""
        mine, self._until = self._was_held, float("-inf")
        self._was_held = False
        if mine:
            with contextlib.suppress(WrongRevision, LatticeError, TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._bucket.update(self.key, self._value(None), self._revision)

    def _take(self, revision: int, begun: float) -> None:
        self._revision = self._seen_revision = revision
        self._until = begun + 2.5 * self.renew
        self.seen_holder = self.holder
        if not self._was_held:
            self._was_held = True
            log.info("lease.taken", holder=self.holder)
            self._changed()

    def _lose(self, to: str | None) -> None:
        self._until = float("-inf")
        if self._was_held:
            self._was_held = False
            log.warning("lease.lost", holder=self.holder, to=to)
            self._changed()

    def _pause(self) -> float:
        if self._was_held or self.seen_holder is None:
            return self.renew
        left = self._seen_since + 3.5 * self.renew - self._clock()
        return min(self.renew, max(0.01, left))

    @staticmethod
    def _value(holder: str | None) -> bytes:
        return json.dumps({"holder": holder}).encode()


def _holder(entry: Entry) -> str | None:
    """Who wrote that entry as theirs; None when it is free, or says nothing that can be read."""
    try:
        found = read_json(entry.value)["holder"] if entry.value is not None else None
    except (ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, str) else None
