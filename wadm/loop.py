"""The manager's loop: told of every change, it plans anew and sends what the plan asks for.

It keeps nothing that the lattice and the store could not tell it again. What wakes it: the store (manifests,
overrides), the lattice's state buckets (links, configurations), events, signs of life, and a timer.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, assert_never

import structlog
from pydantic import ValidationError

from lattice import EntityId, HostId, LatticeError, Unreachable, read_json, subjects
from lattice import control as ctl
from lattice.control import HostInfo, Inventory, Reply
from lattice.events import AppChanged, Event
from lattice.histogram import Histogram
from lattice.large import fit
from lattice.lattice import Lattice
from lattice.links import ComponentRecord, LinkKey
from lattice.transport import Bucket, Entry, Message, Subscription, WrongRevision
from lattice.watching import follow
from wadm.answers import Answers
from wadm.api import Api
from wadm.commands import (
    Command,
    DeleteConfig,
    DeleteLink,
    Key,
    Pending,
    PutConfig,
    PutLink,
    ScaleComponent,
    StartProvider,
    StopProvider,
    expired,
    link_key,
    sent,
    settled,
)
from wadm.desired import Desired, Leftovers, desired_from, together, with_proven
from wadm.keeping import kept_parts, users
from wadm.lease import RENEW, Lease
from wadm.manifest import Manifest
from wadm.observed import (
    DEAD_AFTER,
    NOWHERE,
    SETTLED_AFTER,
    Alive,
    ConfigSeen,
    Fact,
    Forgiven,
    LinksSeen,
    Observed,
    Refused,
    Retry,
    Seen,
    fold,
    forgive,
    prune,
)
from wadm.plan import AppStatus, Plan
from wadm.reasons import State
from wadm.reconcile import reconcile
from wadm.status import described, lattice_state, undeployed, wadm_status
from wadm.store import Overrides, StorageError, Store, Stored, decode_manifest, decode_overrides, decode_put

log = structlog.get_logger("wadm")

RECORD = "COMPONENT_"
STATE_BUCKET = "wadm_state"
MANAGER_SOURCE = HostId("wadm")
"""The source of the manager's own events, where hosts' have their id."""


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
        self.dead_after = dead_after
        self.discovery = discovery
        self.tick = tick
        self.renew = renew
        self.id = f"{os.getpid()}-{secrets.token_hex(6)}"
        self.clock = clock
        self.observed = Observed(dead_after=dead_after, settled_after=settled_after)
        self.apps: dict[str, Stored] = {}
        self.overrides: dict[str, Overrides] = {}
        self.put: dict[str, Leftovers] = {}
        self.kept: dict[str, Manifest] = {}
        self.proven: dict[str, Manifest] = {}
        """The last version of each application that was ready."""
        self.pending: Pending = {}
        self.plan = Plan()
        self.rounds = Histogram()
        self.commands: Counter[tuple[str, str]] = Counter()
        """How many of which kind were sent, and what became of them."""
        self.desired = Desired()
        self._manifests: dict[str, tuple[Stored, Manifest]] = {}
        self._wants: dict[
            str, tuple[Manifest, Manifest | None, Mapping[str, int], Mapping[str, Manifest], Desired]
        ] = {}
        self._noted_proven: dict[str, Manifest] = {}
        self._unplanned: set[str] = set()
        self._since: dict[str, tuple[str, str]] = {}
        self._told: dict[str, dict[str, Any]] = {}
        self._seen_at: dict[str, str] = {}
        self._permits = asyncio.Semaphore(parallel)
        self._wake = asyncio.Event()
        self._ready = asyncio.Event()
        self._ready_to_plan = asyncio.Event()
        self._in_step = [asyncio.Event() for _ in range(4)]
        """Of the watched buckets: manifests, notes, links, configurations."""
        self._asking: set[HostId] = set()
        self._subscriptions: list[Subscription] = []
        self._published: dict[str, bytes] = {}
        self._running: asyncio.Task[None] | None = None
        self._store: Store | None = None
        self._lease: Lease | None = None
        self._tell_all = False
        self._tasks: asyncio.TaskGroup | None = None

    # -- life

    async def run(self) -> None:
        """Manage until cancelled."""
        transport = self.lattice.transport
        self._store = store = await Store.open(transport, self.lattice.name)
        data, configs = await self.lattice.lattice_data(), await self.lattice.config_data()
        state = await transport.bucket(STATE_BUCKET)
        self._lease = lease = Lease(
            store.notes, self.lattice.name, self.id, renew=self.renew, clock=self.clock, changed=self._lease_changed
        )
        api = Api(store, self)
        for kind in lattice_state(self.observed, {}):  # readers of it do not expect that there is none
            with contextlib.suppress(WrongRevision):
                await state.create(f"{kind}_{self.lattice.name}", b"{}")
        name = self.lattice.name
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                transport.on_reconnect(self._reconnected)
                await self._listen(subjects.alive(name), self._alive)
                await self._listen(subjects.manager(name, "refusal"), self._refusal_told)
                self._subscriptions.append(await self.lattice.on_events(self._event))
                tasks.create_task(self._watch(store.manifests, self._manifest_entry, self._in_step[0]))
                tasks.create_task(self._watch(store.notes, self._note_entry, self._in_step[1]))
                tasks.create_task(self._watch(data, self._record_entry, self._in_step[2]))
                tasks.create_task(self._watch(configs, self._config_entry, self._in_step[3]))
                tasks.create_task(self._discover())
                await self._caught_up()
                await self._serve(f"{subjects.WADM_PREFIX}.{name}.>", api.answer, subjects.WADM_QUEUE)
                await self._serve(subjects.manager(name, "status"), self._answer_status, "trellis_manager")
                await self._serve(subjects.manager(name, "scale"), self._answer_scale, "trellis_manager")
                for verb, answer in Answers(store, self).served().items():
                    await self._serve(subjects.manager(name, verb), answer, "trellis_manager")
                tasks.create_task(lease.run())
                tasks.create_task(self._keep_state(state))
                log.info("manager.started", lattice=name, apps=len(self.apps))
                try:
                    await self._reconcile_forever()
                finally:
                    self._tasks = None  # what is still heard starts nothing any more
        finally:
            self._tasks = None
            self._ready.clear()
            for subscription in self._subscriptions:
                await subscription.unsubscribe()
            self._subscriptions.clear()
            await lease.release()
            log.info("manager.stopped", lattice=name)

    @property
    def acting(self) -> bool:
        """Whether this one holds the lease: if not, it observes and answers, and changes nothing."""
        return self._lease is not None and self._lease.held

    def unready(self) -> list[str]:
        """Why it cannot do its work just now; empty when it can, or could if it held the lease."""
        if not self.lattice.transport.connected:
            return ["there is no connection to the broker"]
        if not self._ready.is_set() or not all(watched.is_set() for watched in self._in_step):
            return ["it does not know everything that is kept yet"]
        return []

    def states(self) -> dict[str, str]:
        """Of each application that there is."""
        return {name: self._word(name, stored) for name, stored in self.apps.items()}

    def _lease_changed(self) -> None:
        self._tell_all = True
        self.pending = {}
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

    async def _listen(self, subject: str, on_message: Callable[[Message], None]) -> None:
        self._subscriptions.append(await self.lattice.transport.subscribe(subject, on_message))

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

    # -- what we are told

    def _fold(self, fact: Fact, source: HostId | None = None) -> None:
        self.observed = fold(self.observed, fact, self.clock(), source)

    def _alive(self, message: Message) -> None:
        host = HostId(message.data.decode(errors="replace"))
        before = self.observed.hosts.get(host)
        new = before is None or not before.known or not self.observed.is_alive(before, self.clock())
        self._fold(Alive(host))
        self._seen_at[host] = _utc()
        if new:
            self._ask(host)

    def _event(self, source: HostId, event: Event) -> None:
        self._fold(event, source)
        self._seen_at[source] = _utc()
        about = getattr(event, "component_id", None) or getattr(event, "provider_id", None)
        if about is not None and event.name not in (
            "health_check_status",
            "health_check_passed",
            "health_check_failed",
        ):
            self._settle(("entity", str(getattr(event, "host_id", source)), str(about)))
        host = self.observed.hosts.get(source)
        if host is not None and not host.known:
            self._ask(source)
        self._wake.set()

    def _refused(self, refused: Refused) -> None:
        """A host said no to us. Only who asked hears that, so the other managers are told."""
        self._fold(refused)
        told = {
            "by": self.id,
            "host": refused.host,
            "id": refused.id,
            "image": refused.image,
            "error": refused.error,
        }
        if self._tasks is not None:
            self._tasks.create_task(self._publish(subjects.manager(self.lattice.name, "refusal"), told))

    def _refusal_told(self, message: Message) -> None:
        try:
            told = read_json(message.data)
            if told["by"] == self.id:
                return
            refused = Refused(HostId(told["host"]), str(told["id"]), str(told["image"]), str(told["error"]))
        except (ValueError, KeyError, TypeError) as error:
            log.warning("refusal.undecodable", error=str(error))
            return
        self._fold(refused)
        self._wake.set()

    async def _publish(self, subject: str, body: Mapping[str, Any]) -> None:
        try:
            await self.lattice.transport.publish(subject, json.dumps(body).encode())
        except LatticeError as error:
            log.warning("message.unsent", subject=subject, error=error.message)

    def _settle(self, key: Key) -> None:
        self.pending = settled(self.pending, key, self.clock())
        self._wake.set()

    def _reconnected(self) -> None:
        """While the connection was lost nobody could be heard: no plans until everybody was asked."""
        self._fold(Forgiven())
        self._published.clear()
        if self._tasks is not None:
            self._ready_to_plan.clear()
            self._tasks.create_task(self._discover())

    async def _discover(self) -> None:
        """Ask who is there, then each host what it runs."""
        try:
            answers = await self.lattice.control_all("host", "ping", seconds=self.discovery)
        except LatticeError as error:
            log.warning("discovery.failed", error=error.message)
            answers = []
        found = []
        for answer in answers:
            try:
                found.append(HostInfo.model_validate(answer.response).id)
            except ValidationError as error:
                log.warning("host.undecodable", error=str(error))
        await asyncio.gather(*(self._inventory(host) for host in found))
        self._ready_to_plan.set()
        self._wake.set()

    def _ask(self, host: HostId) -> None:
        if host not in self._asking and self._tasks is not None:
            self._tasks.create_task(self._inventory(host))

    async def _inventory(self, host: HostId) -> None:
        if host in self._asking:
            return
        self._asking.add(host)
        try:
            reply = await self.lattice.control("host", "get", host)
            self._fold(Seen(Inventory.model_validate(reply.response)))
            self._seen_at[host] = _utc()
            log.info("host.seen", host=host)
        except (LatticeError, ValidationError) as error:
            log.warning("inventory.failed", host=host, error=str(error))
        finally:
            self._asking.discard(host)
            self._wake.set()

    # -- watched buckets

    async def _watch(self, bucket: Bucket, on_entry: Callable[[Entry], None], in_step: asyncio.Event) -> None:
        def seen(entry: Entry) -> None:
            on_entry(entry)
            self._wake.set()

        await follow(bucket, seen, in_step)

    async def _caught_up(self) -> None:
        """While a watch is broken, what the store says may be old, or not yet put back into it."""
        for watched in self._in_step:
            await watched.wait()

    def _manifest_entry(self, entry: Entry) -> None:
        assert self._store is not None
        found = self._store.app_of(entry.key, entry.value)
        if found is not None:
            self.changed(*found)

    def changed(self, name: str, stored: Stored | None) -> None:
        """An application was put, deployed, undeployed or deleted: what was said about it before does not count."""
        old = self.apps.get(name)
        if stored is None:
            self.apps.pop(name, None)
        else:
            self.apps[name] = stored
        for one in (old, stored):  # a deployment, also of the same version, begins afresh
            if one is not None and one.deployed is not None:
                self._fold(Retry(_failing_ids(desired_from(one.deployed))))
        if (old.deployed_version if old else None) != (stored.deployed_version if stored else None):
            self._unplanned.add(name)
        self._wake.set()

    def _note_entry(self, entry: Entry) -> None:
        assert self._store is not None
        if self._lease is not None and entry.key == self._lease.key:
            self._lease.notice(entry)
            return
        note = self._store.note_of(entry.key)
        if note is None:
            return
        kind, app = note
        if kind == "override":
            self._overridden(app, decode_overrides(entry.value) if entry.value is not None else None)
        elif kind == "kept":
            self.kept = _with_note(self.kept, app, entry)
        elif kind == "proven":
            self.proven = _with_note(self.proven, app, entry)
        elif entry.value is None:
            self.put.pop(app, None)
        else:
            self.put[app] = decode_put(entry.value)

    def _overridden(self, app: str, now: Overrides | None) -> None:
        """Somebody scaled: what was planned, and what failed, was about other numbers."""
        if self.overrides.get(app) == now:
            return
        if now is None:
            self.overrides.pop(app, None)
        else:
            self.overrides[app] = now
        stored = self.apps.get(app)
        if stored is not None and stored.deployed is not None:
            self._unplanned.add(app)
            self._fold(Retry(_failing_ids(desired_from(stored.deployed))))

    def _record_entry(self, entry: Entry) -> None:
        if not entry.key.startswith(RECORD):
            return
        id = EntityId(entry.key.removeprefix(RECORD))
        links: tuple[Any, ...] = ()
        if entry.value is not None:
            try:
                links = tuple(ComponentRecord.model_validate_json(entry.value).links)
            except ValidationError as error:
                log.warning("record.undecodable", id=id, error=str(error))
        before = self.observed.links.get(id, ())
        self._fold(LinksSeen(id, links))
        for link in {*before, *links}:
            self._settle(link_key(link))

    def _config_entry(self, entry: Entry) -> None:
        data: dict[str, str] | None = None
        if entry.value is not None:
            try:
                data = {str(k): v if isinstance(v, str) else json.dumps(v) for k, v in read_json(entry.value).items()}
            except (ValueError, AttributeError) as error:
                log.warning("config.undecodable", name=entry.key, error=str(error))
                data = {}
        self._fold(ConfigSeen(entry.key, data))
        self._settle(("config", entry.key))

    # -- planning and sending

    async def _reconcile_forever(self) -> None:
        last = self.clock()
        while True:
            await self._ready_to_plan.wait()
            now = self.clock()
            if now - last > 2 * self.tick + 1:  # we were held up: that was our silence, not the hosts'
                log.warning("manager.held_up", seconds=round(now - last, 1))
                self.observed = forgive(self.observed, now - last - self.tick)
            last = now
            self._wake.clear()
            try:
                await self._round(now)
            except LatticeError as error:
                log.warning("round.failed", error=error.message)
            except Exception:  # one odd application must not leave all others alone
                log.exception("round.failed")
            self.rounds.observe(self.clock() - now)
            self._ready.set()
            # events that come in a crowd are for one round: where rounds are dear, they would be all that is done
            await asyncio.sleep(min(self.tick / 2, self.clock() - now))
            pause = min(self.tick, max(0.01, self.plan.wake_at - self.clock()))
            try:
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _round(self, now: float) -> None:
        self.observed = prune(self.observed, now)
        self.pending = expired(self.pending, now)
        self.desired = self._desired()
        planned = set(self._unplanned)
        plan = reconcile(self.desired, self.observed, self.pending, now)
        if self.acting:
            await self._note_what_will_be_put(plan)
        self.plan = plan
        self._unplanned -= planned
        if not self.acting:  # perhaps since a moment ago
            await self._tell()
            return
        self.pending = sent(self.pending, *plan.commands, now=now)
        for command in plan.commands:
            assert self._tasks is not None
            self._tasks.create_task(self._send(command))
        await self._tell()
        await self._note_what_is_ready()
        await self._forget_what_is_gone()

    def _desired(self) -> Desired:
        return together(self.parts().values(), self.put)

    def parts(self) -> dict[str, Desired]:
        """What each deployed application wants, and what is kept of undeployed ones because those use it.

        Read from a manifest only when that, or what it shares, changed.
        """
        deployed, shared = self.deployed(), self.shared()
        parts: dict[str, Desired] = {}
        for name, (stored, manifest) in self._manifests.items():
            override = self.overrides.get(name)
            counts = override.instances if override and override.version == stored.deployed_version else {}
            proven = self.proven.get(name)
            before = self._wants.get(name)
            known = before is not None and before[0] is manifest and before[1] is proven
            if before is not None and known and before[2:4] == (counts, shared):
                parts[name] = before[4]
            else:
                parts[name] = desired_from(manifest, counts, shared)
                if proven is not None:
                    was = desired_from(proven, None, shared)
                    parts[name] = with_proven(parts[name], was, proven.version or "")
                self._wants[name] = (manifest, proven, counts, shared, parts[name])
        self._wants = {name: self._wants[name] for name in parts}
        return {**parts, **kept_parts(self.kept, deployed)}

    def deployed(self) -> dict[str, Manifest]:
        """The manifest of each deployed application."""
        self._manifests = {
            name: (stored, m)
            for name, stored in sorted(self.apps.items())
            if (m := self._manifest_of(name, stored)) is not None
        }
        return {name: manifest for name, (_, manifest) in self._manifests.items()}

    def shared(self) -> dict[str, Manifest]:
        """The applications of which others may use components: deployed ones, and what is kept of others."""
        return {**self.kept, **{name: manifest for name, manifest in self.deployed().items() if manifest.shared}}

    def _manifest_of(self, name: str, stored: Stored) -> Manifest | None:
        """The deployed one."""
        known = self._manifests.get(name)
        return known[1] if known is not None and known[0] is stored else stored.deployed

    async def _note_what_will_be_put(self, plan: Plan) -> None:
        """Before anything is put on the lattice, the store says for whom: so that it can be taken away again."""
        if not any(isinstance(c, (PutLink, PutConfig)) for c in plan.commands):
            return
        assert self._store is not None
        for app in sorted(self.desired.apps):
            old = self.put.get(app, Leftovers())
            mine = _puts(self.desired, app)
            both = Leftovers(old.links | mine.links, old.configs | mine.configs)
            if both != old:
                await self._store.note_put(app, both)
                self.put[app] = both

    async def _note_what_is_ready(self) -> None:
        """It is what to go back to where the next version does not run."""
        assert self._store is not None
        for name, (stored, manifest) in self._manifests.items():
            ready = name in self.plan.apps and self.plan.apps[name].state is State.READY
            if not ready or name in self._unplanned or self._noted_proven.get(name) is manifest:
                continue
            if self.proven.get(name) != manifest and stored.deployed_version is not None:
                await self._store.note_proven(name, stored.manifests[stored.deployed_version])
                self.proven = {**self.proven, name: manifest}
            self._noted_proven[name] = manifest

    async def _forget_what_is_gone(self) -> None:
        """What is neither wanted nor there any more need not be remembered."""
        assert self._store is not None
        now = self.clock()
        there = {link_key(link) for link in self.observed.all_links()}
        for app in self.proven.keys() - self._manifests.keys():
            await self._store.note_proven(app, None)
            self._noted_proven.pop(app, None)
            self.proven = {name: m for name, m in self.proven.items() if name != app}
        for app in [name for name in self.kept if name not in self.apps or self.apps[name].deployed_version is None]:
            if not self._used_by(app):
                await self._store.note_kept(app, None)
                self.kept = {name: m for name, m in self.kept.items() if name != app}
        for app, noted in list(self.put.items()):
            mine = _puts(self.desired, app) if app in self.desired.apps else Leftovers()
            kept = Leftovers(
                frozenset(link for link in noted.links if link in mine.links or link_key(link) in there),
                frozenset(c for c in noted.configs if c in mine.configs or c in self.observed.configs),
            )
            on_its_way = any(key in self.pending and self.pending[key].until > now for key in _keys(noted))
            if kept == noted or on_its_way:
                continue
            await self._store.note_put(app, kept)
            if kept.links or kept.configs:
                self.put[app] = kept
            else:
                self.put.pop(app, None)

    async def _send(self, command: Command) -> None:
        """One control request. What it brings about is seen in events and buckets, not in the answer."""
        kind = type(command).__name__
        async with self._permits:
            if not self.acting:  # lost while it waited its turn: whoever acts now decides anew
                self._settle(command.key)
                return
            log.info("command.sent", kind=kind, about=command.key[1:])
            try:
                reply = await self._request(command)
            except Unreachable as error:
                log.warning("command.unheard", kind=kind, about=command.key[1:], error=error.message)
                self.commands[kind, "unheard"] += 1
                self._settle(command.key)
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
        if reply.success:
            return
        log.warning("command.refused", kind=kind, about=command.key[1:], error=reply.message)
        match command:
            case ScaleComponent(host, id, image) | StartProvider(host, id, image):
                if _is_about_state(reply.message):
                    self._ask(host)  # it runs already, or does not run any more: our picture is old
                else:
                    self._refused(Refused(host, id, image, reply.message))
            case StopProvider(host):
                self._ask(host)
            case PutLink(link):
                self._refused(Refused(NOWHERE, str(link_key(link)), "", reply.message))
            case PutConfig(name):
                self._refused(Refused(NOWHERE, name, "", reply.message))
            case DeleteConfig() | DeleteLink():
                pass
            case _:
                assert_never(command)
        self._settle(command.key)

    async def _request(self, command: Command) -> Reply:
        control = self.lattice.control
        match command:
            case PutConfig(name, data):
                return await control("config", "put", name, body=dict(data))
            case DeleteConfig(name):
                return await control("config", "del", name)
            case PutLink(link):
                return await control("link", "put", body=link)
            case DeleteLink(link):
                key = LinkKey(
                    source_id=link.source_id,
                    name=link.name,
                    wit_namespace=link.wit_namespace,
                    wit_package=link.wit_package,
                    target=link.target,
                )
                return await control("link", "del", body=key)
            case ScaleComponent(host, id, image, count, annotations, config, limits, update, config_data):
                scale = ctl.ScaleComponent.model_validate(
                    {
                        "component_id": id,
                        "component_ref": image,
                        "annotations": dict(annotations),
                        "count": count,
                        "component_limits": None if limits is None else dict(limits),
                        "host_id": host,
                        "config": list(config),
                        "allow_update": update,
                        "config_data": {name: dict(data) for name, data in config_data.items()},
                    }
                )
                return await control("component", "scale", host, body=scale)
            case StartProvider(host, id, image, annotations, config, instead):
                start = ctl.StartProvider(
                    provider_id=id,
                    provider_ref=image,
                    annotations=dict(annotations),
                    host_id=host,
                    config=list(config),
                    replace=instead,
                )
                return await control("provider", "start", host, body=start)
            case StopProvider(host, id):
                stop = ctl.StopProvider.model_validate({"provider_id": id, "host_id": host})
                return await control("provider", "stop", host, body=stop)
            case _:
                assert_never(command)

    # -- telling others

    def app_status(self, name: str, stored: Stored | None) -> dict[str, Any]:
        """wadm's Status of one application."""
        if stored is None or stored.deployed_version is None:
            return undeployed("Manifest has been undeployed" if name in self._told else "")
        if name in self._unplanned:
            return wadm_status(None)
        return wadm_status(self.plan.apps.get(name), self.desired.of(name))

    async def _tell(self) -> None:
        """Publish each application's status when it changed, or when we have just begun to act."""
        again, self._tell_all = self._tell_all and self.acting, False
        names = set(self.apps) | {n for n, told in self._told.items() if told["status"]["type"] != "undeployed"}
        for name in sorted(names):
            stored = self.apps.get(name)
            word = self._word(name, stored)
            before = self._since.get(name)
            if before is None or before[0] != word:
                self._since[name] = (word, _utc())
                log.info("app.changed", app=name, state=word)
                if before is not None and self.acting:
                    await self.lattice.emit(self._changed_to(name, stored, word), MANAGER_SOURCE)
            deployed = stored is not None and stored.deployed_version is not None
            if not deployed and name not in self._told:
                continue
            status = self.app_status(name, stored)
            if self._told.get(name) == status and not again:
                continue
            self._told[name] = status
            if self.acting:
                subject = f"wadm.status.{self.lattice.name}.{name}"
                await self._publish(subject, status)

    def _changed_to(self, name: str, stored: Stored | None, word: str) -> AppChanged:
        status = self.plan.apps.get(name)
        reason = next(iter(status.reasons()), None) if status is not None else None
        return AppChanged(
            app=name,
            state=word,
            version=stored.deployed_version if stored is not None else None,
            code=reason.code if reason is not None else None,
            message=reason.message if reason is not None else None,
        )

    def _word(self, name: str, stored: Stored | None) -> str:
        if name in self._unplanned:
            return str(State.PROGRESSING)
        status = self.plan.apps.get(name)
        if status is not None and stored is not None and stored.deployed_version is not None:
            return str(status.state)
        if name in self.plan.leaving or (stored is not None and stored.deployed_version is not None):
            return str(State.PROGRESSING)
        return str(State.STOPPED)

    async def _answer_status(self, message: Message) -> bytes:
        try:
            asked = read_json(message.data) if message.data.strip() else {}
            name = asked.get("app")
        except (ValueError, AttributeError):
            return _error('the request must be a JSON object: {"app": name or null}')
        names = sorted(set(self.apps) | self.plan.leaving | {n for n in self.kept if self._used_by(n)})
        if name is not None:
            if name not in names:
                known = f"; there are {', '.join(names)}" if names else "; nothing was ever put"
                return _error(f"there is no application {name} on lattice {self.lattice.name}{known}")
            names = [name]
        now = self.clock()
        hosts = [
            {
                "id": host.id,
                "name": host.friendly_name,
                "labels": dict(host.labels),
                "alive": self.observed.is_alive(host, now),
                "seconds_since_seen": round(now - host.last_seen, 1),
            }
            for _, host in sorted(self.observed.hosts.items())
            if host.known
        ]
        body = {
            "success": True,
            "lattice": self.lattice.name,
            "manager": {"id": self.id, "acting": self.acting, "holder": self._holder()},
            "apps": [self._describe(n) for n in names],
            "hosts": hosts,
        }
        return json.dumps(body).encode()

    def _holder(self) -> str | None:
        return None if self._lease is None else self._lease.seen_holder

    def _describe(self, name: str) -> dict[str, Any]:
        stored = self.apps.get(name)
        status = self.plan.apps.get(name, AppStatus(State.STOPPED))
        deployed = stored is not None and stored.deployed_version is not None and name not in self._unplanned
        word = self._word(name, stored)
        known, since = self._since.get(name, ("", ""))
        since = since if known == word else _utc()
        override = self.overrides.get(name)
        counts: Mapping[str, int] = {}
        if override is not None and stored is not None and override.version == stored.deployed_version:
            counts = override.instances
        configs = sorted(n for n, owner in self.desired.owners.items() if owner == name)
        used = {c for w in self.desired.of(name) for c in w.config} | {
            c for link in self.desired.links_of(name) for c in (*link.link.source_config, *link.link.target_config)
        }
        shown = status if deployed else AppStatus(State.STOPPED)
        body = described(shown, self.desired.of(name), self.observed)
        return {
            **body,
            "name": name,
            "description": stored.description if stored is not None else None,
            "version": stored.deployed_version if stored is not None else None,
            "latest_version": stored.latest if stored is not None else None,
            "state": word,
            "since": since,
            "leaving": name in self.plan.leaving,
            "kept": [{"name": c, "used_by": list(apps)} for c, apps in self._used_by(name).items()],
            "overrides": dict(counts),
            "configs": [
                {"name": c, "managed": c in configs, "present": c in self.observed.configs}
                for c in sorted(used | set(configs))
            ],
        }

    def _used_by(self, name: str) -> dict[str, tuple[str, ...]]:
        """The components of an undeployed application that are kept, and for whom."""
        if name not in self.kept or name in self._manifests:
            return {}
        return users(name, (manifest for _, manifest in self._manifests.values()))

    async def _answer_scale(self, message: Message) -> bytes:
        """Record (or remove) an instance count on the deployed version."""
        assert self._store is not None
        try:
            asked = read_json(message.data)
            app, component, instances = str(asked["app"]), str(asked["component"]), asked["instances"]
        except (ValueError, KeyError, TypeError):
            return _error('the request must be {"app": name, "component": name, "instances": number or null}')
        if instances is not None and (not isinstance(instances, int) or isinstance(instances, bool) or instances < 0):
            return _error(
                f"`instances` is {json.dumps(instances)}; it must be 0 or more, or null for the manifest's own"
            )
        try:
            stored = await self._store.get(app)
            manifest = stored.deployed if stored is not None else None
            if stored is None or manifest is None or stored.deployed_version is None:
                return _error(f"application {app} is not deployed on lattice {self.lattice.name}")
            known = manifest.component(component)
            if known is None or known.properties.image is None:
                names = ", ".join(c.name for c in manifest.spec.components if c.properties.image is not None)
                return _error(f"application {app} runs no component {component}; it has {names}")
            recorded = await self._store.override(app, stored.deployed_version, component, instances)
        except StorageError as error:
            return _error(error.message)
        self._overridden(app, recorded)
        self._wake.set()
        log.info("component.override_recorded", app=app, component=component, instances=instances)
        told = (
            f"{component} goes back to what the manifest says"
            if instances is None
            else f"override recorded on {stored.deployed_version}: {component} runs {instances} instances"
        )
        body = {
            "success": True,
            "message": told,
            "version": stored.deployed_version,
            "overrides": dict(recorded.instances),
        }
        return json.dumps(body).encode()

    async def _keep_state(self, bucket: Bucket) -> None:
        """wadm's state bucket, which JavaScript clients read: written when something changed, at most once a tick."""
        refreshed = -math.inf
        while True:
            now = self.clock()
            live = {key: h for key, h in self.observed.hosts.items() if self.observed.is_alive(h, now)}
            maps = lattice_state(replace(self.observed, hosts=live), self._seen_at)
            essence = json.dumps(lattice_state(replace(self.observed, hosts=live), {}), sort_keys=True).encode()
            if not self.acting:
                refreshed = -math.inf  # what was written since is not ours
            elif self._published.get("essence") != essence or now - refreshed > 30:
                try:
                    for kind, value in maps.items():
                        await bucket.put(f"{kind}_{self.lattice.name}", json.dumps(value).encode())
                    self._published["essence"] = essence
                    refreshed = now
                except LatticeError as error:
                    log.warning("state.unsaved", error=error.message)
            await asyncio.sleep(self.tick)


