"""Malformed and hostile messages on every subject that hosts, providers and the manager listen to."""

import asyncio
import contextlib
import json
import os
import random
import struct

import msgpack
import pytest
from structlog.testing import capture_logs
from test_host import ADD, ADDER, World, link

from lattice import EntityId, Invocation, events, subjects
from lattice.errors import LatticeError
from lattice.lattice import Lattice
from lattice.nats_transport import connect
from wadm import Manager

pytestmark = pytest.mark.nats

SUM = """
from providers import Link, Provider, export


class Sum(Provider):
    @export("demo:math/ops#add")
    async def add(self, link: Link, a: int, b: int) -> int:
        return a + b
"""

MESSAGES = 600


def bodies(dice: random.Random) -> bytes:
    """One body: noise, or something that is nearly right."""
    words = ["", "a", "*", ">", "..", "COMPONENT_x", "\x00", "😀" * 9, "9" * 400, -1, 2**70, 1e308, None, True, [], {}]

    def value(depth: int = 0):
        if depth > 3 or dice.random() < 0.6:
            return dice.choice(words)
        if dice.random() < 0.5:
            return [value(depth + 1) for _ in range(dice.randrange(4))]
        return {str(dice.choice(FIELDS)): value(depth + 1) for _ in range(dice.randrange(6))}

    kind = dice.randrange(9)
    if kind == 0:
        return dice.randbytes(dice.randrange(300))
    if kind == 1:
        return b"[" * 50_000
    if kind == 2:
        return b"\x91" * 50_000
    if kind == 3:
        return (
            msgpack.packb([dice.randrange(-1, 6), *(value() for _ in range(dice.randrange(9)))], default=str)
            if (dice.random() < 0.5)
            else msgpack.packb([1, "demo:math/ops#add", "x", "default", 1000, None, [2**40, "no"], "id"])
        )
    if kind == 4:
        return dice.choice(b"ocqpdex").to_bytes(1, "big") + struct.pack(">I", dice.randrange(2**32)) + b"\xc1"
    if kind == 5:
        known = {str(name): value() for name in dice.sample(FIELDS, dice.randrange(len(FIELDS)))}
        return json.dumps(known).encode()
    if kind == 6:
        envelope = {"type": "com.wasmcloud.lattice." + dice.choice(sorted(events.KINDS)), "source": value()}
        return json.dumps({**envelope, "data": value()}).encode()
    if kind == 7:
        return msgpack.packb([4, "nobody.sends.this", 2**62])
    return json.dumps(value()).encode()


FIELDS = [
    *("component_id", "component_ref", "count", "annotations", "config", "host_id", "provider_id", "provider_ref"),
    *("source_id", "target", "name", "wit_namespace", "wit_package", "interfaces", "constraints", "key", "value"),
    *("labels", "components", "providers", "app", "component", "instances", "version", "metadata", "spec", "kind"),
]


@pytest.fixture
async def world(nats_url, lattice_name, tmp_path):
    async with contextlib.AsyncExitStack() as stack:
        lattice = await stack.enter_async_context(Lattice(lattice_name, await connect(nats_url)))
        made = World(lattice, nats_url, tmp_path, stack)
        await lattice.on_events(made.collect)
        await lattice.transport.flush()
        yield made


@pytest.mark.parametrize("seed", range(2))
async def test_nobody_dies_of_a_message_and_everybody_answers_the_next_good_one(world, seed):
    dice = random.Random(seed)
    name, transport = world.lattice.name, world.lattice.transport
    host = await world.host()
    path = world.folder / "sum.py"
    path.write_text(SUM)
    await world.scale(host, "adder", world.wasm("adder", ADDER), 4)
    assert (await world.ask("link", "put", **link("tester", "sum", "demo:math", "ops"))).success
    await world.ask("provider", "start", host.id, provider_id="sum", provider_ref=path.as_uri())
    await world.until(events.ProviderStarted, provider_id="sum")

    verbs = {
        "component": ("auction", "scale", "update"),
        "provider": ("auction", "start", "stop"),
        "host": ("ping", "get", "dance"),
        "label": ("put", "del"),
    }
    targets = [
        *(subjects.control(name, noun, verb, host.id) for noun, some in verbs.items() for verb in some),
        *(
            subjects.control(name, noun, verb)
            for noun in ("link", "config", "claims")
            for verb in ("put", "get", "del")
        ),
        *(subjects.control(name, "config", verb, "fuzz") for verb in ("put", "get", "del")),
        *(subjects.control(name, *tokens.split()) for tokens in ("provider start", "registry put", "host ping")),
        subjects.control(name, "component", "auction"),
        subjects.event(name, "component_scaled"),
        subjects.event(name, "host_heartbeat"),
        subjects.alive(name),
        *(subjects.rpc(name, EntityId(id)) for id in ("adder", "sum")),
        *(subjects.rpc_at(name, EntityId(id), host.id) for id in ("adder", "sum")),
        *(subjects.cancel(name, EntityId(id)) for id in ("adder", "sum")),
        *(subjects.provider(name, EntityId("sum"), host.id, v) for v in ("link.put", "link.del", "config", "health")),
        *(subjects.manager(name, verb) for verb in ("status", "scale", "explain")),
        *(f"wadm.api.{name}.model.{verb}" for verb in ("list", "get", "put", "versions.x", "status.x", "deploy.x")),
        f"wadm.api.{name}.model.nonsense.x.y",
        f"{host.lattice.flow._base}.1",
        f"$KV.LATTICEDATA_{name}.COMPONENT_fuzz",
        f"$KV.LATTICEDATA_{name}.nonsense",
        f"$KV.CONFIGDATA_{name}.fuzz",
    ]
    async with Manager(Lattice(name, await connect(world.url))):
        with capture_logs() as logs:
            for _ in range(MESSAGES):
                reply = transport.inbox() if dice.random() < 0.8 else None
                await transport.publish(dice.choice(targets), bodies(dice), reply=reply)
            await transport.flush()
            await answering(world, host)
        surprises = [line for line in logs if line.get("exc_info")]  # what no code at the door had thought of
        assert not surprises, surprises[:3]


async def answering(world, host) -> None:
    """Everybody answers a good request: the host, the component, the provider's process, the manager."""
    name, transport = world.lattice.name, world.lattice.transport

    async def adds(target: str) -> None:
        call = Invocation(EntityId(target), ADD, (40, 2), EntityId("tester"))
        assert await world.lattice.invoke(call.within(20)) == 42

    async with asyncio.timeout(60):
        while True:  # behind all those messages in the queues
            with contextlib.suppress(LatticeError):
                assert (await world.lattice.control("host", "get", host.id)).success
                break
        await adds("adder")
        await adds("sum")
        while True:
            with contextlib.suppress(LatticeError):
                answer = await transport.request(f"wadm.api.{name}.model.list", b"", timeout=2)
                assert isinstance(json.loads(answer.data), list)
                break
    assert (await world.ask("link", "put", **link("after", "adder", "demo:math", "ops"))).success
    assert (await world.lattice.control("config", "put", "after", body={"a": "b"})).success
    pid = host.capabilities.running["sum"].body._process.pid
    os.kill(pid, 0)
    assert host.capabilities.running["sum"].restarts == 0
