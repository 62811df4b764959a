"""Every command of the documentation does what its page shows. (quickstart.md has a test of its own.)"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from pages import PAGES, ROOT, blocks, reader
from ruamel.yaml import YAML
from servers import Broker, free_port

from lattice.errors import DeadlineExceeded, Unreachable
from lattice.jetstream import JetStream
from lattice.nats_transport import connect
from trellis.broker import server_binary
from trellis.cli import VERBS, cli

COUNTER = Path("examples/counter")
FOLLOWED = [page for page in PAGES if page.name not in ("README.md", "quickstart.md")]
EXAMPLES = sorted((ROOT / "examples").glob("*/README.md"))
RUN = [page for page in FOLLOWED if any(language == "console" for language, _, _ in blocks(page.read_text()))]
OPERATE = {name: text for _, name, text in blocks((ROOT / "docs" / "operate.md").read_text()) if name}
PASSWORDS = {f"{role}_PASSWORD": role for role in ("HOST", "MANAGER", "DEPLOYER", "OBSERVER", "CALLER")}
ENDS_A_COMMAND = re.compile(r"\s+(?:#|\||>|2>|<|&|;|then\b).*", re.DOTALL)


@pytest.mark.nats
@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_what_a_page_shows_is_what_happens(page: Path, tmp_path: Path):
    with reader(tmp_path, {port: free_port() for port in ("4222", "8080", "9090")}) as one:
        (tmp_path / COUNTER).mkdir(parents=True)
        for part in (ROOT / COUNTER).iterdir():
            if part.suffix == ".yaml":
                (tmp_path / COUNTER / part.name).write_text(one.here(part.read_text()))
            else:
                (tmp_path / COUNTER / part.name).symlink_to(part)
        one.follow(page.read_text())


def named(page: str) -> Iterator[str]:
    """Every command of ours that the page names, in a block or in a sentence, without what a shell does with it."""
    for language, _, text in blocks(page):
        if language in ("console", "sh", "text", "ini"):
            for found in re.findall(r"^(?:\$ |ExecStart=\S*/)?(trellis .*)$", text.replace("\\\n", " "), re.MULTILINE):
                yield ENDS_A_COMMAND.sub("", found)
    for found in re.findall(r"^    (trellis .*)$", page, re.MULTILINE):
        yield ENDS_A_COMMAND.sub("", found)
    for found in re.findall(r"`(trellis [^`]+)`", re.sub(r"```.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL)):
        yield ENDS_A_COMMAND.sub("", found.replace("\\|", "|").replace("\n", " "))


def problem(line: str) -> str | None:
    """What is wrong with the verb or an option of a command line. Words in capitals stand for something."""
    words = shlex.split(line.partition(" -- ")[0])[1:]
    if not words or words[0].startswith("-") or words[0].isupper():
        return None
    if words[0] not in VERBS:
        return f"`{line}`: no such verb"
    command = cli.get_command(click.Context(cli), words[0])
    if isinstance(command, click.Group):
        if len(words) == 1:
            return None
        if words[1] not in command.commands:
            return f"`{line}`: no such verb"
        command = command.commands[words[1]]
    assert command is not None
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    unknown = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)} - known - {"--help", "-h"}
    return f"`{line}`: no such option: {unknown}" if unknown else None


@pytest.mark.parametrize("page", [*PAGES, *EXAMPLES], ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_that_a_page_names_exists_with_its_options(page: Path):
    assert [wrong for line in named(page.read_text()) if (wrong := problem(line))] == []


def test_a_command_that_does_not_exist_would_be_noticed():
    page = "Use `trellis status --wach` or\n```sh\ntrellis host drian a > log &\n```\nand `trellis fly`."
    assert len([line for line in named(page) if problem(line)]) == 3


def test_the_unit_files_are_what_systemd_takes(tmp_path: Path):
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("no systemd-analyze on PATH")
    units = [name for name in OPERATE if name.endswith(".service")]
    for name in units:
        (tmp_path / name).write_text(OPERATE[name].replace("/opt/trellis/bin", str(Path(sys.executable).parent)))
    done = subprocess.run([tool, "verify", *units], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(units) == 2


def test_the_configurations_are_what_nats_server_takes(tmp_path: Path):
    files = {**OPERATE, **{n: t for _, n, t in blocks((ROOT / "docs" / "security.md").read_text())}}
    for name in (name for name in files if name.endswith(".conf")):
        (tmp_path / name).write_text(files[name])
        tried = [server_binary(), "-t", "-c", name]
        done = subprocess.run(tried, cwd=tmp_path, env=PASSWORDS, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_the_containers_run_commands_that_exist():
    layers = dict(re.findall(r"^(ENTRYPOINT|CMD) (.*)$", OPERATE["Dockerfile"], re.MULTILINE))
    entry, usual = (json.loads(layers[name]) for name in ("ENTRYPOINT", "CMD"))
    services = YAML(typ="safe").load(OPERATE["compose.yaml"])["services"]
    for name in ("manager", "host"):
        assert problem(shlex.join([*entry, *services[name].get("command", usual)])) is None
    assert re.findall(r"COPY dist/(\S+)-\*\.whl", OPERATE["Dockerfile"]) == ["trellis_lattice"]


async def ran(script: str, folder: Path, *arguments: object) -> str:
    """What a script of the page prints."""
    (folder / script).write_text(OPERATE[script])
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, str(folder / script), *map(str, arguments)],
        env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


@pytest.mark.nats
async def test_what_the_page_saves_of_a_server_that_runs_is_loaded_into_an_empty_one(tmp_path: Path):
    servers = [Broker(tmp_path / name) for name in ("old", "new")]
    try:
        for server in servers:
            server.folder.mkdir()
            server.start()
        nats = await connect(servers[0].url)
        value = os.urandom(900_000)  # more than one piece
        for bucket in ("LATTICEDATA_default", "visits"):
            await (await nats.bucket(bucket)).put("key", value)
        await nats.close()
        saved = await ran("backup.py", tmp_path, "save", servers[0].url, tmp_path / "backup")
        assert saved.splitlines() == ["saved KV_LATTICEDATA_default", "saved KV_visits"]
        await ran("backup.py", tmp_path, "load", servers[1].url, tmp_path / "backup")
        nats = await connect(servers[1].url)
        for bucket in ("LATTICEDATA_default", "visits"):
            entry = await (await nats.bucket(bucket, create=False)).get("key")
            assert entry is not None and entry.value == value
        await nats.close()
    finally:
        for server in servers:
            server.stop()


@pytest.mark.nats
async def test_copies_of_every_stream_are_made_as_the_page_says(tmp_path: Path):
    doors = [free_port() for _ in range(3)]
    routes = ", ".join(f'"nats://127.0.0.1:{door}"' for door in doors)
    servers = []
    try:
        for number, door in enumerate(doors):
            (tmp_path / str(number)).mkdir()
            cluster = f'cluster {{ name: trellis, listen: "127.0.0.1:{door}", routes: [{routes}] }}'
            servers.append(Broker(tmp_path / str(number), config=f"server_name: n{number}\n{cluster}"))
            servers[-1].start()
        nats = await connect(servers[0].url)
        until = time.monotonic() + 60
        while True:
            try:
                await nats.bucket("LATTICEDATA_default")
                break
            except (DeadlineExceeded, Unreachable):  # the three have not agreed on a leader yet
                assert time.monotonic() < until
        printed = await ran("replicate.py", tmp_path, servers[0].url, 3)
        assert printed == "KV_LATTICEDATA_default: 3 copies\n"
        told = await JetStream(nats).ask("STREAM.INFO.KV_LATTICEDATA_default")
        assert told["config"]["num_replicas"] == 3
        await nats.close()
    finally:
        for server in servers:
            server.stop()
