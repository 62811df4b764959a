"""A nats-server that is killed and comes back with nothing: what hosts and managers know is put back."""

import asyncio
import json
import shutil

import pytest
from servers import Broker
from worlds import ADD, ASK, ASKER, HELLO, SUM, in_time, link, world_on

from host.images import component_digest
from lattice import EntityId, Invocation, events
from lattice.images import ImageStore
from lattice.lattice import Lattice
from lattice.nats_transport import connect
from trellis.planner import Planner
from wadm import Manager

pytestmark = pytest.mark.nats


@pytest.fixture
async def world(tmp_path, lattice_name):
    """With a broker of its own, that may lose everything."""
    (tmp_path / "broker").mkdir()
    broker = Broker(tmp_path / "broker")
    broker.start()
    try:
        async with world_on(broker.url, lattice_name, tmp_path) as made:
            made.broker = broker
            yield made
    finally:
        broker.stop()


async def lose_everything(world) -> None:
    back = asyncio.Event()
    world.lattice.transport.on_reconnect(back.set)
    world.broker.kill()
    shutil.rmtree(world.broker.folder / "store")
    world.broker.start()
    await asyncio.wait_for(back.wait(), 20)


async def held(world, name: str) -> dict[str, bytes]:
    bucket = await world.lattice.transport.bucket(name)
    return {key: (await bucket.get(key)).value for key in await bucket.keys()}


async def test_links_configurations_and_images_are_put_back_by_the_hosts_and_followed_again(world):
    a, b = await world.host(), await world.host()
    path = world.folder / "sum.py"
    path.write_text(SUM)
    await world.lattice.control("config", "put", "extra", body={"extra": "7"})
    assert (
        await world.ask("link", "put", **link("tester", "sum", "demo:math", "ops", target_config=["extra"]))
    ).success
    assert (await world.ask("link", "put", **link("asker", "sum", "demo:math", "ops"))).success
    await world.ask("provider", "start", a.id, provider_id="sum", provider_ref=path.as_uri())
    await world.until(events.ProviderStarted, provider_id="sum")
    image = world.wasm("asker", ASKER)
    digest = component_digest(world.folder / "asker.wat")
    await world.scale(b, "asker", f"{image}#sha256:{digest}")
    buckets = [f"LATTICEDATA_{world.lattice.name}", f"CONFIGDATA_{world.lattice.name}"]
    before = [await held(world, name) for name in buckets]
    await lose_everything(world)

    async def put_back():
        return [await held(world, name) for name in buckets] == before

    async def image_there():
        return await ImageStore(world.lattice.transport, world.lattice.name).find(digest) is not None

    async def sums(expected: int):
        call = Invocation(EntityId("sum"), ADD, (1, 2), EntityId("tester"))
        return await world.lattice.invoke(call.within(1.0)) == expected

    await in_time(put_back)
    await in_time(image_there)
    await in_time(lambda: sums(10))
    assert await world.call("asker", ASK, 41) == 42
    # and the new buckets are followed, by the host that was asked and by the other
    assert (await world.lattice.control("config", "put", "extra", body={"extra": "100"})).success
    await in_time(lambda: sums(103))
    assert (await world.ask("link", "del", **link("asker", "sum", "demo:math", "ops"))).success

    async def unlinked():
        return all(not host.links.of(EntityId("asker")) for host in (a, b))

    await in_time(unlinked)


async def test_applications_go_on_as_if_the_broker_had_kept_them(world):
    name = world.lattice.name
    hosts = [await world.host(), await world.host()]
    manager = await world._stack.enter_async_context(Manager(Lattice(name, await connect(world.url)), discovery=0.2))
    planner = Planner(world.lattice)
    numbers = {
        "name": "numbers",
        "type": "component",
        "properties": {"image": world.wasm("numbers", HELLO)},
        "traits": [{"type": "spreadscaler", "properties": {"instances": 4}}],
    }

    def manifest(version: str) -> dict:
        return {
            "apiVersion": "core.oam.dev/v1beta1",
            "kind": "Application",
            "metadata": {"name": "sums", "annotations": {"version": version}},
            "spec": {"components": [numbers]},
        }

    async def instances(count: int):
        app = await planner.app("sums")
        running = sum(c.count for h in hosts for c in h.components.running.values())
        return app is not None and app["state"] == "ready" and running == count

    for version in ("1", "2"):
        await planner.put(manifest(version))
    await planner.deploy("sums", "1")
    await in_time(lambda: instances(4))
    await planner.scale("sums", "numbers", 6)
    await in_time(lambda: instances(6))
    before = await held(world, "wadm_manifests")
    world.events.clear()
    await lose_everything(world)

    async def put_back():
        return await held(world, "wadm_manifests") == before

    await in_time(put_back)
    await in_time(lambda: instances(6))
    assert [v["version"] for v in (await planner.versions("sums"))["versions"]] == ["1", "2"]
    assert not [e for e in world.events if isinstance(e, (events.ComponentScaled, events.ComponentScaleFailed))]

    async def seen_by_dashboards():
        return len(json.loads((await held(world, "wadm_state")).get(f"host_{name}", "{}"))) == 2

    await in_time(seen_by_dashboards)
    await planner.scale("sums", "numbers", 2)
    await in_time(lambda: instances(2))
    assert manager.acting
