"""Test an actor without a lattice.

async with running("actor", kv=True) as actor:
    assert await actor.get("/") == (200, "visit 1\n")
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from actors import Actor, Limits
from lattice import EMPTY, EntityId, Function, Handler, Invocation, Value
from lattice.http import HANDLE
from lattice.streams import read_body
from trellis.building import build, recipe
from trellis.local import Granted, alone

CALLER = EntityId("test")


@dataclass(frozen=True, slots=True)
class Running:
    """An actor that runs: each call has an instance of its own."""

    actor: Actor

    async def call(self, function: str, *args: Value, timeout: float = math.inf) -> Value:
        """Call an export, such as `wasi:cli/run#run`. Raises what a caller over the lattice would get."""
        return await self.actor.handle(
            Invocation(CALLER, Function.parse(function), args, deadline=time.monotonic() + timeout)
        )

    async def get(self, path: str) -> tuple[int, str]:
        """The status and the text that it answers `GET path` with."""
        return await get(self.call, path)


async def get(call: Callable[..., Awaitable[Value]], path: str) -> tuple[int, str]:
    """The status and the text that wasi:http answers `GET path` with, where `call` calls a function by its name."""
    request = {
        "method": "GET",
        "path-with-query": path,
        "scheme": "http",
        "authority": "localhost",
        "headers": [],
        "body": b"",
    }
    response = await call(str(HANDLE), request)
    return response["status"], (await read_body(response["body"])).decode()


@asynccontextmanager
async def running(
    folder: str | PathLike[str],
    *,
    kv: bool = False,
    config: Mapping[str, str] = EMPTY,
    peer: Handler | None = None,
) -> AsyncIterator[Running]:
    """The actor of the trellis.toml in `folder`, built if it has to be.

    `kv` gives it a key-value store in memory, `config` is what it reads as wasi:config, and `peer` answers everything
    else that it imports through a link. A call has the time that a deployed actor has; an answer whose body nobody
    reads is waited for no longer than that. Raises BadInput and Failure, as `trellis build` does.
    """
    built = await build(recipe(Path(folder)))
    settings = tuple(f"{key}={value}" for key, value in config.items())
    granted = Granted(kv=kv, config=settings, timeout=Limits().execution)
    async with alone(built.recipe.output, granted, peer=peer) as actor:
        yield Running(actor)
