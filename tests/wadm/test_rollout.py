"""New versions and better spreads: who changes when, and that nobody is missing meanwhile."""

from __future__ import annotations

import pytest
from simulated_lattice import SimLattice, component, manifest_text

from lattice import EntityId, HostId
from lattice.events import HealthCheckFailed, HealthCheckPassed, HostStopped
from wadm.commands import DeleteLink, ScaleComponent, StartProvider
from wadm.desired import SETTINGS, Desired, desired_from, together, with_proven
from wadm.manifest import ROLLOUT, Rollout
from wadm.observed import Seen
from wadm.plan import AppStatus, Plan
from wadm.reasons import State
from wadm.rollout import Move, Scene, Verb, step
from wadm.validate import check


def shop(*components: str, **rollout: str) -> Desired:
    annotations = {f"rollout.trellis.dev/{key.replace('_', '-')}": value for key, value in rollout.items()}
    checked = check(manifest_text("shop", components, annotations))
    assert checked.manifest is not None, "\n".join(f.render() for f in checked.findings)
    return together([desired_from(checked.manifest)])


def after(before: Desired, now: Desired) -> Desired:
    """Where `before` was ready when `now` was deployed."""
    return together([with_proven(now, before)])


def api(image: str, instances: int = 20, **more: str) -> str:
    return component("api", image=image, instances=instances, **more)  # type: ignore[arg-type]


@pytest.fixture
def five() -> SimLattice:
    lattice = SimLattice()
    for id in "ABCDE":
        lattice.add(id)
    lattice.beat()
    return lattice


def started(lattice: SimLattice, desired: Desired) -> None:
    """It runs, and what is counted counts from now on."""
    lattice.settle(desired)
    lattice.sent.clear()
    lattice.lowest.clear()
    lattice.highest.clear()


def waves(lattice: SimLattice, desired: Desired, rounds: int = 10) -> list[list[str]]:
    """The hosts that are sent something, round after round."""
    return [[c.host for c in lattice.round(desired).commands if hasattr(c, "host")] for _ in range(rounds)]


def images(lattice: SimLattice) -> dict[str, str]:
    return {str(h.id): t.image for h in lattice.hosts.values() for t in (*h.components.values(), *h.providers.values())}


def status(plan: Plan) -> AppStatus:
    return plan.apps["shop"]


def test_one_host_changes_first_and_then_as_many_as_the_surge_allows(five: SimLattice) -> None:
    started(five, shop(api("img:1")))
    found = waves(five, shop(api("img:2"), max_surge="50%"))
    assert [wave for wave in found if wave] == [["A"], ["B", "C"], ["D", "E"]]
    assert five.lowest["shop-api"] == five.highest["shop-api"] == 20


def test_by_default_a_quarter_changes_at_a_time(five: SimLattice) -> None:
    started(five, shop(api("img:1")))
    assert [wave for wave in waves(five, shop(api("img:2"))) if wave] == [["A"], ["B"], ["C"], ["D"], ["E"]]


def test_a_host_changes_as_a_whole_however_small_the_surge(five: SimLattice) -> None:
    started(five, shop(api("img:1")))
    five.settle(shop(api("img:2"), max_surge="1"))
    assert set(images(five).values()) == {"img:2"}
    assert five.lowest["shop-api"] == 20


def test_where_a_new_version_fails_no_other_host_follows(five: SimLattice) -> None:
    started(five, shop(api("img:1")))
    five.broken["img:2"] = "TRL-IMG-013: it fails when it is instantiated"
    for _ in range(40):
        plan = five.round(shop(api("img:2"), max_surge="100%"))
    part = status(plan).components[0]
    assert part.state is State.BLOCKED and part.reason is not None and part.reason.code == "TRL-IMG-013"
    assert part.reason.message.endswith("with 0 of 5 hosts done; the old version goes on serving.")
    assert {c.host for c in five.sent if isinstance(c, ScaleComponent)} == {"A"} and len(five.sent) <= 5
    assert set(images(five).values()) == {"img:1"} and sum(five.running("shop-api").values()) == 20
    five.broken.clear()
    five.settle(shop(api("img:2")))
    assert set(images(five).values()) == {"img:2"} and five.lowest["shop-api"] == 20


def test_a_version_that_fails_on_a_later_host_stops_there(five: SimLattice) -> None:
    started(five, shop(api("img:1")))
    five.hosts[HostId("C")].broken["img:2"] = "TRL-IMG-001: no such file"
    for _ in range(20):
        plan = five.round(shop(api("img:2")))
    assert images(five) == {"A": "img:2", "B": "img:2", "C": "img:1", "D": "img:1", "E": "img:1"}
    assert status(plan).state is State.BLOCKED
    assert "2 of 5 hosts done" in str(status(plan).components[0].reason)


