"""wasmCloud's own JavaScript client, as its dashboard uses it, on our hosts and our manager."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from servers import Broker
from worlds import Heard

from host import Host, HostConfig
from lattice import events
from lattice.lattice import Lattice
from lattice.nats_transport import NatsOptions, connect
from wadm import Manager

pytestmark = [pytest.mark.nats, pytest.mark.toolchain]

CLIENT = "@wasmcloud/lattice-client-core@0.2.3"
DRIVER = Path(__file__).with_name("drive.mjs")

EMPTY = """(component
  (core module $m (func (export "one") (result i32) (i32.const 1)))
  (core instance $i (instantiate $m))
  (func $one (result u32) (canon lift (core func $i "one")))
  (instance $numbers (export "one" (func $one)))
  (export "demo:math/numbers@0.1.0" (instance $numbers)))"""


@pytest.fixture(scope="session")
def package(tmp_path_factory) -> Path:
    """A folder with the client installed."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("no Node.js to run the JavaScript client with")
    folder = tmp_path_factory.mktemp("javascript")
    (folder / "package.json").write_text('{"private": true, "type": "module"}')
    install = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", CLIENT]
    try:
        done = subprocess.run(install, cwd=folder, capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm did not install {CLIENT} within two minutes")
    if done.returncode:
        pytest.skip(f"npm cannot install {CLIENT}: {done.stderr.strip()[-300:]}")
    shutil.copy(DRIVER, folder)
    return folder


class Client:
    """The client in a Node process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def __call__(self, controller: str, method: str, *arguments):
        """What the client's promise resolves to; fails when it is rejected."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps([controller, method, *arguments]).encode() + b"\n")
        async with asyncio.timeout(15):
            line = await self.process.stdout.readline()
        said = json.loads(line or b'{"error": "the Node process ended"}')
        assert "ok" in said, f"{controller}.{method}: {said.get('error')}"
        return said["ok"]

    async def answered(self, controller: str, method: str, *arguments):
        """The response of a control request that succeeds."""
        reply = await self(controller, method, *arguments)
        assert reply["success"] is True, reply
        return reply.get("response")


class Site(Heard):
    host: Host
    lattice: Lattice
    client: Client
    image: str

    async def hosts(self, wanted) -> list:
        """The client's list of hosts once it is as `wanted`: the manager writes down what it heard a moment later.

        Until it has, the client finds no entry at all and fails, as with wasmCloud's own manager.
        """
        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(AssertionError):
                    refs = await self.client.answered("hosts", "list", {})
                    if wanted(refs):
                        return refs
                await asyncio.sleep(0.05)


@pytest.fixture
async def site(package, tmp_path, lattice_name):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    broker = Broker(tmp_path, config=f'websocket {{ host: "127.0.0.1", port: {port}, no_tls: true }}')
    broker.start()
    made = Site()
    made.image = (tmp_path / "empty.wat").as_uri()
    (tmp_path / "empty.wat").write_text(EMPTY)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(broker.stop)
        made.lattice = await stack.enter_async_context(Lattice(lattice_name, await connect(broker.url)))
        await made.lattice.on_events(made.collect)
        await made.lattice.transport.flush()
        await stack.enter_async_context(Manager(Lattice(lattice_name, await connect(broker.url))))
        config = HostConfig(lattice=lattice_name, nats=NatsOptions(broker.url), name="calm-oak-1", grace=1.0)
        made.host = await stack.enter_async_context(Host(config))
        await made.until(events.HostStarted)
        process = await asyncio.create_subprocess_exec(
            *("node", "--no-warnings", "--experimental-websocket", "drive.mjs", f"ws://127.0.0.1:{port}", lattice_name),
            cwd=package,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        made.client = Client(process)
        yield made
        assert process.stdin is not None
        process.stdin.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), 5)
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_hosts_are_listed_labelled_and_stopped(site):
    ours = site.host.id
    (ref,) = await site.hosts(lambda refs: [ref["id"] for ref in refs] == [ours])
    assert (ref["friendly_name"], ref["providers"], ref["lattice"]) == ("calm-oak-1", {}, site.lattice.name)
    (detail,) = await site.client.answered("hosts", "list", {"expand": True})
    assert detail["host_id"] == ours and detail["components"] == [] and detail["providers"] == []
    assert detail["labels"]["hostcore.os"]
    await site.client.answered("hosts", "putLabel", ours, "zone", "a")
    await site.until(events.LabelsChanged)
    assert (await site.client.answered("hosts", "get", ours))["labels"]["zone"] == "a"
    await site.client.answered("hosts", "deleteLabel", ours, "zone")
    assert "zone" not in (await site.client.answered("hosts", "get", ours))["labels"]
    await site.client.answered("hosts", "stop", ours)
    await asyncio.wait_for(site.host.run(), 5)


