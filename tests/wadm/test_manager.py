"""The manager on a lattice in memory: its API, and hosts that do as they are told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from simulated_host import SimulatedHost
from simulated_lattice import component, manifest_text

from lattice import EntityId, subjects
from lattice.control import Reply
from lattice.events import AppChanged, Event
from lattice.lattice import Lattice
from lattice.memory import MemoryBroker
from lattice.transport import Message
from wadm import Manager
from wadm.desired import APPSPEC, MANAGED_BY, SCALER, SPREAD

SHOP = manifest_text(
    "shop",
    [
        component("api", instances=4, link="kv", config="cfg"),
        component("kv", kind="capability", image="builtin:keyvalue-memory"),
    ],
)


class World:
    """A broker, a manager and hosts; `ask` talks to wadm's API, `status` to ours."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self.broker = MemoryBroker()
        self.stack = stack
        self.hosts: dict[str, SimulatedHost] = {}
        self.manager: Manager | None = None

    async def lattice(self) -> Lattice:
        return await self.stack.enter_async_context(Lattice("default", self.broker.connect()))

    async def host(self, id: str, **labels: str) -> SimulatedHost:
        host = SimulatedHost(await self.lattice(), id, **labels)
        self.hosts[id] = await self.stack.enter_async_context(host)
        return host

    async def manage(self) -> Manager:
        manager = Manager(await self.lattice(), discovery=0.05, tick=0.05, dead_after=0.5)
        self.manager = await self.stack.enter_async_context(manager)
        return manager

    async def ask(self, operation: str, body: Any = None, **headers: str) -> Any:
        data = body.encode() if isinstance(body, str) else b"" if body is None else json.dumps(body).encode()
        answer = await self.client.request(f"wadm.api.default.model.{operation}", data, timeout=2, headers=headers)
        return json.loads(answer.data)

    async def say(self, verb: str, body: Any) -> Any:
        answer = await self.client.request(subjects.manager("default", verb), json.dumps(body).encode(), timeout=2)
        return json.loads(answer.data)

    async def status(self, name: str) -> Any:
        answer = await self.say("status", {"app": name})
        return answer["apps"][0] if answer["success"] else answer

    async def until(self, name: str, state: str) -> Any:
        """The application's status as soon as it is in that state."""
        async with asyncio.timeout(10):
            while True:
                status = await self.status(name)
                if status.get("state") == state:
                    return status
                await asyncio.sleep(0.01)

    async def eventually(self, what: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not what():
                await asyncio.sleep(0.01)

    def count(self, id: str) -> dict[str, int]:
        found = {h.id: h.components[id].max_instances for h in self.hosts.values() if id in h.components}
        return {str(k): v for k, v in found.items()}


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        world = World(stack)
        world.client = world.broker.connect()  # type: ignore[attr-defined]
        await world.host("A", zone="eu")
        await world.host("B", zone="us")
        await world.manage()
        yield world


async def deploy(world: World, text: str = SHOP, name: str = "shop") -> Any:
    put = await world.ask("put", text)
    assert put["result"] in ("created", "newversion"), put
    deployed = await world.ask(f"deploy.{name}", {"version": put["current_version"]})
    assert deployed["result"] == "acknowledged", deployed
    return await world.until(name, "ready")


# -- the whole way


async def test_a_manifest_becomes_running_instances(world: World) -> None:
    status = await deploy(world)
    assert world.count("shop-api") == {"A": 2, "B": 2}
    by_name = {c["name"]: c for c in status["components"]}
    assert (by_name["api"]["wanted"], by_name["api"]["running"]) == (4, 4)
    assert [(h["state"], h["running"], h["wanted"]) for h in by_name["api"]["hosts"]] == [("ready", 2, 2)] * 2
    assert by_name["kv"]["kind"] == "provider"
    link = status["links"][0]
    assert link["interfaces"] == ["wasi:keyvalue/store"] and link["state"] == "ready"
    assert len(link["local"]) == 1 and len(link["remote"]) == 1 and link["same_host"] is False
    assert {c["name"]: c["present"] for c in status["configs"]} == {"shop-c_kv": True, "shop-cfg": True}


async def test_status_tells_each_spread_apart(world: World) -> None:
    spread = "{name: eu, weight: 75, requirements: {zone: eu}}, {name: ap, weight: 25, requirements: {zone: ap}}"
    await world.ask("put", manifest_text("shop", [component("api", instances=4, spread=spread)]))
    await world.ask("deploy.shop")
    status = await world.until("shop", "degraded")
    assert status["components"][0]["spreads"] == [
        {"name": "eu", "requirements": {"zone": "eu"}, "state": "ready", "wanted": 3, "running": 3},
        {"name": "ap", "requirements": {"zone": "ap"}, "state": "degraded", "wanted": 1, "running": 0},
    ]


async def test_everything_started_carries_wadms_annotations(world: World) -> None:
    await deploy(world)
    marks = next(h for h in world.hosts.values() if "shop-kv" in h.providers).providers["shop-kv"].annotations
    assert marks[MANAGED_BY] == "wadm" and marks[APPSPEC] == "shop" and marks[SPREAD] == "default"
    assert len(marks[SCALER]) == 64


async def test_a_host_that_falls_silent_is_replaced_within_seconds(world: World) -> None:
    await deploy(world)
    await world.hosts.pop("A").die()
    await world.eventually(lambda: world.count("shop-api") == {"B": 4})
    await world.eventually(lambda: "shop-kv" in world.hosts["B"].providers)


async def test_undeploy_leaves_nothing_behind(world: World) -> None:
    await deploy(world)
    answer = await world.ask("undeploy.shop", {"non_destructive": False})
    assert answer["result"] == "acknowledged"
    await world.until("shop", "stopped")
    assert all(not h.components and not h.providers for h in world.hosts.values())
    lattice = await world.lattice()
    assert await (await lattice.config_data()).keys() == []
    record = await (await lattice.lattice_data()).get("COMPONENT_shop-api")
    assert record is not None and record.value is not None and json.loads(record.value)["links"] == []
    assert "shop" not in world.manager.world.put  # type: ignore[union-attr]


async def test_a_manager_that_comes_back_cleans_up_what_was_deleted_meanwhile(world: World) -> None:
    await deploy(world)
    manager = world.manager
    assert manager is not None
    await manager.__aexit__(None, None, None)
    bucket = await world.broker.connect().bucket("wadm_manifests")
    await bucket.delete("default-shop")
    await world.manage()
    await world.eventually(lambda: not any(h.components or h.providers for h in world.hosts.values()))
    configs = await (await world.lattice()).config_data()
    async with asyncio.timeout(5):
        while await configs.keys():
            await asyncio.sleep(0.01)


async def test_a_second_manager_start_changes_nothing(world: World) -> None:
    await deploy(world)
    assert world.manager is not None
    await world.manager.__aexit__(None, None, None)
    for host in world.hosts.values():
        host.commands.clear()
    await world.manage()
    await world.until("shop", "ready")
    assert {c for h in world.hosts.values() for c in h.commands} <= {"host.ping", "host.get"}


async def test_a_new_version_updates_in_place(world: World) -> None:
    await deploy(world)
    await deploy(world, SHOP.replace("img:1", "img:2"))
    assert {h.components["shop-api"].image_ref for h in world.hosts.values()} == {"img:2"}


async def test_a_broken_image_is_blocked_with_the_hosts_own_sentence(world: World) -> None:
    for host in world.hosts.values():
        host.broken["img:1"] = 'no such file: "/app/api.wasm"'
    put = await world.ask("put", SHOP)
    await world.ask("deploy.shop", {"version": put["current_version"]})
    status = await world.until("shop", "blocked")
    reason = next(c for c in status["components"] if c["name"] == "api")["reason"]
    assert reason["code"] == "TRL-IMG-001"
    assert 'no such file: "/app/api.wasm"' in reason["message"]
    wadm = await world.ask("status.shop")
    assert wadm["status"]["status"]["type"] == "failed"


async def test_what_was_ready_is_remembered_by_the_next_manager_and_comes_back_when_its_host_is_lost(
    world: World,
) -> None:
    one = manifest_text("shop", [component("api")])
    await deploy(world, one)
    await world.eventually(lambda: world.manager is not None and "shop" in world.manager.world.proven)
    for host in world.hosts.values():
        host.broken["img:2"] = "no such file: x"
    await world.ask("put", one.replace("img:1", "img:2"))
    await world.ask("deploy.shop")
    await world.until("shop", "blocked")
    assert world.manager is not None
    await world.manager.__aexit__(None, None, None)
    await world.manage()
    (lost,) = world.count("shop-api")
    await world.hosts.pop(lost).die()
    await world.eventually(lambda: bool(world.count("shop-api")))
    assert {h.components["shop-api"].image_ref for h in world.hosts.values()} == {"img:1"}
    await world.until("shop", "blocked")
    await world.ask("undeploy.shop")
    await world.until("shop", "stopped")
    await world.eventually(lambda: world.manager is not None and not world.manager.world.proven)


async def test_deploying_again_tries_again_at_once(world: World) -> None:
    for host in world.hosts.values():
        host.broken["img:1"] = "no such file: x"
    put = await world.ask("put", SHOP)
    await world.ask("deploy.shop", {"version": put["current_version"]})
    await world.until("shop", "blocked")
    for host in world.hosts.values():
        host.broken.clear()
    await world.ask("deploy.shop")
    async with asyncio.timeout(3):
        await world.until("shop", "ready")


async def test_a_scale_is_recorded_and_ends_with_the_next_version(world: World) -> None:
    await deploy(world)
    answer = await world.say("scale", {"app": "shop", "component": "api", "instances": 8})
    assert answer["success"] is True
    status = await world.until("shop", "ready")
    assert status["overrides"] == {"api": 8}
    assert world.count("shop-api") == {"A": 4, "B": 4}
    await deploy(world, SHOP + "# another\n")
    assert sum(world.count("shop-api").values()) == 4


async def test_a_scale_of_null_goes_back_to_the_manifest(world: World) -> None:
    await deploy(world)
    await world.say("scale", {"app": "shop", "component": "api", "instances": 1})
    await world.eventually(lambda: sum(world.count("shop-api").values()) == 1)
    await world.say("scale", {"app": "shop", "component": "api", "instances": None})
    await world.eventually(lambda: sum(world.count("shop-api").values()) == 4)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"app": "nope", "component": "api", "instances": 1}, "application nope is not deployed"),
        ({"app": "shop", "component": "nope", "instances": 1}, "runs no component nope; it has api, kv"),
        ({"app": "shop", "component": "api", "instances": -1}, "it must be 0 to 4294967295"),
        ({"app": "shop", "component": "api", "instances": 2**32}, "it must be 0 to 4294967295"),
        ({"app": "shop"}, "the request must be"),
    ],
)
async def test_a_scale_that_cannot_be_says_why(world: World, body: Any, said: str) -> None:
    await deploy(world)
    answer = await world.say("scale", body)
    assert answer["success"] is False and said in answer["message"]


