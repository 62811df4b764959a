"""A provider in JavaScript, on docs/provider-protocol.md alone, run by a host's own means."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest

from host.process import ChildProvider
from lattice import (
    BadInput,
    ByteStream,
    DeadlineExceeded,
    EntityId,
    Function,
    HostId,
    Invocation,
    LatticeError,
    NotLinked,
    Trap,
    UnknownFunction,
    Unreachable,
    Value,
    WitError,
)
from lattice.lattice import Lattice
from lattice.nats_transport import NatsTransport, connect
from providers.config import read_config
from providers.conformance import Conformance, Site
from providers.description import published
from providers.link import LinkId, LinkRecord, link_between
from providers.load import executable
from providers.runtime import Health
from providers.schema import model_of
from providers.testing import PROVIDER

pytestmark = [pytest.mark.nats, pytest.mark.toolchain]

EXAMPLE = Path(__file__).parents[2] / "examples" / "shout" / "node"
SUBJECT = Path(__file__).parent / "node" / "subject.mjs"
VOICE = PROVIDER
TEXT = "demo:text/transform"


@pytest.fixture(scope="session")
def packages(pytestconfig: pytest.Config) -> Path:
    """What npm installs, kept between runs."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("no Node.js to run a provider in JavaScript with")
    wanted = hashlib.sha256((EXAMPLE / "package.json").read_bytes()).hexdigest()[:16]
    folder = pytestconfig.cache.mkdir(f"node-provider-{wanted}")
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # another process of this run may be at it
        if not (folder / "node_modules" / ".package-lock.json").exists():
            shutil.copy(EXAMPLE / "package.json", folder)
            install = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts"]
            try:
                done = subprocess.run(install, cwd=folder, capture_output=True, text=True, timeout=120)
            except subprocess.TimeoutExpired:
                pytest.skip("npm did not install the nats package within two minutes")
            if done.returncode:
                pytest.skip(f"npm cannot install the nats package: {done.stderr.strip()[-300:]}")
    return folder / "node_modules"


@pytest.fixture
def program(packages: Path, tmp_path: Path) -> Path:
    for file in (EXAMPLE / "provider.mjs", EXAMPLE / "shout.mjs", SUBJECT):
        shutil.copy(file, tmp_path)
    (tmp_path / "node_modules").symlink_to(packages)
    return tmp_path


class Voice:
    """The provider's process, and the lattice that calls it."""

    def __init__(self, child: ChildProvider, lattice: Lattice) -> None:
        self.child = child
        self.lattice = lattice
        self.refused: dict[LinkId, str] = {}

    async def __call__(self, function: str, *args: Value, source: str = "actor", timeout: float = 10) -> Value:
        call = Invocation(VOICE, Function.parse(f"{TEXT}@0.1.0#{function}"), args, EntityId(source))
        return await self.lattice.invoke(call.within(timeout))


@pytest.fixture
async def voice(
    program: Path, nats: NatsTransport, lattice_name: str
) -> AsyncIterator[Callable[..., Awaitable[Voice]]]:
    children: list[ChildProvider] = []

    async def start(file: str = "subject.mjs", *links: LinkRecord) -> Voice:
        async def ended(why: str) -> None:
            pytest.fail(f"the provider ended: {why}")

        given = links or (link(),)
        child = ChildProvider(f"file://{program / file}", VOICE, HostId("NHOST"), lattice, {}, given, ended)
        children.append(child)
        voice = Voice(child, lattice)
        voice.refused = await child.start()
        return voice

    async with Lattice(lattice_name, nats) as lattice:
        yield start
        for child in children:
            await child.stop(1.0)


def link(source: str = "actor", **config: str) -> LinkRecord:
    return link_between(source, VOICE, TEXT, target_config=config)


async def test_the_example_answers_as_the_one_in_python_does(voice: Any):
    shout = await voice("shout.mjs", link(suffix="?!"))
    assert await shout("shout", "hi") == "HI?!"


