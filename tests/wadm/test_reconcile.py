"""Plans: pure, and held against a lattice that carries them out."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from simulated_lattice import SimLattice, Thing, component, manifest_text

from lattice import EntityId, HostId
from lattice.control import DRAINED, Wired
from lattice.events import (
    HealthCheckFailed,
    HealthCheckStatus,
    HostHeartbeat,
    HostStopped,
    LabelsChanged,
    LinkSet,
    LinkSetFailed,
    ProviderStarted,
    ProviderStopped,
)
from lattice.links import LinkDefinition
from wadm.commands import (
    DEADLINE,
    DeleteLink,
    Pending,
    PutConfig,
    PutLink,
    ScaleComponent,
    StartProvider,
    StopProvider,
    sent,
    settled,
)
from wadm.desired import APPSPEC, MANAGED_BY, Desired, desired_from, together
from wadm.observed import ConfigSeen, Failure, Forgiven, LinksSeen, Seen
from wadm.reasons import State
from wadm.reconcile import reconcile
from wadm.validate import check


def app(name: str, *components: str, **overrides: int) -> Desired:
    checked = check(manifest_text(name, components))
    assert checked.manifest is not None, "\n".join(f.render() for f in checked.findings)
    return desired_from(checked.manifest, overrides)


def wanted(*apps: Desired) -> Desired:
    return together(apps)


@pytest.fixture
def two() -> SimLattice:
    lattice = SimLattice()
    lattice.add("A", zone="eu")
    lattice.add("B", zone="us")
    lattice.beat()
    return lattice


def test_six_instances_on_two_hosts_are_three_and_three(two: SimLattice) -> None:
    plan = two.settle(wanted(app("shop", component("api", instances=6))))
    assert two.running("shop-api") == {"A": 3, "B": 3}
    assert plan.apps["shop"].state is State.READY


def test_spreads_share_out_by_weight(two: SimLattice) -> None:
    spread = "{name: eu, requirements: {zone: eu}, weight: 80}, {name: us, requirements: {zone: us}, weight: 20}"
    two.settle(wanted(app("shop", component("api", instances=11, spread=spread))))
    assert two.running("shop-api") == {"A": 9, "B": 2}


def test_scaling_up_and_down_keeps_the_hosts_even(two: SimLattice) -> None:
    two.settle(wanted(app("shop", component("api", instances=2))))
    two.settle(wanted(app("shop", component("api", instances=7))))
    assert sorted(two.running("shop-api").values()) == [3, 4]
    two.settle(wanted(app("shop", component("api", instances=4))))
    assert two.running("shop-api") == {"A": 2, "B": 2}


def test_an_override_counts_instead_of_the_manifest(two: SimLattice) -> None:
    two.settle(wanted(app("shop", component("api", instances=2), api=8)))
    assert two.running("shop-api") == {"A": 4, "B": 4}


def test_a_component_without_a_scaler_runs_once(two: SimLattice) -> None:
    text = manifest_text("shop", ["    - name: api\n      type: actor\n      properties: {image: img:1}"])
    manifest = check(text).manifest
    assert manifest is not None
    two.settle(wanted(desired_from(manifest)))
    assert sum(two.running("shop-api").values()) == 1


def test_a_dead_hosts_work_goes_to_the_others(two: SimLattice) -> None:
    desired = wanted(app("shop", component("api", instances=4)))
    two.settle(desired)
    two.hosts["B"].up = False  # type: ignore[index]
    begun = two.now
    while sum(two.running("shop-api").values()) < 4:
        two.round(desired)
    assert two.now - begun <= 6
    assert two.running("shop-api") == {"A": 4}


def test_a_host_that_says_goodbye_is_replaced_at_once(two: SimLattice) -> None:
    desired = wanted(app("shop", component("api", instances=4)))
    two.settle(desired)
    two.hosts["B"].up = False  # type: ignore[index]
    two.fact(HostStopped(labels={}), two.hosts["B"].id)  # type: ignore[index]
    two.round(desired)
    assert two.running("shop-api") == {"A": 4}


def test_a_returning_host_is_asked_first_and_the_surplus_goes(two: SimLattice) -> None:
    desired = wanted(app("shop", component("api", instances=4)))
    two.settle(desired)
    two.hosts["B"].up = False  # type: ignore[index]
    for _ in range(7):
        two.round(desired)
    assert two.running("shop-api") == {"A": 4}
    two.hosts["B"].up = True  # type: ignore[index]
    two.settle(desired)
    assert two.running("shop-api") == {"A": 2, "B": 2}


def test_silence_is_not_held_against_hosts_while_nobody_listened(two: SimLattice) -> None:
    desired = wanted(app("shop", component("api", instances=4)))
    two.settle(desired)
    two.now += 2
    two.fact(Forgiven())
    two.now += 3
    assert reconcile(two.merged(desired), two.observed, {}, two.now).commands == ()


def test_a_new_host_does_not_move_what_is_fine(two: SimLattice) -> None:
    desired = wanted(app("shop", component("api", instances=4)))
    two.settle(desired)
    two.add("C")
    two.beat()
    assert two.round(desired).commands == ()


def test_moving_to_other_hosts_never_drops_capacity(two: SimLattice) -> None:
    two.settle(wanted(app("shop", component("api", instances=4, spread="{name: s, requirements: {zone: eu}}"))))
    assert two.running("shop-api") == {"A": 4}
    two.lowest.clear()
    two.settle(wanted(app("shop", component("api", instances=4, spread="{name: s, requirements: {zone: us}}"))))
    assert two.running("shop-api") == {"B": 4}
    assert two.lowest["shop-api"] >= 4


def test_a_new_image_is_updated_in_place_on_one_host_first(two: SimLattice) -> None:
    two.settle(wanted(app("shop", component("api", instances=4, image="img:1"))))
    two.sent.clear()
    desired = wanted(app("shop", component("api", instances=4, image="img:2")))
    first = two.round(desired)
    assert [(type(c), c.host, c.count, c.update) for c in first.commands] == [(ScaleComponent, "A", 2, True)]
    two.settle(desired)
    assert {t.image for h in two.hosts.values() for t in h.components.values()} == {"img:2"}
    assert [(c.host, c.count, c.update) for c in two.sent] == [("A", 2, True), ("B", 2, True)]


def test_a_broken_new_image_leaves_the_old_one_serving(two: SimLattice) -> None:
    two.settle(wanted(app("shop", component("api", instances=4, image="img:1"))))
    two.broken["img:2"] = "image not found: img:2"
    desired = wanted(app("shop", component("api", instances=4, image="img:2")))
    for _ in range(5):
        plan = two.round(desired)
    status = plan.apps["shop"].components[0]
    assert status.state is State.BLOCKED
    assert status.reason is not None and status.reason.code == "TRL-IMG-001"
    assert "image not found: img:2" in status.reason.message
    assert sum(two.running("shop-api").values()) == 4


def test_a_failure_is_tried_again_with_growing_pauses(two: SimLattice) -> None:
    two.broken["img:1"] = "the registry hung up"
    desired = wanted(app("shop", component("api", instances=1)))
    states = [two.round(desired).apps["shop"].state for _ in range(60)]
    assert 8 <= len(two.sent) <= 16
    assert states[:10] == [State.PROGRESSING] * 10
    plan = two.round(desired)  # it failed each time: somebody should look, and it is still tried
    assert plan.apps["shop"].state is State.BLOCKED
    assert "the registry hung up" in str(plan.apps["shop"].components[0].reason)
    two.broken.clear()
    two.settle(desired)
    assert sum(two.running("shop-api").values()) == 1


def test_a_failure_waits_twice_as_long_each_time_up_to_half_a_minute() -> None:
    waits = [Failure("img:1", "the registry hung up", 0.0, count).retry_at for count in (1, 2, 3, 5, 6, 1000)]
    assert waits == [1, 2, 4, 16, 30, 30]


def test_a_command_whose_effect_is_undone_waits_longer_each_time_up_to_its_deadline() -> None:
    stop = StopProvider(HostId("A"), EntityId("shop-kv"))
    pending: Pending = {}
    waits = []
    for _ in range(12):
        pending = settled(sent(pending, stop, now=0.0), stop.key, 0.0)
        waits.append(pending[stop.key].until)
    assert waits[:4] == [0, 0.25, 0.5, 1] and waits[-1] == DEADLINE


def test_what_fails_on_one_host_is_tried_on_another(two: SimLattice) -> None:
    desired = wanted(app("shop", component("api", kind="capability")))
    first = two.round(desired).commands[0]
    assert isinstance(first, StartProvider)
    two.hosts[first.host].providers.clear()
    other = SimLattice()
    other.add("A")
    other.add("B")
    other.beat()
    other.broken["img:1"] = "address already in use: 0.0.0.0:8000"
    other.round(desired)
    other.broken.clear()
    other.settle(desired)
    assert set(other.running("shop-api")) == {"A", "B"} - {first.host}


def test_no_fitting_host_is_blocked_and_names_the_labels(two: SimLattice) -> None:
    plan = two.settle(wanted(app("shop", component("api", spread="{name: s, requirements: {zone: mars}}"))))
    status = plan.apps["shop"].components[0]
    assert status.state is State.BLOCKED
    assert status.reason is not None and status.reason.code == "TRL-PLC-001"
    assert status.reason.message == ("No host satisfies zone=mars for api: host-A has zone=eu; host-B has zone=us.")


def test_no_host_at_all_says_so() -> None:
    plan = SimLattice().round(wanted(app("shop", component("api"))))
    assert plan.apps["shop"].components[0].reason is not None
    assert plan.apps["shop"].components[0].reason.code == "TRL-PLC-003"


def test_ineligible_hosts_lose_their_instances(two: SimLattice) -> None:
    two.settle(wanted(app("shop", component("api", instances=2))))
    two.settle(wanted(app("shop", component("api", instances=2, spread="{name: s, requirements: {zone: mars}}"))))
    assert two.running("shop-api") == {}


def empty(lattice: SimLattice, name: str) -> None:
    host = lattice.hosts[HostId(name)]
    host.labels[DRAINED] = "new kernel"
    lattice.say(LabelsChanged(host_id=host.id, labels=host.labels), host)


def test_a_host_that_is_emptied_keeps_its_work_until_it_runs_elsewhere_and_gets_none_back(two: SimLattice) -> None:
    desired = wanted(app("shop", component("api", instances=4), component("kv", kind="capability", image="p:1")))
    two.settle(desired)
    empty(two, "A")
    plan = two.settle(desired)
    assert two.running("shop-api") == {"B": 4} and plan.apps["shop"].state is State.READY
    assert two.running("shop-kv").keys() == {"B"}
    two.settle(wanted(app("shop", component("api", instances=6))))
    assert two.running("shop-api") == {"B": 6}


def test_what_fits_on_no_other_host_stays_on_the_one_that_is_emptied(two: SimLattice) -> None:
    desired = wanted(app("shop", component("api", instances=2, spread="{name: eu, requirements: {zone: eu}}")))
    two.settle(desired)
    empty(two, "A")
    assert two.settle(desired).apps["shop"].state is State.READY
    assert two.running("shop-api") == {"A": 2}


@pytest.mark.parametrize("kind", ["component", "capability"])
def test_a_host_that_is_emptied_gets_nothing_also_where_nothing_else_fits(two: SimLattice, kind: str) -> None:
    empty(two, "A")
    eu = "{name: eu, requirements: {zone: eu}}"
    for _ in range(5):
        plan = two.round(wanted(app("shop", component("api", kind=kind, instances=1, spread=eu))))
    assert two.running("shop-api") == {}
    status = plan.apps["shop"].components[0]
    assert status.state is State.BLOCKED and status.reason is not None and status.reason.code == "TRL-PLC-001"
    assert "host-A is being emptied" in status.reason.message


def test_what_stays_on_a_host_that_is_emptied_does_not_grow_there(two: SimLattice) -> None:
    eu = "{name: eu, requirements: {zone: eu}}"
    two.settle(wanted(app("shop", component("api", instances=2, spread=eu))))
    empty(two, "A")
    for _ in range(5):
        plan = two.round(wanted(app("shop", component("api", instances=4, spread=eu))))
    assert two.running("shop-api") == {"A": 2}
    status = plan.apps["shop"].components[0]
    assert status.state is State.DEGRADED and status.reason is not None and status.reason.code == "TRL-PLC-001"
    two.settle(wanted(app("shop", component("api", instances=1, spread=eu))))
    assert two.running("shop-api") == {"A": 1}


@pytest.mark.parametrize("kind", ["component", "capability"])
def test_a_daemon_follows_hosts_that_come_go_and_are_emptied(two: SimLattice, kind: str) -> None:
    desired = wanted(app("shop", component("api", kind=kind, scaler="daemonscaler")))
    two.settle(desired)
    guest = two.add("C")
    for _ in range(3):
        guest.up = True
        two.settle(desired)
        assert two.running("shop-api").keys() == {"A", "B", "C"}
        guest.up, guest.components, guest.providers = False, {}, {}
        for _ in range(6):
            assert two.round(desired).commands == ()
        assert two.running("shop-api").keys() == {"A", "B"}
    empty(two, "A")
    assert two.settle(desired).apps["shop"].state is State.READY
    assert two.running("shop-api").keys() == {"B"}
    two.hosts[HostId("A")].labels.pop(DRAINED)
    two.say(LabelsChanged(host_id=HostId("A"), labels=two.hosts[HostId("A")].labels), two.hosts[HostId("A")])
    two.settle(desired)
    assert two.running("shop-api").keys() == {"A", "B"}


def test_a_daemon_runs_on_every_fitting_host_also_on_new_ones(two: SimLattice) -> None:
    desired = wanted(app("shop", component("api", instances=2, scaler="daemonscaler")))
    two.settle(desired)
    assert two.running("shop-api") == {"A": 2, "B": 2}
    two.add("C")
    two.beat()
    two.settle(desired)
    assert two.running("shop-api") == {"A": 2, "B": 2, "C": 2}


def test_a_provider_runs_once_per_host(two: SimLattice) -> None:
    plan = two.settle(wanted(app("shop", component("kv", kind="capability", instances=3))))
    assert two.running("shop-kv") == {"A": 1, "B": 1}
    status = plan.apps["shop"].components[0]
    assert status.state is State.DEGRADED
    assert status.reason is not None and status.reason.code == "TRL-PLC-002"


def test_a_providers_new_image_takes_over_one_host_after_the_other(two: SimLattice) -> None:
    two.settle(wanted(app("shop", component("kv", kind="capability", instances=2))))
    two.lowest.clear()
    two.settle(wanted(app("shop", component("kv", kind="capability", instances=2, image="img:2"))))
    assert {t.image for h in two.hosts.values() for t in h.providers.values()} == {"img:2"}
    assert two.lowest["shop-kv"] == 2


def test_configuration_then_links_then_components(two: SimLattice) -> None:
    desired = wanted(app("shop", component("api", link="kv", config="cfg"), component("kv", kind="capability")))
    two.settle(desired)
    kinds = [type(c) for c in two.sent]
    assert kinds.index(PutLink) > max(i for i, k in enumerate(kinds) if k is PutConfig)
    assert min(kinds.index(ScaleComponent), kinds.index(StartProvider)) > kinds.index(PutLink)


def test_undeploy_removes_what_the_app_owns_and_nothing_else(two: SimLattice) -> None:
    shop = app("shop", component("api", link="kv", config="cfg"), component("kv", kind="capability"))
    other = app("blog", component("api", link="kv", config="cfg"), component("kv", kind="capability"))
    two.hosts["A"].components["by-hand"] = Thing("img:9", 1, {})  # type: ignore[index]
    two.configs["theirs"] = {"x": "y"}
    two.look()
    two.settle(wanted(shop, other))
    two.settle(wanted(other))
    assert two.running("shop-api") == {} and two.running("shop-kv") == {}
    assert not two.links["shop-api"]
    assert {n for n in two.configs if n.startswith("shop")} == set()
    assert "theirs" in two.configs and "blog-cfg" in two.configs
    assert sum(two.running("blog-api").values()) == 1
    assert two.running("by-hand") == {"A": 1}
    plan = two.settle(wanted())
    assert plan.leaving == frozenset()
    assert list(two.configs) == ["theirs"]


def test_two_apps_with_one_id_are_an_error_that_names_both(two: SimLattice) -> None:
    plan = two.settle(wanted(app("a", component("x", id="same")), app("b", component("y", id="same", image="img:2"))))
    assert plan.apps["a"].state is State.READY
    status = plan.apps["b"].components[0]
    assert status.state is State.BLOCKED
    assert status.reason is not None and status.reason.code == "TRL-OWN-001"
    assert "application 'a'" in status.reason.message and "'b'" in status.reason.message


def test_a_link_moves_to_another_target(two: SimLattice) -> None:
    parts = (component("kv", kind="capability"), component("other", kind="capability"))
    two.settle(wanted(app("shop", component("api", link="kv"), *parts)))
    two.settle(wanted(app("shop", component("api", link="other"), *parts)))
    assert [link.target for link in two.links["shop-api"]] == ["shop-other"]
    assert "shop-c_kv" not in two.configs


def test_a_link_that_was_lost_is_put_again(two: SimLattice) -> None:
    desired = wanted(app("shop", component("api", link="kv"), component("kv", kind="capability")))
    two.settle(desired)
    link = two.links["shop-api"][0]
    two.apply(DeleteLink(link))
    two.settle(desired)
    assert two.links["shop-api"] == [link]


def test_a_missing_external_configuration_blocks_and_names_it(two: SimLattice) -> None:
    text = manifest_text(
        "shop", ["    - name: api\n      type: actor\n      properties: {image: img:1, config: [{name: db}]}"]
    )
    manifest = check(text).manifest
    assert manifest is not None
    plan = two.settle(wanted(desired_from(manifest)))
    status = plan.apps["shop"].components[0]
    assert status.state is State.BLOCKED
    assert status.reason is not None and status.reason.code == "TRL-CFG-001"
    assert "db" in status.reason.message
    two.configs["db"] = {"url": "x"}
    two.look()
    assert two.settle(wanted(desired_from(manifest))).apps["shop"].state is State.READY


def test_one_started_by_hand_is_taken_over(two: SimLattice) -> None:
    two.hosts["A"].components["shop-api"] = Thing("img:1", 1, {})  # type: ignore[index]
    two.fact(Seen(two.hosts["A"].inventory()))  # type: ignore[index]
    two.settle(wanted(app("shop", component("api", instances=1))))
    assert two.running("shop-api") == {"A": 1}
    assert two.hosts["A"].components["shop-api"].annotations[APPSPEC] == "shop"  # type: ignore[index]


def test_a_host_that_never_applies_a_command_is_not_flooded(two: SimLattice) -> None:
    desired = wanted(app("shop", component("api")))
    commands = 0
    for _ in range(30):
        plan = reconcile(desired, two.observed, two.pending, two.now)
        commands += len(plan.commands)
        for command in plan.commands:
            two.pending = two.pending | {}  # keep the type: a plain dict
            two.pending = sent(two.pending, command, now=two.now)
        two.now += 1
        two.beat()
    assert commands == 3


def test_link_status_says_whether_calls_stay_inside_a_host(two: SimLattice) -> None:
    daemon = component("kv", kind="capability", scaler="daemonscaler")
    desired = wanted(app("shop", component("api", instances=2, link="kv"), daemon))
    two.settle(desired)
    status = reconcile(two.merged(desired), two.observed, {}, two.now).apps["shop"].links[0]
    assert status.local == ("A", "B") and status.remote == ()


def test_an_unrelated_link_is_left_alone(two: SimLattice) -> None:
    foreign = LinkDefinition(
        source_id=EntityId("x"), target=EntityId("y"), wit_namespace="a", wit_package="b", interfaces=("c",)
    )
    two.links["x"] = [foreign]
    two.look()
    two.settle(wanted(app("shop", component("api"))))
    two.settle(wanted())
    assert two.links["x"] == [foreign]


# -- properties

ZONES = ["eu", "us", "asia"]
spreads = st.lists(st.sampled_from([*ZONES, "any"]), max_size=3, unique=True)


@st.composite
def apps(draw: st.DrawFn, name: str) -> Desired:
    parts = []
    count = draw(st.integers(1, 3))
    for index in range(count):
        chosen = draw(spreads)
        text = ", ".join(
            "{name: any, requirements: {}}" if z == "any" else f"{{name: {z}, requirements: {{zone: {z}}}}}"
            for z in chosen
        )
        parts.append(
            component(
                f"c{index}",
                image=draw(st.sampled_from(["img:1", "img:2"])),
                instances=draw(st.integers(0, 9)),
                spread=text,
                kind=draw(st.sampled_from(["component", "capability"])) if index else "component",
                scaler=draw(st.sampled_from(["spreadscaler", "spreadscaler", "daemonscaler"])),
                link=f"c{draw(st.integers(1, count - 1))}" if index == 0 and count > 1 and draw(st.booleans()) else "",
                config=draw(st.sampled_from(["", "cfg"])),
            )
        )
    return app(name, *parts)


@st.composite
def lattices(draw: st.DrawFn) -> SimLattice:
    """Any start: hosts with labels that already run all sorts of things."""
    lattice = SimLattice(settled_after=2.0)
    for index in range(draw(st.integers(0, 4))):
        host = lattice.add(f"H{index}", zone=draw(st.sampled_from(ZONES)))
        for id in ("shop-c0", "shop-c7", "blog-c0", "old-c0"):
            if draw(st.booleans()):
                owner = draw(st.sampled_from([{}, {MANAGED_BY: "wadm", APPSPEC: id.split("-")[0]}]))
                host.components[id] = Thing(
                    draw(st.sampled_from(["img:1", "img:2"])), draw(st.integers(1, 5)), dict(owner)
                )
    lattice.beat()
    return lattice


def as_wanted(lattice: SimLattice, desired: Desired) -> None:
    """The lattice is exactly what is desired, where hosts allow it."""
    up = [h for h in lattice.hosts.values() if h.up]
    for one in desired.wanted:
        there = lattice.running(one.id)
        fits = {h.id for h in up if any(s.fits(h.labels) for s in one.spreads)}
        assert set(there) <= fits
        if one.kind.value == "component" and one.rule.value == "spreadscaler":
            possible = sum(
                number
                for name, number in one.counts().items()
                if any(s.fits(h.labels) for s in one.spreads if s.name == name for h in up)
            )
            assert sum(there.values()) == possible
        elif one.rule.value == "daemonscaler":
            expected = one.instances if one.kind.value == "component" else 1
            if one.instances > 0:
                assert there == dict.fromkeys(fits, expected)
        images = {(h.components.get(one.id) or h.providers[one.id]).image for h in up if h.id in there}
        assert images <= {one.image}
    for wanted_link in desired.links:
        assert wanted_link.link in lattice.links[wanted_link.link.source_id]
    for name, data in desired.configs.items():
        assert lattice.configs[name] == data
    ids = {w.id for w in desired.wanted}
    for host in up:
        for id, thing in {**host.components, **host.providers}.items():
            assert id in ids or APPSPEC not in thing.annotations


@settings(
    max_examples=60,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
@given(lattices(), apps("shop"), apps("blog"), apps("shop"), st.data())
def test_any_lattice_converges_and_then_rests(
    lattice: SimLattice, first: Desired, blog: Desired, second: Desired, data: st.DataObject
) -> None:
    for desired in (wanted(first, blog), wanted(second, blog), wanted(blog)):
        lattice.settle(desired)
        as_wanted(lattice, desired)
        assert reconcile(lattice.merged(desired), lattice.observed, {}, lattice.now).commands == ()
        if lattice.hosts and data.draw(st.booleans()):
            victim = data.draw(st.sampled_from(sorted(lattice.hosts)))
            lattice.hosts[victim].up = not lattice.hosts[victim].up
        elif data.draw(st.booleans()):
            lattice.add(f"N{len(lattice.hosts)}", zone=data.draw(st.sampled_from(ZONES)))
        for _ in range(8):
            lattice.round(desired)
        lattice.settle(desired)
        as_wanted(lattice, desired)


@settings(max_examples=60, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(st.integers(0, 12), st.integers(0, 12), st.integers(1, 4))
def test_scaling_never_goes_beyond_or_below_what_is_asked(before: int, after: int, hosts: int) -> None:
    lattice = SimLattice(settled_after=2.0)
    for index in range(hosts):
        lattice.add(f"H{index}")
    lattice.beat()
    lattice.settle(wanted(app("shop", component("api", instances=before))))
    lattice.lowest.clear()
    lattice.highest.clear()
    lattice.settle(wanted(app("shop", component("api", instances=after))))
    assert sum(lattice.running("shop-api").values()) == after
    assert lattice.highest.get("shop-api", after) <= max(before, after)
    assert lattice.lowest.get("shop-api", after) >= min(before, after)


def test_stop_commands_name_only_running_providers(two: SimLattice) -> None:
    two.settle(wanted(app("shop", component("kv", kind="capability", instances=2))))
    two.settle(wanted(app("shop", component("kv", kind="capability", instances=1))))
    assert len(two.running("shop-kv")) == 1
    assert sum(isinstance(c, StopProvider) for c in two.sent) == 1


def test_a_link_that_a_provider_refuses_blocks_the_app_until_it_is_taken(two: SimLattice) -> None:
    desired = wanted(app("shop", component("api", link="kv"), component("kv", kind="capability")))
    two.settle(desired)
    link = desired.links[0].link
    data = {"name_": link.name, **link.model_dump(exclude={"name"})}
    (where,) = two.running("shop-kv")
    error = 'provider "shop-kv": address 127.0.0.1:80 is already in use'
    two.fact(LinkSetFailed(**data, error=error), HostId(where))
    status = two.settle(desired).apps["shop"]
    assert status.state is State.BLOCKED
    reason = status.links[0].reason
    assert reason is not None and reason.code == "TRL-PRV-001" and "127.0.0.1:80" in reason.message
    two.fact(LinkSet(**data), HostId(where))
    assert two.settle(desired).apps["shop"].state is State.READY


def test_a_link_is_ready_once_its_provider_was_given_it_as_it_is_now(two: SimLattice) -> None:
    desired = wanted(app("shop", component("api", link="kv"), component("kv", kind="capability")))
    two.settle(desired)
    link = desired.links[0].link
    (where,) = two.running("shop-kv")
    inventory = two.hosts[HostId(where)].inventory()

    def state() -> State:
        return reconcile(desired, two.observed, two.pending, two.now).apps["shop"].state

    assert state() is State.READY  # a host of another kind, which does not tell
    two.fact(LinksSeen(link.source_id, (link,), revision=7))
    (config,) = {*link.source_config, *link.target_config}
    two.fact(ConfigSeen(config, desired.configs[config], revision=3))
    for links, configs, expected in ((6, 3, State.PROGRESSING), (7, 2, State.PROGRESSING), (7, 3, State.READY)):
        wired = Wired(links=links, configs=configs)
        two.fact(HostHeartbeat(inventory=inventory.model_copy(update={"wired": wired})), HostId(where))
        assert state() is expected


def test_new_limits_are_given_to_what_runs_without_stopping_it(two: SimLattice) -> None:
    plain = component("api", instances=4)
    two.settle(wanted(app("shop", plain)))
    two.sent.clear()
    two.lowest.clear()
    two.settle(wanted(app("shop", plain.replace("image: img:1", "image: img:1\n        x-limits: {memory: 1Mi}"))))
    assert [(c.count, c.limits) for c in two.sent if isinstance(c, ScaleComponent)] == [
        (2, {"max_memory_limit": "1048576"})
    ] * 2
    assert two.lowest["shop-api"] == 4


def test_a_provider_that_ended_by_itself_is_its_hosts_to_restart_and_says_why(two: SimLattice) -> None:
    desired = wanted(app("shop", component("kv", kind="capability")))
    two.settle(desired)
    host = next(h for h in two.hosts.values() if h.providers)
    id = EntityId("shop-kv")
    two.say(HealthCheckFailed(provider_id=id, host_id=host.id, error="exited with 3\ndisk full"), host)
    two.say(ProviderStopped(provider_id=id, host_id=host.id, reason="crashed: exited with 3"), host)
    plan = two.round(desired)
    assert not plan.commands
    (status,) = plan.apps["shop"].components
    assert status.state is State.DEGRADED and status.reason is not None
    assert (status.reason.code, "disk full" in status.reason.message) == ("TRL-PRV-002", True)
    two.say(HealthCheckStatus(provider_id=id, host_id=host.id), host)  # as another host says it: nothing changed
    assert two.round(desired).apps["shop"].state is State.DEGRADED
    two.say(ProviderStarted(provider_id=id, host_id=host.id, image_ref="img:1"), host)
    assert two.settle(desired).apps["shop"].state is State.READY
