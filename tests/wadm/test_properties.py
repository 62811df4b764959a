"""What holds of every plan, however slowly, often or badly its commands are carried out."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from simulated_lattice import SimLattice, Thing, component, manifest_text

from lattice import EntityId
from lattice.links import LinkDefinition
from wadm.commands import Command, sent, settled
from wadm.desired import APPSPEC, MANAGED_BY, Desired, desired_from, together
from wadm.manifest import Rollout
from wadm.observed import Retry
from wadm.reasons import State
from wadm.reconcile import reconcile
from wadm.validate import check

quick = settings(
    max_examples=40,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
shuffles = st.randoms(use_true_random=False)


def shop(parts: list[str], surge: str = "25%", unavailable: str = "0") -> Desired:
    annotations = {"rollout.trellis.dev/max-surge": surge, "rollout.trellis.dev/max-unavailable": unavailable}
    checked = check(manifest_text("shop", parts, annotations))
    assert checked.manifest is not None, "\n".join(f.render() for f in checked.findings)
    return together([desired_from(checked.manifest)])


@st.composite
def versions(draw: st.DrawFn, kind: str, hosts: int) -> str:
    zone = draw(st.sampled_from(["", "", "eu", "us"]))
    return component(
        "api",
        kind=kind,
        image=draw(st.sampled_from(["img:1", "img:2"])),
        instances=draw(st.integers(0, hosts // 2 if kind == "capability" else 12)),
        spread=f"{{name: s, requirements: {{zone: {zone}}}}}" if zone else "",
        config="cfg",
        values=draw(st.sampled_from(["{a: b}", "{a: c}"])),
    )


def lattice_of(hosts: int) -> SimLattice:
    lattice = SimLattice(settled_after=2.0)
    for index in range(hosts):
        lattice.add(f"H{index}", zone=("eu", "us")[index % 2])
    lattice.beat()
    return lattice


def unreliably(lattice: SimLattice, desired: Desired, chance: random.Random, rounds: int) -> int:
    """Rounds in which commands come late (within their deadline), in another order, twice, or not at all.

    The most instances that one host ran meanwhile.
    """
    under_way: list[Command] = []
    largest = max(lattice.running("shop-api").values(), default=0)
    for _ in range(rounds):
        plan = reconcile(lattice.merged(desired), lattice.observed, lattice.pending, lattice.now)
        lattice.pending = sent(lattice.pending, *plan.commands, now=lattice.now)
        under_way = [c for c in under_way if lattice.now < lattice.pending[c.key].until]
        under_way += [c for c in plan.commands if chance.random() > 0.1]
        for command in chance.sample(under_way, chance.randint(0, len(under_way))):
            under_way.remove(command)
            for _ in range(chance.choice([1, 1, 2])):
                lattice.apply(command)
            lattice.pending = settled(lattice.pending, command.key, lattice.now)
            number = sum(lattice.running("shop-api").values())
            lattice.lowest["shop-api"] = min(number, lattice.lowest.get("shop-api", number))
            largest = max(largest, *lattice.running("shop-api").values(), 0)
            lattice.highest["shop-api"] = max(number, lattice.highest.get("shop-api", number))
        lattice.now += 1
        lattice.beat()
    lattice.pending = {}
    return largest


@quick
@given(
    st.data(),
    st.sampled_from(["component", "capability"]),
    st.integers(2, 6),
    st.sampled_from(["0", "1", "3", "25%", "100%"]),
    st.sampled_from(["0", "1", "50%"]),
    shuffles,
)
def test_capacity_stays_between_what_is_wanted_and_the_surge(
    data: st.DataObject, kind: str, hosts: int, surge: str, unavailable: str, chance: random.Random
) -> None:
    if (surge, unavailable) == ("0", "0"):
        surge = "1"
    lattice = lattice_of(hosts)
    before = shop([data.draw(versions(kind, hosts))])
    after = shop([data.draw(versions(kind, hosts))], surge, unavailable)
    lattice.settle(before)
    for host in lattice.hosts.values():
        if data.draw(st.booleans()):
            host.broken["img:2"] = data.draw(st.sampled_from(["TRL-IMG-001: no such file", "the registry hung up"]))
    lattice.lowest.clear()
    lattice.highest.clear()
    one_host = unreliably(lattice, after, chance, 25)
    old, new = before.wanted[0].instances, after.wanted[0].instances
    assert lattice.highest.get("shop-api", old) <= max(old, new) + beyond(after.wanted[0].rollout, new)
    assert lattice.lowest.get("shop-api", old) >= min(old, new) - below(after.wanted[0].rollout, new, one_host)
    for host in lattice.hosts.values():
        host.broken.clear()
    lattice.fact(Retry(frozenset({"shop-api"})))  # somebody mended it, and deploys it again
    plan = lattice.settle(after)
    assert plan.apps["shop"].state is State.READY
    assert sum(lattice.running("shop-api").values()) == new
    images = {t.image for h in lattice.hosts.values() for t in (*h.components.values(), *h.providers.values())}
    assert images <= {after.wanted[0].image}


def beyond(rollout: Rollout, wanted: int) -> int:
    return rollout.max_surge.of(wanted, up=True)


def below(rollout: Rollout, wanted: int, one_host: int) -> int:
    """A host changes as a whole: when it may not do so beside the old ones, those of one host leave first."""
    allowed = rollout.max_unavailable.of(wanted, up=False)
    return allowed if beyond(rollout, wanted) else max(allowed, one_host)


@quick
@given(st.data(), st.integers(1, 5), shuffles)
def test_what_the_application_does_not_own_is_never_touched(
    data: st.DataObject, hosts: int, chance: random.Random
) -> None:
    lattice = lattice_of(hosts)
    theirs = {MANAGED_BY: "somebody", APPSPEC: "shop"}
    for host in lattice.hosts.values():
        host.components["by-hand"] = Thing("img:9", 3, {})
        host.components["other"] = Thing("img:9", 3, dict(theirs))
        host.providers["by-hand-kv"] = Thing("img:9", 1, {})
    foreign = LinkDefinition(
        source_id=EntityId("by-hand"), target=EntityId("kv"), wit_namespace="a", wit_package="b", interfaces=("c",)
    )
    lattice.links["by-hand"] = [foreign]
    lattice.configs["theirs"] = {"a": "b"}
    lattice.look()
    for _ in range(2):
        unreliably(lattice, shop([data.draw(versions("component", hosts))]), chance, 10)
    lattice.settle(together([]))
    for host in lattice.hosts.values():
        assert host.components == {"by-hand": Thing("img:9", 3, {}), "other": Thing("img:9", 3, theirs)}
        assert host.providers == {"by-hand-kv": Thing("img:9", 1, {})}
    assert lattice.links["by-hand"] == [foreign]
    assert lattice.configs == {"theirs": {"a": "b"}}


@quick
@given(st.data(), st.integers(1, 5), shuffles)
def test_applying_a_plan_twice_is_applying_it_once(data: st.DataObject, hosts: int, chance: random.Random) -> None:
    once, twice = lattice_of(hosts), lattice_of(hosts)
    for _ in range(2):
        desired = shop([data.draw(versions("component", hosts)), component("kv", kind="capability", instances=2)])
        for _ in range(8):
            plan = reconcile(once.merged(desired), once.observed, {}, once.now)
            assert plan == reconcile(twice.merged(desired), twice.observed, {}, twice.now)
            for command in plan.commands:
                once.apply(command)
                twice.apply(command)
                twice.apply(command)
            for lattice in (once, twice):
                lattice.now += 1
                lattice.beat()
        assert once.hosts == twice.hosts and once.links == twice.links and once.configs == twice.configs


@quick
@given(st.data(), st.integers(1, 6), shuffles)
def test_nothing_depends_on_the_order_in_which_it_is_told(
    data: st.DataObject, hosts: int, chance: random.Random
) -> None:
    lattice = lattice_of(hosts)
    for host in lattice.hosts.values():
        if data.draw(st.booleans()):
            host.broken["img:2"] = "the registry hung up"
    unreliably(lattice, shop([data.draw(versions("component", hosts))]), chance, 4)
    desired = shop([data.draw(versions("component", hosts)), component("kv", kind="capability", instances=2)])
    unreliably(lattice, desired, chance, 4)
    first = reconcile(lattice.merged(desired), lattice.observed, {}, lattice.now)
    pending = sent({}, *first.commands[: len(first.commands) // 2], now=lattice.now)

    def shuffled(mapping):  # type: ignore[no-untyped-def]
        keys = list(mapping)
        chance.shuffle(keys)
        return {key: mapping[key] for key in keys}

    seen = lattice.observed
    mixed = replace(
        seen,
        hosts={k: replace(h, components=shuffled(h.components)) for k, h in shuffled(seen.hosts).items()},
        links=shuffled(seen.links),
        configs=shuffled(seen.configs),
        failures=shuffled(seen.failures),
    )
    wanted = lattice.merged(desired)
    there = reconcile(wanted, seen, pending, lattice.now)
    assert reconcile(wanted, mixed, shuffled(pending), lattice.now) == there
