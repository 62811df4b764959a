"""A lattice in the process of a test, as docs/testing.md tells of it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import structlog

import trellis
from lattice import LatticeError, Unreachable
from providers import Provider, export
from trellis.failures import Failure

PAGE = (Path(__file__).parents[2] / "docs" / "testing.md").read_text()
NEXT = "demo:counter/count#next"

COUNTER = """(component
  (import "demo:store/numbers" (instance $numbers (export "add" (func (param "amount" u32) (result u32)))))
  (core func $add (canon lower (func $numbers "add")))
  (core module $m
    (import "numbers" "add" (func $add (param i32) (result i32)))
    (func (export "next") (result i32) (call $add (i32.const 1))))
  (core instance $i (instantiate $m (with "numbers" (instance (export "add" (func $add))))))
  (func $next (result u32) (canon lift (core func $i "next")))
  (instance $count (export "next" (func $next)))
  (export "demo:counter/count" (instance $count)))"""

STORE = """from providers import Provider, export

class Store(Provider):
    async def started(self):
        self.number = 0

    @export("demo:store/numbers#add")
    async def add(self, link, amount):
        self.number += amount
        return self.number
"""

APP = """apiVersion: core.oam.dev/v1beta1
kind: Application
metadata:
  name: counting
spec:
  components:
    - name: counter
      type: component
      properties:
        image: ./counter.wat
      traits:
        - type: spreadscaler
          properties:
            instances: 2
        - type: link
          properties:
            target: store
            namespace: demo
            package: store
            interfaces: [numbers]
    - name: store
      type: capability
      properties:
        image: ./store.py
"""


@pytest.fixture(autouse=True)
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The manifest of an app, in the working directory: an actor that counts in a provider."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "counter.wat").write_text(COUNTER)
    (tmp_path / "store.py").write_text(STORE)
    (tmp_path / "app.yaml").write_text(APP)
    return tmp_path / "app.yaml"


def running(lat, part) -> list[int]:
    """The hosts that run it."""
    return [n for n, h in enumerate(lat.hosts) if part.id in {**h.components.running, **h.capabilities.running}]


@pytest.mark.lattice(hosts=3)
async def test_what_a_killed_host_ran_runs_elsewhere(lattice, app):
    counting = await lattice.deploy(app)
    assert [await counting.counter.call(NEXT), await counting["counter"].call(NEXT)] == [1, 2]
    (holder,) = running(lattice, counting.store)
    await lattice.hosts[holder].kill()
    await lattice.settled()
    assert running(lattice, counting.store) not in ([], [holder])
    assert await counting.counter.call(NEXT) == 1, "a store in memory is gone with its host"


@pytest.mark.lattice(2)
async def test_a_host_that_is_cut_off_is_replaced_and_returns(lattice, app):
    counting = await lattice.deploy(app)
    (holder,) = running(lattice, counting.store)
    for _ in range(2):  # the second time does nothing
        lattice.hosts[holder].partition()
    await lattice.settled()
    assert running(lattice, counting.store) == [0, 1], "who is cut off does not know"
    assert await counting.counter.call(NEXT) == 1
    for _ in range(2):
        lattice.hosts[holder].heal()
    await lattice.settled()
    assert len(running(lattice, counting.store)) == 1
    assert await counting.counter.call(NEXT) >= 1


@pytest.mark.lattice(hosts=2)
async def test_a_host_that_leaves_hands_over(lattice, app):
    counting = await lattice.deploy(app)
    (holder,) = running(lattice, counting.store)
    await lattice.hosts[holder].stop()
    await lattice.settled()
    assert running(lattice, counting.store) == [1 - holder]


async def test_calls_through_a_cut_link_fail_until_it_is_healed(lattice, app):
    counting = await lattice.deploy(app)
    counting.cut("counter", "store")
    with pytest.raises(LatticeError, match='the link from "counting-counter" to "counting-store" is cut'):
        await counting.counter.call(NEXT)
    counting.heal("counter", "store")
    assert await counting.counter.call(NEXT) == 1
    with pytest.raises(KeyError, match="no `stor`; it has counter, store"):
        counting.cut("counter", "stor")


async def test_a_function_and_a_provider_stand_for_parts_that_are_not_there(lattice, app):
    class Store(Provider):
        @export("demo:store/numbers#add")
        async def add(self, link, amount):
            return 70 + amount

    async def store(invocation):
        return 40 + sum(invocation.args)

    (app.parent / "store.py").unlink()
    for answer, expected in ((store, 41), (Store, 71)):
        lattice.fake("store", answer)
        counting = await lattice.deploy(app)
        assert await counting.counter.call(NEXT) == expected
    (app.parent / "counter.wat").unlink()
    lattice.fake("counter", store)
    counting = await lattice.deploy(app)
    assert running(lattice, counting.counter) == [0]


async def test_what_cannot_be_deployed_says_why(lattice, app):
    lattice.fake("stoer", Provider)
    with pytest.raises(ValueError, match="`counting` has no stoer to fake; it has counter, store"):
        await lattice.deploy(app)
    app.write_text(APP.replace("./counter.wat", "./count.wat"))
    async with trellis.lattice() as other:
        with pytest.raises(Failure, match=r"TRL-MAN-029.*count\.wat"):
            await other.deploy(app)
        app.write_text(APP.replace("[numbers]", "[letters]"))
        with pytest.raises(Failure, match="TRL-LNK-001"):
            await other.deploy(app)


@pytest.mark.nats
async def test_it_can_be_on_a_real_server(nats_url, app):
    async with trellis.lattice(2, nats=nats_url) as lat:
        counting = await lat.deploy(app)
        assert await counting.counter.call(NEXT) == 1
        with pytest.raises(LatticeError, match="in memory only"):
            lat.hosts[0].partition()
        for host in lat.hosts:
            await host.kill()
        with pytest.raises(Unreachable, match="counting-counter"):
            await counting.counter.call(NEXT)


async def test_it_is_silent_and_leaves_nothing_behind(app, capfd):
    modules = set(sys.modules)
    async with trellis.lattice() as lat:
        lat.fake("store", Provider)
        with pytest.raises(Failure, match="TRL-LNK-005"):
            await lat.deploy(app)
        await lat.hosts[0].kill()
    assert capfd.readouterr() == ("", "")
    assert not structlog.is_configured()
    assert not [name for name in set(sys.modules) - modules if name.startswith("trellis_fake")]


def test_who_does_not_use_it_does_not_load_it():
    code = (
        "import sys, trellis, trellis.pytest_plugin; print([m for m in sys.modules if m in ('wasmtime', 'structlog')])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
    exec(block)  # the tests of the page are tests of this file
