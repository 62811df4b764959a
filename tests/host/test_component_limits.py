"""A component has the limits of its host, lowered by those of its manifest."""

from dataclasses import fields

import pytest

from actors import Limits
from host.limits import limited
from lattice import BadInput, EntityId
from lattice.control import LIMIT_KEYS
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