async def test_components_are_scaled_updated_and_stopped(site):
    ours = site.host.id
    body = {
        "host_id": ours,
        "component_id": "numbers",
        "component_ref": site.image,
        "max_instances": 3,
        "annotations": {"by": "the dashboard"},
        "config": [],
    }
    await site.client.answered("components", "scale", body)
    scaled = await site.until(events.ComponentScaled, component_id="numbers", max_instances=3)
    assert scaled.annotations == {"by": "the dashboard"} and scaled.image_ref == site.image
    (described,) = (await site.client.answered("hosts", "get", ours))["components"]
    assert (described["id"], described["max_instances"], described["image_ref"]) == ("numbers", 3, site.image)
    update = {"host_id": ours, "component_id": "numbers", "new_component_ref": site.image, "annotations": {}}
    await site.client.answered("components", "update", update)
    await site.client.answered("components", "scale", {**body, "max_instances": 0})
    await site.until(events.ComponentScaled, component_id="numbers", max_instances=0)


async def test_providers_are_started_on_the_host_named_in_the_body_and_stopped(site):
    ours = site.host.id
    body = {"host_id": ours, "provider_id": "kv", "provider_ref": "builtin:keyvalue-memory", "annotations": {}}
    await site.client.answered("providers", "start", body)
    await site.until(events.ProviderStarted, provider_id="kv")
    assert [p["id"] for p in (await site.client.answered("hosts", "get", ours))["providers"]] == ["kv"]
    refused = await site.client("providers", "start", body)
    assert refused["success"] is False and refused["message"]
    await site.client.answered("providers", "stop", {"host_id": ours, "provider_id": "kv"})
    await site.until(events.ProviderStopped, provider_id="kv")


async def test_links_and_configurations_are_put_listed_and_deleted(site):
    assert await site.client.answered("configs", "list", {}) == []
    await site.client.answered("configs", "put", "shop", {"level": "debug"})
    assert await site.client.answered("configs", "list", {"expand": True}) == [
        {"name": "shop", "entries": {"level": "debug"}}
    ]
    assert await site.client.answered("configs", "get", "shop") == {"level": "debug"}
    assert await site.client.answered("configs", "get", "nothing") is None
    link = {
        "source_id": "web",
        "target": "kv",
        "wit_namespace": "wasi",
        "wit_package": "keyvalue",
        "interfaces": ["store"],
        "target_config": ["shop"],
    }
    await site.client.answered("links", "put", link)
    (listed,) = await site.client.answered("links", "list")
    assert listed == {**link, "name": "default", "source_config": []}
    refused = await site.client("links", "put", {**link, "target": "other"})
    assert refused["success"] is False and "different target" in refused["message"]
    key = {name: link[name] for name in ("source_id", "wit_namespace", "wit_package")}
    await site.client.answered("links", "delete", {**key, "link_name": "default"})
    assert await site.client.answered("links", "list") == []
    await site.client.answered("configs", "delete", "shop")
    assert await site.client.answered("configs", "list", {}) == []


def manifest(image: str, version: str) -> str:
    return json.dumps(
        {
            "apiVersion": "core.oam.dev/v1beta1",
            "kind": "Application",
            "metadata": {"name": "sums", "annotations": {"version": version, "description": "from the dashboard"}},
            "spec": {
                "components": [
                    {
                        "name": "numbers",
                        "type": "component",
                        "properties": {"image": image},
                        "traits": [{"type": "spreadscaler", "properties": {"instances": 2}}],
                    }
                ]
            },
        }
    )


async def test_an_application_is_put_deployed_watched_and_taken_away(site):
    put = await site.client("applications", "put", manifest(site.image, "1"))
    assert (put["result"], put["name"], put["total_versions"]) == ("created", "sums", 1)
    assert (await site.client("applications", "deploy", "sums", "1"))["result"] == "acknowledged"
    await site.until(events.ComponentScaled, max_instances=2)
    async with asyncio.timeout(20):
        while True:
            detail = (await site.client("applications", "detail", "sums"))["detail"]
            if detail["status"]["status"]["type"] == "deployed":
                break
            await asyncio.sleep(0.05)
    assert [v["version"] for v in detail["versions"]] == ["1"]
    assert detail["manifest"]["metadata"]["name"] == "sums"
    (listed,) = (await site.client("applications", "list"))["models"]
    assert (listed["name"], listed["deployed_version"], listed["status"]) == ("sums", "1", "deployed")
    await site.hosts(lambda refs: [list(ref["components"].values()) for ref in refs] == [[2]])
    assert (await site.client("applications", "undeploy", "sums"))["result"] == "acknowledged"
    await site.until(events.ComponentScaled, max_instances=0)
    assert (await site.client("applications", "delete", "sums", {"delete_all": True}))["result"] == "deleted"
