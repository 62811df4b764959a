"""The manager's loop: told of every change, it plans anew and sends what the plan asks for.

It keeps nothing that the lattice and the store could not tell it again. What wakes it: the store (manifests,
overrides), the lattice's state buckets (links, configurations), events, signs of life, and a timer.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import assert_never

import structlog

from lattice import LatticeError, Unreachable, subjects
from lattice.histogram import Histogram
from lattice.large import fit
from lattice.lattice import Lattice
from lattice.transport import Bucket, Entry, Message, Subscription
from lattice.watching import follow
from wadm.answers import Answers, Who
from wadm.api import Api
from wadm.commands import (
    Command,
    DeleteConfig,
    DeleteLink,
    PutConfig,
    PutLink,
    ScaleComponent,
    StartProvider,
    StopProvider,
    expired,
    link_key,
    sent,
)
from wadm.hearing import Hearing
from wadm.lease import RENEW, Lease
from wadm.ledger import Ledger
from wadm.observed import DEAD_AFTER, NOWHERE, SETTLED_AFTER, Observed, Refused, forgive, prune
from wadm.reconcile import reconcile
from wadm.requests import is_about_state, request
from wadm.state_bucket import StateBucket
from wadm.store import Store
from wadm.telling import Teller
from wadm.world import World

log = structlog.get_logger("wadm")


class Manager:
    """The deployment manager of one lattice. `async with Manager(lattice)`, or `await manager.run()`.

    `dead_after` is how long a host may be silent, `settled_after` how long it has to be there before work moves to it
    only to be spread better, `discovery` how long hosts have to answer the first ping, `tick` how often everything is
    looked at when nothing happens, `renew` how often the lease is renewed (all in seconds); `parallel` bounds the
    commands under way.

    Several may run: all of them observe, plan and answer, and the one that holds the lease acts.
    """

    def __init__(
        self,
        lattice: Lattice,
        *,
        dead_after: float = DEAD_AFTER,
        settled_after: float = SETTLED_AFTER,
        discovery: float = 1.0,
        tick: float = 1.0,
        renew: float = RENEW,
        parallel: int = 16,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.lattice = lattice
        self.tick = tick
        self.renew = renew
        self.id = f"{os.getpid()}-{secrets.token_hex(6)}"
        self.clock = clock
        self._wake = asyncio.Event()
        observed = Observed(dead_after=dead_after, settled_after=settled_after)
        self.world = World(observed, clock, self._wake.set)
        self.rounds = Histogram()
        self.commands: Counter[tuple[str, str]] = Counter()
        """How many of which kind were sent, and what became of them."""
        self._hearing = Hearing(lattice, self.world, self.id, discovery)
        self._teller = Teller(lattice, self.world, lambda: self.acting)
        self._permits = asyncio.Semaphore(parallel)
        self._ready = asyncio.Event()
        self._in_step = [asyncio.Event() for _ in range(4)]
        """Of the watched buckets: manifests, notes, links, configurations."""
        self._subscriptions: list[Subscription] = []
        self._running: asyncio.Task[None] | None = None
        self._lease: Lease | None = None
        self._tasks: asyncio.TaskGroup | None = None

    # -- life

    async def run(self) -> None:
        """Manage until cancelled."""
        lattice, name = self.lattice, self.lattice.name
        store = await Store.open(lattice.transport, name)
        ledger = Ledger(store, self.world)
        data, configs = await lattice.lattice_data(), await lattice.config_data()
        self._lease = lease = Lease(
            store.notes, name, self.id, renew=self.renew, clock=self.clock, changed=self._lease_changed
        )
        state = StateBucket(lattice, self.world, self._hearing.seen_at)
        await state.open()
        lattice.transport.on_reconnect(state.forget)

        def manifest(entry: Entry) -> None:
            found = store.app_of(entry.key, entry.value)
            if found is not None:
                self.world.changed(*found)

        def note(entry: Entry) -> None:
            if entry.key == lease.key:
                lease.notice(entry)
            else:
                ledger.noted(entry)

        watched: list[tuple[Bucket, Callable[[Entry], None]]] = [
            (store.manifests, manifest),
            (store.notes, note),
            (data, self._hearing.record),
            (configs, self._hearing.config),
        ]
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                self._subscriptions += await self._hearing.listen(tasks)
                for (bucket, on_entry), in_step in zip(watched, self._in_step, strict=True):
                    tasks.create_task(self._watch(bucket, on_entry, in_step))
                await self._caught_up()
                api = Api(store, self.world)
                await self._serve(f"{subjects.WADM_PREFIX}.{name}.>", api.answer, subjects.WADM_QUEUE)
                for verb, answer in Answers(store, self.world, self.who, self._teller.since).served().items():
                    await self._serve(subjects.manager(name, verb), answer, "trellis_manager")
                tasks.create_task(lease.run())
                tasks.create_task(state.keep(lambda: self.acting, self.tick))
                log.info("manager.started", lattice=name, apps=len(self.world.apps))
                try:
                    await self._reconcile_forever(ledger)
                finally:
                    self._leave()
        finally:
            self._leave()
            self._ready.clear()
            for subscription in self._subscriptions:
                await subscription.unsubscribe()
            self._subscriptions.clear()
            await lease.release()
            log.info("manager.stopped", lattice=name)

    def _leave(self) -> None:
        """What is still heard starts nothing any more."""
        self._tasks = None
        self._hearing.deafen()

    @property
    def acting(self) -> bool:
        """Whether this one holds the lease: if not, it observes and answers, and changes nothing."""
        return self._lease is not None and self._lease.held

    def who(self) -> Who:
        return Who(self.id, self.acting, None if self._lease is None else self._lease.seen_holder)

    def unready(self) -> list[str]:
        """Why it cannot do its work just now; empty when it can, or could if it held the lease."""
        if not self.lattice.transport.connected:
            return ["there is no connection to the broker"]
        if not self._ready.is_set() or not all(watched.is_set() for watched in self._in_step):
            return ["it does not know everything that is kept yet"]
        return []

    def states(self) -> dict[str, str]:
        """Of each application that there is."""
        return {name: self.world.word(name) for name in self.world.apps}

    def _lease_changed(self) -> None:
        self._teller.begin_afresh()
        self.world.pending = {}
        self._wake.set()

    async def __aenter__(self) -> Manager:
        """Ready: the API answers and the first plan was made. Raises what `run` raises when it cannot begin."""
        self._running = asyncio.create_task(self.run(), name=f"manager of {self.lattice.name}")
        ready = asyncio.create_task(self._ready.wait())
        try:
            await asyncio.wait({ready, self._running}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
        if self._running.done():
            await self._running
        return self

    async def wait(self) -> None:
        """Until the manager ends; inside `async with` it only does so by failing, and this raises why."""
        if self._running is not None:
            await asyncio.shield(self._running)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._running is not None:
            self._running.cancel()
            try:
                await self._running
            except asyncio.CancelledError:
                pass
            self._running = None

    # -- hearing and answering

    async def _watch(self, bucket: Bucket, on_entry: Callable[[Entry], None], in_step: asyncio.Event) -> None:
        def seen(entry: Entry) -> None:
            on_entry(entry)
            self._wake.set()

        await follow(bucket, seen, in_step)

    async def _caught_up(self) -> None:
        """While a watch is broken, what the store says may be old, or not yet put back into it."""
        for watched in self._in_step:
            await watched.wait()

    async def _serve(self, subject: str, answer: Callable[[Message], Awaitable[bytes]], queue: str) -> None:
        ours = not subject.startswith(subjects.WADM_PREFIX)

        async def arrived(message: Message) -> None:
            await self._caught_up()
            reply = await answer(message)
            if message.reply is None:
                return
            transport = self.lattice.transport
            try:
                await transport.publish(message.reply, fit(reply, transport.max_payload, ours=ours))
            except LatticeError as error:
                log.warning("answer.unsent", subject=message.subject, error=error.message)

        self._subscriptions.append(await self.lattice.transport.subscribe(subject, arrived, queue=queue))

    # -- planning and sending

    async def _reconcile_forever(self, ledger: Ledger) -> None:
        last = self.clock()
        while True:
            await self._hearing.complete.wait()
            now = self.clock()
            if now - last > 2 * self.tick + 1:  # we were held up: that was our silence, not the hosts'
                log.warning("manager.held_up", seconds=round(now - last, 1))
                self.world.observed = forgive(self.world.observed, now - last - self.tick)
            last = now
            self._wake.clear()
            try:
                await self._round(now, ledger)
            except LatticeError as error:
                log.warning("round.failed", error=error.message)
            except Exception:  # one odd application must not leave all others alone
                log.exception("round.failed")
            self.rounds.observe(self.clock() - now)
            self._ready.set()
            # events that come in a crowd are for one round: where rounds are dear, they would be all that is done
            await asyncio.sleep(min(self.tick / 2, self.clock() - now))
            pause = min(self.tick, max(0.01, self.world.plan.wake_at - self.clock()))
            try:
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _round(self, now: float, ledger: Ledger) -> None:
        world = self.world
        world.observed = prune(world.observed, now)
        world.pending = expired(world.pending, now)
        world.desired = world.wants()
        planned = set(world.unplanned)
        plan = reconcile(world.desired, world.observed, world.pending, now)
        if self.acting:
            await ledger.note_what_will_be_put(plan)
        world.plan = plan
        world.unplanned -= planned
        if not self.acting:  # perhaps since a moment ago
            await self._teller.tell()
            return
        world.pending = sent(world.pending, *plan.commands, now=now)
        for command in plan.commands:
            assert self._tasks is not None
            self._tasks.create_task(self._send(command))
        await self._teller.tell()
        await ledger.note_what_is_ready()
        await ledger.forget_what_is_gone()

    async def _send(self, command: Command) -> None:
        """One control request. What it brings about is seen in events and buckets, not in the answer."""
        kind = type(command).__name__
        async with self._permits:
            if not self.acting:  # lost while it waited its turn: whoever acts now decides anew
                self.world.settle(command.key)
                return
            log.info("command.sent", kind=kind, about=command.key[1:])
            try:
                reply = await request(self.lattice, command)
            except Unreachable as error:
                log.warning("command.unheard", kind=kind, about=command.key[1:], error=error.message)
                self.commands[kind, "unheard"] += 1
                self.world.settle(command.key)
                return
            except LatticeError as error:  # perhaps it was heard: its deadline decides
                log.warning("command.unanswered", kind=kind, about=command.key[1:], error=str(error))
                self.commands[kind, "unanswered"] += 1
                return
            except Exception:
                log.exception("command.failed", kind=kind, about=command.key[1:])
                self.commands[kind, "failed"] += 1
                return
        self.commands[kind, "taken" if reply.success else "refused"] += 1
        if not reply.success:
            log.warning("command.refused", kind=kind, about=command.key[1:], error=reply.message)
            self._refused(command, reply.message)

    def _refused(self, command: Command, why: str) -> None:
        match command:
            case ScaleComponent(host, id, image) | StartProvider(host, id, image):
                if is_about_state(why):
                    self._hearing.ask(host)  # it runs already, or does not run any more: our picture is old
                else:
                    self._hearing.refused(Refused(host, id, image, why))
            case StopProvider(host):
                self._hearing.ask(host)
            case PutLink(link):
                self._hearing.refused(Refused(NOWHERE, str(link_key(link)), "", why))
            case PutConfig(name):
                self._hearing.refused(Refused(NOWHERE, name, "", why))
            case DeleteConfig() | DeleteLink():
                pass
            case _:
                assert_never(command)
        self.world.settle(command.key)
