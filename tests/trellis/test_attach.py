"""`trellis provider attach` as a person uses it: edit, save, and the lattice has the new one."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest
from verbs import begun, environment, said

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

IMPORT = "from .words import CALL\n\n"


def link_from(source: str, *configs: str) -> LinkDefinition:
    return LinkDefinition(
        source_id=EntityId(source),
        target=EntityId("big-voice"),
        wit_namespace="demo",
        wit_package="text",
        interfaces=("transform",),
        target_config=configs,
    )


async def shout(lattice: Lattice) -> Value:
    function = Function.parse("demo:text/transform#shout")
    return await lattice.invoke(Invocation(EntityId("big-voice"), function, ("hi",), EntityId("actor")))


async def test_a_provider_that_is_attached_has_the_lattices_links_and_reloads_with_them(
    nats: NatsTransport, nats_url: str, lattice_name: str, tmp_path: Path
):
    file = tmp_path / "voice.py"
    file.write_text(SOURCE)
    async with Lattice(lattice_name, nats) as lattice:
        configs = Configs(await lattice.config_data())
        links = Links(await lattice.lattice_data(), configs)
        await configs.put("tail", {"suffix": "!"})

        await links.put(link_from("actor", "tail"))
        place = environment(TRELLIS_NATS=nats_url, TRELLIS_LATTICE=lattice_name)
        process = await begun("provider", "attach", str(file), env=place)
        try:
            await said(process, "ready +big-voice")
            await said(process, "linked +actor -")
            assert await shout(lattice) == "HI!"

            await links.put(link_from("stranger"))
            assert '"suffix" is missing' in await said(process, "refused")

            await configs.put("tail", {"suffix": "?"})
            file.write_text(SOURCE.replace("text.upper()", "text.upper() * 2"))
            assert (await said(process, "^changed ")).endswith(f"changed  {file}\n")
            started = await said(process, "provider.started")
            assert re.search(r"^\d\d:\d\d:\d\d big-voice +provider.started kind=BigVoice$", started, re.MULTILINE)
            await said(process, "ready")
            assert await shout(lattice) == "HIHI?"

            file.write_text("class BigVoice(")
            assert "cannot be loaded: SyntaxError" in await said(process, "^kept +big-voice goes on as it was")
            assert await shout(lattice) == "HIHI?"
        finally:
            process.send_signal(signal.SIGINT)
            await process.communicate()
        assert process.returncode == 0


async def test_a_package_is_attached_by_its_folder_and_reloads_when_any_file_in_it_changes(
    nats: NatsTransport, nats_url: str, lattice_name: str, tmp_path: Path
):
    package = tmp_path / "voices"
    package.mkdir()
    (package / "__init__.py").write_text("from .big import BigVoice\n")
    (package / "big.py").write_text(SOURCE.replace("text.upper()", "CALL").replace("class Tail", f"{IMPORT}class Tail"))
    (package / "words.py").write_text('CALL = "hey"\n')
    async with Lattice(lattice_name, nats) as lattice:
        configs = Configs(await lattice.config_data())
        await configs.put("tail", {"suffix": "!"})
        await Links(await lattice.lattice_data(), configs).put(link_from("actor", "tail"))
        place = environment(TRELLIS_NATS=nats_url, TRELLIS_LATTICE=lattice_name)
        process = await begun("provider", "attach", "voices/", cwd=tmp_path, env=place)
        try:
            await said(process, "ready +big-voice")
            assert await shout(lattice) == "hey!"
            (package / "words.py").write_text('CALL = "ho"\n')
            await said(process, "ready +big-voice")
            assert await shout(lattice) == "ho!"
        finally:
            process.send_signal(signal.SIGINT)
            await process.communicate()
