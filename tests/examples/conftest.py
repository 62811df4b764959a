"""The example apps as users deploy them: the manifest as it is, but for addresses and places."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from servers import free_port

from host import Host, HostConfig
from lattice.lattice import Lattice
from lattice.nats_transport import NatsOptions, NatsTransport
from trellis.building import build, recipe
from trellis.commands.deploy import deploy
from trellis.options import Where
from trellis.output import Output
from wadm import Manager

EXAMPLES = Path(__file__).parents[2] / "examples"
Deployed = Callable[..., Awaitable[str]]


@pytest.fixture
async def deployed(nats: NatsTransport, nats_url: str, lattice_name: str, tmp_path: Path) -> AsyncIterator[Deployed]:
    """`await deployed("chat", {"in the manifest": "instead"})`: a host and a manager with that app; its URL."""

    async def start(name: str, changes: dict[str, str] | None = None) -> str:
        built = await build(recipe(EXAMPLES / name / "actor"))
        text = (EXAMPLES / name / "app.yaml").read_text()
        port = free_port()
        for old, new in {f"file://./actor/build/{name}.wasm": built.recipe.output.as_uri(), **(changes or {})}.items():
            assert old in text, old
            text = text.replace(old, new)
        text = text.replace("address: 127.0.0.1:808", f"address: 127.0.0.1:{port} # ")
        (tmp_path / "app.yaml").write_text(text)
        await deploy(Where(nats_url, lattice_name, ""), tmp_path / "app.yaml", output=Output("json"))
        return f"http://127.0.0.1:{port}"

    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(Manager(Lattice(lattice_name, nats)))
        await stack.enter_async_context(
            Host(HostConfig(lattice=lattice_name, nats=NatsOptions(nats_url), name="calm-oak-1", grace=0.2))
        )
        yield start
