"""Why something is as it is, as a tree of causes. Pure. What would help is in `wadm.remedies`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lattice import EntityId, HostId
from lattice.control import DRAINED
from wadm.desired import Desired, Kind, Leftovers, Rule, Spread
from wadm.observed import Failure, Observed
from wadm.places import Part
from wadm.plan import ComponentStatus, LinkStatus
from wadm.reasons import UNWELL, Reason, State, told
from wadm.remedies import MOST_HOSTS, PLACES, Remedy, View, missing_labels, remedies


@dataclass(frozen=True, slots=True)
class Cause:
    """One line of the tree, the part of the manifest that it is about, and what is below it."""

    text: str
    below: tuple[Cause, ...] = ()
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
        others = {
            name: part
            for name, part in parts.items()
            if name != app and ids & ({w.id for w in part.wanted} | {link.link.source_id for link in part.links})
        }
        self.view = View(app, mine, others, leftovers, observed, now)
        self.observed = observed
        self.now = now
        self.wanted = {w.name: w for w in mine.wanted}
        self.alive = observed.alive(now)
        self.status = self.view.plan()

    def tell(self, thing: str | None) -> Iterator[Explanation]:
        for component in self.status.components:
            if component.name == thing or (thing is None and component.state is not State.READY):
                yield self.component(component)
        for link in self.status.links:
            if link.wanted.called == thing or (thing is None and link.state is not State.READY):
                yield self.link(link)

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
        return Explanation(
            status.name, kind, str(status.state), code, cause, remedies(self.view, self.status, status.name, code)
        )

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
        if reason.code in PLACES:
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
        if reason.code == UNWELL:
            for on in status.hosts[:MOST_HOSTS]:
                ailment = self.ailment(on.host, status.id)
                if ailment is not None:
                    yield Cause(f"on {on.friendly_name or on.host[:8]} it is not well", _lines(ailment))
            return
        failures = [
            (h, f)
            for h in self.alive
            if (f := self.observed.failures.get((h.id, wanted.id))) is not None and f.image == wanted.image
        ]
        if failures:
            for host, failure in failures[:MOST_HOSTS]:
                yield Cause(f"{host.called} could not start it{_tries(failure, self.now)}", _lines(failure.error))
            return
        waits = [
            link
            for link in self.status.links
            if link.reason == reason and status.id in (link.wanted.link.source_id, link.wanted.link.target)
        ]
        if waits:
            for link in waits:
                part = Part(link.wanted.source, target=link.wanted.target)
                yield Cause(f"its link {link.wanted.called} is {link.state}", (Cause(reason.message),), part)
            return
        yield Cause(reason.message)

    def hosts(self, spread: Spread) -> Iterator[Cause]:
        """Each host with the constraint that it fails, the nearest first."""
        everyone = sorted(self.observed.hosts.values(), key=lambda h: (len(missing_labels(h, spread)), h.called, h.id))
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

    def link(self, status: LinkStatus) -> Explanation:
        link, name = status.wanted.link, status.wanted.called
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
        return Explanation(
            name, "link", str(status.state), reason.code, cause, remedies(self.view, self.status, name, reason.code)
        )

    def ailment(self, host: HostId, id: EntityId) -> str | None:
        """What the provider says of itself there."""
        provider = self.observed.hosts[host].providers.get(id)
        return provider.ailment if provider is not None else None

    def called(self, host: HostId) -> str:
        return self.observed.hosts[host].called if host in self.observed.hosts else host[:8]


def _labels_said(labels: Mapping[str, str], spread: Spread) -> str:
    said = [f"{key}={labels[key]}" if key in labels else f"no {key}" for key, _ in spread.requirements]
    return f"  label {', '.join(said)}" if said else ""


def _tries(failure: Failure, now: float) -> str:
    times = f" ({failure.count} times)" if failure.count > 1 else ""
    wait = failure.retry_at - now
    return times + (f"; tried again in {wait:.0f} s" if wait >= 1 else "")


def _lines(said: str) -> tuple[Cause, ...]:
    """A host's or provider's sentence, and below it what was printed last, where it says that."""
    first, *rest = told(said).message.splitlines()
    return (Cause(first, tuple(Cause(line) for line in rest)),)
