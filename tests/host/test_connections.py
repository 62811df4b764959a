"""Hosts on NATS as operators run it: calls on a server of their own, logins that may do little, leaf nodes."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from servers import free_port
from worlds import ADD, ADDER

from host import Host, HostConfig
from lattice import Denied, EntityId, Invocation, events
from lattice.history import events_of, logs_of
from lattice.jetstream import JetStream
from lattice.lattice import Lattice
from lattice.login import Server, Settings
from lattice.nats_transport import NatsOptions, connect
from lattice.transport import Message
from trellis.commands.call import Asked, call_actor
from trellis.options import Where

pytestmark = pytest.mark.nats

PROVIDER = """
from providers import Link, Provider, export


class Adder(Provider):
    @export("demo:math/ops#add")
    async def add(self, link: Link, a: int, b: int) -> int:
        return a + b
"""

Serve = Callable[[str], str]


@asynccontextmanager
async def hosts(lattice: str, *configs: dict[str, object]) -> AsyncIterator[list[Host]]:
    async with AsyncExitStack() as stack:
        made = [Host(HostConfig(lattice=lattice, grace=1.0, **config)) for config in configs]  # type: ignore[arg-type]
        yield [await stack.enter_async_context(host) for host in made]


async def until(lattice: Lattice, kind: type[events.Event], ask: Callable[[], object]) -> events.Event:
    """Ask, and wait for the event that follows."""
    heard: asyncio.Queue[events.Event] = asyncio.Queue()
    hearing = await lattice.on_events(lambda _, event: heard.put_nowait(event))
    await lattice.transport.flush()
    await ask()  # type: ignore[misc]
    async with asyncio.timeout(20):
        while not isinstance(event := await heard.get(), kind):
            assert "fail" not in event.name, event
    await hearing.unsubscribe()
    return event


async def scale(host: Host, tmp_path: Path) -> None:
    file = tmp_path / "adder.wat"
    file.write_text(ADDER)
    body = {"component_id": "adder", "component_ref": file.as_uri(), "count": 2}
    await until(
        host.lattice, events.ComponentScaled, lambda: host.lattice.control("component", "scale", host.id, body=body)
    )


def call(target: str, *values: int) -> Invocation:
    return Invocation(EntityId(target), ADD, values, EntityId("tester")).within(5)


async def test_calls_travel_over_a_connection_of_their_own(served: Serve, lattice_name: str, tmp_path: Path):
    control, data = served(""), served("")
    both = {"nats": NatsOptions(control), "data": NatsOptions(data)}
    seen: dict[str, list[str]] = {control: [], data: []}
    async with AsyncExitStack() as stack:
        for url, subjects in seen.items():
            watching = await connect(url)
            stack.push_async_callback(watching.close)

            def note(message: Message, subjects: list[str] = subjects) -> None:
                subjects.append(message.subject)

            await watching.subscribe(">", note)
            await watching.flush()
        one, two = await stack.enter_async_context(hosts(lattice_name, both, both))
        await scale(one, tmp_path)
        async with asyncio.timeout(10):
            while one.id not in two.directory.others(EntityId("adder")):
                await asyncio.sleep(0.01)
        assert await two.router.route(call("adder", 2, 3)) == 5

        file = tmp_path / "adder.py"
        file.write_text(PROVIDER)
        body = {"provider_id": "calc", "provider_ref": file.as_uri()}
        link = {"source_id": "tester", "target": "calc", "wit_namespace": "demo", "wit_package": "math"}
        assert (await one.lattice.control("link", "put", body={**link, "interfaces": ["ops"]})).success
        await until(
            one.lattice, events.ProviderStarted, lambda: one.lattice.control("provider", "start", one.id, body=body)
        )
        assert await one.lattice.invoke(call("calc", 2, 4)) == 6, "a provider's process has both connections, too"
        place = Where(control, lattice_name, "", Settings(data=Server(data)))
        assert await call_actor(place, "adder", Asked("add", ("2", "3")), 10) == 0
        reply = await one.lattice.control("host", "ping")
        assert (reply.response["ctl_host"], reply.response["rpc_host"]) == (control, data)
    calls = [subject for subject in seen[data] if subject.startswith("trellis.rpc.")]
    assert calls and not any(subject.startswith("trellis.rpc.") for subject in seen[control])
    assert not any(subject.startswith(("wasmbus.", "trellis.alive.", "$KV.")) for subject in seen[data])


async def test_a_login_that_may_listen_to_no_other_replies_than_its_own(
    served: Serve, lattice_name: str, tmp_path: Path
):
    own = '"ann.>", "wasmbus.>", "trellis.>"'
    url = served(
        f'authorization {{ users: [{{user: ann, password: p, permissions: {{ subscribe: [{own}], publish: ">" }}}}] }}'
    )
    options = NatsOptions(url, user="ann", password="p", inbox_prefix="ann")
    async with hosts(lattice_name, {"nats": options}) as (host,):
        await scale(host, tmp_path)
        assert await host.lattice.invoke(call("adder", 2, 3)) == 5
        assert (await host.lattice.control("config", "put", "web", body={"a": "b"})).success
        async with asyncio.timeout(5):
            while await host.configs.get("web") != {"a": "b"}:
                await asyncio.sleep(0.01)


async def test_hosts_behind_a_leaf_node_share_the_state_of_the_hubs_domain(
    served: Serve, lattice_name: str, tmp_path: Path
):
    port = free_port()
    hub = served(f"jetstream {{ domain: hub }}\nleafnodes {{ host: 127.0.0.1, port: {port} }}")
    leaf = served(f'jetstream {{ domain: edge }}\nleafnodes {{ remotes: [{{ url: "nats://127.0.0.1:{port}" }}] }}')
    near, far = {"nats": NatsOptions(hub)}, {"nats": NatsOptions(leaf, domain="hub")}
    async with hosts(lattice_name, near, far) as (inside, outside):
        assert outside.info().js_domain == "hub"
        link = {"source_id": "a", "target": "b", "wit_namespace": "demo", "wit_package": "math", "interfaces": ["ops"]}
        assert (await outside.lattice.control("link", "put", body=link)).success
        assert (await outside.lattice.control("config", "put", "web", body={"a": "b"})).success
        async with asyncio.timeout(10):
            while not inside.links.all() or not outside.links.all() or await inside.configs.get("web") is None:
                await asyncio.sleep(0.01)
        await scale(inside, tmp_path)
        assert await outside.router.route(call("adder", 2, 3)) == 5
        since = datetime.now(UTC) - timedelta(minutes=1)
        told = events_of(lattice_name).past(JetStream(outside.lattice.transport), since)
        kinds = [type(event) async for raw in told if (decoded := events.decode(raw)) for event in decoded[1:]]
        assert kinds.count(events.HostStarted) == 2 and events.ComponentScaled in kinds
        for host in (inside, outside):
            host.journal.add({"event": "hello", "level": "info"})
            await asyncio.wait_for(host.journal.sent(), 10)
        logged = [raw async for raw in logs_of(lattice_name).past(JetStream(outside.lattice.transport), since)]
        assert [json.loads(raw)["id"] for raw in logged] == [inside.id, outside.id]
        alone = await connect(leaf)
        assert await (await alone.bucket(f"CONFIGDATA_{lattice_name}")).keys() == [], "the edge has a domain of its own"
        await alone.close()


async def test_a_caller_of_the_security_page_calls_one_actor_and_hears_nothing_else(
    served: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    page = (Path(__file__).parents[2] / "docs" / "security.md").read_text()
    config = page.partition("```conf nats.conf\n")[2].partition("```")[0]
    for name in re.findall(r"\$(\w+_PASSWORD)", config):
        monkeypatch.setenv(name, name)
    config = config.partition("\nauthorization ")[2].replace("default.counter", "default.adder")
    url = served("authorization " + config)

    def login(role: str) -> NatsOptions:
        return NatsOptions(url, user=role, password=f"{role.upper()}_PASSWORD", inbox_prefix=f"_INBOX.{role}")

    async with hosts("default", {"nats": login("host")}) as (host,):
        manager, caller = [await connect(login(role)) for role in ("manager", "caller")]
        file = tmp_path / "adder.wat"
        file.write_text(ADDER)
        asking = Lattice("default", manager)
        body = {"component_id": "adder", "component_ref": file.as_uri(), "count": 2}
        await until(asking, events.ComponentScaled, lambda: asking.control("component", "scale", host.id, body=body))
        lattice = Lattice("default", caller)
        assert await lattice.invoke(call("adder", 2, 3)) == 5
        with pytest.raises(Denied, match=r"may not publish to trellis\.rpc\.default\.other"):
            await lattice.invoke(call("other", 2, 3))
        with pytest.raises(Denied, match="may not publish to wasmbus"):
            await lattice.control("host", "stop", host.id)
        heard: list[Message] = []
        await caller.subscribe("trellis.rpc.>", heard.append)
        await caller.flush()
        assert await lattice.invoke(call("adder", 4, 5)) == 9
        assert not heard
        await manager.close()
        await caller.close()
