"""`trellis host start` as a process: told to stop, it finishes what it has in hand, says goodbye, and exits with 0."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest
from verbs import Terminal

from lattice import EntityId, Function, HostId, Invocation, Unreachable, Value, events
from lattice.client import ControlClient
from lattice.control import ScaleComponent
from lattice.lattice import Lattice
from lattice.links import LinkDefinition
from lattice.nats_transport import connect
from trellis.commands.host import parse_labels
from trellis.failures import Failure

pytestmark = pytest.mark.nats

ASKER = """(component
  (import "demo:math/ops@0.1.0" (instance $ops (export "add" (func (param "a" u32) (result u32)))))
  (core func $add (canon lower (func $ops "add")))
  (core module $m (import "ops" "add" (func $add (param i32) (result i32)))
    (func (export "ask") (param i32) (result i32) (call $add (local.get 0))))
  (core instance $i (instantiate $m (with "ops" (instance (export "add" (func $add))))))
  (func $ask (param "n" u32) (result u32) (canon lift (core func $i "ask")))
  (instance $asks (export "ask" (func $ask)))
  (export "demo:math/asks@0.1.0" (instance $asks)))"""

ASK = Invocation(EntityId("asker"), Function.parse("demo:math/asks#ask"), (41,))
LINK = {"source_id": "asker", "target": "slow", "wit_namespace": "demo", "wit_package": "math", "interfaces": ["ops"]}


@pytest.mark.parametrize("told", ["SIGTERM", "host.stop"])
async def test_a_host_that_is_told_to_stop_finishes_says_so_and_exits_with_0(
    told: str, nats_url: str, lattice_name: str, tmp_path: Path
):
    heard: asyncio.Queue[events.Event] = asyncio.Queue()

    async def until(kind: type[events.Event]) -> events.Event:
        async with asyncio.timeout(20):
            while not isinstance(event := await heard.get(), kind):
                pass
        return event

    terminal = Terminal(nats_url, lattice_name)
    process = await terminal.start("host", "start", "--name", "calm-oak-1", "--label", "zone=a")
    arrived, go = asyncio.Event(), asyncio.Event()

    async def slow(invocation: Invocation) -> Value:
        arrived.set()
        await go.wait()
        return invocation.args[0] + 1

    try:
        async with Lattice(lattice_name, await connect(nats_url)) as lattice:
            client = ControlClient(lattice)
            await lattice.on_events(lambda _, event: heard.put_nowait(event))
            await lattice.serve(EntityId("slow"), slow)
            async with asyncio.timeout(20):
                while not (hosts := await client.hosts(0.1, most=1)):
                    pass
            host = HostId(hosts[0].id)
            await client.put_link(LinkDefinition.model_validate(LINK))
            (tmp_path / "asker.wat").write_text(ASKER)
            reference = (tmp_path / "asker.wat").as_uri()
            await client.scale(host, ScaleComponent(component_id=ASK.target, component_ref=reference, count=1))
            await until(events.ComponentScaled)
            call = asyncio.create_task(lattice.invoke(ASK.within(20)))
            await arrived.wait()
            if told == "SIGTERM":
                process.send_signal(signal.SIGTERM)
            else:
                await client.stop_host(host)
            await until(events.HostDraining)
            async with asyncio.timeout(5):
                while await client.hosts(0.05, most=1):
                    pass
            go.set()
            assert await call == 42, "what is in hand is finished"
            stopped = await until(events.HostStopped)
            assert isinstance(stopped, events.HostStopped) and stopped.labels["zone"] == "a"
            assert await asyncio.wait_for(process.wait(), 10) == 0
            with pytest.raises(Unreachable):
                await lattice.invoke(ASK.within(1))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def test_labels_that_hosts_give_themselves_cannot_be_given():
    with pytest.raises(Failure, match=r"hostcore\.\* labels are the host's own"):
        parse_labels(("HostCore.os=beos",))
