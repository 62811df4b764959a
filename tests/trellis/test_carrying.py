"""A component deployed from one machine's disk runs on hosts that have never seen the file."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path

import pytest
from worlds import ADDER

from host import Host, HostConfig
from host.images import ImageSettings
from lattice import EntityId, Function, Invocation, events
from lattice.images import ImageStore
from lattice.lattice import Lattice
from lattice.memory import MemoryBroker
from lattice.nats_transport import NatsOptions, NatsTransport
from trellis.carrying import carry
from trellis.commands.check import examined_manifest
from trellis.commands.deploy import pinned
from trellis.failures import Failure
from trellis.planner import Planner
from trellis.preflight import Examined
from wadm import Manager

MANIFEST = """
apiVersion: core.oam.dev/v1beta1
kind: Application
metadata: {name: math}
spec:
  components:
    - name: adder
      type: component
      properties: {image: ./adder.wat}
"""


@pytest.fixture
async def examined(tmp_path: Path) -> Examined:
    (tmp_path / "adder.wat").write_text(ADDER)
    (tmp_path / "app.yaml").write_text(MANIFEST)
    found = await examined_manifest(tmp_path / "app.yaml")
    assert found.checked.data is not None, found.checked.findings
    return found


async def test_two_hosts_run_what_only_the_deployer_had(
    nats: NatsTransport, nats_url: str, lattice_name: str, tmp_path: Path, examined: Examined
):
    lattice = Lattice(lattice_name, nats)
    said: list[tuple[str, str]] = []
    await carry(lattice, examined, lambda stage, name, text: said.append((stage, name)))
    assert said == [("uploaded", "adder")]
    await carry(lattice, examined, lambda stage, name, text: said.append((stage, name)))
    assert len(said) == 1, "it was uploaded twice"
    assert examined.checked.data is not None
    reference = pinned(examined.checked.data, examined)["spec"]["components"][0]["properties"]["image"]
    (tmp_path / "adder.wat").unlink()
    for name in ("a", "b"):
        images = ImageSettings(cache=tmp_path / f"cache-{name}")
        config = HostConfig(lattice=lattice_name, nats=NatsOptions(nats_url), grace=1.0, images=images)
        async with Host(config) as host:
            body = {"component_id": f"adder-{name}", "component_ref": reference, "count": 1}
            assert (await lattice.control("component", "scale", host.id, body=body)).success
            await _running(host, f"adder-{name}")
            call = Invocation(EntityId(f"adder-{name}"), Function.parse("demo:math/ops#add"), (40, 2)).within(5)
            assert await lattice.invoke(call) == 42


async def _running(host: Host, id: str) -> None:
    """Wait until the host's event says so."""
    done: asyncio.Future[events.Event] = asyncio.get_running_loop().create_future()

    def seen(_: object, event: events.Event) -> None:
        if isinstance(event, events.ComponentScaled) and event.component_id == id and not done.done():
            done.set_result(event)

    subscription = await host.lattice.on_events(seen)
    if EntityId(id) not in host.components.running:
        async with asyncio.timeout(20):
            event = await done
        assert not isinstance(event, events.ComponentScaleFailed), event
    await subscription.unsubscribe()


async def test_a_file_that_changes_while_it_is_deployed_is_not_carried(
    nats: NatsTransport, lattice_name: str, tmp_path: Path, examined: Examined
):
    (tmp_path / "adder.wat").write_text("(component)")
    with pytest.raises(Failure, match="TRL-IMG-007"):
        await carry(Lattice(lattice_name, nats), examined, lambda *_: None)
    assert await ImageStore(nats, lattice_name).all() == []


async def test_old_images_go_unless_a_deployed_version_names_them(examined: Examined):
    broker = MemoryBroker()
    async with (
        Lattice("default", broker.connect()) as planning,
        Manager(planning, discovery=0.05, tick=0.05),
        Lattice("default", broker.connect()) as lattice,
    ):
        store = ImageStore(lattice.transport, "default")
        needed, unneeded = (hashlib.sha256(data).hexdigest() for data in (b"needed", b"unneeded"))
        for digest, data in ((needed, b"needed"), (unneeded, b"unneeded")):
            await store.put(digest, data)
            record = {"name": "old.wasm", "size": len(data), "parts": 1, "used": 0.0}
            await (await lattice.transport.bucket("TRELLIS_IMAGES_default")).put(digest, json.dumps(record).encode())
        assert examined.checked.data is not None
        other = json.loads(json.dumps(examined.checked.data))
        other["metadata"]["name"] = "other"
        other["spec"]["components"][0]["properties"]["image"] = f"file:///elsewhere/old.wasm#sha256:{needed}"
        planner = Planner(lattice)
        version = (await planner.put(other))["current_version"]
        assert (await planner.deploy("other", version))["result"] == "acknowledged"
        await carry(lattice, examined, lambda *_: None)
        assert {image.digest for image in await store.all()} == {needed, examined.components["adder"].digest}


async def test_without_a_manager_no_image_is_removed(nats: NatsTransport, lattice_name: str, examined: Examined):
    store = ImageStore(nats, lattice_name)
    old = hashlib.sha256(b"old").hexdigest()
    await store.put(old, b"old")
    record = {"size": 3, "parts": 1, "used": 0.0}
    await (await nats.bucket(f"TRELLIS_IMAGES_{lattice_name}")).put(old, json.dumps(record).encode())
    await carry(Lattice(lattice_name, nats), examined, lambda *_: None)
    assert len(await store.all()) == 2
