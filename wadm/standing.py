"""How a component or provider stands, and why, in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from lattice import HostId
from wadm.desired import Kind, Rule, Spread, Wanted
from wadm.manifest import ROLLOUT
from wadm.observed import Failure, Host, Running
from wadm.placement import Placed
from wadm.plan import READY, ComponentStatus, OnHost, Standing
from wadm.reasons import NO_FIT, NO_HOST, PAUSED, TOO_FEW, UNDER_WAY, UNWELL, Reason, State, told
from wadm.round import Round


def component_status(
    round: Round,
    wanted: Wanted,
    placed: Placed,
    running: Mapping[HostId, Running],
    standing: Standing,
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
        for h in round.in_order({*running, *(h for h, number in target.items() if number > 0)})
    )
    count = sum(r.count for r in running.values())
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


def standing_of(
    round: Round,
    wanted: Wanted,
    placed: Placed,
    running: Mapping[HostId, Running],
    outdated: frozenset[HostId],
    held: Standing | None,
    paused: float | None,
) -> Standing:
    """`held` is what it waits for, `outdated` where it runs in another version, `paused` until when no more change."""
    target = placed.counts
    serving = bool(running)
    short = round.in_order(h for h, n in target.items() if h not in running or running[h].count < n)
    old = round.in_order(h for h in outdated if h in target)
    extra = [h for h, r in running.items() if r.count > target.get(h, 0)]
    stopped = _stopped(placed, old)
    failed = [(h, f) for h, f in round.failures.get(wanted.id, ()) if f.about(wanted.image, wanted.settings)]
    if held is not None and (short or old):
        return held
    if held is not None and held.state is State.BLOCKED:
        return Standing(State.DEGRADED, held.reason)
    if (short or old) and failed:
        final = [(h, f) for h, f in failed if f.final]
        hosts, failures = zip(*(final or failed), strict=True)
        reason = _failed(wanted, hosts, failures, stopped)
        untried = any(h.id not in running and (h.id, wanted.id) not in round.observed.failures for h in short)
        without = State.BLOCKED if final and not untried else State.PROGRESSING
        return Standing(State.DEGRADED if serving and not old else without, reason)
    if placed.unmet:
        reason = _no_place(round, wanted, placed)
        return Standing(State.DEGRADED if serving else State.BLOCKED, reason)
    if paused == math.inf:
        return Standing(State.BLOCKED, _paused(wanted, placed, old))
    if paused is not None:
        round.wake(paused)
    ill = round.in_order(h for h, r in running.items() if r.ailment is not None)
    if ill and (not (short or old or extra) or any(h.id not in outdated for h in ill)):
        return Standing(State.DEGRADED, _unwell(wanted, ill, running[ill[0].id].ailment, stopped))
    if short or old or extra:
        return Standing(State.PROGRESSING, _under_way(wanted, placed, running, old))
    return READY


def _no_place(round: Round, wanted: Wanted, placed: Placed) -> Reason:
    if not round.hosts:
        return Reason(
            NO_HOST, f"There is no host on this lattice to run {wanted.name}.", "start one:  trellis host start"
        )
    spread, missing = placed.unmet[0]
    fitting = [h for h in round.hosts if h.takes_work and spread.fits(h.labels)]
    if fitting:
        return Reason(
            TOO_FEW,
            f"{wanted.name} wants {missing} more {_hosts(missing)} for spread {spread.name} ({spread}), "
            f"and only {len(fitting)} {'fits' if len(fitting) == 1 else 'fit'}: a provider runs once on a host.",
            "start more hosts, or lower `instances`",
        )
    return Reason(NO_FIT, _no_fit(wanted, spread, round.hosts), _label_fix(spread))


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