def test_going_back_after_a_failure_touches_only_what_had_changed(five: SimLattice) -> None:
    started(five, shop(api("img:1")))
    five.hosts[HostId("C")].broken["img:2"] = "TRL-IMG-001: no such file"
    for _ in range(20):
        five.round(shop(api("img:2")))
    five.sent.clear()
    plan = five.settle(shop(api("img:1")))
    assert status(plan).state is State.READY
    assert {c.host for c in five.sent if isinstance(c, ScaleComponent)} == {"A", "B"}


def test_a_pause_keeps_the_next_host_waiting(five: SimLattice) -> None:
    started(five, shop(api("img:1")))
    found = waves(five, shop(api("img:2"), pause="5s", max_surge="100%"))
    assert [at for at, wave in enumerate(found) if wave] == [0, 5]
    assert found[5] == ["B", "C", "D", "E"]


def test_a_pause_without_end_waits_for_somebody(five: SimLattice) -> None:
    started(five, shop(api("img:1")))
    for _ in range(20):
        plan = five.round(shop(api("img:2"), pause="true"))
    assert sorted(images(five).values()) == ["img:1"] * 4 + ["img:2"]
    part = status(plan).components[0]
    assert part.state is State.BLOCKED and part.reason is not None and part.reason.code == "TRL-RUN-003"
    assert "1 of 5 hosts done" in part.reason.message and "rollout.trellis.dev/pause" in part.reason.fix
    assert status(five.settle(shop(api("img:2")))).state is State.READY
    assert set(images(five).values()) == {"img:2"}


def test_without_surge_the_old_ones_leave_first_as_far_as_they_may(five: SimLattice) -> None:
    started(five, shop(api("img:1")))
    five.settle(shop(api("img:2"), max_surge="0", max_unavailable="8"))
    assert set(images(five).values()) == {"img:2"}
    assert five.lowest["shop-api"] == 12
    assert five.highest["shop-api"] == 20


def test_what_is_leaving_already_counts_as_unavailable() -> None:
    rollout = Rollout.model_validate({f"{ROLLOUT}max-surge": "0", f"{ROLLOUT}max-unavailable": "50%"})
    a, b, c, d, e = map(HostId, "ABCDE")
    scene = Scene(
        target={a: 2, b: 1, c: 1, d: 1, e: 1},
        running={b: 2, c: 2, d: 2, e: 1},
        old=[b, c, d, e],
        failed=[a, b],
        waiting=[a],
        on_their_way={c: 1, d: 1, e: 0},
    )
    assert step(rollout, scene, 0.0).moves == (
        Move(Verb.SIZE, b, 1),
        Move(Verb.SIZE, c, 1),
        Move(Verb.SIZE, d, 1),
    )


def test_a_provider_is_replaced_host_by_host(five: SimLattice) -> None:
    def kv(image: str) -> str:
        return component("kv", kind="capability", image=image, scaler="daemonscaler")

    started(five, shop(kv("img:1")))
    five.settle(shop(kv("img:2")))
    assert [(type(c), c.host) for c in five.sent] == [(StartProvider, host) for host in "ABCDE"]
    assert five.lowest["shop-kv"] == 5 and set(images(five).values()) == {"img:2"}


def test_a_new_provider_that_is_not_well_is_not_followed(five: SimLattice) -> None:
    def kv(image: str) -> str:
        return component("kv", kind="capability", image=image, scaler="daemonscaler")

    started(five, shop(kv("img:1")))
    five.round(shop(kv("img:2")))
    a = HostId("A")
    five.fact(HealthCheckFailed(provider_id=EntityId("shop-kv"), host_id=a, error="no connection"), a)
    for _ in range(10):
        plan = five.round(shop(kv("img:2")))
    assert images(five) == {"A": "img:2", "B": "img:1", "C": "img:1", "D": "img:1", "E": "img:1"}
    part = status(plan).components[0]
    assert part.state is State.DEGRADED and part.reason is not None and part.reason.code == "TRL-PRV-002"
    assert "no connection. The change stopped with 1 of 5 hosts done" in part.reason.message
    five.fact(HealthCheckPassed(provider_id=EntityId("shop-kv"), host_id=a), a)
    assert status(five.settle(shop(kv("img:2")))).state is State.READY


# -- hosts lost in a change


