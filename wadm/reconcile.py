"""Wanted versus seen: which commands bring the lattice closer, and how each part stands.

Level-triggered: every round looks at everything, so it does not matter which events were lost. Pure and
deterministic: no clock, no I/O, no order of arrival. What is sent once is not sent again until it had its time
(`pending`); what failed waits (`Failure.retry_at`).

The order things happen in: configurations, then links, then what needs them. How instances move, and how a new version
takes over, is in `wadm.rollout`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from lattice import EntityId, HostId
from lattice.links import LinkDefinition
from wadm import claims
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
    link_key,
)
from wadm.desired import SETTINGS, Desired, Kind, Proven, Rule, Spread, Wanted, WantedLink
from wadm.manifest import ROLLOUT
from wadm.observed import NOWHERE, Failure, Host, Observed, Running
from wadm.placement import Eligible, Placed, place
from wadm.reasons import (
    IN_THE_WAY,
    NO_CONFIG,
    NO_FIT,
    NO_HOST,
    PAUSED,
    TOO_FEW,
    UNDER_WAY,
    UNWELL,
    Reason,
    State,
    terminal,
    told,
)
from wadm.rollout import Move, Scene, Verb, step


@dataclass(frozen=True, slots=True)
class OnHost:
    """What of one component runs on one host; `wanted` 0 means it is on its way out."""

    host: HostId
    friendly_name: str
    labels: Mapping[str, str]
    running: int
    wanted: int
    image: str


@dataclass(frozen=True, slots=True)
class ComponentStatus:
    app: str
    name: str
    id: EntityId
    kind: Kind
    image: str
    state: State
    wanted: int
    running: int
    hosts: tuple[OnHost, ...] = ()
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class LinkStatus:
    """`local`: the hosts where a call of the source stays inside the host; `remote`: those it has to leave."""

    wanted: WantedLink
    state: State
    reason: Reason | None = None
    local: tuple[HostId, ...] = ()
    remote: tuple[HostId, ...] = ()


@dataclass(frozen=True, slots=True)
class AppStatus:
    state: State
    components: tuple[ComponentStatus, ...] = ()
    links: tuple[LinkStatus, ...] = ()

    def reasons(self) -> tuple[Reason, ...]:
        reasons = [c.reason for c in self.components] + [link.reason for link in self.links]
        return tuple(dict.fromkeys(reason for reason in reasons if reason is not None))


@dataclass(frozen=True, slots=True)
class Plan:
    """`commands` to send now; `apps` how each deployed application stands; `wake_at` when to look again at the latest.

    `leaving` are applications that are not wanted any more and of which something is still there.
    """

    commands: tuple[Command, ...] = ()
    apps: Mapping[str, AppStatus] = field(default_factory=dict)
    leaving: frozenset[str] = frozenset()
    wake_at: float = math.inf


def reconcile(desired: Desired, observed: Observed, pending: Pending, now: float) -> Plan:
    """One round."""
    return _Round(desired, observed, pending, now).plan()


def worst(states: Iterable[State]) -> State:
    """The state of a whole: blocked and failed parts show first, then degraded ones, then those on their way."""
    found = set(states)
    for state in (State.FAILED, State.BLOCKED, State.DEGRADED, State.PROGRESSING):
        if state in found:
            return state
    return State.READY


@dataclass(frozen=True, slots=True)
class _Standing:
    state: State
    reason: Reason | None = None


_READY = _Standing(State.READY)


class _Round:
    def __init__(self, desired: Desired, observed: Observed, pending: Pending, now: float) -> None:
        self.desired = desired
        self.observed = observed
        self.pending = pending
        self.now = now
        self.hosts = observed.alive(now)
        self.commands: list[Command] = []
        self.ids = {w.id: w for w in desired.wanted}
        self.by_id = {h.id: h for h in self.hosts}
        settled_at = {h.id: h.since + observed.settled_after for h in self.hosts}
        self.eligible = Eligible(self.hosts, [id for id, at in settled_at.items() if at <= now])
        self.wake_at = min((at for at in settled_at.values() if at > now), default=math.inf)
        self.components: dict[EntityId, dict[HostId, Running]] = {}
        self.provided: dict[EntityId, dict[HostId, Running]] = {}
        for host in self.hosts:
            for id, running in host.components.items():
                self.components.setdefault(id, {})[host.id] = running
            for id, running in host.providers.items():
                self.provided.setdefault(id, {})[host.id] = running
        self.failures: dict[str, list[tuple[Host, Failure]]] = {}
        for (at, id_), failure in sorted(observed.failures.items(), key=lambda item: item[0]):
            if at in self.by_id:
                self.failures.setdefault(id_, []).append((self.by_id[at], failure))
        self.links_by_app: dict[str, list[WantedLink]] = {}
        self.links_by_source: dict[tuple[str, ...], list[WantedLink]] = {}
        self.links_by_end: dict[tuple[str, EntityId], list[WantedLink]] = {}
        self.linked = {link.identity: link for links in observed.links.values() for link in links}
        for link in desired.links:
            self.links_by_app.setdefault(link.app, []).append(link)
            for end in {link.link.source_id, link.link.target}:
                self.links_by_end.setdefault((link.app, end), []).append(link)
            self.links_by_source.setdefault(_claim(link.link), []).append(link)
        self.refused_links: dict[Key, list[tuple[Host, str]]] = {}
        for (at, key), error in sorted(observed.refused_links.items(), key=lambda item: item[0]):
            if at in self.by_id:
                self.refused_links.setdefault(key, []).append((self.by_id[at], error))

    def in_order(self, ids: Iterable[HostId]) -> list[Host]:
        """Those hosts, in the order of their ids."""
        return [self.by_id[id] for id in sorted(ids)]

    def plan(self) -> Plan:
        configs = {name: self.config(name, data) for name, data in sorted(self.desired.configs.items())}
        for name in sorted(self.desired.external):
            configs[name] = self.external(name)
        for id, why in self.failing_things():  # what the lattice itself refused: show it where it is needed
            if id in configs and configs[id].state is not State.READY:
                configs[id] = why
        links = {str(link_key(link.link)) + link.app: self.link(link, configs) for link in self.desired.links}
        leaving = self.leftover_links() | self.orphans()
        components = [self.component(w, configs, links) for w in self.desired.wanted]
        components += [self.claimed(claim.id, claim.app, claim.name, claim.by) for claim in self.desired.claims]
        statuses = {c.id: c for c in components}
        by_app: dict[str, list[ComponentStatus]] = {}
        for one in components:
            by_app.setdefault(one.app, []).append(one)
        apps: dict[str, AppStatus] = {}
        for app in sorted(self.desired.apps):
            mine = tuple(by_app.get(app, ()))
            linked = tuple(
                self.link_status(link, links[str(link_key(link.link)) + app], statuses)
                for link in self.links_by_app.get(app, ())
            )
            apps[app] = AppStatus(worst([*(c.state for c in mine), *(s.state for s in linked)]), mine, linked)
        leaving |= self.leftover_configs(leaving, apps)
        for failure in self.observed.failures.values():
            if failure.retry_at > self.now:
                self.wake(failure.retry_at)
        return Plan(tuple(self.commands), apps, frozenset(leaving - self.desired.apps), self.wake_at)

    # -- sending

    def send(self, command: Command) -> None:
        """Unless the very same command is on its way."""
        on_its_way = self.pending.get(command.key)
        if on_its_way is not None and on_its_way.command == command and self.now < on_its_way.until:
            self.wake(on_its_way.until)
            return
        self.commands.append(command)

    def wake(self, at: float) -> None:
        self.wake_at = min(self.wake_at, at)

    def waiting(self, id: str) -> bool:
        """Whether it is too early to try that link or configuration again."""
        failure = self.observed.failures.get((NOWHERE, id))
        return failure is not None and self.now < failure.retry_at

    # -- configurations and links

    def config(self, name: str, data: Mapping[str, str]) -> _Standing:
        if self.observed.configs.get(name) == data:
            return _READY
        if not self.waiting(name):
            self.send(PutConfig(name, data))
        return _Standing(State.PROGRESSING, Reason(UNDER_WAY, f"Configuration {name} is being written."))

    def external(self, name: str) -> _Standing:
        if name in self.observed.configs:
            return _READY
        return _Standing(
            State.BLOCKED,
            Reason(
                NO_CONFIG,
                f"Configuration {name} is not on the lattice, and the manifest gives it no properties.",
                f"put it there, or give `{name}` properties in the manifest",
            ),
        )

    def failing_things(self) -> list[tuple[str, _Standing]]:
        found = []
        for (host, id), failure in sorted(self.observed.failures.items()):
            if host == NOWHERE:
                found.append((id, _refused(failure.error)))
        return found

    def link(self, wanted: WantedLink, configs: Mapping[str, _Standing]) -> _Standing:
        link = wanted.link
        for rival in self.links_by_source[_claim(link)]:
            if claims.contradict(rival.link, link) and (rival.app, str(rival.link)) < (wanted.app, str(link)):
                return _Standing(State.BLOCKED, claims.in_the_way(wanted, rival))
        for name in (*link.source_config, *link.target_config):
            if name in configs and configs[name].state is not State.READY:
                return configs[name]
        there = self.linked.get(link.identity)
        if there is not None and claims.same_link(there, link):
            return _READY
        in_the_way = [old for old in self.observed.links.get(link.source_id, ()) if old.conflicts(link)]
        for old in in_the_way:
            owner = self.ids.get(link.source_id)
            put_before = any(old in leftovers.links for leftovers in self.desired.leftovers.values())
            if not put_before and (owner is None or owner.app != wanted.app):
                return _Standing(
                    State.BLOCKED,
                    Reason(
                        IN_THE_WAY,
                        f"Somebody else links {', '.join(old.covers())} of {old.source_id} to {old.target}.",
                        f"delete that link, or give the one to {link.target} another name",
                    ),
                )
            self.send(DeleteLink(old))
        if not in_the_way and not self.waiting(str(link_key(link))):
            self.send(PutLink(link))
        known = self.observed.failures.get((NOWHERE, str(link_key(link))))
        if known is not None:
            return _refused(known.error)
        return _Standing(State.PROGRESSING, Reason(UNDER_WAY, f"The link to {wanted.target} is being made."))

    def link_status(
        self, wanted: WantedLink, standing: _Standing, statuses: Mapping[EntityId, ComponentStatus]
    ) -> LinkStatus:
        def on(id: EntityId) -> list[HostId]:
            return sorted({**self.components.get(id, {}), **self.provided.get(id, {})})

        if standing.state is State.READY:
            standing = self.refused_by_provider(wanted) or standing

        def apart(id: EntityId) -> bool:
            return any(running.apart for running in self.provided.get(id, {}).values())

        targets = set(on(wanted.link.target))
        sources = on(wanted.link.source_id)
        inside = set() if apart(wanted.link.source_id) or apart(wanted.link.target) else targets
        return LinkStatus(
            wanted,
            standing.state,
            standing.reason,
            tuple(h for h in sources if h in inside),
            tuple(h for h in sources if h not in inside and targets),
        )

    def refused_by_provider(self, wanted: WantedLink) -> _Standing | None:
        """What a provider says against a link that is on the lattice. It holds nothing back: others may use it."""
        for host, error in self.refused_links.get(link_key(wanted.link), ()):
            return _refused(error, f"On {host.called}: ")
        return None

    # -- what is not wanted any more

    def leftover_links(self) -> set[str]:
        """Delete the links that applications put and nobody wants any more; those applications."""
        wanted = {link_key(w.link) for w in self.desired.links}
        found: set[str] = set()
        for app, leftovers in sorted(self.desired.leftovers.items()):
            ours = {link_key(link) for link in leftovers.links} - wanted
            if not ours:
                continue
            for old in self.observed.all_links():
                if link_key(old) in ours:
                    found.add(app)
                    if not self.outdated(old.source_id):  # else the version that needs it takes calls, or may have to
                        self.send(DeleteLink(old))
        return found

    def leftover_configs(self, leaving: set[str], apps: Mapping[str, AppStatus]) -> set[str]:
        """Delete their configurations too, as soon as nothing can use them; those applications."""
        in_use = {c for link in self.observed.all_links() for c in (*link.source_config, *link.target_config)}
        found: set[str] = set()
        for app, leftovers in sorted(self.desired.leftovers.items()):
            for name in sorted(leftovers.configs):
                if name not in self.observed.configs or name in self.desired.configs or name in self.desired.external:
                    continue
                found.add(app)
                here = apps.get(app, AppStatus(State.READY))
                changing = here.state is not State.READY and any(c.running for c in here.components)
                if app not in leaving and not changing and name not in in_use:
                    self.send(DeleteConfig(name))
        return found

    def orphans(self) -> set[str]:
        """Stop what an application started that does not want it any more; those applications."""
        found: set[str] = set()
        for host in self.hosts:
            for id, running in (*sorted(host.components.items()), *sorted(host.providers.items())):
                app = running.app
                if app is None:
                    continue
                wanted = self.ids.get(id)
                provider = id in host.providers and running is host.providers[id]
                if wanted is not None and (wanted.kind is Kind.PROVIDER) == provider:
                    continue  # somebody wants it: `component` decides
                found.add(app)
                self.remove(host, id, running, provider)
        return found

    def remove(self, host: Host, id: EntityId, running: Running, provider: bool) -> None:
        if provider:
            self.send(StopProvider(host.id, id))
        else:
            self.send(ScaleComponent(host.id, id, running.image, 0, running.annotations))

    # -- components and providers

    def claimed(self, id: EntityId, app: str, name: str, by: str) -> ComponentStatus:
        wanted = self.ids[id]
        return ComponentStatus(
            app, name, id, wanted.kind, wanted.image, State.BLOCKED, 0, 0, (), claims.owned(id, app, name, by)
        )

    def component(
        self, wanted: Wanted, configs: Mapping[str, _Standing], links: Mapping[str, _Standing]
    ) -> ComponentStatus:
        wanted = self.with_values(wanted)
        running = self.running(wanted)
        old = self.old(wanted, running)
        failed = self.failed(wanted)
        waiting = {h for h, f in failed.items() if self.now < f.retry_at}
        proven = len(old) < len(running)
        avoid = waiting | {h for h, f in failed.items() if f.final and proven}  # there, it is because of the host
        held = self.held_back(wanted, configs, links)
        before = self.before(wanted) if held is not None or failed or not proven else None
        if before is not None:
            avoid, waiting = set(), {h for h in waiting if h in running}
        placed = place(wanted, self.eligible, {h: r.count for h, r in running.items()}, avoid, stay=bool(old))
        paused = None
        if old or not self.there_already(wanted, placed, running):
            scene = Scene(
                target=placed.counts,
                running={h: r.count for h, r in running.items()},
                old=[h for h in old if h in placed.counts] if held is None else (),
                changed={h: r.since for h, r in running.items() if h in placed.counts and h not in old},
                failed={h for h in failed if not proven or (h in placed.counts and (h in old or h not in running))}
                | {h for h, r in running.items() if r.ailment is not None and h not in old},
                waiting=waiting,
                on_their_way=self.on_their_way(wanted, {*placed.counts, *running}),
            )
            paused = self.advance(wanted, placed, running, scene, held is not None, before)
        return self.component_status(wanted, placed, running, old, held, paused)

    def with_values(self, wanted: Wanted) -> Wanted:
        """With what the configurations say that somebody else put, and that it uses."""
        names = [name for name in wanted.config if name in self.desired.external and name in self.observed.configs]
        if not names or wanted.kind is Kind.PROVIDER:
            return wanted
        return wanted.with_values({name: self.observed.configs[name] for name in names})

    def running(self, wanted: Wanted) -> Mapping[HostId, Running]:
        return (self.provided if wanted.kind is Kind.PROVIDER else self.components).get(wanted.id, {})

    @staticmethod
    def old(wanted: Wanted, running: Mapping[HostId, Running]) -> frozenset[HostId]:
        """Hosts that run another version: another image, or other settings. What was started by hand has none."""
        return frozenset(
            h for h, r in running.items() if r.image != wanted.image or r.settings not in (None, wanted.settings)
        )

    def outdated(self, id: EntityId) -> bool:
        """Whether an old version still runs somewhere, or may have to."""
        if id not in self.ids:
            return False
        wanted = self.with_values(self.ids[id])
        running = self.running(wanted)
        old = self.old(wanted, running)
        unproven = len(old) == len(running) or bool(self.failed(wanted))
        somewhere = any(self.eligible.of(spread) for spread in wanted.spreads)
        return bool(old) or (unproven and somewhere and self.before(wanted) is not None)

    def failed(self, wanted: Wanted) -> dict[HostId, Failure]:
        """Where this version could not start."""
        return {h.id: f for h, f in self.failures.get(wanted.id, ()) if f.about(wanted.image, wanted.settings)}

    def before(self, wanted: Wanted) -> Proven | None:
        """The last version that was ready, if that is another one, and has failed nowhere since."""
        found = self.desired.proven.get(wanted.id)
        if found is None or found.wanted.kind is not wanted.kind:
            return None
        found = replace(found, wanted=self.with_values(found.wanted))
        same = (found.wanted.image, found.wanted.settings) == (wanted.image, wanted.settings)
        return None if same or self.failed(found.wanted) else found

    @staticmethod
    def there_already(wanted: Wanted, placed: Placed, running: Mapping[HostId, Running]) -> bool:
        if len(running) != len(placed.counts):
            return False
        mine = wanted.app if wanted.kind is Kind.COMPONENT else None
        return all(placed.counts.get(h) == r.count and mine in (None, r.app) for h, r in running.items())

    def held_back(
        self, wanted: Wanted, configs: Mapping[str, _Standing], links: Mapping[str, _Standing]
    ) -> _Standing | None:
        """What has to be there first, when it is not; blocked things before those on their way."""
        needed = [configs[c] for c in wanted.config if c in configs]
        needed += [
            links[str(link_key(link.link)) + link.app] for link in self.links_by_end.get((wanted.app, wanted.id), ())
        ]
        missing = [s for s in needed if s.state is not State.READY]
        return min(missing, key=lambda s: s.state is not State.BLOCKED, default=None)

    def advance(
        self,
        wanted: Wanted,
        placed: Placed,
        running: Mapping[HostId, Running],
        scene: Scene,
        held: bool,
        before: Proven | None,
    ) -> float | None:
        """Send what brings one component closer; until when its rollout pauses.

        What is missing of the version `before` starts as that.
        """
        steps = step(wanted.rollout, scene, self.now)
        moved = set()
        missing = before is not None and _missing(before.wanted, running)
        for move in steps.moves:
            restore = before if missing and move.verb is Verb.START else None
            if held and restore is None and move.number >= scene.running.get(move.host, 0):
                continue
            moved.add(move.host)
            self.command(wanted, placed, running.get(move.host), move, restore)
        if wanted.kind is Kind.COMPONENT and not held:
            for id in sorted(scene.changed):
                if id not in moved and running[id].app != wanted.app:  # somebody else started it
                    self.command(wanted, placed, running[id], Move(Verb.SIZE, id, running[id].count))
        return steps.paused

    def on_their_way(self, wanted: Wanted, hosts: Iterable[HostId]) -> dict[HostId, int]:
        found = {}
        for host in hosts:
            sent = self.pending.get(("entity", host, wanted.id))
            if sent is not None and self.now < sent.until:
                match sent.command:
                    case ScaleComponent(count=count):
                        found[host] = count
                    case StartProvider():
                        found[host] = 1
                    case StopProvider():
                        found[host] = 0
        return found

    def command(
        self, wanted: Wanted, placed: Placed, there: Running | None, move: Move, before: Proven | None = None
    ) -> None:
        """Send what makes a host do it. A version that stays keeps the settings it has; one from `before` gets them."""
        host = self.by_id[move.host]
        if before is not None:
            wanted = before.wanted
        provider = wanted.kind is Kind.PROVIDER
        marks = self.marks(wanted, placed, host)
        match move.verb:
            case Verb.STOP if there is not None:
                self.remove(host, wanted.id, there, provider)
            case Verb.START | Verb.REPLACE if provider:
                instead = move.verb is Verb.REPLACE
                self.send(StartProvider(host.id, wanted.id, wanted.image, marks, wanted.config, instead))
            case Verb.SIZE if there is not None and self.old(wanted, {host.id: there}):
                marks[SETTINGS] = there.settings or ""
                self.send(self.scale(wanted, host, there.image, move.number, marks))
            case _:
                scale = self.scale(wanted, host, wanted.image, move.number, marks)
                said = {} if before is None else self.said_otherwise(before)
                self.send(replace(scale, update=move.verb is Verb.REPLACE, config_data=said))

    def said_otherwise(self, before: Proven) -> dict[str, Mapping[str, str]]:
        """Its configurations that say something else by now."""
        return {name: data for name, data in before.configs.items() if self.observed.configs.get(name) != data}

    @staticmethod
    def marks(wanted: Wanted, placed: Placed, host: Host) -> dict[str, str]:
        return wanted.annotations(placed.spreads.get(host.id, ""))

    @staticmethod
    def scale(wanted: Wanted, host: Host, image: str, number: int, marks: Mapping[str, str]) -> ScaleComponent:
        limits = dict(wanted.limits) or None
        return ScaleComponent(host.id, wanted.id, image, number, marks, wanted.config, limits)

    def component_status(
        self,
        wanted: Wanted,
        placed: Placed,
        running: Mapping[HostId, Running],
        outdated: frozenset[HostId],
        held: _Standing | None,
        paused: float | None,
    ) -> ComponentStatus:
        target = placed.counts
        on_hosts = tuple(
            OnHost(
                h.id,
                h.friendly_name,
                h.labels,
                running[h.id].count if h.id in running else 0,
                target.get(h.id, 0),
                running[h.id].image if h.id in running else "",
            )
            for h in self.in_order({*running, *(h for h, number in target.items() if number > 0)})
        )
        count = sum(r.count for r in running.values())
        standing = self.standing(wanted, placed, running, outdated, held, paused)
        return ComponentStatus(
            wanted.app,
            wanted.name,
            wanted.id,
            wanted.kind,
            wanted.image,
            standing.state,
            placed.wanted,
            count,
            on_hosts,
            standing.reason,
        )

    def standing(
        self,
        wanted: Wanted,
        placed: Placed,
        running: Mapping[HostId, Running],
        outdated: frozenset[HostId],
        held: _Standing | None,
        paused: float | None,
    ) -> _Standing:
        target = placed.counts
        serving = bool(running)
        short = self.in_order(h for h, n in target.items() if h not in running or running[h].count < n)
        old = self.in_order(h for h in outdated if h in target)
        extra = [h for h, r in running.items() if r.count > target.get(h, 0)]
        stopped = _stopped(placed, old)
        failed = [(h, f) for h, f in self.failures.get(wanted.id, ()) if f.about(wanted.image, wanted.settings)]
        if held is not None and (short or old):
            return held
        if held is not None and held.state is State.BLOCKED:
            return _Standing(State.DEGRADED, held.reason)
        if (short or old) and failed:
            final = [(h, f) for h, f in failed if f.final]
            hosts, failures = zip(*(final or failed), strict=True)
            reason = _failed(wanted, hosts, failures, stopped)
            untried = (h for h in short if h.id not in running and (h.id, wanted.id) not in self.observed.failures)
            if not final or any(untried):
                return _Standing(State.DEGRADED if serving and not old else State.PROGRESSING, reason)
            return _Standing(State.DEGRADED if serving and not old else State.BLOCKED, reason)
        if placed.unmet:
            reason = self.no_place(wanted, placed)
            return _Standing(State.DEGRADED if serving else State.BLOCKED, reason)
        if paused == math.inf:
            return _Standing(State.BLOCKED, _paused(wanted, placed, old))
        if paused is not None:
            self.wake(paused)
        ill = self.in_order(h for h, r in running.items() if r.ailment is not None)
        if ill and (not (short or old or extra) or any(h.id not in outdated for h in ill)):
            return _Standing(State.DEGRADED, _unwell(wanted, ill, running[ill[0].id].ailment, stopped))
        if short or old or extra:
            return _Standing(State.PROGRESSING, _under_way(wanted, placed, running, old))
        return _READY

    def no_place(self, wanted: Wanted, placed: Placed) -> Reason:
        if not self.hosts:
            return Reason(
                NO_HOST, f"There is no host on this lattice to run {wanted.name}.", "start one:  trellis host start"
            )
        spread, missing = placed.unmet[0]
        fitting = [h for h in self.hosts if h.takes_work and spread.fits(h.labels)]
        if fitting:
            return Reason(
                TOO_FEW,
                f"{wanted.name} wants {missing} more {_hosts(missing)} for spread {spread.name} ({spread}), "
                f"and only {len(fitting)} {'fits' if len(fitting) == 1 else 'fit'}: a provider runs once on a host.",
                "start more hosts, or lower `instances`",
            )
        return Reason(NO_FIT, _no_fit(wanted, spread, self.hosts), _label_fix(spread))


def _missing(before: Wanted, running: Mapping[HostId, Running]) -> bool:
    """Whether fewer run than that version had."""
    return before.rule is Rule.DAEMON or sum(r.count for r in running.values()) < before.instances


def _claim(link: LinkDefinition) -> tuple[str, ...]:
    """What two links must have in common to be in each other's way."""
    return (link.source_id, link.wit_namespace, link.wit_package, link.name)


