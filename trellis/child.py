"""A process that this one started: logged to a file, ended by its handle, and not left behind.

A child has a session of its own, so that Ctrl-C reaches only its parent, which then stops its children in order.
Should the parent vanish without doing so, a one-line shell that waits on a pipe from it ends the child.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from trellis.failures import NOT_CONVERGED, Failure

_GUARD = 'read -r _; kill "$1"'
TAIL = 15
"""Lines of a log that are printed when its process failed."""


class Child:
    """Made by `start`. `name` is what people read; `log` has everything it wrote."""

    def __init__(self, name: str, command: Sequence[str], log: Path, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self.command = command
        self.log = log
        self.expected = False
        """Somebody means it to end: its end is not news."""
        self._process = process
        self._guard = _guard(process.pid)
        self._ended = asyncio.ensure_future(self._reap())

    @classmethod
    async def start(cls, name: str, command: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> Child:
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )
        return cls(name, command, log, process)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    async def _reap(self) -> int:
        code = await self._process.wait()
        if self._guard is not None:
            self._guard.kill()
            if self._guard.stdin is not None:
                self._guard.stdin.close()
            await asyncio.to_thread(self._guard.wait)
        return code

    async def wait(self) -> int:
        """Its exit code, once it has ended; negative when a signal ended it."""
        return await asyncio.shield(self._ended)

    def send(self, number: signal.Signals) -> None:
        """Signal it, if it still runs."""
        if self.running:
            self._process.send_signal(number)

    async def stop(self, grace: float = 15.0) -> int:
        """SIGTERM, then SIGKILL after `grace` seconds. Its exit code; a second call only waits."""
        self.expected = True
        self.send(signal.SIGTERM)
        try:
            async with asyncio.timeout(grace):
                return await self.wait()
        except TimeoutError:
            self.send(signal.SIGKILL)
            return await self.wait()

    async def kill(self) -> None:
        """SIGKILL, as a power cut would."""
        self.expected = True
        self.send(signal.SIGKILL)
        await self.wait()

    def tail(self, lines: int = TAIL) -> list[str]:
        """The last lines that it wrote."""
        try:
            return self.log.read_text(errors="replace").splitlines()[-lines:]
        except OSError:
            return []

    def ended_badly(self) -> Failure:
        """What to tell about a child that ended although nobody asked it to."""
        from lattice import Finding

        code = self._process.returncode
        how = f"was ended by {signal.Signals(-code).name}" if code is not None and code < 0 else f"exited with {code}"
        lines = self.tail()
        return Failure(
            NOT_CONVERGED,
            Finding(
                "TRL-UP-003",
                f"{self.name} {how}",
                why="\n       ".join(["its last lines:", *lines]) if lines else "it wrote nothing",
                fix=f"to run it by hand:  {' '.join(self.command)}",
            ),
        )


def _guard(pid: int) -> subprocess.Popen[bytes] | None:
    """A shell that ends the process `pid` when this one is gone; None where there is no shell."""
    try:
        return subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, "trellis-guard", str(pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:
        return None
