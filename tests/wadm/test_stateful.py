"""Whatever is deployed, scaled, killed, cut off, rolled back and restarted: nothing acknowledged is lost, there is
never more than was wanted, one manager acts, and when it is quiet the lattice is what the manifests say, and rests.

STATEFUL_EXAMPLES=500 looks for longer. Managers are the real ones, on a broker in memory and in simulated time.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

import structlog
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from simulated_host import SimulatedHost
from simulated_lattice import component, manifest_text
from simulated_time import SimulatedTime

from lattice import LatticeError, subjects
from lattice.cable import Cable
from lattice.control import DRAINED
from lattice.lattice import Lattice
from lattice.memory import MemoryBroker
from wadm import Manager
from wadm.desired import SETTINGS
from wadm.store import Stored, decode

T = TypeVar("T")

APPS = ("blog", "shop")
ZONES = ("eu", "us")
MOST_HOSTS = 4
CHANGING = {"component", "provider", "link", "config"}
"""Commands that change something on the lattice."""


@dataclass(frozen=True)
class Wish:
    """What one version of an application asks for."""

    instances: int
    image: str
    zone: str | None
    store: bool
    """With a provider, a link to it and that link's configuration."""
    word: str
    """What its own configuration says."""

    def text(self, app: str) -> str:
        spread = f"{{name: main, requirements: {{zone: {self.zone}}}}}" if self.zone else ""
        link = "kv" if self.store else ""
        own = {"config": "own", "values": f"{{word: {self.word}}}"}
        parts = [component("api", image=self.image, instances=self.instances, spread=spread, link=link, **own)]
        return manifest_text(app, [*parts, component("kv", kind="capability", image="p:1")] if self.store else parts)


@dataclass
class Model:
    """What the manager has acknowledged of one application."""

    versions: dict[str, Wish] = field(default_factory=dict)
    deployed: str | None = None
    override: int | None = None
    most: int = 0
    """The highest number wanted since the lattice was last at rest."""

    def wants(self, version: str | None, override: int | None = None) -> None:
        self.deployed, self.override = version, override
        self.most = max(self.most, self.instances)

    @property
    def wish(self) -> Wish | None:
        return None if self.deployed is None else self.versions[self.deployed]

    @property
    def instances(self) -> int:
        if self.wish is None:
            return 0
        return self.wish.instances if self.override is None else self.override


def wish_of(data: Any) -> Wish:
    api, *others = data["spec"]["components"]
    scaler = api["traits"][0]["properties"]
    spread = scaler.get("spread") or [{"requirements": {}}]
    return Wish(
        scaler["instances"],
        api["properties"]["image"],
        spread[0]["requirements"].get("zone"),
        store=bool(others),
        word=api["properties"]["config"][0]["properties"]["word"],
    )


@dataclass
class Plugged:
    """A host or a manager, and its connection."""

    what: Any
    cable: Cable

    async def mend(self) -> None:
        """Inside the loop, where what follows a reconnect begins. Where nothing is cut, nothing happens."""
        self.cable.mend()


WISHES = st.builds(
    Wish,
    instances=st.integers(0, 5),
    image=st.sampled_from(["img:1", "img:2"]),
    zone=st.sampled_from([None, *ZONES]),
    store=st.booleans(),
    word=st.sampled_from(["hi", "ho"]),
)


