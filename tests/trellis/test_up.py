"""`trellis up` without an app, and what it stands on: what they do when one of their processes ends."""

import asyncio
import os
import re
import signal
from pathlib import Path

import pytest
from verbs import begun, ended, said

from trellis.stack import HostSpec, Stack

pytestmark = pytest.mark.nats


async def test_a_manager_that_dies_is_started_again_and_answers(tmp_path: Path, lattice_name: str) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TRELLIS_NATS")}
    environment["TRELLIS_LATTICE"] = lattice_name  # which `up` and `status` both go by
    up = await begun("up", "--hosts", "2", cwd=tmp_path, env=environment, stderr=asyncio.subprocess.STDOUT)
    try:
        shown = await said(up, "Ctrl-C stops everything")
        found = re.search(r"^manager\b.*pid (\d+)$", shown, re.MULTILINE)
        assert found is not None, shown
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
