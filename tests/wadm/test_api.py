"""wadm's API as its clients read it: whatever is asked, the answer is one that they can decode."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, TypeAdapter
from simulated_host import SimulatedHost
from simulated_lattice import component, manifest_text

from lattice.lattice import Lattice
from lattice.memory import MemoryBroker
from lattice.transport import Transport
from wadm import Manager

SHOP = manifest_text("shop", [component("api", link="kv"), component("kv", kind="capability")])


class Strict(BaseModel):
    """As the Rust client reads: what has a default there has one here, and nothing is converted."""

    model_config = ConfigDict(strict=True)


class StatusInfo(Strict):
    type: Literal["waiting", "undeployed", "reconciling", "compensating", "deployed", "ready", "failed", "unhealthy"]
    message: str = ""


class Scaler(Strict):
    id: str = ""
    kind: str = ""
    name: str = ""
    status: StatusInfo


class Status(Strict):
    status: StatusInfo
    scalers: list[Scaler] = []
    version: str = ""
    components: list[Any] = []


class Put(Strict):
    result: Literal["error", "created", "newversion"]
    total_versions: int = 0
    current_version: str = ""
    message: str = ""
    name: str = ""


class Get(Strict):
    result: Literal["error", "success", "notfound"]
    message: str = ""
    manifest: dict[str, Any] | None = None


class Version(Strict):
    version: str
    deployed: bool


class Versions(Strict):
    result: Literal["error", "success", "notfound"]
    message: str = ""
    versions: list[Version]


class Deploy(Strict):
    result: Literal["error", "acknowledged", "notfound"]
    message: str = ""
    name: str = ""
    version: str | None = None


class Delete(Strict):
    result: Literal["deleted", "error", "noop"]
    message: str = ""
    undeploy: bool = False


class StatusAnswer(Strict):
    result: Literal["error", "ok", "notfound"]
    message: str = ""
    status: Status | None = None


class Summary(Strict):
    name: str
    version: str
    description: str | None
    deployed_version: str | None
    detailed_status: Status
    status: Literal["waiting", "undeployed", "reconciling", "deployed", "failed"]
    status_message: str | None


ANSWERS: dict[str, type[BaseModel]] = {
    "put": Put,
    "get.shop": Get,
    "versions.shop": Versions,
    "deploy.shop": Deploy,
    "undeploy.shop": Deploy,
    "del.shop": Delete,
    "status.shop": StatusAnswer,
}

MALFORMED = [
    b"\xff\xfe",
    b"{",
    b"[]",
    b"null",
    b"1",
    b"[" * 300,
    b'{"version": 1}',
    b'{"version": {"a": []}}',
    b"a: b: c",
]


class Client:
    def __init__(self, transport: Transport) -> None:
        self.transport = transport

    async def ask(self, operation: str, body: bytes = b"", **headers: str) -> Any:
        subject = f"wadm.api.default.model.{operation}"
        return json.loads((await self.transport.request(subject, body, timeout=2, headers=headers)).data)


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    broker = MemoryBroker()
    async with AsyncExitStack() as stack:
        host = Lattice("default", broker.connect())
        await stack.enter_async_context(SimulatedHost(host, "A"))
        manager = Manager(Lattice("default", broker.connect()), discovery=0.05, tick=0.05)
        await stack.enter_async_context(manager)
        yield Client(broker.connect())


@pytest.mark.parametrize("operation", ANSWERS)
async def test_a_malformed_request_gets_an_answer_that_its_client_can_read(client: Client, operation: str) -> None:
    await client.ask("put", SHOP.encode())
    before = await client.ask("versions.shop")
    for body in MALFORMED:
        answer = await client.ask(operation, body)
        ANSWERS[operation].model_validate(answer)
        assert answer["result"] == "error" or operation.startswith(("versions", "status")), (body, answer)
    assert await client.ask("versions.shop") == before


async def test_a_name_that_cannot_be_one_gets_a_readable_answer(client: Client) -> None:
    for operation in [name for name in ANSWERS if name != "put"]:
        for name in ("", "*", "a b", "ä", "x" * 300, "$", "/"):
            answer = await client.ask(operation.replace("shop", name))
            ANSWERS[operation].model_validate(answer)
            assert answer["result"] in ("error", "notfound", "noop", "ok"), (operation, name)


async def test_a_whole_life_is_told_in_answers_that_clients_can_read(client: Client) -> None:
    results = []
    for operation, body in (
        ("put", SHOP),
        ("get.shop", ""),
        ("deploy.shop", '{"version": "latest"}'),
        ("status.shop", ""),
        ("versions.shop", ""),
        ("undeploy.shop", '{"non_destructive": false}'),
        ("del.shop", '{"version": null, "delete_all": true}'),
        ("del.shop", ""),
        ("get.shop", ""),
    ):
        answer = await client.ask(operation, body.encode())
        ANSWERS[operation].model_validate(answer)
        TypeAdapter(list[Summary]).validate_python(await client.ask("list"))
        results.append(answer["result"])
    assert results == [
        *("created", "success", "acknowledged", "ok", "success", "acknowledged", "deleted", "noop", "notfound")
    ]
