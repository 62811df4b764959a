"""What a deploy would change, before it does."""

from __future__ import annotations

import pytest
from simulated_lattice import SimLattice, component, manifest_text

from wadm.changes import Change, changes
from wadm.desired import Desired, Kind, desired_from
from wadm.preview import Preview, Way, preview
from wadm.validate import check

KV = component("kv", kind="capability", image="builtin:keyvalue-memory")


def app(name: str, *components: str, **overrides: int) -> Desired:
    checked = check(manifest_text(name, components))
    assert checked.manifest is not None, "\n".join(f.render() for f in checked.findings)
    return desired_from(checked.manifest, overrides)


@pytest.fixture
def two() -> SimLattice:
    lattice = SimLattice()
    lattice.add("A", zone="eu")
    lattice.add("B", zone="us")
    lattice.beat()
    return lattice


def look(lattice: SimLattice, old: Desired, new: Desired, *others: Desired) -> Preview:
    return preview(old, new, others, {}, lattice.observed, lattice.now)


def test_the_same_is_no_change():
    assert changes(app("shop", component("api"), KV), app("shop", component("api"), KV)) == []


def test_a_new_image_and_number_are_named():
    old, new = app("shop", component("api")), app("shop", component("api", image="img:2", instances=3))
    assert changes(old, new) == [
        Change("change", "image", "api", before="img:1", after="img:2"),
        Change("change", "instances", "api", before="1 instance", after="3 instances"),
    ]


def test_a_new_link_is_a_new_capability_and_a_removed_one_is_a_lost_one():
    old, new = app("shop", component("api"), KV), app("shop", component("api", link="kv"), KV)
    gained = [c for c in changes(old, new) if c.kind == "uses"]
    assert gained == [Change("add", "uses", "api", "wasi:keyvalue/store", after="kv")]
    lost = [c for c in changes(new, old) if c.kind == "uses"]
    assert lost == [Change("remove", "uses", "api", "wasi:keyvalue/store", before="kv")]


def test_another_target_for_the_same_interface_is_no_new_capability():
    old = app("shop", component("api", link="kv"), KV, KV.replace("kv", "db", 1))
    new = app("shop", component("api", link="db"), KV, KV.replace("kv", "db", 1))
    assert {c.kind for c in changes(old, new)} == {"link", "config"}


def test_a_configuration_that_says_something_else_shows_each_key():
    old = app("shop", component("api", config="cfg"))
    new = app("shop", component("api", config="cfg").replace("{a: b}", "{a: c, d: e}"))
    assert changes(old, new) == [
        Change("change", "config", "", "shop-cfg.a", "b", "c"),
        Change("add", "config", "", "shop-cfg.d", "", "e"),
    ]


def test_components_come_and_go():
    found = changes(app("shop", component("api")), app("shop", component("web"), KV))
    assert [(c.op, c.kind, c.component) for c in found] == [
        ("add", "component", "web"),
        ("add", "provider", "kv"),
        ("remove", "component", "api"),
    ]


def test_it_says_where_everything_would_run_and_how_calls_would_travel(two: SimLattice):
    found = look(two, Desired(), app("shop", component("api", instances=4, link="kv"), KV))
    placed = {p.name: dict(p.hosts) for p in found.placement}
    assert placed["api"] == {"host-A": 2, "host-B": 2}
    (home,) = placed["kv"]
    other = "host-A" if home == "host-B" else "host-B"
    assert found.links == (Way("api", "kv", ("wasi:keyvalue/store",), (home,), (other,)),)
    assert found.problems == ()


def test_it_is_what_a_deploy_then_does(two: SimLattice):
    desired = app("shop", component("api", instances=5, link="kv"), KV)
    found = look(two, Desired(), desired)
    two.settle(desired)
    assert {p.name: {h.removeprefix("host-"): n for h, n in p.hosts} for p in found.placement} == {
        "api": two.running("shop-api"),
        "kv": two.running("shop-kv"),
    }


def test_what_would_be_in_the_way_is_told_beforehand(two: SimLattice):
    spread = "{name: ap, requirements: {zone: ap}}"
    found = look(two, Desired(), app("shop", component("api", spread=spread)))
    assert [p.code for p in found.problems] == ["TRL-PLC-001"]
    taken = look(two, Desired(), app("z", component("x", id="mine")), app("a", component("y", id="mine")))
    assert [p.code for p in taken.problems] == ["TRL-OWN-001"]


def test_an_image_of_wasmclouds_says_which_of_ours_answers_it(two: SimLattice):
    new = app("shop", component("web", kind="capability", image="ghcr.io/wasmcloud/http-server:0.28.0"))
    (placed,) = look(two, Desired(), new).placement
    assert (placed.kind, placed.answered) == (Kind.PROVIDER, "builtin:http-server")
