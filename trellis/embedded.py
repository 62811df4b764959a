"""A whole lattice in this process, for tests and notebooks, and ways to break it.

async with trellis.lattice(hosts=3) as lat:
    app = await lat.deploy("app.yaml")
    assert await app.counter.call("demo:counter/count#next") == 1
    await lat.hosts[0].kill()
    await lat.settled()

The hosts, the manager and the way a manifest takes are those of a lattice of processes. Only the broker is in memory,
unless `nats` names a real one, and a host's death is noticed sooner.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import structlog

from actors import Engine
from host import Host, HostConfig
from host.router import Router
from lattice import EntityId, Function, Handler, Invocation, LatticeError, Unreachable, Value
from lattice.cable import Cable
from lattice.lattice import Lattice
from lattice.memory import MemoryBroker
from lattice.nats_transport import connect
from lattice.transport import Transport
from providers import Provider
from trellis.commands.deploy import Progress, put_and_await
from trellis.failures import USER_ERROR, Failure
from trellis.fakes import Fakes
from trellis.options import sign_every
from trellis.output import Output
from trellis.planner import Planner
from trellis.preflight import examine
from trellis.project import manifest_at, text_of
from trellis.testing import get
from wadm import Manager
from wadm.manifest import Manifest, component_id
from wadm.resolve import resolve_images
from wadm.validate import check

DEAD_AFTER = 0.6
"""Seconds of silence after which a host is taken for dead."""

DISCOVERY = 0.02
"""Seconds that the manager waits for hosts to answer its first question: they are in this process."""

TICK = 0.1
"""Seconds between two looks of the manager when nothing happens."""

LOOK = 0.02
"""Seconds between two looks at what the manager says."""

GRACE = 1.0
"""Seconds for work in hand at the end."""

TEST = EntityId("test")


@asynccontextmanager
async def lattice(
    hosts: int | Sequence[Mapping[str, str]] = 1, *, nats: str | None = None
) -> AsyncIterator[EmbeddedLattice]:
    """A lattice of its own, with a manager and `hosts`: how many, or the labels of each. All is gone when it ends.

    With `nats`, a server's URL, it is there, under a name that nobody else uses; its buckets stay on that server.
    Raises Unreachable when no server answers.
    """
    each: Sequence[Mapping[str, str]] = [{}] * hosts if isinstance(hosts, int) else hosts
    name = f"test-{secrets.token_hex(6)}"
    broker = MemoryBroker()

    async def connection() -> Transport:
        return Cable(broker) if nats is None else await connect(nats)

    async with AsyncExitStack() as stack:
        stack.enter_context(_quiet())
        client = await stack.enter_async_context(Lattice(name, await connection()))
        ending = await stack.enter_async_context(AsyncExitStack())  # of the hosts: after the manager, which comes first
        manager = Manager(
            await stack.enter_async_context(Lattice(name, await connection())),
            dead_after=DEAD_AFTER,
            settled_after=DEAD_AFTER,
            discovery=DISCOVERY,
            tick=TICK,
        )
        await stack.enter_async_context(manager)
        running: list[EmbeddedHost] = []
        for number, labels in enumerate(each):
            config = HostConfig(
                lattice=name,
                labels=dict(labels),
                name=f"host-{number}",
                alive=sign_every(DEAD_AFTER),
                dead_after=DEAD_AFTER,
                grace=GRACE,
            )
            host = EmbeddedHost(config, await connection())
            await asyncio.create_task(host.start())  # a task, since it binds its name to the logs of its context
            ending.push_async_callback(host.stop)
            running.append(host)
        fakes = stack.enter_context(Fakes())
        made = EmbeddedLattice(client, running, fakes)
        await made.settled()
        yield made


class EmbeddedLattice:
    """What `lattice()` gives. `client` is a member of it that serves nothing, and can do what the package does not."""

    def __init__(self, client: Lattice, hosts: list[EmbeddedHost], fakes: Fakes) -> None:
        self.client = client
        self.hosts = hosts
        self._fakes = fakes

    def fake(self, component: str, answer: Handler | type[Provider]) -> None:
        """Have `answer` in the place of the provider of that name, in what is deployed from now on.

        A function gets each call as an Invocation, whatever its interface; a Provider is made anew on each host. A
        component that other components call can be replaced as well, and then calls nobody.
        """
        self._fakes.put(component, answer)

    async def deploy(self, path: str | PathLike[str], *, timeout: float = 30.0) -> App:
        """Do what `trellis deploy` does with a manifest, or the folder it is in, and wait until the app is ready.

        Providers run in this process, whatever their `placement`. An app that is deployed again takes its own place.
        Raises Failure, with its findings, for whatever keeps it from being ready within `timeout` seconds.
        """
        file = manifest_at(Path(path))
        checked = self._fakes.put_in(check(text_of(file), str(file)))
        engine = Engine()
        try:
            examined = await examine(resolve_images(checked, file.parent.resolve()), engine)
        finally:
            engine.close()
        manifest = examined.checked.manifest
        if manifest is None:
            raise Failure(USER_ERROR, *examined.checked.findings)
        quiet = Progress(Output("json"))
        await put_and_await(self.client, examined, timeout=timeout, replace=True, progress=quiet)
        return App(self.client, manifest, self.hosts)

    async def settled(self, timeout: float = 30.0) -> None:
        """Wait until the manager has seen who is gone and who is back, and every app is ready again.

        Raises TimeoutError after `timeout` seconds.
        """
        planner = Planner(self.client)
        async with asyncio.timeout(timeout):
            while not self._is_settled(await planner.status()):
                await asyncio.sleep(LOOK)

    def _is_settled(self, status: Mapping[str, Any]) -> bool:
        there = {host.id for host in self.hosts if host.there}
        parts = [part for app in status["apps"] for part in app["components"]]
        return (
            {host["id"] for host in status["hosts"] if host["alive"]} == there
            and all(app["state"] == "ready" for app in status["apps"])
            and all(host["id"] in there for part in parts for host in part["hosts"])
        )


class FaultyRouter(Router):
    """A router that does not reach everybody."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.severed: set[tuple[EntityId, EntityId]] = set()
        """Source and target of the links that are cut."""

    async def route(self, invocation: Invocation) -> Value:
        if (invocation.source, invocation.target) in self.severed:
            raise Unreachable(f'the link from "{invocation.source}" to "{invocation.target}" is cut')
        return await super().route(invocation)


