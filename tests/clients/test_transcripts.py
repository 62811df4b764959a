"""What wasmCloud's Rust and Go clients put on the wire, byte by byte, and whether they can decode what comes back.

The Rust client (wash and wadm use it) fails at a field that is missing or of another type, null included, unless it is
an option; the Go client fails at another type. The schemas below are the Rust client's.
"""

# ruff: noqa: E501  (a request is one line)

from __future__ import annotations

import asyncio
import json
from typing import Any

import jsonschema
import pytest
from worlds import HELLO

from host import Host, HostConfig
from lattice.lattice import Lattice
from lattice.memory import MemoryBroker

TEXT = {"type": "string"}
TEXTS = {"type": "array", "items": TEXT}
MAP = {"type": "object", "additionalProperties": TEXT}
U32 = {"type": "integer", "minimum": 0, "maximum": 2**32 - 1}
I32 = {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1}
U64 = {"type": "integer", "minimum": 0, "maximum": 2**64 - 1}


def option(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


def struct(required: str = "", **fields: Any) -> dict[str, Any]:
    return {"type": "object", "properties": fields, "required": required.split()}


COMPONENT = struct(
    id=TEXT,
    image_ref=TEXT,
    name=option(TEXT),
    annotations=option(MAP),
    revision=I32,
    max_instances=U32,
    limits=option(MAP),
)
PROVIDER = struct(id=TEXT, image_ref=option(TEXT), name=option(TEXT), revision=I32, annotations=option(MAP))
LINK = struct(
    "source_id target wit_namespace wit_package interfaces",
    source_id=TEXT,
    target=TEXT,
    name=TEXT,
    wit_namespace=TEXT,
    wit_package=TEXT,
    interfaces=TEXTS,
    source_config=TEXTS,
    target_config=TEXTS,
)
BID = struct(host_id=TEXT, component_ref=TEXT, component_id=TEXT, provider_ref=TEXT, provider_id=TEXT, constraints=MAP)
RESPONSES: dict[str, Any] = {
    "host.ping": struct(
        id=TEXT,
        friendly_name=TEXT,
        labels=MAP,
        lattice=TEXT,
        uptime_seconds=U64,
        uptime_human=option(TEXT),
        version=option(TEXT),
        rpc_host=option(TEXT),
        ctl_host=option(TEXT),
        js_domain=option(TEXT),
    ),
    "host.get": struct(
        "components providers",
        components={"type": "array", "items": COMPONENT},
        providers={"type": "array", "items": PROVIDER},
        host_id=TEXT,
        friendly_name=TEXT,
        labels=MAP,
        version=TEXT,
        uptime_human=TEXT,
        uptime_seconds=U64,
    ),
    "component.auction": BID,
    "provider.auction": BID,
    "link.get": {"type": "array", "items": LINK},
    "claims.get": {"type": "array", "items": MAP},
    "config.get": MAP,
}

RUST = """
host.ping
host.get.HOST
component.auction {"component_ref":"IMAGE","component_id":"numbers","constraints":{"zone":"a"}}
component.scale.HOST {"component_ref":"IMAGE","component_id":"numbers","annotations":{"wasmcloud.dev/managed-by":"wadm"},"count":4294967295,"component_limits":null,"host_id":"HOST","config":["level"],"allow_update":false}
component.update.HOST {"host_id":"HOST","component_id":"numbers","annotations":null,"new_component_ref":"IMAGE"}
provider.auction {"provider_ref":"builtin:keyvalue-memory","provider_id":"kv","constraints":{}}
provider.start.HOST {"provider_id":"kv","provider_ref":"builtin:keyvalue-memory","host_id":"HOST","config":[]}
link.put {"source_id":"numbers","target":"kv","name":"default","wit_namespace":"wasi","wit_package":"keyvalue","interfaces":["store"],"source_config":[],"target_config":["level"]}
link.get
link.del {"source_id":"numbers","name":"default","wit_namespace":"wasi","wit_package":"keyvalue"}
claims.get
config.put.more {"a":"b"}
config.get.more
config.get.nothing
config.del.more
label.put.HOST {"key":"rack","value":"7"}
label.del.HOST {"key":"rack","value":""}
registry.put {"ghcr.io":{"username":"ada","password":"x","registryType":"oci"}}
host.get.HOST
provider.stop.HOST {"host_id":"HOST","provider_id":"kv"}
component.scale.HOST {"component_ref":"IMAGE","component_id":"numbers","count":0,"component_limits":null,"host_id":"HOST","config":[],"allow_update":false}
host.stop.HOST {"host_id":"HOST","timeout":500}
"""

GO = """
host.ping
host.get.HOST {}
component.auction {"constraints":{"zone":"a"},"component_id":"numbers","component_ref":"IMAGE"}
component.scale.HOST {"component_id":"numbers","component_ref":"IMAGE","annotations":{"by":"go"},"count":3,"host_id":"HOST","config":["level"]}
component.update.HOST {"component_id":"numbers","new_component_ref":"IMAGE"}
provider.auction {"constraints":{},"provider_id":"kv","provider_ref":"builtin:keyvalue-memory"}
provider.start.HOST {"host_id":"HOST","provider_id":"kv","provider_ref":"builtin:keyvalue-memory"}
link.put {"source_id":"numbers","target":"kv","name":"default","wit_namespace":"wasi","wit_package":"keyvalue","interfaces":["store"],"source_config":null,"target_config":null}
link.get {}
link.del {"source_id":"numbers","name":"default","wit_namespace":"wasi","wit_package":"keyvalue"}
config.put.more {"a":"b"}
config.get.more {}
config.get.nothing {}
config.del.more {}
label.put.HOST {"key":"rack","value":"7"}
label.del.HOST {"key":"rack","value":""}
host.get.HOST {}
provider.stop.HOST {"host_id":"HOST","provider_id":"kv"}
component.scale.HOST {"component_id":"numbers","component_ref":"IMAGE","count":0,"host_id":"HOST"}
host.stop.HOST {"host_id":"HOST"}
"""


@pytest.mark.parametrize("transcript", [RUST, GO], ids=["rust", "go"])
async def test_every_request_of_a_client_succeeds_and_it_can_decode_the_answer(transcript: str, tmp_path):
    (tmp_path / "numbers.wat").write_text(HELLO)
    image = (tmp_path / "numbers.wat").as_uri()
    broker = MemoryBroker()
    async with Lattice("t", broker.connect()) as lattice:
        async with Host(HostConfig("t", labels={"zone": "a"}, grace=1.0), broker.connect()) as host:
            await lattice.control("config", "put", "level", body={"level": "debug"})
            for line in transcript.replace("HOST", host.id).replace("IMAGE", image).strip().splitlines():
                tail, _, body = line.partition(" ")
                answer = await lattice.transport.request(f"wasmbus.ctl.v1.t.{tail}", body.encode(), timeout=2)
                envelope = json.loads(answer.data)
                verb = ".".join(tail.split(".")[:2])
                schema = struct(
                    "success message", success={"const": True}, message=TEXT, response=RESPONSES.get(verb, {})
                )
                jsonschema.validate(envelope, schema)
                if verb in RESPONSES and not tail.endswith("nothing"):
                    assert "response" in envelope, line
                if verb in ("component.scale", "provider.start"):
                    await worked(host)
            await asyncio.wait_for(host.run(), 5)


async def worked(host: Host) -> None:
    """What was acknowledged is done."""
    while tasks := host.control._tasks:
        await asyncio.wait(tasks)
