"""A real lattice that a test drives over the control interface, as any v1 client would, and what runs on it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp

from host import Host, HostConfig
from lattice import EntityId, Function, Invocation, events
from lattice.errors import LatticeError
from lattice.lattice import Lattice
from lattice.nats_transport import NatsOptions, connect

ADDER = """(component
  (core module $m
    (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
    (func (export "spin") (loop $l (br $l)))
    (func (export "crash") unreachable))
  (core instance $i (instantiate $m))
  (func $add (param "a" u32) (param "b" u32) (result u32) (canon lift (core func $i "add")))
  (func $spin (canon lift (core func $i "spin")))
  (func $crash (canon lift (core func $i "crash")))
  (instance $math (export "add" (func $add)) (export "spin" (func $spin)) (export "crash" (func $crash)))
  (export "demo:math/ops@0.1.0" (instance $math)))"""

ASKER = """(component
  (import "demo:math/ops@0.1.0" (instance $ops
    (export "add" (func (param "a" u32) (param "b" u32) (result u32)))))
  (core func $add (canon lower (func $ops "add")))
  (core module $m
    (import "ops" "add" (func $add (param i32 i32) (result i32)))
    (func (export "ask") (param i32) (result i32) (call $add (local.get 0) (i32.const 1))))
  (core instance $i (instantiate $m (with "ops" (instance (export "add" (func $add))))))
  (func $ask (param "n" u32) (result u32) (canon lift (core func $i "ask")))
  (instance $asks (export "ask" (func $ask)))
  (export "demo:math/asks@0.1.0" (instance $asks)))"""

ADD = Function.parse("demo:math/ops#add")
ASK = Function.parse("demo:math/asks#ask")

HELLO = """(component
  (core module $m (func (export "one") (result i32) (i32.const 1)))
  (core instance $i (instantiate $m))
  (func $one (result u32) (canon lift (core func $i "one")))
  (instance $numbers (export "one" (func $one)))
  (export "demo:math/numbers@0.1.0" (instance $numbers)))"""

SUM = """
from providers import Link, Provider, export


class Sum(Provider):
    @export("demo:math/ops#add")
    async def add(self, link: Link, a: int, b: int) -> int:
        return a + b + int(link.config.get("extra", "0"))
"""

MANIFEST = {
    "apiVersion": "core.oam.dev/v1beta1",
    "kind": "Application",
    "metadata": {"name": "sums", "annotations": {"version": "1"}},
}


class Heard:
    """Events of a lattice, all collected."""

    def __init__(self) -> None:
        self.events: list[events.Event] = []
        self._happened = asyncio.Condition()

    async def collect(self, host, event) -> None:
        async with self._happened:
            self.events.append(event)
            self._happened.notify_all()

    async def until(self, kind, **fields):
        def found():
            return [e for e in self.events if type(e) is kind and all(getattr(e, k) == v for k, v in fields.items())]

        async with asyncio.timeout(20), self._happened:
            await self._happened.wait_for(lambda: bool(found()))
            return found()[-1]


class World(Heard):
    """A lattice with a client."""

    def __init__(self, lattice: Lattice, url: str, folder: Path, stack: contextlib.AsyncExitStack) -> None:
        super().__init__()
        self.lattice = lattice
        self.url = url
        self.folder = folder
        self._stack = stack

    async def host(self, **more) -> Host:
        config = HostConfig(lattice=self.lattice.name, nats=NatsOptions(self.url), grace=3.0, **more)
        return await self._stack.enter_async_context(Host(config))

    def wasm(self, name: str, text: str) -> str:
        path = self.folder / f"{name}.wat"
        path.write_text(text)
        return path.as_uri()

    async def ask(self, *tokens, **body):
        return await self.lattice.control(*tokens, body=body or None)

    async def scale(self, host: Host, id: str, reference: str, count: int = 4, **more):
        self.events.clear()
        reply = await self.ask(
            "component", "scale", host.id, component_id=id, component_ref=reference, count=count, **more
        )
        assert reply.success, reply
        return await self.until(events.ComponentScaled, component_id=id, host_id=host.id, max_instances=count)

    async def call(self, target: str, function: Function, *args, timeout: float = 5.0):
        return await self.lattice.invoke(Invocation(EntityId(target), function, args).within(timeout))


@contextlib.asynccontextmanager
async def world_on(url: str, lattice_name: str, folder: Path) -> AsyncIterator[World]:
    """With the nats-server at `url`; its hosts stop when it is left."""
    async with contextlib.AsyncExitStack() as stack:
        lattice = await stack.enter_async_context(Lattice(lattice_name, await connect(url)))
        made = World(lattice, url, folder, stack)
        await lattice.on_events(made.collect)
        await lattice.transport.flush()
        yield made


def link(source: str, target: str, package: str, *interfaces: str, **more):
    namespace, _, name = package.partition(":")
    return {
        "source_id": source,
        "target": target,
        "name": "default",
        "wit_namespace": namespace,
        "wit_package": name,
        "interfaces": list(interfaces),
        **more,
    }


async def start_http(world, host, port: int, target: str = "web") -> None:
    config = {"address": f"127.0.0.1:{port}"}
    reply = await world.lattice.control("config", "put", f"http-{port}", body=config)
    assert reply.success
    reply = await world.ask(
        "link", "put", **link("http", target, "wasi:http", "incoming-handler", source_config=[f"http-{port}"])
    )
    assert reply.success, reply
    body = {"provider_id": "http", "provider_ref": "builtin:http-server"}
    assert (await world.ask("provider", "start", host.id, **body)).success


async def in_time(question, seconds: float = 20.0):
    """Ask until the answer is true; errors of the lattice count as "not yet"."""
    async with asyncio.timeout(seconds):
        while True:
            with contextlib.suppress(LatticeError, aiohttp.ClientError, AssertionError):
                answer = await question()
                if answer:
                    return answer
            await asyncio.sleep(0.05)
