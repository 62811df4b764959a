"""Test a provider without a lattice.

async with running(Shout()) as shout:
    assert await shout.call("demo:text/transform#shout", "hi") == "HI!"
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from lattice import EMPTY, EntityId, Function, Handler, Invocation, LinkName, Unreachable, Value
from lattice.invocation import timed
from lattice.tracing import Observer
from lattice.tracing import nobody as unobserving
from providers.link import LinkRecord, link_between
from providers.provider import Provider
from providers.runtime import Runtime

PROVIDER = EntityId("provider")
ACTOR = EntityId("actor")


@dataclass(frozen=True, slots=True)
class Running:
    """A provider that runs, and a way to call it as a linked actor would."""

    runtime: Runtime

    @property
    def provider(self) -> Any:
        return self.runtime.provider

    async def call(
        self,
        function: str,
        *args: Value,
        source: str = ACTOR,
        link: str = "default",
        timeout: float = math.inf,
        trace: Mapping[str, str] = EMPTY,
    ) -> Value:
        """Call an exported function. Raises what the caller over the lattice would get."""
        return await self.runtime.handle(
            Invocation(
                self.runtime.id,
                Function.parse(function),
                args,
                EntityId(source),
                LinkName(link),
                time.monotonic() + timeout,
                trace,
            )
        )


async def nobody(invocation: Invocation) -> Value:
    raise Unreachable(f'there is no "{invocation.target}" in this test; give running(..., peer=handler)')


def linked(provider: Provider, source: str = ACTOR, **target_config: str) -> list[LinkRecord]:
    """Links from `source` to everything that `provider` exports."""
    packages: dict[str, dict[str, None]] = {}
    for export in type(provider).exports.values():
        package, _, interface = export.function.interface.partition("/")
        packages.setdefault(package, {})[interface] = None
    return [
        link_between(source, PROVIDER, f"{package}/{','.join(interfaces)}", target_config=target_config)
        for package, interfaces in packages.items()
    ]


@asynccontextmanager
async def running(
    provider: Provider,
    links: Iterable[LinkRecord] | None = None,
    *,
    config: Mapping[str, str] = EMPTY,
    peer: Handler = nobody,
    id: str = PROVIDER,
    grace: float = 5.0,
    observe: Observer = unobserving,
) -> AsyncIterator[Running]:
    """`provider` started and linked; stopped when the block ends.

    Without `links`, the actor "actor" is linked to everything it exports. `peer` answers what the provider calls; its
    calls end at their deadline, as an actor's do. `observe` is told what it takes in from outside.
    """
    runtime = Runtime(provider, EntityId(id), timed(peer), config, observe=observe)
    await runtime.start()
    try:
        for record in linked(provider) if links is None else links:
            await runtime.put_link(record)
        yield Running(runtime)
    finally:
        await runtime.stop(grace)
