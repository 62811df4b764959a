"""The host's file descriptors behind a guest's handles: who uses them, how many there are, when they close."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import threading
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from actors.guest import Guest
from actors.wasi.filesystem.sandbox import failure

MOST_OPEN = 256
"""Files and directories that one invocation may have open at once; one more is `quota`."""

P = ParamSpec("P")
T = TypeVar("T")


class OpenFiles:
    """All that one guest has open, by `guest.kept(OpenFiles)`. Ends with its instance."""

    __slots__ = ("files",)

    def __init__(self, guest: Guest) -> None:
        self.files: set[File] = set()
        guest.on_end.append(self.end)

    def open(self, opener: Callable[P, int], *args: P.args, **kwargs: P.kwargs) -> File:
        """The file behind the descriptor that `opener` returns. Raises OSError: `opener`'s, or EDQUOT when too many."""
        if len(self.files) >= MOST_OPEN:
            raise failure(errno.EDQUOT)
        file = File(self, opener(*args, **kwargs))
        self.files.add(file)
        return file

    def end(self) -> None:
        """Close everything, except what a thread still works on: that closes when the thread is done."""
        for file in list(self.files):
            file.abandon()


class File:
    """An open file. Closes when its last owner (a descriptor, a stream) has let go and no thread is at it."""

    __slots__ = ("_busy", "_files", "_lock", "_owners", "fd")

    def __init__(self, files: OpenFiles, fd: int) -> None:
        self.fd = fd
        """-1 once closed."""
        self._files = files
        self._owners = 1
        self._busy = 0
        self._lock = threading.Lock()

    def share(self) -> File:
        """One more owner."""
        self._owners += 1
        return self

    def release(self) -> None:
        """One owner fewer. After `abandon` this does nothing."""
        self._owners = max(0, self._owners - 1)
        self._settle(0)

    def abandon(self) -> None:
        """No owner is left."""
        self._owners = 0
        self._settle(0)

    async def in_thread(self, work: Callable[Concatenate[int, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`work(fd, ...)` in a thread. Once begun it goes on, caller cancelled or not, and keeps the file open."""
        claim = [self]  # whoever pops it has the say: the thread does the work, or nobody ever will

        def run() -> T:
            try:
                claim.pop()
            except IndexError:
                raise asyncio.CancelledError from None
            try:
                return work(self.fd, *args, **kwargs)
            finally:
                self._settle(-1)

        self._settle(1)
        try:
            return await asyncio.to_thread(run)
        finally:
            with contextlib.suppress(IndexError):
                claim.pop()
                self._settle(-1)

    def _settle(self, busy: int) -> None:
        with self._lock:
            self._busy += busy
            if self._owners or self._busy or self.fd < 0:
                return
            fd, self.fd = self.fd, -1
        self._files.files.discard(self)
        with contextlib.suppress(OSError):
            os.close(fd)
