"""Components and providers: started where they are wanted, changed to what is wanted, stopped where they are not.

Where instances go is in `wadm.placement`, how they get there and how a new version takes over in `wadm.rollout`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from lattice import EntityId, HostId
from wadm import claims
from wadm.commands import ScaleComponent, StartProvider, StopProvider, link_key
from wadm.desired import SETTINGS, Kind, Proven, Rule, Wanted
from wadm.observed import Host, Running
from wadm.placement import Placed, place
from wadm.plan import ComponentStatus, Standing
from wadm.reasons import State
from wadm.rollout import Move, Scene, Verb, step
from wadm.round import Round
from wadm.standing import component_status, standing_of


class Workloads:
    """Of one round."""

    def __init__(self, round: Round) -> None:
        self.round = round

    def claimed(self, id: EntityId, app: str, name: str, by: str) -> ComponentStatus:
        wanted = self.round.ids[id]
        return ComponentStatus(
            app, name, id, wanted.kind, wanted.image, State.BLOCKED, 0, 0, (), claims.owned(id, app, name, by)
        )

    def component(
        self, wanted: Wanted, configs: Mapping[str, Standing], links: Mapping[str, Standing]
    ) -> ComponentStatus:
        wanted = self.round.with_values(wanted)
        running = self.round.running(wanted)
        old = self.round.old(wanted, running)
        failed = self.round.failed(wanted)
        waiting = {h for h, f in failed.items() if self.round.now < f.retry_at}
        proven = len(old) < len(running)
        avoid = waiting | {h for h, f in failed.items() if f.final and proven}  # there, it is because of the host
        held = self.held_back(wanted, configs, links)
        before = self.round.before(wanted) if held is not None or failed or not proven else None
        if before is not None:
            avoid, waiting = set(), {h for h in waiting if h in running}
        placed = place(wanted, self.round.eligible, {h: r.count for h, r in running.items()}, avoid, stay=bool(old))
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
        standing = standing_of(self.round, wanted, placed, running, old, held, paused)
        return component_status(self.round, wanted, placed, running, standing)

    @staticmethod
    def there_already(wanted: Wanted, placed: Placed, running: Mapping[HostId, Running]) -> bool:
        if len(running) != len(placed.counts):
            return False
        mine = wanted.app if wanted.kind is Kind.COMPONENT else None
        return all(placed.counts.get(h) == r.count and mine in (None, r.app) for h, r in running.items())

    def held_back(
        self, wanted: Wanted, configs: Mapping[str, Standing], links: Mapping[str, Standing]
    ) -> Standing | None:
        """What has to be there first, when it is not; blocked things before those on their way."""
        needed = [configs[c] for c in wanted.config if c in configs]
        ends = self.round.links_by_end.get((wanted.app, wanted.id), ())
        needed += [links[str(link_key(link.link)) + link.app] for link in ends]
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
        steps = step(wanted.rollout, scene, self.round.now)
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
            sent = self.round.pending.get(("entity", host, wanted.id))
            if sent is not None and self.round.now < sent.until:
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
        host = self.round.by_id[move.host]
        if before is not None:
            wanted = before.wanted
        provider = wanted.kind is Kind.PROVIDER
        marks = self.marks(wanted, placed, host)
        match move.verb:
            case Verb.STOP if there is not None:
                self.remove(host, wanted.id, there, provider)
            case Verb.START | Verb.REPLACE if provider:
                instead = move.verb is Verb.REPLACE
                self.round.send(StartProvider(host.id, wanted.id, wanted.image, marks, wanted.config, instead))
            case Verb.SIZE if there is not None and self.round.old(wanted, {host.id: there}):
                marks[SETTINGS] = there.settings or ""
                self.round.send(self.scale(wanted, host, there.image, move.number, marks))
            case _:
                scale = self.scale(wanted, host, wanted.image, move.number, marks)
                said = {} if before is None else self.said_otherwise(before)
                self.round.send(replace(scale, update=move.verb is Verb.REPLACE, config_data=said))

    def said_otherwise(self, before: Proven) -> dict[str, Mapping[str, str]]:
        """Its configurations that say something else by now."""
        return {name: data for name, data in before.configs.items() if self.round.observed.configs.get(name) != data}

    @staticmethod
    def marks(wanted: Wanted, placed: Placed, host: Host) -> dict[str, str]:
        return wanted.annotations(placed.spreads.get(host.id, ""))

    @staticmethod
    def scale(wanted: Wanted, host: Host, image: str, number: int, marks: Mapping[str, str]) -> ScaleComponent:
        limits = dict(wanted.limits) or None
        return ScaleComponent(host.id, wanted.id, image, number, marks, wanted.config, limits)

    def orphans(self) -> set[str]:
        """Stop what an application started that does not want it any more; those applications."""
        found: set[str] = set()
        for host in self.round.hosts:
            for id, running in (*sorted(host.components.items()), *sorted(host.providers.items())):
                app = running.app
                if app is None:
                    continue
                wanted = self.round.ids.get(id)
                provider = id in host.providers and running is host.providers[id]
                if wanted is not None and (wanted.kind is Kind.PROVIDER) == provider:
                    continue  # somebody wants it: `component` decides
                found.add(app)
                self.remove(host, id, running, provider)
        return found

    def remove(self, host: Host, id: EntityId, running: Running, provider: bool) -> None:
        if provider:
            self.round.send(StopProvider(host.id, id))
        else:
            self.round.send(ScaleComponent(host.id, id, running.image, 0, running.annotations))


def _missing(before: Wanted, running: Mapping[HostId, Running]) -> bool:
    """Whether fewer run than that version had."""
    return before.rule is Rule.DAEMON or sum(r.count for r in running.values()) < before.instances
