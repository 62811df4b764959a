"""`plan`, `why`, `history`, `rollback` and `schema` on a real broker, with hosts that run nothing."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from shell import LINKED, SHOP, Shell, shell_on
from verbs import ended

from lattice import EntityId, HostId
from lattice.events import AppChanged, ComponentScaled, ConfigSet, encode
from lattice.images import ImageStore
from lattice.lattice import Lattice
from lattice.memory import MemoryBroker
from trellis.commands.events import Chosen
from trellis.commands.rollback import rebuilt
from trellis.commands.undeploy import no_longer_used, of_others

pytestmark = pytest.mark.nats

SUMS = """\
from providers import Provider, export

class Sums(Provider):
    @export("demo:math/ops#add")
    async def add(self, link, a: int, b: int) -> int:
        return a + b
"""


@pytest.fixture
async def shell(tmp_path: Path, nats_url: str, lattice_name: str) -> AsyncIterator[Shell]:
    async with shell_on(tmp_path, nats_url, lattice_name) as shell:
        yield shell


async def test_a_plan_shows_what_is_new_and_then_that_nothing_is(shell: Shell):
    said = await shell.run("plan")
    assert "shop: v1, not deployed yet" in said and "+ component api  img:1, 2 instances" in said
    assert "(answered by builtin:keyvalue-nats)" in said
    await shell.run("plan", "--exit-code", code=4)
    await shell.run("deploy")
    said = await shell.run("plan", "--exit-code")
    assert "nothing would change" in said

    shell.write(LINKED)
    said = await shell.run("plan")
    assert "shop: v1 -> v2" in said
    assert "~ image  img:1 -> img:2" in said and "~ instances  2 instances -> 4 instances" in said
    assert "+ uses wasi:keyvalue/store of kv  NEW CAPABILITY" in said
    assert "host-A 2, host-B 2" in said
    assert "in process on host-" in said and "over the lattice from host-" in said
    found = await shell.json("plan", "--exit-code", code=4)
    assert {c["kind"] for c in found["changes"]} == {"image", "instances", "uses", "link", "config"}


async def test_a_plan_that_cannot_work_says_so_and_why_says_what_would_help(shell: Shell):
    shell.write(SHOP.replace("{instances: 2}", "{instances: 2, spread: [{name: ap, requirements: {zone: ap}}]}"))
    said = await shell.run("plan", code=2)
    assert "TRL-PLC-001" in said
    await shell.run("deploy", "--no-wait")
    said = await shell.run("why", "api", code=2)
    assert "api is not running because" in said and "no host satisfies  zone=ap" in said
    assert "host-A  label zone=eu  heartbeat" in said
    assert "[TRL-PLC-001]  app.yaml:6" in said and "(spread ap)  app.yaml:10" in said
    assert "1. label host-A with zone=ap:  trellis host label host-A zone=ap" in said
    found = await shell.json("why", code=2)
    assert [one["thing"] for one in found["things"]] == ["api"]
    said = await shell.run("why", "kv")
    assert "kv runs as wanted  app.yaml:11" in said
    shell.write(SHOP.replace("instances: 2", "instances: 3"))  # no longer what is deployed
    assert "app.yaml:6" not in await shell.run("why", "api", code=2)
    assert "`shop` has no `nothing`" in await shell.run("why", "nothing", "-a", "shop", code=1)


async def test_rollback_brings_back_what_was_deployed_before_and_history_remembers(shell: Shell):
    assert "no earlier version" in (await shell.run("deploy")) + await shell.run("rollback", code=1)
    shell.write(LINKED)
    await shell.run("deploy", "-m", "more of it")
    said = await shell.run("rollback")
    assert "- uses" not in said and "no longer uses wasi:keyvalue/store of kv" in said
    assert "~ image  img:2 -> img:1" in said
    assert "the image of api is what its tag means now: img:1" in said
    assert "shop v1 is ready" in said
    found = await shell.json("history")
    assert [(v["version"], v["deployed"], v["note"]) for v in found["versions"]] == [
        ("v1", True, "rolled back from v2"),
        ("v2", False, "more of it"),
    ]
    assert [d["version"] for d in found["deployments"]] == ["v1", "v2", "v1"]
    assert (await shell.json("rollback", "v2"))["version"] == "v2"
    assert "has no version v9" in await shell.run("rollback", "v9", code=1)
    said = await shell.run("history")
    assert said.index("v2") < said.index("v1") and "deployed now" in said


async def test_at_a_terminal_rollback_asks_first(shell: Shell):
    await shell.run("deploy")
    ours, its = os.openpty()
    try:
        os.write(ours, b"n\n")
        code, _, _ = await ended("rollback", "v1", cwd=shell.folder, env=shell.environment, stdin=its)
        assert code == 1
    finally:
        os.close(ours)
        os.close(its)
    assert len((await shell.json("history"))["deployments"]) == 1


async def test_rollback_says_which_files_were_rebuilt_since_and_what_the_lattice_keeps(tmp_path: Path):
    transport = MemoryBroker().connect()
    file = tmp_path / "api.wasm"
    file.write_bytes(b"new")
    kept, lost = (hashlib.sha256(data).hexdigest() for data in (b"old", b"older"))
    now = hashlib.sha256(b"new").hexdigest()
    async with Lattice("default", transport) as lattice:
        await ImageStore(transport, "default").put(kept, b"old")
        names = {"same": now, "kept": kept, "lost": lost}
        components = [{"name": n, "properties": {"image": f"{file.as_uri()}#sha256:{d}"}} for n, d in names.items()]
        first, second = await rebuilt(lattice, {"spec": {"components": components}})
    assert "for kept, has been rebuilt since" in first and "the one that the lattice keeps" in first
    assert "for lost, has been rebuilt since" in second and "does not keep its image either" in second


def test_undeploy_says_what_others_run_and_what_nobody_uses_any_more():
    link = {"source": "api", "source_id": "user-api", "target": "kv", "target_id": "base-kv"}
    user = {"name": "user", "components": [{"id": "user-api"}], "links": [link], "kept": []}
    base = {"name": "base", "components": [{"id": "base-kv"}], "links": [], "kept": []}
    assert of_others(user, [user, base]) == ["kv (base runs it)"]
    gone = {**base, "components": [], "kept": [{"name": "kv", "used_by": ["user"]}]}
    assert of_others(user, [user, gone]) == []
    assert no_longer_used("user", [user, gone]) == [("shared", "kv of base", "nobody else uses it")]
    shared = {**gone, "kept": [{"name": "kv", "used_by": ["other", "user"]}]}
    assert no_longer_used("user", [user, shared]) == []


def test_the_events_of_an_app_are_those_of_its_parts_and_its_own():
    chosen = Chosen(frozenset(), False, "shop")
    chosen.ids = {"named"}
    host, marks = HostId("N1"), {"wasmcloud.dev/appspec": "shop"}
    shown = [
        AppChanged(app="shop", state="ready"),
        ComponentScaled(component_id=EntityId("named"), host_id=host, image_ref="i", max_instances=1),
        ComponentScaled(component_id=EntityId("gone"), host_id=host, image_ref="i", max_instances=0, annotations=marks),
        ConfigSet(config_name="shop-place"),
    ]
    others = [AppChanged(app="other", state="ready"), ConfigSet(config_name="shopping-place")]
    assert [chosen.event(encode(event, host)) is not None for event in shown + others] == [True] * 4 + [False] * 2


async def test_a_projects_schema_names_its_components_and_interfaces(shell: Shell):
    (shell.folder / "sums.py").write_text(SUMS)
    shell.write(SHOP + "    - {name: sums, type: capability, properties: {image: ./sums.py}}\n")
    link = json.loads(await shell.run("schema", "--project"))["$defs"]["Link"]
    assert link["properties"]["target"]["anyOf"][0] == {"enum": ["api", "kv", "sums"]}
    offered = [one["then"] for one in link["allOf"] if one["if"]["properties"]["namespace"]["const"] == "demo"]
    assert [one["properties"]["interfaces"]["items"]["anyOf"][0] for one in offered] == [{"enum": ["ops"]}]
    assert "wrote" in await shell.run("schema", "--write", ".trellis/schema.json")
    assert json.loads((shell.folder / ".trellis/schema.json").read_text())["$schema"]


async def test_check_says_which_of_ours_answers_an_image(shell: Shell):
    assert "`kv` is answered by builtin:keyvalue-nats" in await shell.run("check")
    assert (await shell.json("check"))["answered_by"] == {"kv": "builtin:keyvalue-nats"}


async def test_status_says_which_of_ours_answers_an_image(shell: Shell):
    await shell.run("deploy")
    assert "(answered by builtin:keyvalue-nats)" in await shell.run("status")