async def test_status_of_an_unknown_app_names_the_known_ones(world: World) -> None:
    await deploy(world)
    answer = await world.say("status", {"app": "nope"})
    assert answer == {"success": False, "message": "there is no application nope on lattice default; there are shop"}


async def test_status_lists_every_app_and_host(world: World) -> None:
    await deploy(world)
    answer = await world.say("status", {"app": None})
    assert [a["name"] for a in answer["apps"]] == ["shop"]
    assert {h["name"]: h["alive"] for h in answer["hosts"]} == {"host-A": True, "host-B": True}


async def test_javascript_clients_find_the_hosts_in_wadms_state(world: World) -> None:
    bucket = await world.broker.connect().bucket("wadm_state")
    assert set(await bucket.keys()) == {f"{kind}_default" for kind in ("host", "component", "provider")}
    await deploy(world)

    async def hosts() -> Any:
        entry = await bucket.get("host_default")
        return json.loads(entry.value) if entry and entry.value else {}

    async with asyncio.timeout(5):
        while sum(h["components"].get("shop-api", 0) for h in (await hosts()).values()) != 4:
            await asyncio.sleep(0.01)
    found = await hosts()
    assert set(found) == {"A", "B"}
    providers = [p for h in found.values() for p in h["providers"]]
    assert [p["provider_id"] for p in providers] == ["shop-kv"]


