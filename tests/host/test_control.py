"""The control interface, verb by verb: every spelling that clients send, the answer's words, and the event after it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from worlds import ADDER

from host import Host, HostConfig
from lattice import EntityId, HostId, ProtocolError, Unreachable
from lattice.client import ControlClient, Refused
from lattice.control import ScaleComponent, StartProvider, UpdateComponent
from lattice.lattice import Lattice
from lattice.links import LinkDefinition, LinkKey
from lattice.memory import MemoryBroker
from lattice.transport import Message

LINK = {"source_id": "a", "target": "b", "wit_namespace": "demo", "wit_package": "math", "interfaces": ["ops"]}
KEY = {"source_id": "a", "wit_namespace": "demo", "wit_package": "math"}


class Client:
    """A v1 client: raw JSON on raw subjects, and the events that come."""

    def __init__(self, lattice: Lattice, host: Host, folder: Path) -> None:
        self.lattice = lattice
        self.host = host
        self.folder = folder
        self.adder = self.wasm("adder", ADDER)
        self.multiplier = self.wasm("multiplier", ADDER.replace("i32.add", "i32.mul"))
        self.heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    def wasm(self, name: str, text: str) -> str:
        file = self.folder / f"{name}.wat"
        file.write_text(text)
        return file.as_uri()

    async def ask(self, tail: str, body: object = None) -> dict[str, Any]:
        """The envelope, which must be one that every client decodes."""
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        subject = f"wasmbus.ctl.v1.{self.lattice.name}.{tail}".replace("{host}", self.host.id)
        answer = await self.lattice.transport.request(subject, raw, timeout=2)
        envelope: dict[str, Any] = json.loads(answer.data)
        assert isinstance(envelope["success"], bool) and isinstance(envelope["message"], str)
        assert envelope.keys() <= {"success", "message", "response"} and envelope.get("response", 0) is not None
        return envelope

    async def ok(self, tail: str, body: object = None) -> Any:
        envelope = await self.ask(tail, body)
        assert envelope["success"], envelope
        return envelope.get("response", envelope["message"])

    async def refused(self, tail: str, body: object = None) -> str:
        envelope = await self.ask(tail, body)
        assert not envelope["success"], envelope
        return str(envelope["message"])

    async def event(self, name: str) -> dict[str, Any]:
        """The data of the next event of that type."""
        async with asyncio.timeout(20):
            while (event := await self.heard.get())["type"] != f"com.wasmcloud.lattice.{name}":
                pass
        assert event["source"] == self.host.id
        data: dict[str, Any] = event["data"]
        return data

    async def silent(self, tail: str, body: object) -> bool:
        subject = f"wasmbus.ctl.v1.{self.lattice.name}.{tail}"
        return not await self.lattice.transport.gather(subject, json.dumps(body).encode(), seconds=0.05)


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    broker = MemoryBroker()
    async with AsyncExitStack() as stack:
        lattice = await stack.enter_async_context(Lattice("t", broker.connect()))
        config = HostConfig(lattice="t", labels={"zone": "a"}, name="calm-oak-1", grace=1.0)
        host = await stack.enter_async_context(Host(config, broker.connect()))
        made = Client(lattice, host, tmp_path)
        await lattice.transport.subscribe("wasmbus.evt.t.>", lambda m: made.heard.put_nowait(json.loads(m.data)))
        yield made


async def test_hosts_say_who_they_are_and_what_they_run(client: Client):
    info = await client.ok("host.ping")
    assert info["id"] == client.host.id and info["friendly_name"] == "calm-oak-1" and info["lattice"] == "t"
    assert info["labels"]["zone"] == "a" and {"uptime_seconds", "version", "ctl_host", "rpc_host"} <= info.keys()
    inventory = await client.ok("host.get.{host}", b"anything at all")
    assert inventory["host_id"] == client.host.id and inventory["components"] == inventory["providers"] == []


@pytest.mark.parametrize("body", [None, {}, {"host_id": ""}, {"timeout": 250}])
async def test_a_host_stops_whatever_the_body_leaves_out(client: Client, body: object):
    assert await client.refused("host.stop.{host}", {"host_id": "NOBODY"}) == "invalid host_id [NOBODY]"
    assert await client.ok("host.stop.{host}", body) == "successfully handled stop host"
    await asyncio.wait_for(client.host.run(), 5)
    await client.host.stop()
    assert (await client.event("host_stopped"))["labels"]["zone"] == "a"
    assert client.host.components.grace == (0.25 if body == {"timeout": 250} else 1.0)


@pytest.mark.parametrize("number", [{"count": 3}, {"max_instances": 3}])
async def test_instances_are_called_count_or_max_instances(client: Client, number: dict[str, int]):
    notes = {"wasmcloud.dev/appspec": "shop", "x": "y"}
    body = {"component_id": "adder", "component_ref": client.adder, "annotations": notes, **number}
    assert await client.ok("component.scale.{host}", body) == ""
    scaled = await client.event("component_scaled")
    assert scaled == {
        "component_id": "adder",
        "host_id": client.host.id,
        "image_ref": client.adder,
        "max_instances": 3,
        "annotations": notes,
    }
    (running,) = (await client.ok("host.get.{host}"))["components"]
    assert (running["id"], running["image_ref"], running["max_instances"]) == ("adder", client.adder, 3)
    assert running["limits"] is None, "null, not left out"
    assert await client.ok("component.scale.{host}", {"component_id": "adder", "host_id": client.host.id}) == ""
    assert (await client.event("component_scaled"))["max_instances"] == 0
    assert (await client.ok("host.get.{host}"))["components"] == []


async def test_every_scale_is_followed_by_an_event_also_where_there_is_nothing_to_do(client: Client):
    await client.ok("component.scale.{host}", {"component_id": "adder", "component_ref": "x", "count": 0})
    assert (await client.event("component_scaled"))["image_ref"] == "x"
    gone = {"component_id": "adder", "component_ref": "file:///gone.wasm", "count": 1, "annotations": {"a": "b"}}
    await client.ok("component.scale.{host}", gone)
    failed = await client.event("component_scale_failed")
    assert failed["annotations"] == {"a": "b"} and failed["image_ref"] == "file:///gone.wasm"
    assert failed["max_instances"] == 1 and "/gone.wasm" in failed["error"]


async def test_another_image_is_taken_only_when_it_may_be(client: Client):
    body = {"component_id": "adder", "component_ref": client.adder, "count": 1}
    await client.ok("component.scale.{host}", body)
    await client.event("component_scaled")
    other = {**body, "component_ref": client.multiplier, "count": 2}
    said = await client.ok("component.scale.{host}", other)
    assert f"{client.adder} != {client.multiplier}" in said and "will not be updated" in said
    assert (await client.event("component_scaled"))["image_ref"] == client.adder
    said = await client.ok("component.scale.{host}", {**other, "allow_update": True})
    assert "will be updated afterwards" in said
    assert (await client.event("component_scaled"))["image_ref"] == client.multiplier

    update = {"component_id": "adder", "new_component_ref": client.adder, "annotations": {"a": "b"}}
    said = await client.ok("component.update.{host}", update)
    assert said == f"component adder updating from {client.multiplier} to {client.adder}"
    updated = await client.event("component_scaled")
    assert (updated["image_ref"], updated["max_instances"], updated["annotations"]) == (client.adder, 2, {"a": "b"})
    assert await client.ok("component.update.{host}", update) == f"component adder already updated to {client.adder}"
    assert await client.refused("component.update.{host}", {"component_id": "x"}) == "component x not found"


@pytest.mark.parametrize("kind", ["component", "provider"])
async def test_hosts_bid_for_what_they_satisfy_and_do_not_run_yet(client: Client, kind: str):
    asked = {f"{kind}_id": "thing", f"{kind}_ref": "img:1", "constraints": {"zone": "a"}}
    assert await client.ok(f"{kind}.auction", asked) == {**asked, "host_id": client.host.id}
    assert await client.silent(f"{kind}.auction", {**asked, "constraints": {"zone": "b"}})
    if kind == "component":
        await client.ok("component.scale.{host}", {"component_id": "thing", "component_ref": client.adder, "count": 1})
        await client.event("component_scaled")
    else:
        body = {"provider_id": "thing", "provider_ref": "builtin:keyvalue-memory"}
        await client.ok("provider.start.{host}", body)
        await client.event("provider_started")
    assert await client.silent(f"{kind}.auction", asked)
    await client.ok("label.put.{host}", {"key": "trellis.dev/drained", "value": "yes"})
    assert await client.silent(f"{kind}.auction", {**asked, f"{kind}_id": "other"})


@pytest.mark.parametrize("spelling", ["host in the subject", "host in the body"])
@pytest.mark.parametrize("stop", ["provider_id", "provider_ref"])
async def test_providers_are_started_and_stopped(client: Client, spelling: str, stop: str):
    body = {"provider_id": "kv", "provider_ref": "wasmcloud+builtin://keyvalue-memory", "annotations": {"a": "b"}}
    assert await client.silent("provider.start", {**body, "host_id": "NOBODY"})
    bare = spelling == "host in the body"
    tail, body = ("provider.start", {**body, "host_id": client.host.id}) if bare else ("provider.start.{host}", body)
    assert await client.ok(tail, body) == "successfully started provider"
    started = await client.event("provider_started")
    assert started["image_ref"] == "wasmcloud+builtin://keyvalue-memory" and started["annotations"] == {"a": "b"}
    assert await client.refused(tail, body) == "provider with that ID is already running"
    assert await client.ok("provider.stop.{host}", {stop: "kv"}) == "successfully stopped provider"
    stopped = await client.event("provider_stopped")
    assert (stopped["provider_id"], stopped["reason"]) == ("kv", "stop")
    assert await client.refused("provider.stop.{host}", {stop: "kv"}) == "provider with that ID is not running"
    await client.ok("provider.start.{host}", {"provider_id": "kv", "provider_ref": "builtin:nothing"})
    failed = await client.event("provider_start_failed")
    assert failed["provider_ref"] == "builtin:nothing" and "builtin" in failed["error"]


async def test_labels_are_put_and_deleted(client: Client):
    assert await client.ok("label.put.{host}", {"key": "tier", "value": "gold"}) == "successfully put label"
    assert (await client.event("labels_changed"))["labels"]["tier"] == "gold"
    assert await client.ok("label.del.{host}", {"key": "tier"}) == "successfully deleted label"
    assert "tier" not in (await client.event("labels_changed"))["labels"]
    assert await client.ok("label.del.{host}", {"key": "tier"}) == "successfully deleted label (no such label)"
    for verb in ("put", "del"):
        assert "hostcore.*" in await client.refused(f"label.{verb}.{{host}}", {"key": "HostCore.os", "value": "beos"})
    assert client.heard.empty(), "what changes nothing is no event"


@pytest.mark.parametrize("spelling", ["name", "link_name"])
async def test_links_are_put_listed_and_deleted_under_either_spelling_of_their_name(client: Client, spelling: str):
    assert await client.ok("link.put", {**LINK, spelling: "back"}) == "successfully set link"
    put = await client.event("linkdef_set")
    assert put["name"] == "back" and put["interfaces"] == ["ops"]
    (listed,) = await client.ok("link.get")
    assert listed == {**LINK, "name": "back", "source_config": [], "target_config": []}
    assert await client.ok("link.del", KEY) == "successfully deleted link (spec doesn't exist)", "another name"
    assert "target" not in await client.event("linkdef_deleted")
    assert await client.ok("link.del", {**KEY, spelling: "back"}) == "successfully deleted link"
    assert (await client.event("linkdef_deleted"))["target"] == "b"
    assert await client.ok("link.get") == []


async def test_a_link_that_cannot_be_is_refused_and_told(client: Client):
    await client.ok("link.put", LINK)
    assert "already exists with different target" in await client.refused("link.put", {**LINK, "target": "c"})
    assert (await client.event("linkdef_set_failed"))["target"] == "c"
    await client.ok("link.put", {**LINK, "target": "c", "interfaces": ["others"]})
    said = await client.refused("link.put", {**LINK, "source_config": ["nowhere"]})
    assert said == ("Failed to validate configuration and secrets. Configuration nowhere not found in config store. ")
    assert await client.ok("link.del", {**KEY, "target": "c"}) == "successfully deleted link"
    assert [link["target"] for link in await client.ok("link.get")] == ["b"]


async def test_configurations_are_put_got_and_deleted(client: Client):
    assert await client.ok("config.put.web", {"level": "debug"}) == "successfully put config"
    assert await client.event("config_set") == {"config_name": "web"}
    assert await client.ok("config.get.web") == {"level": "debug"}
    for body in ({"a": 1}, ["a"], b"{", None):
        said = await client.refused("config.put.web", body)
        assert said == "config data should be a map of string -> string"
    assert await client.ok("config.del.web") == "successfully deleted config"
    assert await client.event("config_deleted") == {"config_name": "web"}
    assert await client.ok("config.get.web") == "Configuration not found"
    assert await client.ok("config.del.web") == "successfully deleted config"
    assert await client.ok("config.put.empty", {}) == "successfully put config"
    assert await client.ok("config.get.empty") == {}


async def test_claims_and_registries(client: Client):
    assert await client.ok("claims.get") == []
    login = {"ghcr.io": {"username": "ann", "password": "p", "registryType": "oci"}}
    assert await client.ok("registry.put", login) == "successfully put registries"
    assert client.host.registries == login
    assert "registry put" in await client.refused("registry.put", ["ghcr.io"])


@pytest.mark.parametrize(
    "tail",
    [
        *("host.dance.{host}", "component.start.{host}", "provider.restart.{host}", "label.get.{host}"),
        *("link.list", "config.list.web", "config.get.with.dots", "config.get"),
    ],
)
async def test_what_nobody_serves_is_said_to_be_unsupported(client: Client, tail: str):
    envelope = await client.ask(tail, {})
    if tail == "config.get":
        assert envelope["message"] == "Configuration not found", "a configuration without a name is not there"
    else:
        assert (envelope["success"], envelope["message"]) == (False, "unsupported subject")


@pytest.mark.parametrize(
    "tail",
    [
        *("component.scale.{host}", "component.update.{host}", "component.auction", "provider.auction"),
        *("provider.start.{host}", "provider.stop.{host}", "label.put.{host}", "label.del.{host}"),
        *("link.put", "link.del", "registry.put", "host.stop.{host}"),
    ],
)
async def test_a_body_that_cannot_be_read_is_refused_with_what_is_wrong(client: Client, tail: str):
    for body in (b"\xff{", ["a"], {"component_id": 7, "host_id": 7, "key": 7, "source_id": 7}):
        if tail == "registry.put" and isinstance(body, dict):
            continue  # any object will do
        entity, verb = tail.split(".")[:2]
        assert (await client.refused(tail, body)).startswith(f"failed to deserialize {entity} {verb} command: ")


@pytest.mark.parametrize("id", [">", "*", "a.b", "a b", "", "x" * 129])
async def test_an_id_that_is_no_single_token_is_refused_at_the_door(client: Client, id: str):
    for tail, body in (
        ("component.scale.{host}", {"component_id": id, "component_ref": client.adder, "count": 1}),
        ("component.update.{host}", {"component_id": id, "new_component_ref": client.adder}),
        ("provider.start.{host}", {"provider_id": id, "provider_ref": "builtin:keyvalue-memory"}),
        ("link.put", {**LINK, "source_id": id}),
        ("link.put", {**LINK, "target": id}),
    ):
        assert f"{id!r} is not an id" in await client.refused(tail, body)
    assert not client.host.router.local and await client.ok("link.get") == []


async def test_a_host_takes_another_for_dead_after_as_much_silence_as_it_was_told(tmp_path: Path):
    broker = MemoryBroker()
    async with Host(HostConfig(lattice="t", alive=0.05, dead_after=0.3), broker.connect()) as host:
        other = HostId("N" + "A" * 55)
        begun = asyncio.get_running_loop().time()
        await host.lattice.transport.publish("trellis.alive.t", other.encode())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3) as calling:
                host.directory.scopes_of(other).add(calling)
                await asyncio.Event().wait()
        assert 0.25 < asyncio.get_running_loop().time() - begun < 3


async def test_an_answer_that_is_too_large_for_the_broker_is_a_refusal_and_not_silence(
    client: Client, monkeypatch: pytest.MonkeyPatch
):
    await client.ok("config.put.large", {"a": "x" * 2000})
    monkeypatch.setattr(type(client.host.lattice.transport), "max_payload", 1000)
    assert "raise its max_payload" in await client.refused("config.get.large")


# -- our own client of it


@pytest.fixture
def control(client: Client) -> ControlClient:
    return ControlClient(client.lattice, timeout=2)


async def test_the_client_sees_and_steers_hosts(client: Client, control: ControlClient):
    host = client.host.id
    (seen,) = await control.hosts(most=1)
    assert (seen.id, seen.friendly_name) == (host, "calm-oak-1")
    await control.put_label(host, "tier", "gold")
    assert client.host.labels["tier"] == "gold"
    await control.delete_label(host, "tier")
    with pytest.raises(Refused, match="hostcore"):
        await control.put_label(host, "hostcore.os", "beos")
    assert await control.put_registries({"ghcr.io": {"token": "t"}}, 0.05) == 1
    assert await control.claims() == []
    await control.stop_host(host, grace=0.5)
    await asyncio.wait_for(client.host.run(), 5)
    assert client.host.components.grace == 0.5


async def test_the_client_runs_components_and_providers(client: Client, control: ControlClient):
    host, adder = client.host.id, EntityId("adder")
    assert await control.auction_component(adder, client.adder, {"zone": "a"}, 0.05) == [host]
    assert await control.auction_component(adder, client.adder, {"zone": "b"}, 0.05) == []
    assert await control.scale(host, ScaleComponent(component_id=adder, component_ref=client.adder, count=2)) == ""
    await client.event("component_scaled")
    said = await control.update(host, UpdateComponent(component_id=adder, new_component_ref=client.multiplier))
    assert said.startswith("component adder updating")
    await client.event("component_scaled")
    store = EntityId("kv")
    assert await control.auction_provider(store, "builtin:keyvalue-memory", {}, 0.05) == [host]
    await control.start_provider(host, StartProvider(provider_id=store, provider_ref="builtin:keyvalue-memory"))
    await client.event("provider_started")
    inventory = await control.inventory(host)
    assert [(c.id, c.image_ref, c.max_instances) for c in inventory.components] == [(adder, client.multiplier, 2)]
    assert [p.id for p in inventory.providers] == [store]
    assert await control.inventories([host, HostId("NOBODY")]) == {host: await control.inventory(host)}
    await control.stop_provider(host, store)
    await client.event("provider_stopped")
    with pytest.raises(Refused, match="not running"):
        await control.stop_provider(host, store)


async def test_the_client_keeps_links_and_configurations(client: Client, control: ControlClient):
    link = LinkDefinition.model_validate({**LINK, "source_config": ["web"]})
    with pytest.raises(Refused, match="Configuration web not found"):
        await control.put_link(link)
    assert await control.config("web") is None
    await control.put_config("web", {"level": "debug"})
    assert await control.config("web") == {"level": "debug"}
    await control.put_link(link)
    assert await control.links() == [link]
    assert await control.delete_link(LinkKey.model_validate(KEY))
    assert not await control.delete_link(LinkKey.model_validate(KEY))
    await control.delete_config("web")
    assert await control.config("web") is None


async def test_the_client_says_who_is_missing_and_passes_over_who_speaks_otherwise(
    client: Client, control: ControlClient
):
    with pytest.raises(Unreachable):
        await control.inventory(HostId("NOBODY"))

    async def old(message: Message) -> None:
        assert message.reply is not None
        await client.lattice.transport.publish(message.reply, b'{"id": "NOLD"}')

    await client.lattice.transport.subscribe("wasmbus.ctl.v1.t.host.ping", old)
    assert [host.id for host in await control.hosts(0.1)] == [client.host.id]
    await client.lattice.transport.subscribe("wasmbus.ctl.v1.t.host.get.NOLD", old)
    with pytest.raises(ProtocolError):
        await control.inventory(HostId("NOLD"))