def _is_about_state(message: str) -> bool:
    """The host did not mind the command, it only has (or has not) what we thought."""
    gone = message.startswith("component ") and message.endswith(" not found")
    return gone or any(said in message for said in ("already running", "not running", "already updated"))


def _with_note(manifests: dict[str, Manifest], app: str, entry: Entry) -> dict[str, Manifest]:
    """With the manifest that is noted for `app`, or without."""
    found = decode_manifest(entry.value) if entry.value is not None else None
    return {name: m for name, m in {**manifests, app: found}.items() if m is not None}


def _failing_ids(desired: Desired) -> frozenset[str]:
    """Everything of an application that a failure can be about."""
    links = {str(link_key(link.link)) for link in desired.links}
    return frozenset({str(w.id) for w in desired.wanted} | set(desired.configs) | links)


def _puts(desired: Desired, app: str) -> Leftovers:
    links = frozenset(link.link for link in desired.links_of(app))
    return Leftovers(links, frozenset(n for n, owner in desired.owners.items() if owner == app))


def _keys(leftovers: Leftovers) -> set[Key]:
    return {link_key(link) for link in leftovers.links} | {("config", name) for name in leftovers.configs}


def _utc() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _error(message: str) -> bytes:
    return json.dumps({"success": False, "message": message}).encode()