async def test_it_says_what_it_answers_and_what_its_links_may_hold(voice: Any, program: Path):
    shout = await voice("shout.mjs")
    said = await published(shout.lattice, VOICE)
    assert said is not None and said.functions == {TEXT: ["shout"]}
    assert said.reference == (program / "shout.mjs").as_uri()
    [(key, wrong)] = read_config(model_of(said.link_config), {"sufix": "?"}, of="link").findings
    assert (key, wrong.hint) == ("sufix", 'did you mean "suffix"?')


async def test_its_links_come_change_and_go(voice: Any):
    text = await voice("subject.mjs", link("one", suffix="!"), link("two", suffix="."), link("four", suffix="?"))
    assert text.refused == {link("four").id: "no questions"}
    assert [await text("shout", "hi", source="one"), await text("shout", "hi", source="two")] == ["HI!", "HI."]
    await text.child.put_link(link("one", suffix="!!"))
    assert await text("shout", "hi", source="one") == "HI!!"
    with pytest.raises(LatticeError, match="no questions"):
        await text.child.put_link(link("three", suffix="?"))
    await text.child.delete_link(link("one"))
    with pytest.raises(NotLinked, match='"one" is not linked to demo:text/transform'):
        await text("shout", "hi", source="one")
    assert await text("seen", source="two") == ["added one", "added two", "removed one", "added one", "removed one"]


async def test_a_links_configuration_says_how_many_calls_are_answered_at_a_time(voice: Any):
    text = await voice("subject.mjs", link("one", link_concurrency="1"), link("two", link_concurrency="none"))
    assert text.refused == {link("two").id: '"link_concurrency" must be a whole number from 1'}
    calls = [text("wait", 0.2, source="one") for _ in range(3)]
    begun = asyncio.get_running_loop().time()
    assert await asyncio.gather(*calls) == ["waited"] * 3
    assert asyncio.get_running_loop().time() - begun >= 0.5, "one after the other"
    with pytest.raises(DeadlineExceeded):
        await asyncio.gather(text("wait", 0.4, source="one"), text("wait", 0.4, source="one", timeout=0.5))
    assert await text("shout", "hi", source="one") == "HI"


async def test_its_configuration_changes_and_it_says_how_it_is(voice: Any):
    text = await voice()
    await text.child.set_config({"suffix": "~"})
    assert await text("shout", "hi") == "HI~"
    assert (await text.child.health()).healthy
    await text.child.set_config({"suffix": "sick"})
    assert (await text.child.health()).message == "it has a cold"


async def test_answers_and_failures_keep_their_kinds(voice: Any):
    text = await voice()
    with pytest.raises(WitError) as answer:
        await text("fail", "answer")
    assert answer.value.payload == {"too-quiet": 3}
    with pytest.raises(Trap, match="TypeError: a bug"):
        await text("fail", "bug")
    with pytest.raises(UnknownFunction):
        await text("whisper")


async def test_values_come_back_as_they_went(voice: Any):
    text = await voice()
    value = {"text": "é", "bytes": b"\x00\xff", "list": [1, -1, 2.5, True, None], "large": b"x" * 5_000_000}
    assert await text("echo", value) == value


async def test_a_stream_is_read_as_it_comes(voice: Any):
    text = await voice()
    stream = ByteStream()
    call = asyncio.create_task(text("measure", stream))
    for _ in range(40):
        await stream.write(b"x" * 65536)
    stream.finish()
    assert await call == 40 * 65536


async def test_calls_end_at_their_deadline_and_when_their_caller_leaves(voice: Any):
    text = await voice()
    with pytest.raises(DeadlineExceeded):
        await text("wait", 30, timeout=0.1)
    call = asyncio.create_task(text("wait", 30))
    seen: list[str] = []
    async with asyncio.timeout(10):
        while seen.count("waiting") < 2:
            seen += await text("seen")
        call.cancel()
        while seen.count("aborted") < 2:
            seen += await text("seen")