class EmbeddedHost(Host):
    """A host that can be broken."""

    routing = FaultyRouter
    router: FaultyRouter

    @property
    def there(self) -> bool:
        """Nobody has ended it or cut it off."""
        transport = self.lattice.transport
        return not self._stopped and not (isinstance(transport, Cable) and transport.is_cut)

    async def kill(self) -> None:
        """End it without a word, as a power cut would: who waits for an answer gets none. A second call does nothing.

        The others notice after `DEAD_AFTER` seconds.
        """
        self.stop_soon(grace=0.0)
        await self.lattice.transport.close()
        await self.stop()

    def partition(self) -> None:
        """Cut it off from everybody; it goes on by itself. Raises LatticeError on a real NATS server."""
        self._cable().cut()

    def heal(self) -> None:
        """Let it return after `partition`."""
        self._cable().mend()

    def _cable(self) -> Cable:
        transport = self.lattice.transport
        if not isinstance(transport, Cable):
            raise LatticeError("a host can be cut off in memory only: leave out `nats`")
        return transport


class App:
    """A deployed app: `app.counter` or `app["counter"]` is its component of that name; `my_actor` finds `my-actor`."""

    def __init__(self, client: Lattice, manifest: Manifest, hosts: Sequence[EmbeddedHost]) -> None:
        self._hosts = hosts
        self._parts = {
            component.name: Part(EntityId(component_id(manifest.name, component)), client)
            for component in manifest.spec.components
        }

    def __getitem__(self, name: str) -> Part:
        try:
            return self._parts[name]
        except KeyError:
            raise KeyError(f"the app has no `{name}`; it has {', '.join(self._parts)}") from None

    def __getattr__(self, name: str) -> Part:
        for spelled in (name, name.replace("_", "-")):
            if spelled in self.__dict__.get("_parts", ()):
                return self._parts[spelled]
        raise AttributeError(f"the app has no `{name}`; it has {', '.join(self.__dict__.get('_parts', ()))}")

    def cut(self, source: str, target: str) -> None:
        """From now on what `source` calls through its links to `target` ends as Unreachable, on every host."""
        for host in self._hosts:
            host.router.severed.add((self[source].id, self[target].id))

    def heal(self, source: str, target: str) -> None:
        """Take `cut` back."""
        for host in self._hosts:
            host.router.severed.discard((self[source].id, self[target].id))


@dataclass(frozen=True, slots=True)
class Part:
    """A component or provider of an app, wherever it runs."""

    id: EntityId
    client: Lattice

    async def call(self, function: str, *args: Value, timeout: float = 30.0) -> Value:
        """Call an export, such as `demo:counter/count#next`. Raises WitError for an `err`, else LatticeError."""
        return await self.client.invoke(Invocation(self.id, Function.parse(function), args, TEST).within(timeout))

    async def get(self, path: str) -> tuple[int, str]:
        """The status and the text that it answers `GET path` with, as wasi:http."""
        return await get(self.call, path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Only errors are logged, unless somebody has said what is: what deploying and calling raise says the rest."""
    if structlog.is_configured():
        yield
        return
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    try:
        yield
    finally:
        structlog.reset_defaults()