def _refused(error: str, before: str = "") -> _Standing:
    """What was turned down: it is blocked, unless that may pass."""
    return _Standing(State.BLOCKED if terminal(error) else State.PROGRESSING, told(error, before))


def _hosts(number: int) -> str:
    return "host" if number == 1 else "hosts"


def _labels(host: Host, spread: Spread) -> str:
    if not host.takes_work:
        return f"{host.called} is being emptied"
    keys = [key for key, _ in spread.requirements]
    said = [f"{key}={host.labels[key]}" if key in host.labels else f"no {key}" for key in keys]
    return f"{host.called} has {', '.join(said)}"


def _no_fit(wanted: Wanted, spread: Spread, hosts: Sequence[Host]) -> str:
    listed = "; ".join(_labels(h, spread) for h in hosts[:6])
    more = f"; and {len(hosts) - 6} more hosts" if len(hosts) > 6 else ""
    head = f"No host satisfies {spread}" if spread.requirements else "No host takes more work"
    return f"{head} for {wanted.name}: {listed}{more}."


def _label_fix(spread: Spread) -> str:
    if not spread.requirements:
        return "start another host, or let one take work again:  trellis host drain HOST --undo"
    labels = " ".join(f"--label {key}={value}" for key, value in spread.requirements)
    return f"start a host with these labels:  trellis host start {labels}"