@pytest.mark.parametrize("kind", ["component", "capability"])
def test_what_is_lost_while_a_change_is_stopped_comes_back_as_it_was(five: SimLattice, kind: str) -> None:
    old, new = (shop(component("kv", kind=kind, image=image)) for image in ("img:1", "img:2"))
    started(five, old)
    five.broken["img:2"] = "TRL-IMG-001: no such file"
    for _ in range(5):
        five.round(after(old, new))
    for _ in range(3):
        (runs,) = five.running("shop-kv")
        five.hosts[HostId(runs)].up = False
        for _ in range(8):
            plan = five.round(after(old, new))
        assert set(images(five).values()) == {"img:1"} and len(five.running("shop-kv")) == 1
    assert status(plan).state is State.BLOCKED
    five.broken.clear()
    five.settle(after(old, new))
    (runs,) = five.running("shop-kv")
    assert images(five)[runs] == "img:2"


def test_what_is_lost_in_a_change_that_goes_well_ends_as_the_new_version(five: SimLattice) -> None:
    old, new = shop(api("img:1", 3)), shop(api("img:2", 3))
    started(five, old)
    (first, second, _) = five.running("shop-api")
    five.round(after(old, new))
    five.hosts[HostId(second)].up = False
    five.settle(after(old, new))
    assert five.running("shop-api").keys() >= {first}
    assert {images(five)[host] for host in five.running("shop-api")} == {"img:2"}
    assert sum(five.running("shop-api").values()) == 3


def test_more_instances_of_a_new_version_start_as_that(five: SimLattice) -> None:
    old, new = shop(api("img:1", 1)), shop(api("img:2", 4))
    started(five, old)
    five.settle(after(old, new))
    assert {c.image for c in five.sent if isinstance(c, ScaleComponent)} == {"img:2"}


def test_an_old_version_comes_back_with_what_its_configuration_said_and_its_links(five: SimLattice) -> None:
    kv = component("kv", kind="capability", image="p:1")
    old = shop(api("img:1", 1, config="cfg", link="kv"), kv)
    new = shop(api("img:2", 1, config="cfg", values="{a: c}"), kv)
    started(five, old)
    (before,) = (h.components["shop-api"].annotations[SETTINGS] for h in five.hosts.values() if h.components)
    five.broken["img:2"] = "TRL-IMG-001: no such file"
    for _ in range(5):
        five.round(after(old, new))
    (runs,) = five.running("shop-api")
    five.hosts[HostId(runs)].up = False
    five.sent.clear()
    for _ in range(8):
        five.round(after(old, new))
    (start,) = [c for c in five.sent if isinstance(c, ScaleComponent) and c.image == "img:1"]
    assert start.config_data == {"shop-cfg": {"a": "b"}} and start.annotations[SETTINGS] == before
    assert five.configs["shop-cfg"] == {"a": "c"}
    assert [link.target for link in five.links["shop-api"]] == ["shop-kv"]


def test_what_is_lost_while_a_version_waits_for_a_configuration_comes_back_as_it_was(five: SimLattice) -> None:
    old = shop(api("img:1", 1))
    new = shop(api("img:2", 1).replace("image: img:2", "image: img:2\n        config: [{name: theirs}]"))
    started(five, old)
    five.round(after(old, new))
    (runs,) = five.running("shop-api")
    five.hosts[HostId(runs)].up = False
    for _ in range(8):
        plan = five.round(after(old, new))
    (runs,) = five.running("shop-api")
    assert images(five)[runs] == "img:1"
    reason = status(plan).components[0].reason
    assert reason is not None and reason.code == "TRL-CFG-001"


# -- configuration


def settings(lattice: SimLattice) -> list[str]:
    return [h.components["shop-api"].annotations[SETTINGS] for h in lattice.hosts.values()]


def test_what_a_configuration_says_rolls_out_like_an_image(five: SimLattice) -> None:
    started(five, shop(api("img:1", config="cfg")))
    before = settings(five)
    found = [wave for wave in waves(five, shop(api("img:1", config="cfg", values="{a: c}"))) if wave]
    assert found == [["A"], ["B"], ["C"], ["D"], ["E"]]
    assert five.lowest["shop-api"] == 20
    assert len({*before, *settings(five)}) == 2


def test_a_refused_configuration_stops_at_the_first_host(five: SimLattice) -> None:
    started(five, shop(api("img:1", config="cfg")))
    before = settings(five)
    for host in five.hosts.values():
        host.broken["img:1"] = "TRL-GRT-001: this host grants no folder"
    for _ in range(20):
        plan = five.round(shop(api("img:1", config="cfg", values="{a: c}")))
        five.fact(
            Seen(five.hosts[HostId("A")].inventory())
        )  # a heartbeat says that the image runs: that is no success of the new settings
    assert settings(five) == before
    assert status(plan).state is State.BLOCKED
    assert {c.host for c in five.sent if isinstance(c, ScaleComponent)} == {"A"}


