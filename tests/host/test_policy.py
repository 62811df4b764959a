"""A policy service, in the words of v1: what it forbids does not start, and is not called."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from worlds import ADD, ADDER, Heard

from host import Host, HostConfig
from host.policy import PolicySettings
from lattice import Denied, EntityId, Invocation, events
from lattice.lattice import Lattice
from lattice.memory import MemoryBroker
from lattice.transport import Message
from wadm.reasons import terminal

Rule = Callable[[dict[str, Any]], Any]


class Service:
    """Decides by `rule`, and remembers what it was asked."""

    def __init__(self, lattice: Lattice) -> None:
        self.lattice = lattice
        self.asked: list[dict[str, Any]] = []
        self.rule: Rule = lambda asked: True

    async def answer(self, message: Message) -> None:
        asked = json.loads(message.data)
        self.asked.append(asked)
        decided = self.rule(asked)
        assert message.reply is not None
        if isinstance(decided, bytes):
            await self.lattice.transport.publish(message.reply, decided)
        elif decided is not None:
            answer = {"requestId": asked["requestId"], "permitted": decided, "message": "we say so"}
            await self.lattice.transport.publish(message.reply, json.dumps(answer).encode())

    def kinds(self) -> list[str]:
        return [asked["kind"] for asked in self.asked]


@asynccontextmanager
async def judged() -> AsyncIterator[tuple[Service, Host, Heard]]:
    broker, heard = MemoryBroker(), Heard()
    async with Lattice("t", broker.connect()) as lattice:
        service = Service(lattice)
        await lattice.transport.subscribe("judge", service.answer)
        await lattice.on_events(heard.collect)
        config = HostConfig("t", labels={"zone": "a"}, policy=PolicySettings("judge", 0.2, "judge.changes"))
        async with Host(config, broker.connect()) as host:
            yield service, host, heard


async def scale(service: Service, host: Host, heard: Heard, image: str) -> events.ComponentScaled:
    heard.events.clear()
    body = {"component_id": "adder", "component_ref": image, "count": 3, "annotations": {"by": "me"}}
    assert (await service.lattice.control("component", "scale", host.id, body=body)).success
    async with asyncio.timeout(10), heard._happened:
        await heard._happened.wait_for(lambda: any(isinstance(e, events.ComponentScaled) for e in heard.events))
    return next(e for e in heard.events if isinstance(e, events.ComponentScaled))


@pytest.fixture
def image(tmp_path) -> str:
    path = tmp_path / "adder.wat"
    path.write_text(ADDER)
    return path.as_uri()


async def test_a_start_and_each_function_are_asked_for_once_in_v1s_words(image):
    async with judged() as (service, host, heard):
        assert type(await scale(service, host, heard, image)) is events.ComponentScaled
        call = Invocation(EntityId("adder"), ADD, (20, 22)).within(5)
        assert [await service.lattice.invoke(call) for _ in range(3)] == [42, 42, 42]
        assert service.kinds() == ["startComponent", "performInvocation"]
        start, invocation = service.asked
        component = {"componentId": "adder", "imageRef": image, "annotations": {"by": "me"}, "claims": None}
        assert start["version"] == "v1" and start["request"] == {**component, "maxInstances": 3}
        assert start["host"] == {"publicKey": host.id, "lattice": "t", "labels": host.labels}
        assert invocation["request"] == {
            "interface": "demo:math/ops",
            "function": "add",
            "target": {**component, "maxInstances": 0},
        }


@pytest.mark.parametrize(
    ("rule", "why", "for_good"),
    [
        (lambda asked: False, 'policy denied the start of component "adder": we say so', "TRL-POL-001"),
        (lambda asked: None, "no answer on judge within 0.2 s", None),
        (lambda asked: b"?", "its answer cannot be read", None),
    ],
    ids=["denied", "silent", "nonsense"],
)
async def test_what_is_not_permitted_does_not_start(image, rule, why, for_good):
    async with judged() as (service, host, heard):
        service.rule = rule
        failed = await scale(service, host, heard, image)
        assert isinstance(failed, events.ComponentScaleFailed) and why in failed.error
        assert terminal(failed.error) == for_good, "as the manager sees it: whether trying again may help"
        assert host.components.running == {}


async def test_a_provider_is_asked_for_too(image):
    async with judged() as (service, host, heard):
        service.rule = lambda asked: False
        body = {"provider_id": "kv", "provider_ref": "builtin:keyvalue-memory", "annotations": {}}
        assert (await service.lattice.control("provider", "start", host.id, body=body)).success
        failed = await heard.until(events.ProviderStartFailed, provider_id="kv")
        assert 'denied the start of provider "kv"' in failed.error
        (asked,) = service.asked
        assert asked["request"] == {
            "providerId": "kv",
            "imageRef": "builtin:keyvalue-memory",
            "annotations": {},
            "claims": None,
        }


async def test_a_decision_can_be_taken_back(image):
    async with judged() as (service, host, heard):
        await scale(service, host, heard, image)
        call = Invocation(EntityId("adder"), ADD, (20, 22)).within(5)
        assert await service.lattice.invoke(call) == 42
        taken_back = {"requestId": service.asked[-1]["requestId"], "permitted": False, "message": "no longer"}
        for noise in (b"?", b'{"requestId": "unknown", "permitted": true}', json.dumps(taken_back).encode()):
            await service.lattice.transport.publish("judge.changes", noise)
        with pytest.raises(Denied, match='denied a call of demo:math/ops#add of "adder": no longer'):
            await service.lattice.invoke(call)
        assert service.kinds() == ["startComponent", "performInvocation"]


async def test_a_configuration_service_tells_the_logins_of_registries_at_the_start():
    broker = MemoryBroker()
    async with Lattice("t", broker.connect()) as lattice:
        asked = []

        async def answer(message: Message) -> None:
            asked.append(json.loads(message.data))
            given = {"registryCredentials": {"ghcr.io": {"username": "ada", "password": "x", "registryType": "oci"}}}
            assert message.reply is not None
            await lattice.transport.publish(message.reply, json.dumps(given).encode())

        async with Host(HostConfig("t", config_service=True), broker.connect()) as host:
            assert host.registries == {}, "nobody answers: a host starts all the same"
        await lattice.transport.subscribe("wasmbus.cfg.t.req", answer)
        async with Host(HostConfig("t", config_service=True, labels={"zone": "a"}), broker.connect()) as host:
            assert host.registries["ghcr.io"]["username"] == "ada"
        assert asked[0]["labels"]["zone"] == "a"