class Site(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = SimulatedTime()
        self.broker = MemoryBroker()
        self.client = Cable(self.broker)
        self.hosts: dict[str, Plugged] = {}
        self.managers: list[Plugged] = []
        self.models = {app: Model() for app in APPS}
        self.broken: dict[str, str] = {}
        self.began = 0
        self.returned = False
        """Whether a host came back that had been given up, with what it had run, since the lattice was at rest."""

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    @initialize(wishes=st.tuples(WISHES, WISHES))
    def begin(self, wishes: tuple[Wish, Wish]) -> None:
        self.start_host("eu")
        self.start_host("us")
        self.start_manager()
        for app, wish in zip(APPS, wishes, strict=True):
            self.deploy(app, wish)

    # -- what people do

    @precondition(lambda self: self.managed)
    @rule(app=st.sampled_from(APPS), wish=WISHES)
    def deploy(self, app: str, wish: Wish) -> None:
        self.models[app].most = max(self.models[app].most, wish.instances)
        put = self.ask("put", wish.text(app))
        if put is None:
            self.look_up(app)
            return
        assert put["result"] in ("created", "newversion"), put
        self.models[app].versions[put["current_version"]] = wish
        self.deploy_version(app, put["current_version"])

    @precondition(lambda self: self.managed)
    @rule(app=st.sampled_from(APPS), back=st.integers(0, 10))
    def roll_back(self, app: str, back: int) -> None:
        versions = list(self.models[app].versions)
        if versions:
            self.deploy_version(app, versions[-1 - back % len(versions)])

    def deploy_version(self, app: str, version: str) -> None:
        model = self.models[app]
        model.most = max(model.most, model.versions[version].instances)
        answer = self.ask(f"deploy.{app}", {"version": version})
        if answer is None:
            self.look_up(app)
            return
        assert answer["result"] == "acknowledged", answer
        model.wants(version, model.override if version == model.deployed else None)

    @precondition(lambda self: self.managed)
    @rule(app=st.sampled_from(APPS), number=st.integers(0, 6))
    def scale(self, app: str, number: int) -> None:
        model = self.models[app]
        if model.deployed is None:
            return
        model.most = max(model.most, number)
        body = {"app": app, "component": "api", "instances": number}
        answer = self.request(subjects.manager("default", "scale"), body)
        if answer is None:
            self.look_up(app)
            return
        assert answer["success"], answer
        model.wants(model.deployed, number)

    @precondition(lambda self: self.managed)
    @rule(app=st.sampled_from(APPS))
    def undeploy(self, app: str) -> None:
        if self.ask(f"undeploy.{app}") is None:
            self.look_up(app)
            return
        self.models[app].wants(None)

    # -- what happens to them

    @precondition(lambda self: len(self.hosts) < MOST_HOSTS)
    @rule(zone=st.sampled_from(ZONES))
    def start_host(self, zone: str) -> None:
        self.began += 1
        name, cable = f"H{self.began}", Cable(self.broker)
        host = SimulatedHost(Lattice("default", cable), name, zone=zone, beat=1.0, changed=self.watch_surge)
        host.broken = self.broken
        self.do(host.__aenter__())
        self.hosts[name] = Plugged(host, cable)

    @precondition(lambda self: self.hosts)
    @rule(number=st.integers(0, 10))
    def kill_host(self, number: int) -> None:
        self.do(self.hosts.pop(self.chosen(number)).what.die())

    @precondition(lambda self: self.hosts)
    @rule(number=st.integers(0, 10))
    def stop_host(self, number: int) -> None:
        self.do(self.hosts.pop(self.chosen(number)).what.__aexit__())

    @precondition(lambda self: self.hosts)
    @rule(number=st.integers(0, 10))
    def cut_or_mend_host(self, number: int) -> None:
        self.returned = True
        self.turn(self.hosts[self.chosen(number)])

    @precondition(lambda self: self.hosts)
    @rule(number=st.integers(0, 10))
    def drain_host_or_undo_it(self, number: int) -> None:
        host = self.hosts[self.chosen(number)].what
        self.do(host.label(**{DRAINED: None if DRAINED in host.labels else "new kernel"}))

    @precondition(lambda self: len(self.managers) < 2)
    @rule()
    def start_manager(self) -> None:
        cable = Cable(self.broker)
        manager = Manager(Lattice("default", cable), discovery=0.2, clock=self.loop.time)
        self.do(manager.__aenter__())
        self.managers.append(Plugged(manager, cable))

    @precondition(lambda self: self.managers)
    @rule(number=st.integers(0, 10))
    def kill_manager(self, number: int) -> None:
        """Without a word: its lease stays."""
        killed = self.managers.pop(number % len(self.managers))
        if not killed.cable.is_cut:
            killed.cable.cut()
        self.do(killed.what.__aexit__(None, None, None))

    @precondition(lambda self: self.managers)
    @rule(number=st.integers(0, 10))
    def cut_or_mend_manager(self, number: int) -> None:
        self.turn(self.managers[number % len(self.managers)])

    @rule(image=st.sampled_from(["img:1", "img:2", "p:1"]))
    def break_or_mend_image(self, image: str) -> None:
        if self.broken.pop(image, None) is None:
            self.broken[image] = "the registry hung up"

    @rule(seconds=st.sampled_from([0.3, 2.0, 6.0, 12.0]))
    def wait(self, seconds: float) -> None:
        self.do(asyncio.sleep(seconds))

    # -- what holds

    @rule()
    def settle(self) -> None:
        """Mend everything; then the lattice becomes what is wanted, and rests."""
        self.broken.clear()
        for plugged in [*self.hosts.values(), *self.managers]:
            self.do(plugged.mend())
        for host in self.hosts.values():
            self.do(host.what.label(**{DRAINED: None}))
        if not self.managers:
            self.start_manager()
        if not self.hosts:  # it is hosts that carry out commands, also those about links and configurations
            self.start_host("eu")
        self.do(asyncio.sleep(60))
        self.do(self.until(self.as_wanted, 120))
        for host in self.hosts.values():
            host.what.commands.clear()
        self.do(asyncio.sleep(40))
        told = [c for host in self.hosts.values() for c in host.what.commands if c.partition(".")[0] in CHANGING]
        assert not told, f"it does not rest: {told}"
        assert self.as_wanted() == []
        for model in self.models.values():
            model.most = model.instances
        self.returned = False

    def as_wanted(self) -> list[str]:
        """What is not as the acknowledged manifests say."""
        wrong = []
        links: dict[str, list[str]] = {}
        configs: dict[str, dict[str, str]] = {}
        for app, model in self.models.items():
            wish = model.wish
            fitting = [h.what for h in self.hosts.values() if wish and wish.zone in (None, h.what.labels["zone"])]
            wanted = model.instances if fitting else 0
            runs = {h.what.id: c for h in self.hosts.values() if (c := h.what.components.get(f"{app}-api"))}
            if sum(c.max_instances for c in runs.values()) != wanted:
                wrong.append(f"{app} wants {wanted} and runs {runs}")
            if wish is not None and {c.image_ref for c in runs.values()} - {wish.image}:
                wrong.append(f"{app} wants {wish.image} and runs {runs}")
            stores = [h.what.id for h in self.hosts.values() if f"{app}-kv" in h.what.providers]
            if len(stores) != (1 if wish is not None and wish.store and self.hosts else 0):
                wrong.append(f"the store of {app} runs on {stores}")
            if len({c.annotations[SETTINGS] for c in runs.values()}) > 1:
                wrong.append(f"{app} runs with several configurations")
            if wish is not None:
                configs[f"{app}-own"] = {"word": wish.word}
            if wish is not None and wish.store:
                links[f"COMPONENT_{app}-api"] = [f"{app}-kv"]
                configs[f"{app}-c_kv"] = {"u": "x"}
        there = {
            key: [link["target"] for link in json.loads(entry.value or b"{}")["links"]]
            for key, entry in self.bucket("LATTICEDATA_default").items()
        }
        if {key: targets for key, targets in there.items() if targets} != links:
            wrong.append(f"the links are {there}, not {links}")
        said = {name: json.loads(entry.value) for name, entry in self.bucket("CONFIGDATA_default").items()}
        if said != configs:
            wrong.append(f"the configurations are {said}, not {configs}")
        return wrong

    @invariant()
    def nothing_acknowledged_is_lost(self) -> None:
        for app, model in self.models.items():
            stored = self.stored(app)
            assert set(model.versions) <= set(stored.manifests)
            assert stored.deployed_version == model.deployed

    @invariant()
    def one_manager_acts(self) -> None:
        assert sum(manager.what.acting for manager in self.managers) <= 1

    def watch_surge(self, host: SimulatedHost) -> None:
        """At each change on a host: no more there than was ever wanted, and in all room to replace each one once."""
        for app, model in self.models.items():
            id = f"{app}-api"
            if id in host.components:
                assert host.components[id].max_instances <= model.most
            connected = [h.what for h in self.hosts.values() if not h.cable.is_cut]
            total = sum(h.components[id].max_instances for h in connected if id in h.components)
            if not self.returned:
                assert total <= 2 * model.most, f"{app} runs {total}, and {model.most} were wanted at most"

    # -- tools

    @property
    def managed(self) -> bool:
        return any(not manager.cable.is_cut for manager in self.managers)

    def chosen(self, number: int) -> str:
        return list(self.hosts)[number % len(self.hosts)]

    def turn(self, plugged: Plugged) -> None:
        if plugged.cable.is_cut:
            self.do(plugged.mend())
        else:
            plugged.cable.cut()

    def ask(self, operation: str, body: Any = None) -> Any:
        return self.request(f"wadm.api.default.model.{operation}", body)

    def request(self, subject: str, body: Any) -> Any:
        """The answer; None when none came, so that nobody knows what became of it."""
        data = body.encode() if isinstance(body, str) else json.dumps(body or {}).encode()
        try:
            return json.loads(self.do(self.client.request(subject, data, timeout=5.0)).data)
        except LatticeError:
            return None

    def look_up(self, app: str) -> None:
        """No answer came: what is stored is what was done."""
        model, stored = self.models[app], self.stored(app)
        for version, data in stored.manifests.items():
            model.versions.setdefault(version, wish_of(data))
        note = self.bucket("trellis_manager").get(f"default.override.{app}")
        override = json.loads(note.value) if note is not None else {}
        same = stored.deployed_version is not None and override.get("version") == stored.deployed_version
        model.wants(stored.deployed_version, override["instances"].get("api") if same else None)

    def stored(self, app: str) -> Stored:
        value = self.bucket("wadm_manifests").get(f"default-{app}")
        found = decode(value.value) if value is not None and value.value is not None else None
        return found or Stored()

    def bucket(self, name: str) -> dict[str, Any]:
        bucket = self.broker.buckets.get(name)
        return {} if bucket is None else {k: e for k, e in bucket._entries.items() if e.value is not None}

    async def until(self, wrong: Callable[[], list[str]], seconds: float) -> None:
        until = self.loop.time() + seconds
        while wrong():
            assert self.loop.time() < until, wrong()
            await asyncio.sleep(1.0)

    def teardown(self) -> None:
        try:
            if self.hosts or self.managers:
                self.settle()
        finally:
            self.do(self.stop_everything())
            self.loop.close()

    async def stop_everything(self) -> None:
        for plugged in [*self.managers, *self.hosts.values()]:
            await plugged.what.__aexit__(None, None, None)
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)


def test_whatever_happens_what_was_acknowledged_becomes_true() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    run_state_machine_as_test(
        Site,
        settings=settings(
            max_examples=int(os.environ.get("STATEFUL_EXAMPLES", "5")),
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )
