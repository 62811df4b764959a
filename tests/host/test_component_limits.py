"""A component has the limits of its host, lowered by those of its manifest."""

from dataclasses import fields
from pathlib import Path

import pytest

from actors import Limits
from host import Host, HostConfig
from host.limits import limited
from lattice import BadInput, EntityId, Function, Invocation, LimitExceeded
from lattice.control import LIMIT_KEYS, ScaleComponent
from lattice.memory import MemoryBroker
from wadm.manifest import Limits as Written

CEILINGS = Limits(fuel=10**9)
SHOP = EntityId("shop")


def test_what_a_manifest_says_is_what_the_component_gets():
    sizes = {"memory": "1Mi", "buffered": "2Mi", "output": "3Mi"}
    counts = {name: n for n, name in enumerate(LIMIT_KEYS, 1) if name not in (*sizes, "time")}
    written = Written.model_validate({**sizes, "time": "1.5s", **counts})
    limits = limited(SHOP, written.on_the_wire(), CEILINGS)
    assert (limits.memory, limits.buffered, limits.output) == (2**20, 2 * 2**20, 3 * 2**20)
    assert limits.execution == 1.5
    assert {name: getattr(limits, name) for name in counts} == counts


def test_every_limit_can_be_set_in_a_manifest_but_the_number_of_instances_which_is_the_scalers():
    names = {"time" if field.name == "execution" else field.name for field in fields(Limits)}
    assert Written.model_fields.keys() == LIMIT_KEYS.keys() == names - {"concurrent"}


def test_nothing_asked_is_what_the_host_has():
    assert limited(SHOP, {}, CEILINGS) == limited(SHOP, {"unknown": "1"}, CEILINGS) == CEILINGS


def test_no_limit_is_above_the_hosts():
    asked = {key: str(10**12) for key in LIMIT_KEYS.values()}
    assert limited(SHOP, asked, CEILINGS) == CEILINGS


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "many", ""])
def test_what_is_not_a_whole_number_above_zero_is_refused(text: str):
    with pytest.raises(BadInput, match="max_handles is") as caught:
        limited(SHOP, {"max_handles": text}, CEILINGS)
    assert caught.value.findings[0].code == "TRL-LIM-001"


def test_fuel_is_refused_where_nobody_counts_it_with_the_flag_that_would():
    with pytest.raises(BadInput, match='"shop" has a limit of fuel, which this host does not count') as caught:
        limited(SHOP, {"max_fuel": "1000"}, Limits())
    assert "--limit fuel=1000" in caught.value.findings[0].fix


async def test_the_stack_is_the_hosts_own_and_a_guest_that_needs_more_is_told_its_size(tmp_path: Path):
    deep = tmp_path / "deep.wat"
    deep.write_text("""(component
      (core module $m (func $f (export "run") (call $f)))
      (core instance $i (instantiate $m))
      (func (export "run") (canon lift (core func $i "run"))))""")
    async with Host(HostConfig(stack=128 * 1024), MemoryBroker().connect()) as host:
        await host.components.scale(ScaleComponent(component_id=SHOP, component_ref=deep.as_uri(), count=1))
        with pytest.raises(LimitExceeded, match="it ran out of its 128 KiB of stack in run") as caught:
            await host.router.route(Invocation(SHOP, Function("", "run")))
        assert (caught.value.details["limit"], caught.value.details["amount"]) == ("stack", 128 * 1024)
