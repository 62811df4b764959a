"""The smallest changes that would make a part of an application ready. Pure.

A change is proposed only when planning again with it, and with nothing else different, shows that it helps: one
constraint is relaxed at a time. So what is proposed is never a guess, and never more than is needed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from lattice import EntityId, HostId
from lattice.control import DRAINED
from wadm.desired import Desired, Kind, Leftovers, Rule, Spread, Wanted, WantedLink, together
from wadm.images import repository
from wadm.observed import Failure, Host, Observed
from wadm.places import Part
from wadm.plan import AppStatus
from wadm.reasons import IN_THE_WAY, NO_CONFIG, NO_FIT, NO_HOST, OWNED, PAUSED, TOO_FEW, UNDER_WAY, terminal
from wadm.reconcile import reconcile

MOST = 5
"""Changes proposed at most, the smallest first."""

MOST_HOSTS = 12
"""Hosts that are looked at for what they lack."""

NOT_PROVIDED = "TRL-LNK-001"

PLACES = (NO_FIT, TOO_FEW, NO_HOST)
OURS = (*PLACES, NO_CONFIG, OWNED, IN_THE_WAY)
"""Reasons that the plan itself has found. Of others the words are a host's or a provider's, and their way out, too."""

_PASSING = (UNDER_WAY, PAUSED)
_INTERFACE = re.compile(r"\b([a-z][a-z0-9-]*):([a-z][a-z0-9-]*)/([a-z][a-z0-9-]*)")


@dataclass(frozen=True, slots=True)
class Remedy:
    """One change that would help on its own. `command` is what to type, where one command does it.

    `about` is the part of the manifest to change, where that is the change.
    """

    text: str
    command: str = ""
    about: Part | None = None


@dataclass(frozen=True, slots=True)
class View:
    """One application, as it is wanted next to others, and what is seen."""

    app: str
    mine: Desired
    others: Mapping[str, Desired]
    leftovers: Mapping[str, Leftovers]
    observed: Observed
    now: float

    def plan(self) -> AppStatus:
        everyone = [*self.others.values(), self.mine]
        return reconcile(together(everyone, self.leftovers), self.observed, {}, self.now).apps[self.app]

    def wanted(self, name: str) -> Wanted | None:
        return next((w for w in self.mine.wanted if w.name == name), None)

    def alive(self) -> list[Host]:
        return self.observed.alive(self.now)

    # -- the same with one thing different

    def instead(self, one: Wanted) -> View:
        """With `one` in place of the component or provider of its name."""
        changed = tuple(one if w.name == one.name else w for w in self.mine.wanted)
        return replace(self, mine=replace(self.mine, wanted=changed))

    def seeing(self, host: Host) -> View:
        """With `host` as it is given."""
        return replace(self, observed=replace(self.observed, hosts={**self.observed.hosts, host.id: host}))

    def without(self, app: str) -> View:
        return replace(self, others={name: part for name, part in self.others.items() if name != app})


def remedies(view: View, status: AppStatus, thing: str, code: str) -> tuple[Remedy, ...]:
    """For `thing` (a component, a provider or a link) that is not ready because of `code`."""
    found: dict[Remedy, None] = {}
    if code not in OURS:
        reason = next((r for r in status.reasons() if r.code == code), None)
        if reason is not None and reason.fix:
            found[Remedy(reason.fix)] = None
    for remedy, changed in _candidates(view, thing, code):
        if len(found) < MOST and remedy not in found and _helps(thing, changed.plan()):
            found[remedy] = None
    return tuple(found)


def _helps(thing: str, after: AppStatus) -> bool:
    """Nothing keeps `thing` from becoming ready any more but time."""
    reasons = [c.reason for c in after.components if c.name == thing]
    reasons += [k.reason for k in after.links if k.wanted.called == thing]
    return all(reason is None or reason.code in _PASSING for reason in reasons)


def _candidates(view: View, thing: str, code: str) -> Iterator[tuple[Remedy, View]]:
    """One constraint relaxed in each, what costs least first."""
    wanted = view.wanted(thing)
    if code == NO_CONFIG:
        for name in sorted(view.mine.external - view.observed.configs.keys()):
            seen = replace(view.observed, configs={**view.observed.configs, name: {}})
            text = f"put configuration {name} on the lattice, or give it `properties`"
            yield Remedy(text, about=Part("", config=name)), replace(view, observed=seen)
    if code in (OWNED, IN_THE_WAY):
        for name in sorted(view.others):
            yield Remedy(f"undeploy {name}", f"trellis undeploy {name}"), view.without(name)
    if wanted is None:
        return
    if code == OWNED:
        yield (
            Remedy(f"give {thing} another `id`", about=Part(thing)),
            view.instead(replace(wanted, id=EntityId(f"{wanted.id}-2"))),
        )
    if code in PLACES:
        yield from _places(view, wanted)
    if code not in OURS:
        yield from _links(view, wanted)
        yield from _images(view, wanted)
        yield from _back(view, wanted)


# -- what a host or a provider says against it


def _links(view: View, wanted: Wanted) -> Iterator[tuple[Remedy, View]]:
    """A link for what it imports and nobody provides, to whom others are linked for that."""
    failures = {
        at: failure
        for at, failure in view.observed.failures.items()
        if at[1] == wanted.id and terminal(failure.error) == NOT_PROVIDED
    }
    missing = {interface for failure in failures.values() for interface in _imports(failure)}
    offers = [link for link in view.mine.links if link.source != wanted.name]
    for offer in offers:
        needed = sorted(missing & set(offer.link.covers()))
        if not needed:
            continue
        interfaces = tuple(name.partition("/")[2] for name in needed)
        update = {"source_id": wanted.id, "interfaces": interfaces, "source_config": ()}
        link = WantedLink(view.app, offer.link.model_copy(update=update), wanted.name, offer.target)
        kept = {
            at: failure
            for at, failure in view.observed.failures.items()
            if at not in failures or _imports(failure) - set(link.link.covers())
        }
        there = {**view.observed.links, wanted.id: (*view.observed.links.get(wanted.id, ()), link.link)}
        linked = replace(
            view,
            mine=replace(view.mine, links=(*view.mine.links, link)),
            observed=replace(view.observed, failures=kept, links=there),
        )
        yield Remedy(f"link {wanted.name} to {offer.target} for {', '.join(needed)}", about=Part(wanted.name)), linked


def _imports(failure: Failure) -> set[str]:
    return {f"{namespace}:{package}/{name}" for namespace, package, name in _INTERFACE.findall(failure.error)}


def _images(view: View, wanted: Wanted) -> Iterator[tuple[Remedy, View]]:
    """An image of the same name that runs somewhere."""
    code = {terminal(f.error) or "" for (_, id), f in view.observed.failures.items() if id == wanted.id}
    if not any(one.startswith("TRL-IMG-") for one in code):
        return
    for host in view.alive():
        for running in (*host.components.values(), *host.providers.values()):
            if running.image != wanted.image and repository(running.image) == repository(wanted.image):
                remedy = Remedy(f"use {running.image}, which {host.called} runs", about=Part(wanted.name))
                yield remedy, view.instead(replace(wanted, image=running.image))


def _back(view: View, wanted: Wanted) -> Iterator[tuple[Remedy, View]]:
    """The last version that was ready."""
    proven = view.mine.proven.get(wanted.id)
    if proven is not None and proven.wanted != wanted:
        command = f"trellis rollback {proven.version} --app {view.app}"
        yield Remedy(f"go back to version {proven.version}, which was ready", command), view.instead(proven.wanted)


# -- where it could run


def _places(view: View, wanted: Wanted) -> Iterator[tuple[Remedy, View]]:
    for host in sorted(view.observed.hosts.values(), key=lambda h: (-h.last_seen, h.id)):
        if host.known and not host.draining and not view.observed.is_alive(host, view.now):
            silent = f"silent for {view.now - host.last_seen:.0f} s"
            remedy = Remedy(f"wait for {host.called}, or start it again ({silent})")
            yield remedy, view.seeing(replace(host, last_seen=view.now))
    for host in view.alive():
        if DRAINED in host.labels:
            kept = {key: value for key, value in host.labels.items() if key != DRAINED}
            command = f"trellis host drain {host.called} --undo"
            yield Remedy(f"let {host.called} take work again", command), view.seeing(replace(host, labels=kept))
    for spread in wanted.spreads:
        yield from _labelled(view, spread)
    for spread in wanted.spreads:
        yield from _wider(view, wanted, spread)
    for remedy, fewer in _fewer(wanted):
        if _helps(wanted.name, view.instead(fewer).plan()):
            yield remedy, view.instead(fewer)
            break
    for spread in wanted.spreads:
        new = Host(HostId("?"), "?", dict(spread.requirements), last_seen=view.now, known=True)
        labels = "".join(f" --label {key}={value}" for key, value in spread.requirements)
        labelled = f" with {spread}" if spread.requirements else ""
        yield Remedy(f"start a host{labelled}", f"trellis host start{labels}"), view.seeing(new)


def _labelled(view: View, spread: Spread) -> Iterator[tuple[Remedy, View]]:
    """A host that gets the labels it lacks; those that lack fewest first."""
    lacking = [(len(missing_labels(h, spread)), h.called, h) for h in view.alive()]
    for number, _, host in sorted(lacking, key=lambda found: (found[0], found[1], found[2].id))[:MOST_HOSTS]:
        if number == 0:
            continue
        missing = missing_labels(host, spread)
        labels = " ".join(f"{key}={value}" for key, value in missing.items())
        changed = replace(host, labels={**host.labels, **missing})
        remedy = Remedy(f"label {host.called} with {labels}", f"trellis host label {host.called} {labels}")
        yield remedy, view.seeing(changed)


def _wider(view: View, wanted: Wanted, spread: Spread) -> Iterator[tuple[Remedy, View]]:
    """One requirement that asks for what a host has, or is not there."""
    hosts = view.alive()
    for index, (key, value) in enumerate(spread.requirements):
        part = Part(wanted.name, spread=spread.name, requirement=key)
        rest = [r for at, r in enumerate(spread.requirements) if at != index]
        for other in sorted({h.labels[key] for h in hosts if key in h.labels} - {value}):
            text = f"in {wanted.name}'s spread {spread.name}, require {key}={other} instead of {key}={value}"
            changed = replace(spread, requirements=tuple(sorted([*rest, (key, other)])))
            fitting = [h.called for h in hosts if h.takes_work and changed.fits(h.labels)]
            remedy = Remedy(f"{text}: {', '.join(fitting[:3])} would fit", about=part)
            yield remedy, view.instead(_with_spread(wanted, changed))
        text = f"in {wanted.name}'s spread {spread.name}, do not require {key}={value}"
        dropped = replace(spread, requirements=tuple(rest))
        yield Remedy(text, about=part), view.instead(_with_spread(wanted, dropped))


def _with_spread(wanted: Wanted, changed: Spread) -> Wanted:
    return replace(wanted, spreads=tuple(changed if s.name == changed.name else s for s in wanted.spreads))


def _fewer(wanted: Wanted) -> Iterator[tuple[Remedy, Wanted]]:
    """Fewer hosts for a provider, which runs once on each."""
    if wanted.kind is Kind.PROVIDER and wanted.rule is Rule.SPREAD:
        for number in range(wanted.instances - 1, 0, -1):
            yield (
                Remedy(f"want {number} of {wanted.name} instead of {wanted.instances}", about=Part(wanted.name)),
                replace(wanted, instances=number),
            )


def missing_labels(host: Host, spread: Spread) -> dict[str, str]:
    return {key: value for key, value in spread.requirements if host.labels.get(key) != value}