async def test_status_changes_are_published(world: World) -> None:
    told: list[str] = []

    def heard(message: Message) -> None:
        told.append(json.loads(message.data)["status"]["type"])

    await world.broker.connect().subscribe("wadm.status.default.shop", heard)
    await deploy(world)
    await world.eventually(lambda: told[-1:] == ["deployed"])
    assert "reconciling" in told


async def test_an_apps_changes_are_events_of_the_lattice_with_the_reason(world: World) -> None:
    told: list[AppChanged] = []
    lattice = await world.lattice()
    await lattice.on_events(lambda _, event: told.append(event) if isinstance(event, AppChanged) else None)
    await deploy(world)
    for host in world.hosts.values():
        host.broken["img:2"] = "no such file: /x.wasm"
    put = await world.ask("put", SHOP.replace("img:1", "img:2"))
    await world.ask("deploy.shop")
    await world.eventually(lambda: bool(told) and told[-1].code == "TRL-IMG-001")
    assert [event.state for event in told][:2] == ["progressing", "ready"]
    assert told[-1].version == put["current_version"] and "no such file" in str(told[-1].message)


# -- wadm's API, word for word


async def test_the_first_put_creates_and_the_second_is_a_new_version(world: World) -> None:
    first = await world.ask("put", SHOP.replace("name: shop\n", "name: shop\n  annotations: {version: v1}\n"))
    assert first == {
        "result": "created",
        "total_versions": 1,
        "current_version": "v1",
        "message": "Successfully put manifest shop v1",
        "name": "shop",
    }
    second = await world.ask("put", SHOP)
    assert second["result"] == "newversion" and second["total_versions"] == 2
    assert len(second["current_version"]) == 26


