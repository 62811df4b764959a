"""A listening socket, handed from a process to the one that takes its place: no client finds the port closed meanwhile.

It passes through a socket in a folder that is this user's alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import tempfile
from pathlib import Path

PATIENCE = 1.0
"""Seconds that the other process has for handing it over."""


def place_of(owner: str, address: str) -> Path:
    """Where `owner` hands over what listens at `address`. Raises OSError where there can be no such place."""
    folder = Path(tempfile.gettempdir()) / f"trellis-sockets-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    about = folder.lstat()
    if about.st_uid != os.getuid() or about.st_mode & 0o077:
        raise PermissionError(f"{folder} is not this user's alone")
    # by its digest: a socket's path has 100 characters at most
    return folder / hashlib.sha256(f"{owner} {address}".encode()).hexdigest()[:16]


async def taken_over(owner: str, address: str) -> socket.socket | None:
    """What listens at `address` for `owner` in another process; None when nothing does."""

    def take() -> socket.socket | None:
        try:
            with socket.socket(socket.AF_UNIX) as line:
                line.settimeout(PATIENCE)
                line.connect(str(place_of(owner, address)))
                _, handed, _, _ = socket.recv_fds(line, 1, 1)
        except OSError:
            return None
        return socket.socket(fileno=handed[0]) if handed else None

    return await asyncio.to_thread(take)


class Door:
    """Hands `listening` to whoever asks, until it is closed. Raises OSError when it cannot be made."""

    def __init__(self, owner: str, address: str, listening: socket.socket) -> None:
        self._listening = listening
        self._place = place_of(owner, address)
        self._place.unlink(missing_ok=True)
        self._door = socket.socket(socket.AF_UNIX)
        self._door.bind(str(self._place))
        self._door.listen()
        self._door.setblocking(False)
        self._made = self._place.stat().st_ino
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._door, self._asked)

    def _asked(self) -> None:
        try:
            line, _ = self._door.accept()
            with line:
                socket.send_fds(line, [b"."], [self._listening.fileno()])
        except OSError:
            pass  # who asked has left

    def close(self) -> None:
        self._loop.remove_reader(self._door)
        self._door.close()
        try:
            if self._place.stat().st_ino == self._made:  # else it is our successor's
                self._place.unlink()
        except FileNotFoundError:
            pass