def _failed(wanted: Wanted, hosts: Sequence[Host], failures: Sequence[Failure], stopped: str) -> Reason:
    """The host's own sentence, once, and where it came from."""
    latest = max(failures, key=lambda f: f.at)
    where = ", ".join(h.called for h in hosts[:4]) + (f" and {len(hosts) - 4} more" if len(hosts) > 4 else "")
    times = f" ({latest.count} times)" if latest.count > 1 else ""
    return told(latest.error, f"{where} could not start {wanted.name}{times}: ", stopped)


def _unwell(wanted: Wanted, hosts: Sequence[Host], ailment: str | None, stopped: str) -> Reason:
    head = f"Provider {wanted.name} is not well on {', '.join(h.called for h in hosts)}"
    said = told(ailment, f"{head}: ", stopped) if ailment else Reason(UNWELL, f"{head}.{stopped}")
    return replace(said, code=UNWELL)


def _stopped(placed: Placed, old: Sequence[Host]) -> str:
    if not old:
        return ""
    done = len(placed.counts) - len(old)
    return f" The change stopped with {done} of {len(placed.counts)} hosts done; the old version goes on serving."


def _paused(wanted: Wanted, placed: Placed, old: Sequence[Host]) -> Reason:
    done = len(placed.counts) - len(old)
    return Reason(
        PAUSED,
        f"The change of {wanted.name} pauses with {done} of {len(placed.counts)} hosts done, as its manifest says.",
        f"deploy a version without {ROLLOUT}pause to go on, or the version before to go back",
    )


def _under_way(wanted: Wanted, placed: Placed, running: Mapping[HostId, Running], old: Sequence[Host]) -> Reason:
    if old:
        done = len(placed.counts) - len(old)
        what = wanted.image if any(running[h.id].image != wanted.image for h in old) else "other settings"
        return Reason(UNDER_WAY, f"{wanted.name} is changing to {what} ({done} of {len(placed.counts)} hosts done).")
    count = sum(r.count for r in running.values())
    what = "hosts" if wanted.kind is Kind.PROVIDER or wanted.rule is Rule.DAEMON else "instances"
    number = len(running) if wanted.rule is Rule.DAEMON else count
    of = len(placed.counts) if wanted.rule is Rule.DAEMON else placed.wanted
    return Reason(UNDER_WAY, f"{wanted.name} runs {number} of {of} {what}.")