def test_what_somebody_else_configures_rolls_out_too(five: SimLattice) -> None:
    uses = api("img:1").replace("image: img:1", "image: img:1\n        config: [{name: theirs}]")
    five.configs["theirs"] = {"a": "b"}
    five.look()
    started(five, shop(uses))
    five.configs["theirs"] = {"a": "c"}
    five.look()
    assert [wave for wave in waves(five, shop(uses)) if wave] == [["A"], ["B"], ["C"], ["D"], ["E"]]


def test_an_old_version_grows_with_the_settings_it_has(five: SimLattice) -> None:
    started(five, shop(api("img:1", 5, config="cfg")))
    (before,) = set(settings(five))
    five.broken["img:2"] = "TRL-IMG-001: no such file"
    for _ in range(10):
        five.round(shop(api("img:2", 10, config="cfg", values="{a: c}")))
    assert sum(five.running("shop-api").values()) == 10
    assert set(settings(five)) == {before} and set(images(five).values()) == {"img:1"}


def test_links_of_the_old_version_stay_while_it_takes_calls(five: SimLattice) -> None:
    kv = component("kv", kind="capability")
    started(five, shop(api("img:1", link="kv"), kv))
    five.broken["img:2"] = "TRL-IMG-001: no such file"
    for _ in range(10):
        five.round(shop(api("img:2"), kv))
    assert [link.target for link in five.links["shop-api"]] == ["shop-kv"]
    five.broken.clear()
    five.settle(shop(api("img:2"), kv))
    assert five.links["shop-api"] == []
    kinds = [type(c) for c in five.sent]
    assert kinds.index(DeleteLink) > max(i for i, c in enumerate(five.sent) if isinstance(c, ScaleComponent))


# -- spreading better


def test_a_host_that_came_gets_its_share_when_it_has_been_there_for_a_while(five: SimLattice) -> None:
    started(five, shop(api("img:1")))
    five.add("F")
    assert [wave for wave in waves(five, shop(api("img:1")), 29) if wave] == []
    five.settle(shop(api("img:1")))
    assert sorted(five.running("shop-api").values()) == [3, 3, 3, 3, 4, 4]
    assert five.lowest["shop-api"] == 20
    assert five.highest["shop-api"] <= 25


def test_a_host_that_comes_and_goes_moves_nothing(five: SimLattice) -> None:
    started(five, shop(api("img:1")))
    guest = five.add("F")
    for _ in range(6):
        guest.up = True
        for _ in range(20):
            assert five.round(shop(api("img:1"))).commands == ()
        guest.up = False
        five.fact(HostStopped(labels={}), guest.id)
        assert five.round(shop(api("img:1"))).commands == ()


def test_a_spread_that_is_even_stays_as_it_is_for_ever(five: SimLattice) -> None:
    for instances in (3, 7, 20):
        started(five, shop(api("img:1", instances)))
        five.now += 1000
        five.beat()
        five.settle(shop(api("img:1", instances)))
        assert waves(five, shop(api("img:1", instances)), 100) == [[]] * 100
        assert five.sent == []


def test_nothing_moves_for_a_better_spread_while_a_version_changes(five: SimLattice) -> None:
    started(five, shop(api("img:1")))
    five.add("F")
    for _ in range(60):
        five.round(shop(api("img:2"), pause="true"))
    assert "F" not in five.running("shop-api")
    five.settle(shop(api("img:2")))
    assert five.running("shop-api")["F"] == 3


def test_a_host_that_fails_the_image_is_not_chosen_for_a_better_spread(five: SimLattice) -> None:
    started(five, shop(api("img:1")))
    five.add("F").broken["img:1"] = "TRL-IMG-001: no such file"
    for _ in range(120):
        five.round(shop(api("img:1")))
    assert five.lowest["shop-api"] == 20
    assert [c.host for c in five.sent if isinstance(c, ScaleComponent)] == ["F"]


def test_of_two_hosts_that_both_run_a_provider_one_keeps_it(five: SimLattice) -> None:
    kv = component("kv", kind="capability")
    started(five, shop(kv))
    (first,) = five.running("shop-kv")
    five.hosts[HostId(first)].up = False
    for _ in range(7):
        five.round(shop(kv))
    (second,) = five.running("shop-kv")
    five.hosts[HostId(first)].up = True
    assert set(five.running("shop-kv")) == {first, second}
    five.settle(shop(kv))
    assert len(five.running("shop-kv")) == 1
    assert waves(five, shop(kv), 50) == [[]] * 50
