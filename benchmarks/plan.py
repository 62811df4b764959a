"""How long the deployment manager thinks: one planning round, and how that grows with hosts, apps and instances.

    python benchmarks/plan.py

Measured is `reconcile`, the pure heart of the manager, on a lattice where everything runs as wanted (the round that
happens all the time), where nothing runs yet, and where a host has just died; and `together`, which joins what the
applications want.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace

sys.path.append(sys.path.pop(0))  # `lattice` is the package, not the file in this folder

from lattice import EntityId, HostId
from wadm.commands import PutConfig, PutLink, ScaleComponent, StartProvider
from wadm.desired import Desired, Leftovers, desired_from, together
from wadm.manifest import Manifest
from wadm.observed import Host, Observed, Running
from wadm.plan import Plan
from wadm.reasons import State
from wadm.reconcile import reconcile

NOW = 1000.0


def application(number: int, instances: int) -> Manifest:
    """A component, a provider on two hosts, and a link between them, with configuration."""
    kv = {"name": "kv", "type": "capability", "properties": {"image": "builtin:keyvalue-nats"}}
    kv["traits"] = [{"type": "spreadscaler", "properties": {"instances": 2}}]
    link = {"target": {"name": "kv", "config": [{"name": "kv", "properties": {"bucket": "b"}}]}}
    link |= {"namespace": "wasi", "package": "keyvalue", "interfaces": ["store"]}
    spread = [{"name": "eu", "requirements": {"zone": "eu"}}, {"name": "us", "requirements": {"zone": "us"}}]
    traits = [
        {"type": "spreadscaler", "properties": {"instances": instances - 2, "spread": spread}},
        {"type": "link", "properties": link},
    ]
    api = {"name": "api", "type": "component", "properties": {"image": "ghcr.io/acme/api:1"}, "traits": traits}
    return Manifest.model_validate(
        {
            "apiVersion": "core.oam.dev/v1beta1",
            "kind": "Application",
            "metadata": {"name": f"app-{number}"},
            "spec": {"components": [api, kv]},
        }
    )


def lattice(hosts: int) -> Observed:
    zones = ("eu", "us")
    found = [
        Host(HostId(f"N{n:05}"), f"host-{n}", {"zone": zones[n % 2]}, last_seen=NOW, lively=True, known=True)
        for n in range(hosts)
    ]
    return Observed({host.id: host for host in found})


def carried_out(observed: Observed, plan: Plan) -> Observed:
    """After every command did what it says."""
    hosts = {id: (dict(host.components), dict(host.providers)) for id, host in observed.hosts.items()}
    links, configs = {k: list(v) for k, v in observed.links.items()}, dict(observed.configs)
    for command in plan.commands:
        match command:
            case ScaleComponent(host, id, image, count, marks):
                hosts[host][0][id] = Running(image, count, marks)
            case StartProvider(host, id, image, marks):
                hosts[host][1][id] = Running(image, 1, marks)
            case PutLink(link):
                links.setdefault(EntityId(link.source_id), []).append(link)
            case PutConfig(name, data):
                configs[name] = data
    return replace(
        observed,
        hosts={id: replace(h, components=hosts[id][0], providers=hosts[id][1]) for id, h in observed.hosts.items()},
        links={k: tuple(v) for k, v in links.items()},
        configs=configs,
    )


def settled(desired: Desired, observed: Observed) -> Observed:
    while (plan := reconcile(desired, observed, {}, NOW)).commands:
        observed = carried_out(observed, plan)
    assert all(app.state is State.READY for app in plan.apps.values())
    return observed


def best(work: Callable[[], object], times: int = 3) -> float:
    """Milliseconds of the quickest run."""
    found = []
    for _ in range(times):
        begun = time.perf_counter()
        work()
        found.append(time.perf_counter() - begun)
    return min(found) * 1000


def measure(hosts: int, apps: int, instances: int) -> None:
    parts = [desired_from(application(n, max(3, instances // apps))) for n in range(apps)]
    put = {
        app: Leftovers(frozenset(k.link for k in part.links), frozenset(part.configs))
        for part in parts
        for app in part.apps
    }
    desired, empty = together(parts, put), lattice(hosts)
    full = settled(desired, empty)
    dead = replace(full, hosts={id: h for id, h in full.hosts.items() if id != "N00000"})
    joined = best(lambda: together(parts, put))
    nothing, everything, one_less = (
        best(lambda seen=seen: reconcile(desired, seen, {}, NOW))  # type: ignore[misc]
        for seen in (empty, full, dead)
    )
    print(
        f"{hosts:>6} {apps:>6} {instances:>10}  {everything:>10.0f} {nothing:>10.0f} {one_less:>10.0f} {joined:>10.0f}"
    )


def main() -> None:
    print(
        f"{'hosts':>6} {'apps':>6} {'instances':>10}  {'ready':>10} {'nothing':>10} {'host died':>10} {'join':>10}   ms"
    )
    measure(1000, 500, 20_000)
    for hosts in (100, 2000):
        measure(hosts, 500, 20_000)
    for apps in (50, 1000):
        measure(1000, apps, 20_000)
    for instances in (5_000, 40_000):
        measure(1000, 500, instances)


if __name__ == "__main__":
    main()
