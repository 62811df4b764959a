"""`trellis up` without an app, and what it stands on: what they do when one of their processes ends."""

import asyncio
import contextlib
import os
import re
import signal
import socket
from pathlib import Path

import aiohttp
import pytest
from verbs import begun, ended, said

from trellis.commands.up import _state_file
from trellis.running import told_to_stop
from trellis.stack import HostSpec, Stack

pytestmark = pytest.mark.nats


def three_ports() -> int:
    """The first of three that are free just now."""
    while True:
        with contextlib.ExitStack() as probes, contextlib.suppress(OSError, OverflowError):
            first = 0
            for more in range(3):
                probe = probes.enter_context(socket.socket())
                probe.bind(("127.0.0.1", first + more))
                first = first or probe.getsockname()[1]
            return first


async def tells(port: int, figure: str) -> bool:
    """What answers /metrics there has that figure."""
    async with aiohttp.ClientSession() as client, client.get(f"http://127.0.0.1:{port}/metrics") as response:
        return f"\ntrellis_{figure}" in await response.text()


async def test_each_member_has_metrics_and_a_manager_that_dies_is_started_again(
    tmp_path: Path, lattice_name: str
) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TRELLIS_NATS")}
    environment["TRELLIS_LATTICE"] = lattice_name  # which `up` and `status` both go by
    first = three_ports()
    arguments = ("up", "--hosts", "2", "--metrics", f"127.0.0.1:{first}")
    up = await begun(*arguments, cwd=tmp_path, env=environment, stderr=asyncio.subprocess.STDOUT)
    try:
        shown = await said(up, "Ctrl-C stops everything")
        found = re.search(r"^manager\b.*pid (\d+)$", shown, re.MULTILINE)
        assert found is not None, shown
        for port, figure in ((first, "host_info"), (first + 1, "host_info"), (first + 2, "manager_acting")):
            assert await tells(port, figure)
        os.kill(int(found[1]), signal.SIGKILL)
        told = await said(up, r"started again +pid \d+$")
        assert "SIGKILL" in told
        async with asyncio.timeout(60):
            while (await ended("status", "-o", "json", cwd=tmp_path, env=environment))[0] != 0:
                pass
    finally:
        up.send_signal(signal.SIGINT)
        async with asyncio.timeout(30):
            await up.communicate()
    assert up.returncode == 0


async def test_a_stack_tells_which_of_its_hosts_ended(lattice_name: str):
    hosts = [HostSpec("one", more=("--stack", "1Mi", "--limit", "memory=64Mi")), HostSpec("two")]
    async with Stack(hosts, lattice=lattice_name) as stack:
        stack.hosts["two"].send(signal.SIGKILL)
        async with asyncio.timeout(10):
            ended = await stack.ended.get()
        assert ended is stack.hosts["two"]
        assert "two was ended by SIGKILL" in str(ended.ended_badly())


def test_where_commands_cannot_find_the_lattice_they_are_told_to_name_it(tmp_path: Path, capsys):
    (tmp_path / ".trellis").write_text("this is no folder")
    with _state_file(tmp_path, Stack([], nats="nats://ann:secret@127.0.0.1:4222")):
        said = capsys.readouterr().err
    assert "other commands here need  --nats nats://127.0.0.1:4222" in said and "secret" not in said


async def test_what_runs_in_a_terminal_that_goes_away_is_stopped():
    stopped = asyncio.Event()
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may run under nohup
    try:
        with told_to_stop(stopped.set):
            os.kill(os.getpid(), signal.SIGHUP)
            await asyncio.wait_for(stopped.wait(), 5)
    finally:
        signal.signal(signal.SIGHUP, before)


async def test_what_is_not_to_mind_its_terminal_goes_on_without_it():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with told_to_stop(lambda: None):
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
