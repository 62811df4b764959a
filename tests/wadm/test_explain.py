"""Why something is not ready, and changes that are known to help."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from simulated_lattice import SimLattice, component, manifest_text

from lattice import EntityId, HostId
from lattice.control import DRAINED
from lattice.events import HealthCheckFailed, HostDraining
from wadm.desired import Desired, desired_from, together, with_proven
from wadm.explain import Cause, Explanation, explain
from wadm.reasons import State
from wadm.reconcile import reconcile
from wadm.validate import check

EU = "{name: main, requirements: {zone: eu, net: fast}}"


def app(name: str, *components: str) -> Desired:
    checked = check(manifest_text(name, components))
    assert checked.manifest is not None, "\n".join(f.render() for f in checked.findings)
    return desired_from(checked.manifest)


@pytest.fixture
def two() -> SimLattice:
    lattice = SimLattice()
    lattice.add("A", zone="eu", net="slow")
    lattice.add("B", zone="us", net="none")
    lattice.beat()
    return lattice


def ask(lattice: SimLattice, thing: str | None, *parts: Desired) -> list[Explanation]:
    apps = {name: part for part in parts for name in part.apps}
    return explain(apps, {}, lattice.observed, lattice.now, next(iter(parts[0].apps)), thing)


def told(cause: Cause) -> Iterator[str]:
    yield cause.text
    for below in cause.below:
        yield from told(below)


def commands(one: Explanation) -> list[str]:
    return [remedy.command for remedy in one.remedies if remedy.command]


def test_each_host_is_listed_with_the_constraint_it_fails(two: SimLattice):
    (one,) = ask(two, None, app("shop", component("api", spread=EU)))
    assert (one.thing, one.state, one.code) == ("api", "blocked", "TRL-PLC-001")
    text = "\n".join(told(one.cause))
    assert "api is not running because" in text
    assert "no host satisfies  net=fast, zone=eu" in text
    assert "host-A  label net=slow, zone=eu  heartbeat 0 s ago" in text
    assert "host-B  label net=none, zone=us  heartbeat 0 s ago" in text


def test_the_smallest_changes_come_first_and_each_helps_on_its_own(two: SimLattice):
    (one,) = ask(two, "api", app("shop", component("api", spread=EU)))
    assert commands(one)[0] == "trellis host label host-A net=fast"
    texts = [remedy.text for remedy in one.remedies]
    assert any("require net=slow instead of net=fast: host-A would fit" in text for text in texts)
    assert not any("require zone=us" in text for text in texts), "no host has net=fast and zone=us"


def test_following_a_label_remedy_makes_it_ready(two: SimLattice):
    desired = app("shop", component("api", spread=EU))
    (one,) = ask(two, "api", desired)
    _, _, _, name, label = commands(one)[0].split()
    host = next(h for h in two.hosts.values() if f"host-{h.id}" == name)
    key, _, value = label.partition("=")
    host.labels[key] = value
    from wadm.observed import Seen

    two.fact(Seen(host.inventory()))
    two.settle(desired)
    assert reconcile(together([desired]), two.observed, {}, two.now).apps["shop"].state is State.READY


def test_a_host_that_fell_silent_is_worth_waiting_for(two: SimLattice):
    desired = app("shop", component("api", spread="{name: eu, requirements: {zone: eu}}"))
    two.hosts["A"].up = False  # type: ignore[index]
    for _ in range(10):
        two.now += 1
        two.beat()
    (one,) = ask(two, "api", desired)
    assert "host-A  label zone=eu  GONE, last heartbeat 10 s ago" in "\n".join(told(one.cause))
    assert one.remedies[0].text.startswith("wait for host-A, or start it again (silent for 10 s)")


def test_a_provider_that_wants_more_hosts_than_there_are_may_want_fewer(two: SimLattice):
    (one,) = ask(two, "p", app("shop", component("p", kind="capability", instances=4)))
    assert one.code == "TRL-PLC-002"
    assert [r.text for r in one.remedies] == ["want 2 of p instead of 4"], "one more host would not be enough"


def test_without_any_host_one_has_to_be_started():
    (one,) = ask(SimLattice(), "api", app("shop", component("api")))
    assert (one.code, commands(one)) == ("TRL-PLC-003", ["trellis host start"])


def test_a_configuration_that_nobody_put_is_named(two: SimLattice):
    text = component("api", config="cfg").replace(", properties: {a: b}", "")
    (one,) = ask(two, "api", app("shop", text))
    assert one.code == "TRL-CFG-001"
    assert [r.text for r in one.remedies] == ["put configuration cfg on the lattice, or give it `properties`"]


def test_an_id_that_another_app_has_can_be_freed_or_changed(two: SimLattice):
    mine, other = app("z", component("x", id="mine")), app("a", component("y", id="mine"))
    (one,) = ask(two, None, mine, other)
    assert one.code == "TRL-OWN-001"
    assert [(r.text, r.command) for r in one.remedies] == [
        ("undeploy a", "trellis undeploy a"),
        ("give x another `id`", ""),
    ]


def test_a_hosts_own_sentence_is_the_cause(two: SimLattice):
    desired = app("shop", component("api"))
    two.broken["img:1"] = "TRL-IMG-001: no such file: /x.wasm"
    two.round(desired)
    (one,) = ask(two, "api", desired)
    assert one.code == "TRL-IMG-001"
    assert "no such file: /x.wasm" in "\n".join(told(one.cause))


def test_a_hosts_way_out_is_a_remedy_and_what_was_printed_last_is_below(two: SimLattice):
    error = "TRL-IMG-001: cannot read /x.wasm: gone; fix: build it, or correct the path"
    shop = app("shop", component("api"))
    two.broken["img:1"] = error
    for _ in range(4):
        two.round(shop)
    (one,) = ask(two, "api", shop)
    assert list(told(one.cause))[2] == "cannot read /x.wasm: gone."
    assert [remedy.text for remedy in one.remedies] == ["build it, or correct the path"]
    two.broken["img:1"] = "the process exited with 3\nlast words"
    two.round(shop)
    for _ in range(40):
        two.round(shop)
    (one,) = ask(two, "api", shop)
    assert list(told(one.cause))[2:4] == ["the process exited with 3", "last words."]


def failing(lattice: SimLattice, desired: Desired, error: str, image: str = "img:2") -> None:
    lattice.broken[image] = error
    for _ in range(80):
        lattice.round(desired)


def test_a_version_that_does_not_start_can_go_back_to_the_one_that_was_ready(two: SimLattice):
    before, now = app("shop", component("api")), app("shop", component("api", image="img:2"))
    two.settle(before)
    failing(two, with_proven(now, before, "1.0.0"), "the process exited with 3")
    (one,) = ask(two, "api", with_proven(now, before, "1.0.0"))
    assert commands(one) == ["trellis rollback 1.0.0 --app shop"]
    (one,) = ask(two, "api", now)
    assert one.remedies == (), "nothing is known that would help"


def test_an_image_that_is_not_there_can_be_one_that_runs_somewhere(two: SimLattice):
    other, shop = app("other", component("api")), app("shop", component("api", image="img:2"))
    failing(two, together([other, shop]), "TRL-IMG-001: img:2 is not there; fix: push it")
    (one,) = ask(two, "api", shop, other)
    (host,) = two.running("other-api")
    assert [r.text for r in one.remedies] == ["push it", f"use img:1, which host-{host} runs"]


def test_an_import_that_nobody_provides_can_be_linked_to_who_provides_it_to_others(two: SimLattice):
    shop = app("shop", component("api", image="img:2"), component("web", link="kv"), component("kv", kind="capability"))
    failing(two, shop, 'TRL-LNK-001: component "shop-api" imports wasi:keyvalue/store, and no link provides it')
    (one,) = ask(two, "api", shop)
    assert [r.text for r in one.remedies] == ["link api to kv for wasi:keyvalue/store"]
    more = 'TRL-LNK-001: component "shop-api" imports wasi:keyvalue/store, acme:sms/sender, and no link provides it'
    failing(two, shop, more)
    (one,) = ask(two, "api", shop)
    assert one.remedies == (), "a link for one of the two would not be enough"


def test_a_provider_that_ended_says_its_last_words_host_by_host(two: SimLattice):
    kv = app("shop", component("kv", kind="capability", image="p:1"))
    new = with_proven(app("shop", component("kv", kind="capability", image="p:2")), kv, "1.0.0")
    two.settle(kv)
    two.settle(new)
    (host,) = two.running("shop-kv")
    ended = HealthCheckFailed(
        provider_id=EntityId("shop-kv"), host_id=HostId(host), error="exited with 7\nTraceback\nKeyError: url"
    )
    two.say(ended, two.hosts[HostId(host)])
    (one,) = ask(two, "kv", new)
    assert one.code == "TRL-PRV-002"
    assert list(told(one.cause))[1:] == [
        f"on host-{host} it is not well",
        "exited with 7",
        "Traceback",
        "KeyError: url.",
    ]
    assert commands(one) == ["trellis rollback 1.0.0 --app shop"]


def test_what_is_ready_says_why_it_is_where_it_is(two: SimLattice):
    desired = app("shop", component("api", instances=2, spread="{name: eu, requirements: {zone: eu}}"))
    two.settle(desired)
    assert ask(two, None, desired) == []
    (one,) = ask(two, "api", desired)
    assert one.remedies == ()
    assert list(told(one.cause)) == [
        "api runs as wanted",
        "spread eu wants 2 on zone=eu",
        "host-A  2  label zone=eu",
    ]


def test_a_ready_link_says_how_its_calls_travel(two: SimLattice):
    desired = app("shop", component("api", instances=2, link="kv"), component("kv", kind="capability"))
    two.settle(desired)
    (one,) = ask(two, "api -> kv", desired)
    ways = [cause.text for cause in one.cause.below]
    assert len(ways) == 2 and ways[0].startswith("in process on host-") and ways[1].startswith("over the lattice from")


def test_a_host_that_drains_is_named_and_its_work_goes_elsewhere(two: SimLattice):
    shop = app("shop", component("api", spread="{name: eu, requirements: {zone: eu}}", instances=2))
    two.settle(shop)
    two.say(HostDraining(), two.hosts[HostId("A")])
    (one,) = ask(two, "api", shop)
    assert "host-A  label zone=eu  DRAINED (it is leaving), it takes nothing new" in "\n".join(told(one.cause))
    assert not any("wait for host-A" in remedy.text for remedy in one.remedies)

    anywhere = app("shop", component("api", instances=2))
    two.settle(anywhere)
    assert two.running("shop-api")["B"] == 2


def test_a_drained_host_can_be_let_work_again(two: SimLattice):
    two.add("C", zone="ap", **{DRAINED: "new kernel"})
    two.beat()
    (one,) = ask(two, "kv", app("shop", component("kv", kind="capability", instances=3)))
    assert one.code == "TRL-PLC-002"
    text = "\n".join(told(one.cause))
    assert "only 2 of 3 hosts satisfy" in text and "host-C  DRAINED (new kernel), it takes nothing new" in text
    assert commands(one)[0] == "trellis host drain host-C --undo"