async def test_a_put_takes_json_too(world: World) -> None:
    fetched = None
    await world.ask("put", SHOP)
    fetched = (await world.ask("get.shop"))["manifest"]
    fetched["metadata"]["name"] = "copy"
    answer = await world.ask("put", fetched, **{"Content-Type": "application/json"})
    assert answer["result"] == "created", answer


async def test_versions_are_immutable(world: World) -> None:
    text = SHOP.replace("name: shop\n", "name: shop\n  annotations: {version: v1}\n")
    await world.ask("put", text)
    assert await world.ask("put", text) == {"result": "error", "message": "Manifest version v1 already exists"}


async def test_a_bad_manifest_is_refused_with_its_place(world: World) -> None:
    answer = await world.ask("put", SHOP.replace("image: img:1", "imagee: img:1"))
    assert answer["result"] == "error"
    assert answer["message"].startswith("Unable to parse manifest: ")
    assert "did you mean `image`?" in answer["message"] and ":10:9" in answer["message"]


async def test_the_version_latest_is_refused(world: World) -> None:
    answer = await world.ask("put", SHOP.replace("name: shop\n", "name: shop\n  annotations: {version: latest}\n"))
    assert answer["message"] == 'invalid manifest version, errors: "latest is not allowed in wadm"'


async def test_a_relative_image_is_refused(world: World) -> None:
    answer = await world.ask("put", SHOP.replace("img:1", "file://./x.wasm"))
    assert answer["result"] == "error" and "relative path" in answer["message"]


async def test_other_content_types_are_refused(world: World) -> None:
    answer = await world.ask("put", SHOP, **{"Content-Type": "text/plain"})
    assert answer["message"] == "Unsupported content type text/plain given. Wadm supports YAML and JSON"


async def test_get_list_and_versions(world: World) -> None:
    put = await world.ask(
        "put", SHOP.replace("name: shop\n", "name: shop\n  annotations: {version: v1, description: d}\n")
    )
    assert put["result"] == "created"
    got = await world.ask("get.shop")
    assert got["result"] == "success" and got["manifest"]["metadata"]["annotations"]["version"] == "v1"
    assert got["message"] == "Successfully fetched application shop"
    assert (await world.ask("get.shop", {"version": "v9"}))[
        "message"
    ] == "Application shop with version v9 doesn't exist"
    assert await world.ask("get.nope") == {"result": "notfound", "message": "Application with the name nope not found"}
    listed = await world.ask("list")
    assert listed == (await world.ask("get"))["models"]
    assert listed[0] == {
        "name": "shop",
        "version": "v1",
        "description": "d",
        "deployed_version": None,
        "detailed_status": {"status": {"type": "undeployed"}, "version": "", "components": []},
        "status": "undeployed",
        "status_message": "",
    }
    await world.ask("deploy.shop", {"version": "latest"})
    assert await world.ask("versions.shop") == {
        "result": "success",
        "message": "Successfully fetched versions for application shop",
        "versions": [{"version": "v1", "deployed": True}],
    }
    assert (await world.ask("versions.nope"))["versions"] == []


