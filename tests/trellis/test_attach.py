"""`trellis provider attach` as a person uses it: edit, save, and the lattice has the new one."""

from __future__ import annotations

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
        place = environment(TRELLIS_NATS=nats_url, TRELLIS_LATTICE=lattice_name)
        process = await begun("provider", "attach", str(file), env=place)
        try:
            await said(process, "ready +big-voice")
            await said(process, "linked +actor -")
            assert await shout() == "HI!"

            await put("stranger")
            assert '"suffix" is missing' in await said(process, "refused")

            await configs.put("tail", {"suffix": "?"})
            file.write_text(SOURCE.replace("text.upper()", "text.upper() * 2"))
            await said(process, "ready")
            assert await shout() == "HIHI?"

            file.write_text("class BigVoice(")
            assert "cannot be loaded: SyntaxError" in await said(process, "failed")
            assert await shout() == "HIHI?"
        finally:
            process.send_signal(signal.SIGINT)
            await process.communicate()
        assert process.returncode == 0
