"""Wanted versus seen: which commands bring the lattice closer, and how each part stands.

Level-triggered: every round looks at everything, so it does not matter which events were lost. Pure and
deterministic: no clock, no I/O, no order of arrival. What is sent once is not sent again until it had its time
(`pending`); what failed waits (`Failure.retry_at`).

The order things happen in: configurations, then links (`wadm.wiring`), then what needs them (`wadm.workloads`).
"""

from __future__ import annotations

from wadm.commands import Pending, link_key
from wadm.desired import Desired
from wadm.observed import Observed
from wadm.plan import AppStatus, ComponentStatus, Plan, worst
from wadm.round import Round
from wadm.wiring import Wiring
from wadm.workloads import Workloads


def reconcile(desired: Desired, observed: Observed, pending: Pending, now: float) -> Plan:
    """One round."""
    round = Round(desired, observed, pending, now)
    wiring, workloads = Wiring(round), Workloads(round)
    configs = wiring.configs()
    links = {str(link_key(link.link)) + link.app: wiring.link(link, configs) for link in desired.links}
    leaving = wiring.leftover_links() | workloads.orphans()
    components = [workloads.component(w, configs, links) for w in desired.wanted]
    components += [workloads.claimed(claim.id, claim.app, claim.name, claim.by) for claim in desired.claims]
    statuses = {c.id: c for c in components}
    by_app: dict[str, list[ComponentStatus]] = {}
    for one in components:
        by_app.setdefault(one.app, []).append(one)
    apps: dict[str, AppStatus] = {}
    for app in sorted(desired.apps):
        mine = tuple(by_app.get(app, ()))
        linked = tuple(
            wiring.link_status(link, links[str(link_key(link.link)) + app], statuses)
            for link in round.links_by_app.get(app, ())
        )
        apps[app] = AppStatus(worst([*(c.state for c in mine), *(s.state for s in linked)]), mine, linked)
    leaving |= wiring.leftover_configs(leaving, apps)
    for failure in observed.failures.values():
        if failure.retry_at > now:
            round.wake(failure.retry_at)
    return Plan(tuple(round.commands), apps, frozenset(leaving - desired.apps), round.wake_at)
