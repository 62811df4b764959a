"""The first app as a user meets it: broker, manager and hosts are processes."""

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from servers import free_port
from verbs import begun, ran

from trellis.building import build, recipe

COUNTER = Path(__file__).parent.parent / "examples" / "counter"

pytestmark = [pytest.mark.nats, pytest.mark.toolchain]


class Terminal:
    """Runs commands in one folder, where this process is as well, as a person with a shell would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        plain = {k: v for k, v in os.environ.items() if k not in ("TRELLIS_NATS", "TRELLIS_LATTICE")}
        return await begun(*arguments, env=plain, stderr=asyncio.subprocess.PIPE)

    async def run(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        unset = {"TRELLIS_NATS": None, "TRELLIS_LATTICE": None}
        ended_with, out, err = await ran(*arguments, env=unset, seconds=90)
        assert ended_with == code, f"{arguments} exited with {ended_with}:\n{out}\n{err}"
        return out, err

    async def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads((await self.run(*arguments, "-o", "json", code=code))[0])


class Up:
    """A running `trellis up`: what it said, and how to end it."""

    def __init__(self, process: asyncio.subprocess.Process, terminal: Terminal, port: int) -> None:
        self.process = process
        self.terminal = terminal
        self.port = port
        self.said = ""

    async def ready(self) -> None:
        assert self.process.stdout is not None and self.process.stderr is not None
        async with asyncio.timeout(120):
            while "Ctrl-C stops everything" not in self.said:
                line = await self.process.stdout.readline()
                if not line:
                    pytest.fail(f"up ended:\n{self.said}\n{(await self.process.stderr.read()).decode()}")
                self.said += line.decode()

    def pid(self, name: str) -> int:
        found = re.search(rf"^(?:host +)?{name}\b.*pid (\d+)$", self.said, re.MULTILINE)
        assert found is not None, self.said
        return int(found[1])

    def log(self, name: str) -> str:
        """What that process wrote."""
        (folder,) = re.findall(r"^logs +(\S+)$", self.said, re.MULTILINE)
        return (Path(folder) / f"{name}.log").read_text()

    async def get(self, path: str = "/") -> tuple[int, str]:
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{self.port}{path}") as response:
                return response.status, await response.text()


def running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def until(what: Callable[[], Awaitable[bool]], seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not await what():
            await asyncio.sleep(0.1)


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The counter's component, built when it has to be."""
    return asyncio.run(build(recipe(COUNTER / "actor"))).recipe.output


@pytest.fixture
def project(tmp_path: Path, counter: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Terminal, int]:
    """A folder with the example's manifests, on a port of its own and with a short time limit."""
    port = free_port()
    for name in ("app.yaml", "app-anywhere.yaml"):
        text = (COUNTER / name).read_text()
        text = text.replace("file://./actor/build/counter.wasm", counter.as_uri())
        text = text.replace(
            "address: 127.0.0.1:8080", f'address: 127.0.0.1:{port}\n                    timeout_ms: "2000"'
        )
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return Terminal(tmp_path), port


@pytest.fixture
async def up(project: tuple[Terminal, int]) -> AsyncIterator[Up]:
    """Two hosts and the app, as `trellis up` starts them."""
    terminal, port = project
    process = await terminal.start("up", "--no-watch", "--host", "zone=a", "--host", "zone=b")
    started = Up(process, terminal, port)
    try:
        await started.ready()
        yield started
    finally:
        for name in ("manager", "host-a", "host-b"):  # shown when the test fails
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.write(f"--- {name}\n{started.log(name)}\n")
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        async with asyncio.timeout(30):
            out, err = await process.communicate()
        sys.stdout.write(f"--- up\n{out.decode()}\n{err.decode()}\n")


