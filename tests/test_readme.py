"""The README's first app works as it stands there."""

import asyncio
import re
import signal
from pathlib import Path

import aiohttp
import pytest

from trellis.broker import free_port
from trellis.building import build, recipe
from trellis.commands.deploy import deploy
from trellis.options import Where
from trellis.stack import HostSpec, Stack

README = Path(__file__).parent.parent / "README.md"

pytestmark = [pytest.mark.nats, pytest.mark.toolchain]


@pytest.fixture
def hello(pytestconfig: pytest.Config) -> Path:
    """The folder that the README describes. It stays, so that what has not changed is not built again."""
    folder = pytestconfig.cache.mkdir("readme")
    blocks = re.findall(r"^`([\w./]+)`\n```\w+\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    assert [name for name, _ in blocks] == ["actor/app.py", "actor/trellis.toml", "app.yaml"]
    for name, text in blocks:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists() or file.read_text() != text:
            file.write_text(text)
    return folder


async def test_the_first_app_of_the_readme_answers(hello: Path, tmp_path: Path, lattice_name: str):
    await build(recipe(hello / "actor"))
    port = free_port()
    manifest = hello / "app-here.yaml"
    manifest.write_text((hello / "app.yaml").read_text().replace("127.0.0.1:8000", f"127.0.0.1:{port}"))
    async with Stack([HostSpec("host-a")], lattice=lattice_name) as stack:
        assert stack.nats is not None
        deployed = await deploy(Where(stack.nats, lattice_name, "the test"), manifest, quiet=True)
        assert deployed["state"] == "ready"
        async with aiohttp.ClientSession() as session, session.get(deployed["urls"][0]) as response:
            assert (response.status, await response.text()) == (200, "hello from a component\n")


async def test_a_stack_tells_which_of_its_hosts_ended(lattice_name: str):
    async with Stack([HostSpec("one"), HostSpec("two")], lattice=lattice_name) as stack:
        stack.hosts["two"].send(signal.SIGKILL)
        async with asyncio.timeout(10):
            ended = await stack.ended.get()
        assert ended is stack.hosts["two"]
        assert "two was ended by SIGKILL" in str(ended.ended_badly())
