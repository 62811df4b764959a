"""`trellis provider attach` as a person uses it: edit, save, and the lattice has the new one."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from pathlib import Path

import pytest

from host.configs import Configs
from host.links import Links
from lattice import EntityId, Function, Invocation, Value
from lattice.lattice import Lattice
from lattice.links import LinkDefinition
from lattice.nats_transport import NatsTransport

pytestmark = pytest.mark.nats

SOURCE = """
from pydantic import BaseModel
from providers import Link, Provider, export

class Tail(BaseModel):
    suffix: str

class BigVoice(Provider):
    link_config = Tail

    @export("demo:text/transform#shout")
    async def shout(self, link: Link[Tail], text: str) -> str:
        return text.upper() + link.config.suffix
"""


class Terminal:
    """The running command, and what it says."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def says(self, pattern: str) -> str:
        assert self.process.stdout is not None
        seen = ""
        async with asyncio.timeout(20):
            while line := (await self.process.stdout.readline()).decode():
                seen += line
                if re.search(pattern, line):
                    return line
        pytest.fail(f"it never said {pattern}:\n{seen}")


async def test_a_provider_that_is_attached_has_the_lattices_links_and_reloads_with_them(
    nats: NatsTransport, nats_url: str, lattice_name: str, tmp_path: Path
):
    file = tmp_path / "voice.py"
    file.write_text(SOURCE)
    async with Lattice(lattice_name, nats) as lattice:
        configs = Configs(await lattice.config_data())
        links = Links(await lattice.lattice_data(), configs)
        await configs.put("tail", {"suffix": "!"})

        async def put(source: str, *names: str) -> None:
            link = LinkDefinition(
                source_id=EntityId(source),
                target=EntityId("big-voice"),
                wit_namespace="demo",
                wit_package="text",
                interfaces=("transform",),
                target_config=names,
            )
            await links.put(link)

        async def shout() -> Value:
            function = Function.parse("demo:text/transform#shout")
            return await lattice.invoke(Invocation(EntityId("big-voice"), function, ("hi",), EntityId("actor")))

        await put("actor", "tail")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "trellis", "provider", "attach", str(file)),
            env={**os.environ, "TRELLIS_NATS": nats_url, "TRELLIS_LATTICE": lattice_name},
            stdout=asyncio.subprocess.PIPE,
        )
        terminal = Terminal(process)
        try:
            await terminal.says("ready +big-voice")
            await terminal.says("linked +actor -")
            assert await shout() == "HI!"

            await put("stranger")
            assert '"suffix" is missing' in await terminal.says("refused")

            await configs.put("tail", {"suffix": "?"})
            file.write_text(SOURCE.replace("text.upper()", "text.upper() * 2"))
            await terminal.says("ready")
            assert await shout() == "HIHI?"

            file.write_text("class BigVoice(")
            assert "cannot be loaded: SyntaxError" in await terminal.says("failed")
            assert await shout() == "HIHI?"
        finally:
            process.send_signal(signal.SIGINT)
            await process.communicate()
        assert process.returncode == 0
