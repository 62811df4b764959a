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
from worlds import ADD, ADDER, link

from host.policy import PolicySettings
from lattice import EntityId, Invocation, events, subjects
from lattice import control as ctl
from lattice.control import Inventory
from lattice.errors import LatticeError
from lattice.lattice import Lattice
from lattice.links import ComponentRecord, LinkDefinition, LinkKey
from lattice.memory import matches
from lattice.nats_transport import connect
from providers.runner import VERBS
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


WORDS = ["", "a", "*", ">", "..", "COMPONENT_x", "\x00", "😀" * 9, "9" * 400, -1, 2**70, 1e308, None, True, [], {}]


def value(dice: random.Random, depth: int = 0):
    """Anything that JSON and msgpack can say."""
    if depth > 3 or dice.random() < 0.6:
        return dice.choice(WORDS)
    if dice.random() < 0.5:
        return [value(dice, depth + 1) for _ in range(dice.randrange(4))]
    return {str(dice.choice(FIELDS)): value(dice, depth + 1) for _ in range(dice.randrange(6))}


def fitting(dice: random.Random, schema: dict, known: dict):
    """What this JSON schema asks for, except that now and then something else stands in its place."""
    if dice.random() < 0.04:
        return value(dice)
    schema = known[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    if "anyOf" in schema:
        return fitting(dice, dice.choice(schema["anyOf"]), known)
    match schema.get("type"):
        case "object" if "properties" in schema:
            return {name: fitting(dice, one, known) for name, one in schema["properties"].items()}
        case "object":
            of = schema.get("additionalProperties")
            return {"k": fitting(dice, of, known)} if isinstance(of, dict) else {}
        case "array":
            return [fitting(dice, schema.get("items", {}), known) for _ in range(dice.randrange(3))]
        case "integer":
            return dice.choice((0, 1, 7, -1, 2**32 - 1, 2**63))
        case "boolean":
            return dice.random() < 0.5
        case "string":
            return dice.choice(("a", "b-c", "wasi", "N" * 56, "file:///none.wasm", "a.b", "../a", ""))
    return value(dice)


REQUESTS = [ctl.ScaleComponent, ctl.UpdateComponent, ctl.StartProvider, ctl.StopProvider, ctl.ComponentAuction]
REQUESTS += [ctl.ProviderAuction, ctl.PutLabel, ctl.DeleteLabel, LinkDefinition, LinkKey, ComponentRecord]
TOLD = {name: (Inventory if name == "host_heartbeat" else kind) for name, kind in events.KINDS.items()}
SCHEMAS = {model: model.model_json_schema() for model in (*REQUESTS, *TOLD.values())}


def nearly(dice: random.Random, model: type):
    schema = SCHEMAS[model]
    return fitting(dice, schema, schema.get("$defs", {}))


def bodies(dice: random.Random) -> bytes:
    """One body: noise, or something that is nearly right."""
    kind = dice.randrange(10)
    if kind == 0:
        return dice.randbytes(dice.randrange(300))
    if kind == 1:
        return b"[" * 50_000
    if kind == 2:
        return b"\x91" * 50_000
    if kind == 3:
        return (
            msgpack.packb([dice.randrange(-1, 6), *(value(dice) for _ in range(dice.randrange(9)))], default=str)
            if (dice.random() < 0.5)
            else msgpack.packb([1, "demo:math/ops#add", "x", "default", 1000, None, [2**40, "no"], "id"])
        )
    if kind == 4:
        return dice.choice(b"ocqpdex").to_bytes(1, "big") + struct.pack(">I", dice.randrange(2**32)) + b"\xc1"
    if kind == 5:
        known = {str(name): value(dice) for name in dice.sample(FIELDS, dice.randrange(len(FIELDS)))}
        return json.dumps(known).encode()
    if kind == 6:
        name, model = dice.choice(sorted(TOLD.items()))
        source = dice.choice(("N" * 56, "a", value(dice)))
        return json.dumps({"type": events.TYPE_PREFIX + name, "source": source, "data": nearly(dice, model)}).encode()
    if kind == 7:
        return msgpack.packb([4, "nobody.sends.this", 2**62])
    if kind == 8:
        return json.dumps(nearly(dice, dice.choice(REQUESTS))).encode()
    return json.dumps(value(dice)).encode()


FIELDS = [
    *("component_id", "component_ref", "count", "annotations", "config", "host_id", "provider_id", "provider_ref"),
    *("source_id", "target", "name", "wit_namespace", "wit_package", "interfaces", "constraints", "key", "value"),
    *("labels", "components", "providers", "app", "component", "instances", "version", "metadata", "spec", "kind"),
]


@pytest.mark.parametrize("seed", range(2))
async def test_nobody_dies_of_a_message_and_everybody_answers_the_next_good_one(world, seed):
    dice = random.Random(seed)
    name, transport = world.lattice.name, world.lattice.transport
    host = await world.host(policy=PolicySettings(changes="policy.changes"))
    path = world.folder / "sum.py"
    path.write_text(SUM)
    await world.scale(host, "adder", world.wasm("adder", ADDER), 4)
    assert (await world.ask("link", "put", **link("tester", "sum", "demo:math", "ops"))).success
    await world.ask("provider", "start", host.id, provider_id="sum", provider_ref=path.as_uri())
    await world.until(events.ProviderStarted, provider_id="sum")

    async with Manager(Lattice(name, await connect(world.url))) as manager:
        targets = everything(name, host)
        for heard in heard_by(host.lattice, manager.lattice):
            assert any(matches(heard, target) for target in targets), f"nothing is sent to {heard}"
        with capture_logs() as logs:
            for _ in range(MESSAGES):
                reply = transport.inbox() if dice.random() < 0.8 else None
                await transport.publish(dice.choice(targets), bodies(dice), reply=reply)
            await transport.flush()
            await answering(world, host)
        surprises = [line for line in logs if line.get("exc_info")]  # what no code at the door had thought of
        assert not surprises, surprises[:3]


def heard_by(*members: Lattice) -> set[str]:
    """Every subject that they are subscribed to, except for answers to their own requests."""
    found = {s.subject for member in members for s in member.transport._client._subs.values()}
    return {subject for subject in found if not subject.startswith("_INBOX.")}


def everything(name: str, host) -> list[str]:
    """All subjects that hosts, provider processes and managers listen to, but for the two that end somebody."""
    verbs = {
        "component": ("auction", "scale", "update"),
        "provider": ("auction", "start", "stop"),
        "host": ("ping", "get", "dance"),
        "label": ("put", "del"),
    }
    return [
        *(subjects.control(name, noun, verb, host.id) for noun, some in verbs.items() for verb in some),
        *(
            subjects.control(name, noun, verb)
            for noun in ("link", "config", "claims")
            for verb in ("put", "get", "del")
        ),
        *(subjects.control(name, "config", verb, "fuzz") for verb in ("put", "get", "del")),
        *(subjects.control(name, *tokens.split()) for tokens in ("provider start", "registry put", "host ping")),
        *(subjects.control(name, noun, "auction") for noun in ("component", "provider")),
        *(subjects.event(name, kind) for kind in events.KINDS),
        subjects.alive(name),
        subjects.figures(name),
        "policy.changes",
        subjects.traces(name),
        subjects.tap(name),
        *(subjects.rpc(name, EntityId(id)) for id in ("adder", "sum")),
        *(subjects.rpc_at(name, EntityId(id), host.id) for id in ("adder", "sum")),
        *(about(name, EntityId(id)) for about in (subjects.cancel, subjects.in_hand) for id in ("adder", "sum")),
        *(subjects.provider(name, EntityId("sum"), host.id, v) for v in (*VERBS, "ready") if v != "stop"),
        *(subjects.manager(name, verb) for verb in ("status", "scale", "explain", "plan", "history", "refusal")),
        *(f"wadm.api.{name}.model.{verb}" for verb in ("list", "get", "put", "nonsense.x.y")),
        *(f"wadm.api.{name}.model.{verb}.x" for verb in ("get", "versions", "status", "deploy", "undeploy", "del")),
        f"{host.lattice.flow._base}.1",
        *(f"$KV.LATTICEDATA_{name}.{key}" for key in ("COMPONENT_fuzz", "nonsense")),
        f"$KV.CONFIGDATA_{name}.fuzz",
        *(f"$KV.wadm_manifests.{key}" for key in (name, f"{name}-fuzz")),
        *(f"$KV.trellis_manager.{name}.{kind}.fuzz" for kind in ("override", "put", "kept", "history")),
        f"$KV.trellis_manager.{name}.lease",
    ]


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
