"""The command line in a project, on a lattice whose hosts run nothing: its manager is real, and so is the broker."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, chdir
from pathlib import Path
from typing import Any

from verbs import Terminal

sys.path.append(str(Path(__file__).parents[1] / "wadm"))

from simulated_host import SimulatedHost

from lattice.lattice import Lattice
from lattice.nats_transport import connect
from trellis.logs import configure
from wadm import Manager

SHOP = """\
apiVersion: core.oam.dev/v1beta1
kind: Application
metadata: {name: shop, annotations: {version: v1}}
spec:
  components:
    - name: api
      type: component
      properties: {image: "img:1"}
      traits:
        - {type: spreadscaler, properties: {instances: 2}}
    - name: kv
      type: capability
      properties: {image: "ghcr.io/wasmcloud/keyvalue-nats:0.3.0"}
"""

LINKED = SHOP.replace("version: v1", "version: v2").replace("img:1", "img:2").replace(
    "{instances: 2}}\n",
    "{instances: 4}}\n"
    "        - type: link\n"
    "          properties:\n"
    "            target: {name: kv, config: [{name: place, properties: {bucket: shop}}]}\n"
    "            namespace: wasi\n"
    "            package: keyvalue\n"
    "            interfaces: [store]\n",
)  # fmt: skip


class Shell:
    """Runs verbs in `folder`, where this process is as well, and where an app.yaml is."""

    def __init__(self, folder: Path, url: str, lattice: str, hosts: Sequence[SimulatedHost]) -> None:
        self.folder = folder
        self.hosts = hosts
        self.place = {"TRELLIS_NATS": url, "TRELLIS_LATTICE": lattice}
        self.terminal = Terminal(url, lattice)
        self.environment = self.terminal.environment

    def write(self, text: str) -> None:
        (self.folder / "app.yaml").write_text(text)

    async def run(self, *arguments: str, code: int = 0) -> str:
        ended_with, out, err = await self.terminal.run(*arguments)
        assert ended_with == code, f"{arguments} exited with {ended_with}:\n{out}\n{err}"
        return out if code != 1 else err

    async def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(await self.run(*arguments, "-o", "json", code=code))


@asynccontextmanager
async def shell_on(folder: Path, nats_url: str, lattice_name: str) -> AsyncIterator[Shell]:
    """A shell in `folder`, beside hosts A (zone eu) and B (zone us) and a manager."""
    configure("text", "error")  # what hosts and manager log in this process is not what a verb prints
    async with AsyncExitStack() as stack:
        stack.enter_context(chdir(folder))

        async def lattice() -> Lattice:
            return await stack.enter_async_context(Lattice(lattice_name, await connect(nats_url)))

        hosts = [SimulatedHost(await lattice(), id, zone=zone) for id, zone in (("A", "eu"), ("B", "us"))]
        for host in hosts:
            await stack.enter_async_context(host)
        await stack.enter_async_context(Manager(await lattice(), discovery=0.3, tick=0.2))
        shell = Shell(folder, nats_url, lattice_name, hosts)
        shell.write(SHOP)
        yield shell
