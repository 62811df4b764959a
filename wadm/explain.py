"""Why something is as it is, as a tree of causes, and the smallest changes that would help. Pure.

A change is proposed only when planning again with it, and with nothing else different, shows that it helps: one
constraint is relaxed at a time. So what is proposed is never a guess, and never more than is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from lattice import EntityId, HostId
from lattice.control import DRAINED
from wadm.desired import Desired, Kind, Leftovers, Rule, Spread, Wanted, together
from wadm.observed import Failure, Host, Observed
from wadm.places import Part
from wadm.reasons import IN_THE_WAY, NO_CONFIG, NO_FIT, NO_HOST, OWNED, TOO_FEW, Reason, State, told
from wadm.reconcile import AppStatus, ComponentStatus, LinkStatus, reconcile

MOST = 5
"""Changes proposed at most, the smallest first."""

MOST_HOSTS = 12
"""Hosts listed at most; the rest is counted."""

_RELAXABLE = (NO_FIT, TOO_FEW, NO_HOST, NO_CONFIG, OWNED, IN_THE_WAY)


@dataclass(frozen=True, slots=True)
class Cause:
    """One line of the tree, the part of the manifest that it is about, and what is below it."""

    text: str
    below: tuple[Cause, ...] = ()
    about: Part | None = None


@dataclass(frozen=True, slots=True)
class Remedy:
    """One change that would help on its own. `command` is what to type, where one command does it.

    `about` is the part of the manifest to change, where that is the change.
    """

    text: str
    command: str = ""
    about: Part | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """Of one component, provider or link (`a -> b`)."""

    thing: str
    kind: str
    state: str
    code: str
    cause: Cause
    remedies: tuple[Remedy, ...] = ()


def explain(
    parts: Mapping[str, Desired],
    leftovers: Mapping[str, Leftovers],
    observed: Observed,
    now: float,
    app: str,
    thing: str | None = None,
) -> list[Explanation]:
    """Of `thing` (ready or not), or of everything in `app` that is not ready. `parts` are all deployed applications."""
    teller = _Teller(parts, leftovers, observed, now, app)
    return list(teller.tell(thing))


class _Teller:
    def __init__(
        self,
        parts: Mapping[str, Desired],
        leftovers: Mapping[str, Leftovers],
        observed: Observed,
        now: float,
        app: str,
    ) -> None:
        mine = parts[app]
        ids = {w.id for w in mine.wanted} | {link.link.source_id for link in mine.links}
        # what other applications want matters only where it is about the same ids
        self.others = {
            name: part
            for name, part in parts.items()
            if name != app and ids & ({w.id for w in part.wanted} | {link.link.source_id for link in part.links})
        }
        self.mine = mine
        self.leftovers = leftovers
        self.observed = observed
        self.now = now
        self.app = app
        self.wanted = {w.name: w for w in mine.wanted}
        self.alive = observed.alive(now)
        self.status = self.plan(mine, observed)

    def plan(self, mine: Desired, observed: Observed, others: Mapping[str, Desired] | None = None) -> AppStatus:
        everyone = [*(self.others if others is None else others).values(), mine]
        return reconcile(together(everyone, self.leftovers), observed, {}, self.now).apps[self.app]

    def tell(self, thing: str | None) -> Iterator[Explanation]:
        for component in self.status.components:
            if component.name == thing or (thing is None and component.state is not State.READY):
                yield self.component(component)
        for link in self.status.links:
            name = f"{link.wanted.source} -> {link.wanted.target}"
            if name == thing or (thing is None and link.state is not State.READY):
                yield self.link(link, name)

    # -- causes

    def component(self, status: ComponentStatus) -> Explanation:
        kind, reason = str(status.kind), status.reason
        if status.state is State.READY:
            cause = Cause(f"{status.name} runs as wanted", tuple(self.where(status)), Part(status.name))
            return Explanation(status.name, kind, str(status.state), "", cause)
        head = "is not running" if not status.running else f"runs {status.running} of {status.wanted}"
        if status.running and status.running >= status.wanted:
            head = f"is {status.state}"
        because = tuple(self.because(status)) if reason is not None else ()
        code = reason.code if reason is not None else ""
        cause = Cause(f"{status.name} {head} because", because, Part(status.name))
        return Explanation(status.name, kind, str(status.state), code, cause, self.remedies(status.name, code))

    def where(self, status: ComponentStatus) -> Iterator[Cause]:
        wanted = self.wanted[status.name]
        for spread in wanted.spreads:
            share = "every host that fits" if wanted.rule is Rule.DAEMON else str(wanted.counts()[spread.name])
            hosts = tuple(
                Cause(f"{h.friendly_name or h.host[:8]}  {h.running}{_labels_said(h.labels, spread)}")
                for h in status.hosts
                if h.running and spread.fits(h.labels)
            )
            yield Cause(f"spread {spread.name} wants {share} on {spread}", hosts, Part(status.name, spread=spread.name))

    def because(self, status: ComponentStatus) -> Iterator[Cause]:
        reason = status.reason
        assert reason is not None
        wanted = self.wanted[status.name]
        if reason.code in (NO_FIT, TOO_FEW, NO_HOST):
            for spread in wanted.spreads:
                fitting = [h for h in self.alive if h.takes_work and spread.fits(h.labels)]
                needed = 1 if wanted.rule is Rule.DAEMON else wanted.counts()[spread.name]
                enough = len(fitting) >= needed if wanted.kind is Kind.PROVIDER else bool(fitting)
                if needed and not enough:
                    said = "no host satisfies" if not fitting else f"only {len(fitting)} of {needed} hosts satisfy"
                    only = spread.requirements[0][0] if len(spread.requirements) == 1 else ""
                    part = Part(wanted.name, spread=spread.name, requirement=only)
                    yield Cause(f"{said}  {spread}  (spread {spread.name})", tuple(self.hosts(spread)), part)
            return
        failures = [
            (h, f)
            for h in self.alive
            if (f := self.observed.failures.get((h.id, wanted.id))) is not None and f.image == wanted.image
        ]
        if failures:
            for host, failure in failures[:MOST_HOSTS]:
                yield Cause(f"{host.called} could not start it{_tries(failure, self.now)}", _lines(failure))
            return
        waits = [
            link
            for link in self.status.links
            if link.reason == reason and status.id in (link.wanted.link.source_id, link.wanted.link.target)
        ]
        if waits:
            for link in waits:
                name = f"{link.wanted.source} -> {link.wanted.target}"
                part = Part(link.wanted.source, target=link.wanted.target)
                yield Cause(f"its link {name} is {link.state}", (Cause(reason.message),), part)
            return
        yield Cause(reason.message)

    def hosts(self, spread: Spread) -> Iterator[Cause]:
        """Each host with the constraint that it fails, the nearest first."""
        everyone = sorted(self.observed.hosts.values(), key=lambda h: (len(_missing(h, spread)), h.called, h.id))
        known = [h for h in everyone if h.known]
        for host in known[:MOST_HOSTS]:
            seen = f"heartbeat {self.now - host.last_seen:.0f} s ago"
            if not self.observed.is_alive(host, self.now):
                seen = f"GONE, last {seen}"
            elif not host.takes_work:
                why = host.labels.get(DRAINED, "it is leaving")
                seen = f"DRAINED ({why}), it takes nothing new  {seen}"
            yield Cause(f"{host.called}{_labels_said(host.labels, spread)}  {seen}")
        if len(known) > MOST_HOSTS:
            yield Cause(f"and {len(known) - MOST_HOSTS} more hosts")
        if not known:
            yield Cause("there is no host on this lattice")

    def link(self, status: LinkStatus, name: str) -> Explanation:
        link = status.wanted.link
        part = Part(status.wanted.source, target=status.wanted.target)
        if status.state is State.READY:
            said = [Cause(f"in process on {self.called(h)}") for h in status.local]
            said += [
                Cause(f"over the lattice from {self.called(h)}, where {status.wanted.target} does not run in process")
                for h in status.remote
            ]
            cause = Cause(f"{name} carries {', '.join(link.covers())}", tuple(said), part)
            return Explanation(name, "link", str(status.state), "", cause)
        reason = status.reason or Reason("", "nothing is known yet")
        cause = Cause(f"{name} is {status.state} because", (Cause(reason.message),), part)
        return Explanation(name, "link", str(status.state), reason.code, cause, self.remedies(name, reason.code))

    def called(self, host: HostId) -> str:
        return self.observed.hosts[host].called if host in self.observed.hosts else host[:8]

    # -- remedies

    def remedies(self, thing: str, code: str) -> tuple[Remedy, ...]:
        if code not in _RELAXABLE:
            reason = next((r for r in self.status.reasons() if r.code == code), None)
            return (Remedy(reason.fix),) if reason is not None and reason.fix else ()
        found: dict[Remedy, None] = {}
        for remedy, mine, observed, others in self.candidates(thing, code):
            if len(found) < MOST and remedy not in found and self.helps(thing, self.plan(mine, observed, others)):
                found[remedy] = None
        return tuple(found)

    def helps(self, thing: str, after: AppStatus) -> bool:
        """Nothing keeps `thing` from becoming ready any more but time."""
        reasons = [c.reason for c in after.components if c.name == thing]
        reasons += [k.reason for k in after.links if f"{k.wanted.source} -> {k.wanted.target}" == thing]
        return all(reason is None or reason.code not in _RELAXABLE for reason in reasons)

    def candidates(
        self, thing: str, code: str
    ) -> Iterator[tuple[Remedy, Desired, Observed, Mapping[str, Desired] | None]]:
        """One constraint relaxed in each, what costs least first."""
        mine, observed = self.mine, self.observed
        if code == NO_CONFIG:
            for name in sorted(mine.external - observed.configs.keys()):
                seen = replace(observed, configs={**observed.configs, name: {}})
                text = f"put configuration {name} on the lattice, or give it `properties`"
                yield Remedy(text, about=Part("", config=name)), mine, seen, None
        for name in sorted(self.others):
            if code in (OWNED, IN_THE_WAY):
                rest = {other: part for other, part in self.others.items() if other != name}
                yield Remedy(f"undeploy {name}", f"trellis undeploy {name}"), mine, observed, rest
        wanted = self.wanted.get(thing)
        if wanted is None:
            return
        if code == OWNED:
            free = replace(mine, wanted=_changed(mine, replace(wanted, id=EntityId(f"{wanted.id}-2"))))
            yield Remedy(f"give {thing} another `id`", about=Part(thing)), free, observed, None
        if code not in (NO_FIT, TOO_FEW, NO_HOST):
            return
        for host in sorted(observed.hosts.values(), key=lambda h: (-h.last_seen, h.id)):
            if host.known and not host.draining and not observed.is_alive(host, self.now):
                back = replace(observed, hosts={**observed.hosts, host.id: replace(host, last_seen=self.now)})
                silent = f"silent for {self.now - host.last_seen:.0f} s"
                yield Remedy(f"wait for {host.called}, or start it again ({silent})"), mine, back, None
        for host in self.alive:
            if DRAINED in host.labels:
                kept = {key: value for key, value in host.labels.items() if key != DRAINED}
                again = replace(observed, hosts={**observed.hosts, host.id: replace(host, labels=kept)})
                command = f"trellis host drain {host.called} --undo"
                yield Remedy(f"let {host.called} take work again", command), mine, again, None
        for spread in wanted.spreads:
            yield from ((r, mine, seen, None) for r, seen in self.labelled(spread))
        for spread in wanted.spreads:
            yield from (
                (r, replace(mine, wanted=_changed(mine, w)), observed, None) for r, w in self.wider(wanted, spread)
            )
        for remedy, fewer in _fewer(wanted):
            changed = replace(mine, wanted=_changed(mine, fewer))
            if self.helps(thing, self.plan(changed, observed)):
                yield remedy, changed, observed, None
                break
        for spread in wanted.spreads:
            new = Host(HostId("?"), "?", dict(spread.requirements), last_seen=self.now, known=True)
            labels = "".join(f" --label {key}={value}" for key, value in spread.requirements)
            seen = replace(observed, hosts={**observed.hosts, new.id: new})
            labelled = f" with {spread}" if spread.requirements else ""
            yield Remedy(f"start a host{labelled}", f"trellis host start{labels}"), mine, seen, None

    def labelled(self, spread: Spread) -> Iterator[tuple[Remedy, Observed]]:
        """A host that gets the labels it lacks; those that lack fewest first."""
        lacking = [(len(_missing(h, spread)), h.called, h) for h in self.alive]
        for number, _, host in sorted(lacking, key=lambda found: (found[0], found[1], found[2].id))[:MOST_HOSTS]:
            if number == 0:
                continue
            missing = _missing(host, spread)
            labels = " ".join(f"{key}={value}" for key, value in missing.items())
            changed = replace(host, labels={**host.labels, **missing})
            seen = replace(self.observed, hosts={**self.observed.hosts, host.id: changed})
            yield Remedy(f"label {host.called} with {labels}", f"trellis host label {host.called} {labels}"), seen

    def wider(self, wanted: Wanted, spread: Spread) -> Iterator[tuple[Remedy, Wanted]]:
        """One requirement that asks for what a host has, or is not there."""
        for index, (key, value) in enumerate(spread.requirements):
            part = Part(wanted.name, spread=spread.name, requirement=key)
            rest = [r for at, r in enumerate(spread.requirements) if at != index]
            for other in sorted({h.labels[key] for h in self.alive if key in h.labels} - {value}):
                text = f"in {wanted.name}'s spread {spread.name}, require {key}={other} instead of {key}={value}"
                fit = _spread(wanted, replace(spread, requirements=tuple(sorted([*rest, (key, other)]))))
                hosts = [h.called for h in self.alive if h.takes_work and fit[0].fits(h.labels)]
                yield Remedy(f"{text}: {', '.join(hosts[:3])} would fit", about=part), fit[1]
            dropped = _spread(wanted, replace(spread, requirements=tuple(rest)))
            text = f"in {wanted.name}'s spread {spread.name}, do not require {key}={value}"
            yield Remedy(text, about=part), dropped[1]


def _spread(wanted: Wanted, changed: Spread) -> tuple[Spread, Wanted]:
    spreads = tuple(changed if s.name == changed.name else s for s in wanted.spreads)
    return changed, replace(wanted, spreads=spreads)


def _changed(desired: Desired, one: Wanted) -> tuple[Wanted, ...]:
    return tuple(one if w.name == one.name else w for w in desired.wanted)


def _fewer(wanted: Wanted) -> Iterator[tuple[Remedy, Wanted]]:
    """Fewer hosts for a provider, which runs once on each."""
    if wanted.kind is Kind.PROVIDER and wanted.rule is Rule.SPREAD:
        for number in range(wanted.instances - 1, 0, -1):
            yield (
                Remedy(f"want {number} of {wanted.name} instead of {wanted.instances}", about=Part(wanted.name)),
                replace(wanted, instances=number),
            )


def _missing(host: Host, spread: Spread) -> dict[str, str]:
    return {key: value for key, value in spread.requirements if host.labels.get(key) != value}


def _labels_said(labels: Mapping[str, str], spread: Spread) -> str:
    said = [f"{key}={labels[key]}" if key in labels else f"no {key}" for key, _ in spread.requirements]
    return f"  label {', '.join(said)}" if said else ""


def _tries(failure: Failure, now: float) -> str:
    times = f" ({failure.count} times)" if failure.count > 1 else ""
    wait = failure.retry_at - now
    return times + (f"; tried again in {wait:.0f} s" if wait >= 1 else "")


def _lines(failure: Failure) -> tuple[Cause, ...]:
    """The host's sentence, and below it what was printed last, where it says that."""
    first, *rest = told(failure.error).message.splitlines()
    return (Cause(first, tuple(Cause(line) for line in rest)),)