async def test_deploy_answers(world: World) -> None:
    assert (await world.ask("deploy.nope"))["result"] == "notfound"
    await world.ask("put", SHOP.replace("name: shop\n", "name: shop\n  annotations: {version: v1}\n"))
    assert await world.ask("deploy.shop", {"version": "v2"}) == {
        "result": "error",
        "message": "Application with the name 'shop' does not have a version 'v2' to deploy",
    }
    assert await world.ask("deploy.shop") == {
        "result": "acknowledged",
        "message": "Successfully deployed application shop v1",
        "name": "shop",
        "version": "v1",
    }


async def test_two_apps_cannot_claim_one_id(world: World) -> None:
    await deploy(world, manifest_text("a", [component("x", id="same")]), "a")
    await world.ask("put", manifest_text("b", [component("y", id="same")]))
    answer = await world.ask("deploy.b")
    assert answer["result"] == "error"
    assert answer["message"].startswith(
        "Component identifier 'same' is already deployed in a different application 'a', and 'b' wants it for y."
    )
    planned = await world.say("plan", {"app": "b"})
    assert [p["code"] for p in planned["problems"]] == ["TRL-OWN-001"]


async def test_undeploy_and_delete_answers(world: World) -> None:
    assert (await world.ask("undeploy.nope"))["result"] == "notfound"
    assert (await world.ask("del.nope"))["result"] == "noop"
    await world.ask("put", SHOP.replace("name: shop\n", "name: shop\n  annotations: {version: v1}\n"))
    await world.ask("put", SHOP.replace("name: shop\n", "name: shop\n  annotations: {version: v2}\n"))
    assert (await world.ask("undeploy.shop"))["message"] == "Application shop was already undeployed"
    assert await world.ask("del.shop", {"version": "v9"}) == {
        "result": "noop",
        "message": "Application version v9 doesn't exist",
        "undeploy": False,
    }
    await world.ask("deploy.shop", {"version": "v2"})
    assert await world.ask("del.shop", {"version": "v2", "delete_all": False}) == {
        "result": "deleted",
        "message": "Successfully deleted version v2 of application shop",
        "undeploy": True,
    }
    assert (await world.ask("versions.shop"))["versions"] == [{"version": "v1", "deployed": False}]
    last = await world.ask("del.shop", {"version": "v1"})
    assert last["message"] == "Successfully deleted last version of application shop"
    await world.ask("put", SHOP)
    assert await world.ask("del.shop") == {
        "result": "deleted",
        "message": "Successfully deleted application shop",
        "undeploy": True,
    }
    assert await world.ask("list") == []


async def test_status_of_what_was_never_put_is_undeployed(world: World) -> None:
    assert await world.ask("status.nope") == {
        "result": "ok",
        "message": "Successfully fetched status for application nope",
        "status": {"status": {"type": "undeployed"}, "version": "", "components": []},
    }


async def test_a_deployed_apps_status_lists_its_scalers(world: World) -> None:
    await deploy(world)
    status = (await world.ask("status.shop"))["status"]
    assert status["status"] == {"type": "deployed"}
    assert [(s["kind"], s["name"]) for s in status["scalers"]] == [
        ("SpreadScaler", "shop-api"),
        ("ProviderSpreadScaler", "shop-kv"),
        ("LinkScaler", "shop-api -(wasi:keyvalue)-> shop-kv"),
    ]


async def test_odd_requests_get_errors(world: World) -> None:
    assert (await world.ask("history.shop"))["message"].startswith(
        "Model deployment history is not currently supported"
    )
    assert (await world.ask("dance.shop"))["message"] == "Unsupported subject: wadm.api.default.model.dance.shop"
    assert "Found extra components of subject" in (await world.ask("get.a.b"))["message"]
    assert (await world.ask("deploy.shop", "{"))["message"].startswith("Unable to parse deploy application request: ")


async def test_the_store_has_wadms_shape(world: World) -> None:
    await world.ask("put", SHOP.replace("name: shop\n", "name: shop\n  annotations: {version: v1}\n"))
    await world.ask("deploy.shop")
    bucket = await world.broker.connect().bucket("wadm_manifests")
    names, app = await bucket.get("default"), await bucket.get("default-shop")
    assert names is not None and names.value is not None and json.loads(names.value) == ["shop"]
    assert app is not None and app.value is not None
    stored = json.loads(app.value)
    assert list(stored["manifests"]) == ["v1"] and stored["deployed_version"] == "v1"


BASE = manifest_text("base", [component("kv", kind="capability", image="builtin:keyvalue-memory"), component("own")])
BASE = BASE.replace("name: base\n", 'name: base\n  annotations: {experimental.wasmcloud.dev/shared: "true"}\n')

USER = manifest_text(
    "user",
    [
        component("api", link="kv"),
        "    - name: kv\n      type: capability\n      properties: {application: {name: base, component: kv}}",
    ],
)


async def test_a_shared_component_links_to_the_one_that_runs(world: World) -> None:
    put = await world.ask("put", USER)
    assert put["message"].endswith(', but some shared components are not deployed: ["kv"]')
    assert "shared components that are not deployed" in (await world.ask("deploy.user"))["message"]
    await deploy(world, BASE, "base")
    await world.ask("deploy.user")
    await world.until("user", "ready")
    entry = await (await (await world.lattice()).lattice_data()).get("COMPONENT_user-api")
    assert entry is not None and entry.value is not None
    assert json.loads(entry.value)["links"][0]["target"] == EntityId("base-kv")


@pytest.mark.parametrize("gone", ["undeploy.base", "del.base"])
async def test_what_others_use_of_an_undeployed_app_goes_on_until_nobody_does(world: World, gone: str) -> None:
    await deploy(world, BASE, "base")
    await deploy(world, USER, "user")
    assert (await world.ask(gone))["kept"] == [{"name": "kv", "used_by": ["user"]}]
    await world.eventually(lambda: world.count("base-own") == {})
    await world.until("base", "stopped")
    assert (await world.status("base"))["kept"] == [{"name": "kv", "used_by": ["user"]}]
    assert sum("base-kv" in h.providers for h in world.hosts.values()) == 1
    assert (await world.status("user"))["state"] == "ready"

    assert world.manager is not None
    await world.manager.__aexit__(None, None, None)
    next(h for h in world.hosts.values() if "base-kv" in h.providers).providers.clear()
    await world.manage()  # which remembers it, and brings it back
    await world.eventually(lambda: any("base-kv" in h.providers for h in world.hosts.values()))

    assert "kept" not in await world.ask("undeploy.user")
    await world.eventually(lambda: not any(h.providers or h.components for h in world.hosts.values()))
    manager = world.manager
    await world.eventually(lambda: not manager.world.kept)


# -- commands


class Busy(SimulatedHost):
    """Takes its time for each command; `most` counts how many hosts were at work at one time."""

    at_work = most = 0

    async def _handle(self, tokens: list[str], body: Any) -> tuple[Reply, Event | None]:
        if tokens[:2] != ["component", "scale"]:
            return await super()._handle(tokens, body)
        Busy.at_work += 1
        Busy.most = max(Busy.most, Busy.at_work)
        await asyncio.sleep(0.01)
        Busy.at_work -= 1
        return await super()._handle(tokens, body)


async def test_no_more_commands_are_under_way_than_allowed() -> None:
    Busy.at_work = Busy.most = 0
    async with AsyncExitStack() as stack:
        world = World(stack)
        world.client = world.broker.connect()  # type: ignore[attr-defined]
        for number in range(12):
            world.hosts[str(number)] = await stack.enter_async_context(Busy(await world.lattice(), f"H{number}"))
        await stack.enter_async_context(Manager(await world.lattice(), discovery=0.05, tick=0.05, parallel=3))
        await deploy(world, manifest_text("shop", [component("api", instances=12)]))
    assert Busy.most == 3
