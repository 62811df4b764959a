"""A terminal as a person has one: what is typed reaches the command, and Ctrl-C is a signal."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from verbs import COMMAND

PATIENCE = 60.0
"""Seconds until what is waited for must be there."""

CTRL_C = "\x03"


class PseudoTerminal:
    """One command in it. `shown` is everything that it wrote, with its control sequences."""

    def __init__(self, ours: int, process: subprocess.Popen[bytes]) -> None:
        self.shown = ""
        self._ours = ours
        self._process = process
        self._news = asyncio.Event()
        self._over = False
        asyncio.get_running_loop().add_reader(ours, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._ours, 65536)
        except OSError:  # the other end is closed
            data = b""
        if not data:
            self._over = True
            asyncio.get_running_loop().remove_reader(self._ours)
        self.shown += data.decode().replace("\r\n", "\n")
        self._news.set()

    @property
    def screen(self) -> str:
        """What is to be seen since the screen was cleared last, without colours."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.shown.rpartition("\x1b[2J")[2].removeprefix("\x1b[1;1H"))

    async def sees(self, pattern: str) -> None:
        """Wait until it is on the screen."""
        async with asyncio.timeout(PATIENCE):
            while not re.search(pattern, self.screen, re.MULTILINE):
                assert not self._over, f"it ended, and shows:\n{self.shown}"
                self._news.clear()
                await self._news.wait()

    def types(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def modes(self) -> list[Any]:
        """How the terminal treats what is typed, for one that others have set to be compared with."""
        return termios.tcgetattr(self._ours)

    async def ends(self) -> int:
        """Wait for its end: its exit code."""
        async with asyncio.timeout(PATIENCE):
            code = await asyncio.to_thread(self._process.wait)
        self._read_rest()
        return code

    def _read_rest(self) -> None:
        os.set_blocking(self._ours, False)
        try:
            while data := os.read(self._ours, 65536):
                self.shown += data.decode().replace("\r\n", "\n")
        except OSError:
            pass

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._ours)
        os.close(self._ours)
        self._process.kill()
        self._process.wait()


@asynccontextmanager
async def terminal(
    *arguments: str, folder: Path, environment: Mapping[str, str] | None = None, columns: int = 120
) -> AsyncIterator[PseudoTerminal]:
    """`trellis ARGUMENTS` in a terminal so many columns wide."""
    shown = PseudoTerminal(*_begun(arguments, folder, environment or {}, columns))
    try:
        yield shown
    finally:
        shown.close()


def _begun(
    arguments: Sequence[str], folder: Path, environment: Mapping[str, str], columns: int
) -> tuple[int, subprocess.Popen[bytes]]:
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    unset = ("CI", "NO_COLOR", "COLUMNS", "LINES")
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=folder,
        env={**{k: v for k, v in os.environ.items() if k not in unset}, "TERM": "xterm", **environment},
        stdin=its,
        stdout=its,
        stderr=its,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(its)
    return ours, process
