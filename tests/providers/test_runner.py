"""A provider as a real process on a real NATS server."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from lattice import EntityId, Function, HostId, Invocation, LatticeError, NotLinked, Unreachable, Value, subjects
from lattice.lattice import Lattice
from lattice.nats_transport import NatsTransport
from lattice.transport import Message
from providers.description import published
from providers.link import LinkRecord, link_between

pytestmark = pytest.mark.nats

HOST = HostId("NHOST")
SHOUT = EntityId("shout")
TEXT = "demo:text/transform"

SOURCE = """
import asyncio
from providers import Link, Provider, export, serve

class Shout(Provider):
    async def started(self) -> None:
        if self.config.get("broken"):
            raise RuntimeError("the voice is gone")

    @export("demo:text/transform#shout")
    async def shout(self, link: Link, text: str) -> str:
        return text.upper() + link.config.get("suffix", self.config.get("suffix", "!"))

    @export("demo:text/transform#slowly")
    async def slowly(self, link: Link) -> str:
        await self.lattice.transport.publish("slowly.begun." + self.lattice.name, b"")
        await asyncio.sleep(0.3)
        return "done"

    async def link_added(self, link: Link) -> None:
        if link.config.get("suffix") == "?":
            raise ValueError("no questions")

if __name__ == "__main__":
    serve(Shout())
