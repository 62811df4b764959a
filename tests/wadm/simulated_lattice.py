"""A lattice that carries out commands at once, or fails them, as real hosts would; no I/O."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from lattice import EMPTY, EntityId, HostId
from lattice.control import ComponentDescription, Inventory, ProviderDescription
from lattice.events import (
    ComponentScaled,
    ComponentScaleFailed,
    Event,
    ProviderStarted,
    ProviderStartFailed,
    ProviderStopped,
)
from lattice.links import LinkDefinition
from wadm.commands import (
    Command,
    DeleteConfig,
    DeleteLink,
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
from wadm.desired import Desired, Leftovers
from wadm.observed import SETTLED_AFTER, Alive, ConfigSeen, Fact, LinksSeen, Observed, Seen, fold
from wadm.plan import Plan
from wadm.reconcile import reconcile


@dataclass
class Thing:
    image: str
    count: int
    annotations: dict[str, str]


@dataclass
class SimHost:
    id: HostId
    labels: dict[str, str]
    up: bool = True
    components: dict[str, Thing] = field(default_factory=dict)
    providers: dict[str, Thing] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)

    def inventory(self) -> Inventory:
        return Inventory(
            host_id=self.id,
            friendly_name=f"host-{self.id}",
            labels=self.labels,
            version="1.0.0",
            uptime_human="1s",
            uptime_seconds=1,
            components=[
                ComponentDescription(
                    id=EntityId(k), image_ref=t.image, max_instances=t.count, annotations=t.annotations
                )
                for k, t in self.components.items()
            ],
            providers=[
                ProviderDescription(id=EntityId(k), image_ref=t.image, annotations=t.annotations)
                for k, t in self.providers.items()
            ],
        )


class SimLattice:
    """Hosts, links and configs, and the manager's view of them.

    `broken` images cannot be started, each because of its error; those of a host only not there.
    """

    def __init__(self, settled_after: float = SETTLED_AFTER) -> None:
        self.hosts: dict[HostId, SimHost] = {}
        self.links: dict[str, list[LinkDefinition]] = {}
        self.configs: dict[str, dict[str, str]] = {}
        self.broken: dict[str, str] = {}
        self.observed = Observed(settled_after=settled_after)
        self.pending: Pending = {}
        self.ledger: dict[str, Leftovers] = {}
        self.now = 1000.0
        self.sent: list[Command] = []
        self.refused: list[Command] = []
        self.lowest: dict[str, int] = {}
        self.highest: dict[str, int] = {}

    def add(self, id: str, **labels: str) -> SimHost:
        host = SimHost(HostId(id), labels)
        self.hosts[host.id] = host
        return host

    def running(self, id: str) -> dict[str, int]:
        found = {}
        for host in self.hosts.values():
            thing = host.components.get(id) or host.providers.get(id)
            if host.up and thing is not None:
                found[str(host.id)] = thing.count
        return found

    def fact(self, fact: Fact, source: HostId | None = None) -> None:
        self.observed = fold(self.observed, fact, self.now, source)

    def beat(self) -> None:
        """Every host that is up gives a sign of life; new or returned ones are asked for their inventory."""
        for host in self.hosts.values():
            if host.up:
                self.fact(Alive(host.id))
                if not self.observed.hosts[host.id].known:
                    self.fact(Seen(host.inventory()))

    def look(self) -> None:
        for name, data in self.configs.items():
            self.fact(ConfigSeen(name, data))
        for source, links in self.links.items():
            self.fact(LinksSeen(EntityId(source), tuple(links)))
        self.beat()

    def round(self, desired: Desired) -> Plan:
        """Plan, send, and let every effect show before the next round."""
        plan = reconcile(self.merged(desired), self.observed, self.pending, self.now)
        for command in plan.commands:
            self.pending = sent(self.pending, command, now=self.now)
            self.sent.append(command)
            self.apply(command)
            for id in {w.id for w in desired.wanted}:
                number = sum(self.running(id).values())
                self.lowest[id] = min(self.lowest.get(id, number), number)
                self.highest[id] = max(self.highest.get(id, number), number)
            self.pending = settled(self.pending, command.key, self.now)
        self.pending = expired(self.pending, self.now)
        self.now += 1.0
        self.beat()
        return plan

    def merged(self, desired: Desired) -> Desired:
        for app in desired.apps:
            old = self.ledger.get(app, Leftovers())
            links = frozenset(link.link for link in desired.links_of(app))
            configs = frozenset(n for n, owner in desired.owners.items() if owner == app)
            self.ledger[app] = Leftovers(old.links | links, old.configs | configs)
        return Desired(
            apps=desired.apps,
            wanted=desired.wanted,
            links=desired.links,
            configs=desired.configs,
            owners=desired.owners,
            external=desired.external,
            claims=desired.claims,
            leftovers=dict(self.ledger),
            proven=desired.proven,
        )

    def settle(self, desired: Desired, rounds: int = 80) -> Plan:
        """Rounds until one sends nothing and nothing is waited for; fails when that never comes."""
        self.beat()
        for _ in range(rounds):
            plan = self.round(desired)
            if not plan.commands and plan.wake_at > self.now + 120:
                return plan
        raise AssertionError(f"still at work after {rounds} rounds: {plan.commands} {plan.apps}")

    def say(self, event: Event, host: SimHost) -> None:
        self.fact(event, host.id)

    def apply(self, command: Command) -> None:
        match command:
            case PutConfig(name, data):
                self.configs[name] = dict(data)
                self.fact(ConfigSeen(name, dict(data)))
            case DeleteConfig(name):
                self.configs.pop(name, None)
                self.fact(ConfigSeen(name, None))
            case PutLink(link):
                listed = self.links.setdefault(link.source_id, [])
                assert not any(old.conflicts(link) for old in listed), "a link was put in another's way"
                for name in (*link.source_config, *link.target_config):
                    assert name in self.configs, "a link was put before its configuration"
                listed[:] = [*(old for old in listed if not link.replaces(old)), link]
                self.fact(LinksSeen(link.source_id, tuple(listed)))
            case DeleteLink(link):
                listed = self.links.setdefault(link.source_id, [])
                listed[:] = [old for old in listed if link_key(old) != link_key(link)]
                self.fact(LinksSeen(link.source_id, tuple(listed)))
            case ScaleComponent(host_id, id, image, count, annotations, config, _, update, said):
                host = self.hosts[host_id]
                if not host.up:
                    return
                old = host.components.get(id)
                for name in config if count else ():
                    assert name in self.configs or name in said, "a component was started before its configuration"
                error = host.broken.get(image) or self.broken.get(image)
                if count and (old is None or update) and error:
                    failed = ComponentScaleFailed(
                        component_id=id,
                        host_id=host_id,
                        image_ref=image,
                        max_instances=count,
                        annotations=dict(annotations),
                        error=error,
                    )
                    self.say(failed, host)
                    return
                shown = old.image if old and not update else image
                if count:
                    host.components[id] = Thing(shown, count, dict(annotations))
                else:
                    host.components.pop(id, None)
                self.say(
                    ComponentScaled(
                        component_id=id,
                        host_id=host_id,
                        image_ref=shown,
                        max_instances=count,
                        annotations=dict(annotations),
                    ),
                    host,
                )
            case StartProvider(host_id, id, image, annotations, _, instead):
                host = self.hosts[host_id]
                if not host.up:
                    return
                if id in host.providers and not instead:
                    self.refused.append(command)
                    return
                error = host.broken.get(image) or self.broken.get(image)
                if error:
                    self.say(
                        ProviderStartFailed(provider_id=id, provider_ref=image, host_id=host_id, error=error), host
                    )
                    return
                host.providers[id] = Thing(image, 1, dict(annotations))
                self.say(
                    ProviderStarted(provider_id=id, host_id=host_id, image_ref=image, annotations=dict(annotations)),
                    host,
                )
            case StopProvider(host_id, id):
                host = self.hosts[host_id]
                if host.up and host.providers.pop(id, None) is not None:
                    self.say(ProviderStopped(provider_id=id, host_id=host_id), host)


def manifest_text(name: str, components: Iterable[str], annotations: Mapping[str, str] = EMPTY) -> str:
    body = "\n".join(components)
    notes = "".join(f"\n    {key}: {json.dumps(value)}" for key, value in annotations.items())
    notes = notes and f"\n  annotations:{notes}"
    return f"""apiVersion: core.oam.dev/v1beta1
kind: Application
metadata:
  name: {name}{notes}
spec:
  components:
{body}
"""


def component(
    name: str,
    *,
    image: str = "img:1",
    instances: int = 1,
    spread: str = "",
    kind: str = "component",
    scaler: str = "spreadscaler",
    link: str = "",
    config: str = "",
    values: str = "{a: b}",
    id: str = "",
) -> str:
    lines = [f"    - name: {name}", f"      type: {kind}", "      properties:", f"        image: {image}"]
    if id:
        lines.append(f"        id: {id}")
    if config:
        lines.append(f"        config: [{{name: {config}, properties: {values}}}]")
    lines.append("      traits:")
    lines.append(f"        - type: {scaler}")
    lines.append(f"          properties: {{instances: {instances}{', spread: [' + spread + ']' if spread else ''}}}")
    if link:
        lines.append("        - type: link")
        lines.append(
            f"          properties: {{target: {{name: {link}, config: [{{name: c-{link}, properties: {{u: x}}}}]}}, "
            "namespace: wasi, package: keyvalue, interfaces: [store]}"
        )
    return "\n".join(lines)
