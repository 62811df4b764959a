"""A host and the manager that acts are killed while a new version rolls out; another manager finishes it."""

import contextlib
from pathlib import Path

import pytest
from processes import start_host, start_manager
from worlds import HELLO, World, in_time

from lattice import Function
from lattice.control import Inventory
from lattice.errors import LatticeError
from lattice.lattice import Lattice
from lattice.nats_transport import connect
from trellis.planner import Planner
from wadm import Manager

pytestmark = pytest.mark.nats

ONE = Function.parse("demo:math/numbers#one")


class Change(World):
    """Two hosts in this process and one that is another, as is the manager that acts; a second manager waits here."""

    async def deploy(self, number: int) -> None:
        image = self.wasm(str(number), HELLO.replace("i32.const 1", f"i32.const {number}"))
        scaler = {"type": "spreadscaler", "properties": {"instances": 6}}
        part = {"name": "api", "type": "component", "properties": {"image": image, "id": "api"}, "traits": [scaler]}
        annotations = {"version": str(number), "rollout.trellis.dev/pause": "1s"}
        manifest = {
            "apiVersion": "core.oam.dev/v1beta1",
            "kind": "Application",
            "metadata": {"name": "app", "annotations": annotations},
            "spec": {"components": [part]},
        }
        planner = Planner(self.lattice)
        assert (await planner.put(manifest))["result"] != "error"
        await planner.deploy("app", str(number))

    async def runs(self, *wanted: str) -> bool:
        """Whether hosts run just these: `version:instances`."""
        found: list[str] = []
        for reply in await self.lattice.control_all("host", "ping", seconds=0.5, most=3):
            got = await self.lattice.control("host", "get", reply.response["id"], timeout=0.5)
            components = Inventory.model_validate(got.response).components
            found += [f"{Path(one.image_ref).stem}:{one.max_instances}" for one in components]
        return sorted(found) == list(wanted)

    async def ready(self) -> bool:
        found = await Planner(self.lattice).app("app")
        return found is not None and found["state"] == "ready"

    async def managed(self) -> bool:
        return (await Planner(self.lattice).status())["manager"]["acting"]


async def test_a_change_goes_on_when_a_host_and_the_manager_are_killed_in_it(nats_url, lattice_name, tmp_path):
    async with contextlib.AsyncExitStack() as stack:
        lattice = await stack.enter_async_context(Lattice(lattice_name, await connect(nats_url)))
        change = Change(lattice, nats_url, tmp_path, stack)
        acting = await start_manager(stack, nats_url, lattice_name)
        lost = await start_host(stack, nats_url, lattice_name, "lost")
        for _ in range(2):
            await change.host()
        await in_time(change.managed, 40)
        mine = await stack.enter_async_context(Lattice(lattice_name, await connect(nats_url)))
        waiting = await stack.enter_async_context(Manager(mine, discovery=0.3, settled_after=1.0))

        async def three_hosts():
            return len(waiting.world.observed.alive(waiting.clock())) == 3

        async def took_over():
            return waiting.acting

        async def asked():
            with contextlib.suppress(LatticeError):
                answers.add(await change.call("api", ONE))
            return await change.runs("2:3", "2:3") and await change.ready()

        await in_time(three_hosts, 40)
        await change.deploy(1)
        await in_time(lambda: change.runs("1:2", "1:2", "1:2"))
        await in_time(change.ready)
        await change.deploy(2)
        await in_time(lambda: change.runs("1:2", "1:2", "2:2"))
        lost.kill()
        acting.kill()
        await in_time(took_over, 10)
        answers: set[int] = set()
        await in_time(asked, 30)
        assert answers <= {1, 2} and await change.call("api", ONE) == 2