async def test_it_finishes_what_it_has_in_hand_before_it_leaves(voice: Any):
    text = await voice()
    call = asyncio.create_task(text("wait", 0.3))
    async with asyncio.timeout(10):
        while "waiting" not in await text("seen"):
            pass
    await text.child.stop(5.0)
    assert await call == "waited"
    with pytest.raises(Unreachable):
        await text("shout", "hi")


def test_a_program_that_is_not_there_or_not_executable_is_refused(tmp_path: Path):
    file = tmp_path / "it.mjs"
    with pytest.raises(BadInput, match="there is no file"):
        executable(f"file://{file}")
    file.touch()
    with pytest.raises(BadInput, match=r"is not executable\n  fix: chmod \+x"):
        executable(f"file://{file}")
    assert executable("file:///it.py") is executable("builtin:http-server") is None


class Process:
    """A provider's process, as Conformance sees a Runtime."""

    def __init__(self, child: ChildProvider, lattice: Lattice) -> None:
        self.child = child
        self.lattice = lattice
        self.refused: dict[LinkId, str] = {}
        self.provider = SimpleNamespace(links={}, exports={})
        self.stopped = False

    async def start(self) -> None:
        await self.child.start()
        said = await published(self.lattice, VOICE)
        assert said is not None
        functions = [Function(interface, name) for interface, names in said.functions.items() for name in names]
        self.provider.exports = {function.key: SimpleNamespace(function=function) for function in functions}

    async def put_link(self, record: LinkRecord) -> None:
        try:
            await self.child.put_link(record)
        except LatticeError as error:
            self.refused[record.id] = error.message
            raise
        self.refused.pop(record.id, None)
        self.provider.links[record.id] = record

    async def delete_link(self, id: LinkId) -> None:
        self.refused.pop(id, None)
        if (record := self.provider.links.pop(id, None)) is not None:
            await self.child.delete_link(record)

    async def set_config(self, config: Mapping[str, str]) -> None:
        await self.child.set_config(dict(config))

    async def handle(self, invocation: Invocation) -> Value:
        return await self.lattice.invoke(invocation)

    async def health(self) -> Health:
        return Health(False) if self.stopped else await self.child.health()

    async def stop(self, grace: float) -> None:
        if not self.stopped:
            self.stopped = True
            await self.child.stop(grace)
            self.provider.links.clear()

    async def leave(self) -> None:
        """It does, when it is asked to stop."""


class TestItKeepsThePromisesOfEveryProvider(Conformance):
    other_config = MappingProxyType({"suffix": "."})

    @pytest.fixture(autouse=True)
    def given(self, program: Path, nats_url: str, lattice_name: str) -> None:
        self.file, self.url, self.name = program / "subject.mjs", nats_url, lattice_name

    def links(self) -> list[LinkRecord]:
        return [link(source, suffix=suffix) for source, suffix in (("one", "!"), ("two", "."), ("three", "..."))]

    def bad_link(self) -> LinkRecord:
        return link("four", suffix="?")

    @asynccontextmanager
    async def site(self, *links: LinkRecord) -> AsyncIterator[Site]:
        async def ended(why: str) -> None:
            pytest.fail(f"the provider ended: {why}")

        async with Lattice(self.name, await connect(self.url)) as lattice:
            child = ChildProvider(self.file.as_uri(), VOICE, HostId("NHOST"), lattice, {}, [], ended)
            process: Any = Process(child, lattice)
            await process.start()
            try:
                for one in links:
                    await process.put_link(one)
                yield Site(process, process, lattice, lattice)
            finally:
                await process.stop(2.0)

    async def use(self, site: Site, link: LinkRecord) -> None:
        assert await site.call(link, f"{TEXT}#shout", "hi") == f"HI{link.target_config['suffix']}"

    async def carry(self, site: Site, link: LinkRecord, data: bytes) -> bytes | None:
        back: Value = await site.call(link, f"{TEXT}#echo", data)
        return bytes(back)
