"""New versions and new hosts on a real lattice, while calls go on."""

import asyncio
import contextlib

import pytest
from worlds import ASK, ASKER, World, in_time

from lattice.lattice import Lattice
from lattice.nats_transport import connect
from trellis.planner import Planner
from wadm import Manager

pytestmark = pytest.mark.nats

SLOW = """
import asyncio
from pathlib import Path
from pydantic import BaseModel
from providers import Provider, export

class More(BaseModel):
    more: int = 0

class Slow(Provider):
    link_config = More

    @export("demo:math/ops#add")
    async def add(self, link, a, b):
        while a == 99 and not Path(__file__).with_name("go").exists():
            await asyncio.sleep(0.01)
        return a + b + link.config.more
"""


def adding(number: int) -> str:
    return ASKER.replace("(i32.const 1)", f"(i32.const {number})")


BROKEN = ASKER.replace(
    "(core module $m",
    "(core module $no (func $f unreachable) (start $f))\n  (core instance (instantiate $no))\n  (core module $m",
)


class Site(World):
    """Two hosts and a manager; `asker` adds a number to what it is asked, with a provider's help."""

    async def deploy(self, version: str, wasm: str, state: str = "ready", said: str = "hello", more: str = "0") -> dict:
        place = {"name": "place", "properties": {"placement": "host"}}
        target = {"name": "slow", "config": [{"name": "more", "properties": {"more": more}}]}
        link = {"namespace": "demo", "package": "math", "interfaces": ["ops"], "target": target}
        slow = {"image": (self.folder / "slow.py").as_uri(), "config": [place]}
        scaled = [{"type": "spreadscaler", "properties": {"instances": 4}}, {"type": "link", "properties": link}]
        asker = {"image": wasm, "id": "asker", "config": [{"name": "said", "properties": {"greeting": said}}]}
        parts = [
            {"name": "asker", "type": "component", "properties": asker, "traits": scaled},
            {"name": "slow", "type": "capability", "properties": slow},
        ]
        metadata = {"name": "app", "annotations": {"version": version}}
        manifest = {"apiVersion": "core.oam.dev/v1beta1", "kind": "Application", "metadata": metadata}
        planner = Planner(self.lattice)
        assert (await planner.put({**manifest, "spec": {"components": parts}}))["result"] != "error"
        await planner.deploy("app", version)
        return await self.becomes(state)

    async def becomes(self, state: str) -> dict:
        async def there():
            app = await Planner(self.lattice).app("app")
            return app if app and app["state"] == state else None

        return await in_time(there)

    async def holds(self, counts: list[int]) -> bool:
        return self.counts() == counts

    def counts(self) -> list[int]:
        return sorted(h.components.running["asker"].count for h in self.hosts if "asker" in h.components.running)

    @contextlib.asynccontextmanager
    async def asked(self):
        """Calls go on meanwhile; yields the answers so far, each of which came."""
        answers: list[int] = []

        async def keep_asking():
            while True:
                answers.append(await self.call("asker", ASK, 0))
                await asyncio.sleep(0.002)

        async with asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(keep_asking())
            yield answers
            asking.cancel()


@pytest.fixture
async def site(nats_url, lattice_name, tmp_path):
    async with contextlib.AsyncExitStack() as stack:
        lattice = await stack.enter_async_context(Lattice(lattice_name, await connect(nats_url)))
        made = Site(lattice, nats_url, tmp_path, stack)
        made.hosts = [await made.host(), await made.host()]
        (tmp_path / "slow.py").write_text(SLOW)
        manager = Manager(
            await stack.enter_async_context(Lattice(lattice_name, await connect(nats_url))),
            discovery=0.2,
            tick=0.1,
            settled_after=0.5,
        )
        await stack.enter_async_context(manager)
        await made.deploy("v1", made.wasm("one", adding(1)))
        yield made


async def test_a_rollout_loses_no_call_and_a_version_that_cannot_begin_goes_nowhere(site):
    long = asyncio.create_task(site.call("asker", ASK, 99))
    async with site.asked() as answers:
        await site.deploy("v2", site.wasm("two", adding(2)))
        assert not long.done()
        (site.folder / "go").touch()
        assert await long == 100, "it ends in the version that it began in"
        status = await site.deploy("v3", site.wasm("three", BROKEN), "blocked")
    assert set(answers) == {1, 2} and (answers[0], answers[-1]) == (1, 2)
    reason = next(c for c in status["components"] if c["name"] == "asker")["reason"]
    assert reason["code"] == "TRL-IMG-013"
    assert reason["message"].endswith("The change stopped with 0 of 2 hosts done; the old version goes on serving.")
    assert await site.call("asker", ASK, 0) == 2
    assert site.counts() == [2, 2]


async def test_the_old_version_keeps_its_configuration_until_the_new_one_takes_over(site):
    def greetings():
        return [host.components.running["asker"].actor.config["greeting"] for host in site.hosts]

    await site.deploy("v2", site.wasm("two", BROKEN), "blocked", said="good evening")
    written = await site.lattice.control("config", "get", "app-said")
    assert written.response == {"greeting": "good evening"}
    assert greetings() == ["hello", "hello"]
    lost = site.hosts
    site.hosts = [await site.host()]
    for host in lost:
        await host.stop()
    await in_time(lambda: site.holds([4]))
    assert greetings() == ["hello"]
    await site.deploy("v3", site.wasm("one", adding(1)), said="good evening")
    assert greetings() == ["good evening"]


async def test_work_moves_to_a_host_that_came_and_back_when_it_leaves(site):
    async with site.asked() as answers:
        third = await site.host()
        site.hosts.append(third)

        await in_time(lambda: site.holds([1, 1, 2]))
        await site.becomes("ready")
        site.hosts.remove(third)
        await third.stop()
        await in_time(lambda: site.holds([2, 2]))
    assert set(answers) == {1}


async def test_a_links_configuration_changes_in_place_and_one_that_is_refused_changes_nothing(site):
    wasm = site.wasm("one", adding(1))

    async def answers_with(number):
        return await site.call("asker", ASK, 0) == number

    async with site.asked() as answers:
        await site.deploy("v2", wasm, more="10")
        await in_time(lambda: answers_with(11))
        status = await site.deploy("v3", wasm, "blocked", more="bad")
        (link,) = status["links"]
        assert link["state"] == "blocked" and "valid integer" in link["reason"]["message"]
        assert await answers_with(11)
        await site.deploy("v4", wasm, more="20")
        await in_time(lambda: answers_with(21))
        async with asyncio.timeout(10):
            while answers[-1] != 21:
                await asyncio.sleep(0.002)
    assert set(answers) == {1, 11, 21}
