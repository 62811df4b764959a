"""First-party providers as a manifest of wasmCloud's names them: started, configured and linked by a host."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from servers import RedisServer

from host import Host, HostConfig
from lattice import EntityId, Function, HostId, Invocation, NotLinked, Value
from lattice.events import Event, LinkSet, LinkSetFailed, ProviderStarted, ProviderStartFailed
from lattice.lattice import Lattice
from lattice.nats_transport import NatsOptions, connect
from providers.description import published

ACTOR, PROVIDER = EntityId("actor"), EntityId("provider")


class World:
    """A host, and a client of its lattice that sees all events."""

    def __init__(self, lattice: Lattice, host: Host) -> None:
        self.lattice = lattice
        self.host = host
        self.seen: asyncio.Queue[Event] = asyncio.Queue()

    async def until(self, *kinds: type[Event]) -> Any:
        async with asyncio.timeout(20):
            while not isinstance(event := await self.seen.get(), kinds):
                pass
        return event

    async def start(self, image: str, **config: str) -> None:
        assert (await self.lattice.control("config", "put", "provider", body=config)).success
        body = {"provider_id": PROVIDER, "provider_ref": image, "config": ["provider"] if config else []}
        assert (await self.lattice.control("provider", "start", self.host.id, body=body)).success
        assert isinstance(await self.until(ProviderStarted, ProviderStartFailed), ProviderStarted)

    async def link(self, source: str, target: str, interface: str, end: str, **config: str) -> None:
        """Put a link with its configuration at one `end`, as `source_config` or `target_config`."""
        namespace, _, rest = interface.partition(":")
        package, _, names = rest.partition("/")
        assert (await self.lattice.control("config", "put", f"{source}-{target}", body=config)).success
        body = {
            "source_id": source,
            "target": target,
            "name": "default",
            "wit_namespace": namespace,
            "wit_package": package,
            "interfaces": names.split(","),
            end: [f"{source}-{target}"],
        }
        assert (await self.lattice.control("link", "put", body=body)).success

    async def call(self, function: str, *args: Value) -> Value:
        """A link is on the lattice a moment before its provider has it."""
        call = Invocation(PROVIDER, Function.parse(function), args, ACTOR).within(10)
        while True:
            try:
                return await self.lattice.invoke(call)
            except NotLinked:
                await asyncio.sleep(0)


@pytest.fixture
async def world(nats_url: str, lattice_name: str) -> AsyncIterator[World]:
    config = HostConfig(lattice=lattice_name, nats=NatsOptions(nats_url), grace=3.0)
    async with Lattice(lattice_name, await connect(nats_url)) as lattice, Host(config) as host:
        made = World(lattice, host)

        def collect(_: HostId, event: Event) -> None:
            made.seen.put_nowait(event)

        await lattice.on_events(collect)
        await lattice.transport.flush()
        yield made


async def test_messages_come_in_by_one_link_and_go_out_by_another(world: World, lattice_name: str):
    handled: asyncio.Queue[Value] = asyncio.Queue()

    async def handle(invocation: Invocation) -> Value:
        assert invocation.function.key == "wasmcloud:messaging/handler#handle-message"
        handled.put_nowait(invocation.args[0])

    await world.lattice.serve(ACTOR, handle)
    await world.start("ghcr.io/wasmcloud/messaging-nats:0.28.0")
    subscribed = {"subscriptions": f"{lattice_name}.*"}
    await world.link(PROVIDER, ACTOR, "wasmcloud:messaging/handler", "source_config", **subscribed)
    await world.until(LinkSet)
    await world.link(ACTOR, PROVIDER, "wasmcloud:messaging/consumer", "target_config", note="none is needed")
    await world.until(LinkSet)
    message = {"subject": f"{lattice_name}.a", "body": b"hello", "reply-to": None}
    async with asyncio.timeout(10):
        while handled.empty():  # the other link, too, may come a moment later
            await world.call("wasmcloud:messaging/consumer#publish", message)
            await asyncio.sleep(0)
    assert await handled.get() == message


async def test_a_blob_store_keeps_files_under_its_root(world: World, tmp_path: Path):
    await world.start("ghcr.io/wasmcloud/blobstore-fs:0.11.1")
    await world.link(ACTOR, PROVIDER, "wasi:blobstore/blobstore", "target_config", ROOT=str(tmp_path / "blobs"))
    await world.until(LinkSet)
    await world.call("wasi:blobstore/blobstore#create-container", "box")
    id = {"container": "box", "object": "a.txt"}
    await world.call("wasi:blobstore/blobstore#write-container-data", id, b"hello")
    assert (tmp_path / "blobs" / "box" / "a.txt").read_bytes() == b"hello"


async def test_a_blob_store_on_nats_takes_objects_in_a_process_of_its_own(world: World, lattice_name: str):
    await world.start("ghcr.io/wasmcloud/blobstore-nats:0.2.0", placement="process")
    config = {"prefix": f"{lattice_name}-", "storage_type": "memory"}
    await world.link(ACTOR, PROVIDER, "wasi:blobstore/blobstore", "target_config", **config)
    await world.until(LinkSet)
    await world.call("wasi:blobstore/blobstore#create-container", "box")
    id = {"container": "box", "object": "a"}
    await world.call("wasi:blobstore/blobstore#write-container-data", id, bytes(300_000))
    body = await world.call("wasi:blobstore/blobstore#get-container-data", id, 0, 2**64 - 1)
    assert await body.read_all() == bytes(300_000)
    await world.call("wasi:blobstore/blobstore#delete-container", "box")


async def test_sql_on_a_file_of_the_host(world: World, tmp_path: Path):
    await world.start("builtin:sqldb-sqlite")
    await world.link(ACTOR, PROVIDER, "trellis:sql/query", "target_config", path=str(tmp_path / "app.db"))
    await world.until(LinkSet)
    answer = await world.call("trellis:sql/query#query", "SELECT ? AS x", [{"text": "hi"}])
    assert answer == {"columns": ["x"], "rows": [[{"text": "hi"}]], "changes": 0}
    said = await published(world.lattice, PROVIDER)
    assert said is not None and said.link_config is not None and "max_rows" in said.link_config["properties"]


async def test_schedules_call_actors_on_the_lattice_from_a_process_of_their_own(world: World):
    called: asyncio.Queue[Value] = asyncio.Queue()

    async def tick(invocation: Invocation) -> Value:
        assert invocation.function.key == "wasmcloud:cron/scheduler#invoke"
        called.put_nowait(invocation.args[0])

    await world.lattice.serve(ACTOR, tick)
    await world.start("builtin:cron", placement="process")
    schedules = {"cronjobs": "often=* * * * * *:tick"}
    await world.link(PROVIDER, ACTOR, "wasmcloud:cron/scheduler", "source_config", **schedules)
    async with asyncio.timeout(10):
        assert await called.get() == b"tick"


@pytest.mark.redis
async def test_a_link_to_a_server_that_is_down_is_put_again_until_it_is_up(world: World, tmp_path: Path):
    server = RedisServer(tmp_path)
    await world.start("ghcr.io/wasmcloud/keyvalue-redis:0.30.0")
    try:
        await world.link(ACTOR, PROVIDER, "wasi:keyvalue/store,atomics,batch", "target_config", url=server.url)
        refused = await world.until(LinkSetFailed)
        assert f"TRL-PRV-010: Redis at {server.url} does not answer" in refused.error
        server.start()
        await world.until(LinkSet)
        await world.call("wasi:keyvalue/store#set", "default", "k", b"v")
        assert await world.call("wasi:keyvalue/store#get", "default", "k") == b"v"
    finally:
        server.stop()
