"""`trellis doctor`: what is well, what is not, and what helps."""

from __future__ import annotations

import json
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from servers import free_port

from host import Host, HostConfig
from lattice.lattice import Lattice
from lattice.nats_transport import NatsOptions, connect
from trellis import contexts, doctor
from trellis.cli import cli
from trellis.doctor import Line
from trellis.options import Where
from trellis.scaffolding import scaffold, write
from wadm import Manager


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("TRELLIS_NATS", "TRELLIS_LATTICE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


async def looked(folder: Path, place: Where | None = None) -> dict[str, Line]:
    nowhere = Where(f"nats://127.0.0.1:{free_port()}", "default", "")
    return {line.check: line async for line in doctor.examined(folder, place or nowhere)}


async def test_a_machine_without_a_project_and_a_lattice_has_no_problem(here: Path):
    found = await looked(here)
    assert {line.check for line in found.values() if line.state == "problem"} == set()
    assert found["python actors"].text.startswith("componentize-py ")
    assert found["nats"].state == "absent" and "trellis up" in found["nats"].fix


def test_a_lattice_that_was_named_and_does_not_answer_is_a_problem():
    result: Result = CliRunner().invoke(cli, ["doctor", "-o", "json", "--nats", f"nats://127.0.0.1:{free_port()}"])
    assert result.exit_code == 2
    nats = next(line for line in json.loads(result.stdout) if line["check"] == "nats")
    assert nats["state"] == "problem" and "[TRL-NET-001]" in nats["text"] and nats["fix"]


@pytest.mark.nats
async def test_a_lattice_is_well_with_a_host_and_a_manager_and_misses_them(
    here: Path, nats_url: str, lattice_name: str
):
    place = Where(nats_url, lattice_name, "--nats")
    bare = await looked(here, place)
    assert {check: bare[check].state for check in ("nats", "hosts", "manager")} == {
        "nats": "ok",
        "hosts": "problem",
        "manager": "problem",
    }
    assert (bare["hosts"].fix, bare["manager"].fix) == ("trellis host start", "start one:  trellis wadm start")
    config = HostConfig(lattice=lattice_name, nats=NatsOptions(nats_url), name="calm-oak-1")
    async with Host(config), Lattice(lattice_name, await connect(nats_url)) as lattice, Manager(lattice, discovery=0.1):
        found = await looked(here, place)
    assert {found[check].state for check in ("nats", "clock", "hosts", "manager")} == {"ok"}
    assert found["hosts"].text == "calm-oak-1"


@pytest.mark.parametrize(("seconds", "told"), [(90, "90 s ahead"), (-3600, "3600 s behind")])
async def test_clocks_that_differ_are_told(seconds: int, told: str):
    class Server:
        async def ask(self, verb: str) -> dict[str, Any]:
            if verb == "STREAM.NAMES":
                return {"streams": ["wasmbus_events"]}
            told = datetime.now(UTC) + timedelta(seconds=seconds)
            return {"ts": f"{told:%Y-%m-%dT%H:%M:%S.%f}123Z"}  # nanoseconds

    line = await doctor._clock(Server())  # type: ignore[arg-type]
    assert line.state == "problem" and told in line.text


async def test_a_toolchain_that_the_project_needs_and_has_not_is_a_problem(here: Path, monkeypatch: pytest.MonkeyPatch):
    write(scaffold("app", "shop", "javascript", None), here)
    monkeypatch.setenv("PATH", str(here))
    found = await looked(here / "shop")
    assert found["javascript actors"].state == "problem"
    assert found["c actors"].state == "absent"
    assert found["javascript actors"].fix


def test_what_mends_by_itself_is_mended_where_that_is_asked_for(here: Path, monkeypatch: pytest.MonkeyPatch):
    """With a stand-in for npm, which installs a jco that knows its version."""
    write(scaffold("app", "shop", "javascript", None), here)
    tools, bin = here / "tools", here / "shop" / "actor" / "node_modules" / ".bin"
    tools.mkdir()
    jco = "#!/bin/sh\\necho jco 1.18.1\\n"
    for name, script in (
        ("node", "exit 0"),
        ("npm", f"/bin/mkdir -p {bin}\nprintf '{jco}' > {bin}/jco\n/bin/chmod +x {bin}/jco"),
    ):
        (tools / name).write_text(f"#!/bin/sh\n{script}\n")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.chdir(here / "shop")
    asked = ["doctor", "-o", "json", "--nats", f"nats://127.0.0.1:{free_port()}"]

    def javascript(*more: str) -> dict[str, str]:
        result = CliRunner().invoke(cli, [*asked, *more])
        return next(line for line in json.loads(result.stdout) if line["check"] == "javascript actors")

    assert javascript()["fix"] == "npm install --prefix actor"
    assert not bin.exists(), "nothing is installed that nobody asked for"
    assert javascript("--fix") == {"check": "javascript actors", "state": "ok", "text": "jco 1.18.1", "fix": ""}


async def test_a_context_that_tells_others_its_password_is_told_and_mended(here: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(contexts, "folder", lambda: here / "contexts")
    (here / "contexts").mkdir()
    file = here / "contexts" / "prod.toml"
    file.write_text('[nats]\nurl = "nats://x"\nuser = "me"\npassword = "secret"\n')
    file.chmod(0o644)
    (here / "contexts" / "torn.toml").write_text("[nats")
    found = await looked(here)
    assert found["context prod"].fix == f"chmod 600 {file}" and found["context torn"].state == "problem"
    assert await doctor.mend(found["context prod"]) == ""
    assert file.stat().st_mode & 0o777 == 0o600 and "context prod" not in await looked(here)


def test_only_what_touches_little_is_run_without_asking():
    def mend(fix: str, state: str = "problem") -> list[str]:
        return Line("x", state, "", fix).mend  # type: ignore[arg-type]

    assert mend("npm install --prefix a") == ["npm", "install", "--prefix", "a"]
    assert mend("trellis cache gc, or set TRELLIS_CACHE to a larger disk")[1:] == ["-m", "trellis", "cache", "gc"]
    assert mend("rustup target add wasm32-wasip2", "absent") == []
    assert mend("curl https://sh.rustup.rs -sSf | sh  and then  rustup target add wasm32-wasip2") == []
    assert mend("timedatectl set-ntp true") == mend("trellis host start") == []


async def test_a_port_of_the_app_that_is_in_use_is_told(here: Path):
    write(scaffold("app", "shop", "python", None), here)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        manifest = here / "shop" / "app.yaml"
        manifest.write_text(manifest.read_text().replace(":8000", f":{port}"))
        found = await looked(here / "shop")
    assert found["manifest"].state == "ok"
    assert found["port"].state == "problem" and f"{port} is in use" in found["port"].text


async def test_a_manifest_with_errors_is_told(here: Path):
    (here / "app.yaml").write_text("kind: Application\n")
    found = await looked(here)
    assert found["manifest"].state == "problem" and found["manifest"].fix == "trellis check app.yaml"


async def test_a_manifest_that_is_no_text_is_told(here: Path):
    (here / "app.yaml").write_bytes(b"\xff")
    found = await looked(here)
    assert found["manifest"].state == "problem" and "is not UTF-8 text" in found["manifest"].text


async def test_an_address_without_a_port_is_left_to_check(here: Path):
    write(scaffold("app", "shop", "python", None), here)
    manifest = here / "shop" / "app.yaml"
    manifest.write_text(manifest.read_text().replace("127.0.0.1:8000", "127.0.0.1:http"))
    assert (await looked(here / "shop"))["manifest"].state == "ok"


async def test_a_cache_that_cannot_be_written_to_is_told(here: Path, monkeypatch: pytest.MonkeyPatch):
    (here / "file").touch()
    monkeypatch.setenv("TRELLIS_CACHE", str(here / "file" / "cache"))
    assert (await looked(here))["compiled code"].state == "problem"