async def test_an_app_is_deployed_answers_scales_survives_its_host_and_leaves(up: Up):
    terminal = up.terminal

    # it counts, in a store on the other host, from both hosts
    answers = [json.loads((await up.get())[1]) for _ in range(3)]
    assert [a["count"] for a in answers] == [1, 2, 3]
    many = await asyncio.gather(*(up.get() for _ in range(40)))
    assert {status for status, _ in many} == {200}
    assert {json.loads(text)["host"] for _, text in many} == {"host-a", "host-b"}
    assert max(json.loads(text)["count"] for _, text in many) == 43

    # the same again changes nothing; the same version with other content is refused, and can be replaced
    assert "v1 unchanged" in (await terminal.run("deploy"))[0]
    manifest = terminal.folder / "app.yaml"
    manifest.write_text(manifest.read_text().replace("instances: 4", "instances: 2"))
    _, err = await terminal.run("deploy", code=1)
    assert "error[TRL-APP-004]" in err and "`counter` differs" in err and "--replace" in err
    assert (await terminal.json("deploy", "--replace"))["state"] == "ready"
    assert json.loads((await up.get())[1])["count"] == 44

    # it scales, and status says so
    out, _ = await terminal.run("scale", "counter=6")
    assert "6/6  host-a 3  host-b 3" in out
    status = await terminal.json("status")
    assert {h["name"] for h in status["hosts"]} == {"host-a", "host-b"}
    (app,) = status["apps"]
    assert (app["name"], app["state"], app["overrides"]) == ("counter", "ready", {"counter": 6})
    by_name = {c["name"]: c for c in app["components"]}
    assert (by_name["counter"]["running"], by_name["counter"]["wanted"]) == (6, 6)
    store = next(link for link in app["links"] if link["target"] == "store")
    assert (store["local"], store["remote"]) == (["host-b"], ["host-a"])
    assert "over the lattice from host-a" in (await terminal.run("status"))[0]

    # a host dies, and the app lives on with its count
    assert (await terminal.json("deploy", "app-anywhere.yaml"))["version"] == "v2"
    counted = json.loads((await up.get())[1])["count"]
    os.kill(up.pid("host-b"), signal.SIGKILL)

    async def restored() -> bool:
        (app,) = (await terminal.json("status", "counter"))["apps"]
        found = next(c for c in app["components"] if c["name"] == "counter")
        return app["state"] == "ready" and [h["name"] for h in found["hosts"] if h["running"]] == ["host-a"]

    await until(restored)
    status_code, text = await up.get()
    assert (status_code, json.loads(text)) == (200, {"count": counted + 1, "host": "host-a"})

    # it leaves, and nothing of it stays
    out, _ = await terminal.run("undeploy")
    assert "counter is gone" in out and "kept: version v1, version v2" in out
    (app,) = (await terminal.json("status"))["apps"]
    assert (app["state"], app["components"], app["links"]) == ("stopped", [], [])
    with pytest.raises(aiohttp.ClientConnectorError):
        await up.get()

    # and so does the lattice
    up.process.send_signal(signal.SIGINT)
    out, _ = await up.process.communicate()
    assert up.process.returncode == 0
    assert b"nothing is left running" in out
    assert not any(running(up.pid(name)) for name in ("broker", "manager", "host-a", "host-b"))
    assert not (terminal.folder / ".trellis").exists()


async def test_a_misbehaving_actor_is_answered_for_and_its_neighbours_go_on(up: Up):
    # it crashes: the caller gets an id, the log the traceback under that id
    status, text = await up.get("/crash")
    assert status == 500
    trace = re.search(r"\b[0-9a-f]{32}\b", text)
    assert trace is not None
    log = up.log("host-a") + up.log("host-b")
    assert "RuntimeError: this actor was asked to crash" in log and 'File "/0/app.py"' in log
    assert trace[0] in log

    # it never ends: that request is over after its time limit, and others are answered meanwhile
    spinning = asyncio.create_task(up.get("/spin"))
    await asyncio.sleep(0)
    neighbours = [await up.get() for _ in range(10)]
    assert not spinning.done()
    assert {status for status, _ in neighbours} == {200}
    assert (await spinning)[0] == 504

    # it takes memory: it ends at its limit
    assert (await up.get("/eat"))[0] == 500
    log = up.log("host-a") + up.log("host-b")
    assert "ran out of memory" in log and "its limit is 256 MiB" in log
    assert (await up.get())[0] == 200


async def test_a_port_in_use_blocks_the_app_with_a_sentence(project: tuple[Terminal, int]):
    terminal, port = project
    taken = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", port)
    async with taken:
        process = await terminal.start("up", "--no-watch", "--host", "zone=a", "--host", "zone=b")
        started = Up(process, terminal, port)
        try:
            await started.ready()
            _, err = await terminal.run("deploy", code=2)
            assert "error[TRL-PRV-001]" in err
            assert str(port) in err
            (app,) = (await terminal.json("status"))["apps"]
            assert app["state"] == "blocked"
        finally:
            process.send_signal(signal.SIGINT)
            await process.communicate()


async def test_commands_name_what_is_not_there(project: tuple[Terminal, int]):
    terminal, _ = project
    (terminal.folder / "app.yaml").rename(terminal.folder / "later.yaml")
    process = await terminal.start("up", "--lattice", "empty")
    started = Up(process, terminal, 0)
    try:
        await started.ready()
        _, err = await terminal.run("undeploy", code=1)
        assert "nothing is deployed" in err
        _, err = await terminal.run("status", "conter", code=1)
        assert "there is no app `conter`" in err
        assert (await terminal.run("deploy", "later.yaml", "--no-wait"))[0].count("accepted") == 1
        _, err = await terminal.run("status", "conter", code=1)
        assert "did you mean `counter`?" in err
        _, err = await terminal.run("scale", "countr=2", code=1)
        assert "counter, http, store" in err
        _, err = await terminal.run("deploy", "later.yaml", "--timeout", "20", code=2)
        assert "error[TRL-PLC-001]" in err and "zone=b" in err and "trellis host start --label" in err
        watching = await terminal.start("status", "-w")
        assert watching.stdout is not None
        assert b"lattice empty" in await watching.stdout.readline()
        watching.send_signal(signal.SIGINT)
        await watching.communicate()
        assert watching.returncode == 130
        _, err = await terminal.run("status", "--lattice", "other", code=3)
        assert "no deployment manager runs on lattice `other`" in err and "trellis wadm start" in err
    finally:
        process.send_signal(signal.SIGINT)
        await process.communicate()