"""


class Child:
    def __init__(self, lattice: Lattice, process: asyncio.subprocess.Process, ready: asyncio.Future[dict[str, Any]]):
        self.lattice = lattice
        self.process = process
        self.ready = ready

    async def call(self, function: str, *args: Value) -> Value:
        return await self.lattice.invoke(
            Invocation(
                SHOUT, Function.parse(f"{TEXT}#{function}"), args, EntityId("actor"), deadline=time.monotonic() + 10
            )
        )

    async def ask(self, verb: str, body: Any = None) -> dict[str, Any]:
        data = body.model_dump_json().encode() if isinstance(body, LinkRecord) else json.dumps(body or {}).encode()
        subject = subjects.provider(self.lattice.name, SHOUT, HOST, verb)
        answer: dict[str, Any] = json.loads((await self.lattice.transport.request(subject, data, timeout=10)).data)
        return answer


def link(**config: str) -> LinkRecord:
    return link_between("actor", SHOUT, TEXT, target_config=config)


Started = Callable[..., Any]


@pytest.fixture
def child(nats: NatsTransport, nats_url: str, lattice_name: str, tmp_path: Path) -> Started:
    file = tmp_path / "shout.py"
    file.write_text(SOURCE)

    @asynccontextmanager
    async def start(
        links: tuple[LinkRecord, ...] = (link(),), config: dict[str, str] | None = None, command: tuple[str, ...] = ()
    ) -> AsyncIterator[Child]:
        async with Lattice(lattice_name, nats) as lattice:
            ready: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

            def announced(message: Message) -> None:
                ready.set_result(json.loads(message.data))

            await nats.subscribe(subjects.provider(lattice_name, SHOUT, HOST, "ready"), announced)
            await nats.flush()
            process = await asyncio.create_subprocess_exec(
                *(command or (sys.executable, "-P", "-m", "providers", str(file))),
                stdin=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            assert process.stdin is not None
            line = {
                "lattice": lattice_name,
                "nats": {"url": nats_url},
                "host_id": HOST,
                "provider_id": SHOUT,
                "config": config or {},
                "links": [record.model_dump(mode="json") for record in links],
            }
            process.stdin.write(json.dumps(line).encode() + b"\n")
            process.stdin.close()
            try:
                yield Child(lattice, process, ready)
            finally:
                if process.returncode is None:
                    process.kill()
                await process.communicate()

    return start


async def test_a_process_says_when_it_is_ready_and_answers_calls(child: Started):
    async with child() as shout:
        assert await shout.ready == {"ok": True, "refused": []}
        assert await shout.call("shout", "hi") == "HI!"
        assert await shout.ask("health") == {"ok": True, "healthy": True, "message": ""}
        said = await published(shout.lattice, SHOUT)
        assert said is not None and said.functions == {TEXT: ["shout", "slowly"]}


async def test_links_come_change_and_go_while_it_runs(child: Started):
    async with child(links=()) as shout:
        await shout.ready
        with pytest.raises(NotLinked):
            await shout.call("shout", "hi")
        assert await shout.ask("link.put", link(suffix="!!")) == {"ok": True}
        assert await shout.call("shout", "hi") == "HI!!"
        assert await shout.ask("link.put", link(suffix="...")) == {"ok": True}
        assert await shout.call("shout", "hi") == "HI..."
        refusal = await shout.ask("link.put", link(suffix="?"))
        assert not refusal["ok"]
        assert "ValueError: no questions" in refusal["error"]
        key = {"source_id": "actor", "name": "default", "wit_namespace": "demo", "wit_package": "text"}
        assert await shout.ask("link.put", link()) == {"ok": True}
        assert await shout.ask("link.del", key) == {"ok": True}
        with pytest.raises(NotLinked):
            await shout.call("shout", "hi")


async def test_a_refused_link_at_start_is_told_with_its_reason(child: Started):
    async with child(links=(link(suffix="?"),)) as shout:
        ready = await shout.ready
        assert ready["ok"]
        [refused] = ready["refused"]
        assert LinkRecord.model_validate(refused["link"]) == link(suffix="?")
        assert "no questions" in refused["error"]


async def test_config_can_change_and_nonsense_is_refused(child: Started):
    async with child() as shout:
        await shout.ready
        assert await shout.ask("config", {"suffix": "~"}) == {"ok": True}
        assert await shout.call("shout", "hi") == "HI~"
        assert not (await shout.ask("config", [1]))["ok"]
        assert not (await shout.ask("link.put", {"source_id": "x"}))["ok"]


async def test_a_provider_that_cannot_start_says_why_and_exits(child: Started):
    async with child(config={"broken": "yes"}) as shout:
        ready = await shout.ready
        assert not ready["ok"]
        assert "RuntimeError: the voice is gone" in ready["error"]
        assert await shout.process.wait() == 1


async def test_a_reference_that_cannot_be_loaded_is_told_as_well(child: Started):
    command = (sys.executable, "-P", "-m", "providers", "absent.py")
    async with child(command=command) as shout:
        ready = await shout.ready
        assert not ready["ok"]
        assert "there is no file" in ready["error"]


@pytest.mark.parametrize("how", ["signal", "verb"])
async def test_leaving_finishes_the_calls_in_hand(child: Started, nats: NatsTransport, how: str):
    async with child() as shout:
        await shout.ready
        begun = asyncio.Event()
        await nats.subscribe(f"slowly.begun.{shout.lattice.name}", lambda _: begun.set())
        call = asyncio.create_task(shout.call("slowly"))
        await begun.wait()
        if how == "signal":
            shout.process.send_signal(signal.SIGTERM)
        else:
            assert await shout.ask("stop", {"grace": 5}) == {"ok": True}
        assert await call == "done"
        assert await shout.process.wait() == 0
        with pytest.raises(Unreachable):
            await shout.call("shout", "hi")


async def test_it_does_not_outlive_the_process_that_started_it(child: Started, tmp_path: Path):
    parent = tmp_path / "parent.py"
    parent.write_text(
        "import os, subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-P', '-m', 'providers', {str(tmp_path / 'shout.py')!r}])\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid))\n"
        "time.sleep(60)\n"
    )
    async with child(command=(sys.executable, str(parent))) as shout:
        await shout.ready
        orphan = int((tmp_path / "pid").read_text())
        assert await shout.call("shout", "hi") == "HI!"
        shout.process.kill()
        async with asyncio.timeout(10):
            while _alive(orphan):
                await asyncio.sleep(0.02)
        with pytest.raises(LatticeError):
            await shout.call("shout", "hi")


def _alive(pid: int) -> bool:
    """Running: neither gone nor only waiting to be buried."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


async def test_it_runs_by_hand_from_flags_or_as_a_script(child: Started, nats_url: str, tmp_path: Path):
    async with child(command=("true",)) as nobody:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", str(tmp_path / "shout.py"), "--lattice", nobody.lattice.name, "--nats", nats_url),
            *("--peer", "actor", "--link-config", "suffix=?!"),
            stdin=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(10):
                while True:
                    try:
                        assert await nobody.call("shout", "hi") == "HI?!"
                        break
                    except Unreachable:
                        await asyncio.sleep(0.02)
        finally:
            process.send_signal(signal.SIGTERM)
            await process.communicate()
        assert process.returncode == 0


async def test_by_hand_without_anything_says_what_is_missing(tmp_path: Path):
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "providers", "nothing.py"),
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, stderr = await process.communicate()
    assert process.returncode == 2
    assert b"--lattice default" in stderr
