"""The byte streams of a file. A step moves at most CHUNK bytes and is done when it returns: nothing is buffered."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable

from actors.wasi.filesystem.errors import FileError
from actors.wasi.filesystem.handles import File
from actors.wasi.io import InputStream, OutputStream, Pollable, nothing, wake
from lattice import WitError
from lattice.streams import CHUNK

_APPEND = getattr(os, "RWF_APPEND", None)


def changed_already(waiter: asyncio.Future[None]) -> Callable[[], object]:
    """A file never keeps anybody waiting."""
    wake(waiter)
    return nothing


class FileInput(InputStream):
    """`input-stream` of `read-via-stream`: a position that moves through the file, to its end."""

    __slots__ = ("_at", "_file")

    def __init__(self, file: File, at: int) -> None:
        self._file = file.share()
        self._at = at
        self._over = False

    def read(self, size: int) -> bytes:
        """At most CHUNK bytes; only of `size` 0 none."""
        if self._over:
            raise WitError("closed")
        if size == 0:
            return b""
        try:
            data = os.pread(self._file.fd, min(size, CHUNK), self._at)
        except (OSError, OverflowError) as error:
            self._over = True
            raise broken(error) from error
        if not data:
            self._over = True
            raise WitError("closed")
        self._at += len(data)
        return data

    def readable(self) -> bool:
        return True

    def subscribe(self) -> Pollable:
        return Pollable(self.readable, changed_already)

    def dropped(self) -> None:
        self._file.release()


class FileSink:
    """Writes where the file says: from a position on, or always at the end (`at` None)."""

    __slots__ = ("_at", "_file", "_over")

    def __init__(self, file: File, at: int | None) -> None:
        self._file = file
        self._at = at
        self._over = False

    def room(self) -> int:
        if self._over:
            raise WitError("closed")
        return CHUNK

    def write(self, data: bytes) -> None:
        """Raises WitError when the file does not take it all; the stream is closed then."""
        if self._over:
            raise WitError("closed")
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._some(rest) :]
        except (OSError, OverflowError) as error:
            self._over = True
            raise broken(error) from error

    def watch(self, waiter: asyncio.Future[None]) -> Callable[[], object]:
        return changed_already(waiter)

    def _some(self, data: memoryview) -> int:
        fd = self._file.fd
        if self._at is not None:
            count = os.pwrite(fd, data, self._at)
            self._at += count
            return count
        if _APPEND is not None:
            return os.pwritev(fd, [data], 0, _APPEND)
        return os.pwrite(fd, data, os.fstat(fd).st_size)


class FileOutput(OutputStream):
    """`output-stream` of `write-via-stream` and `append-via-stream`."""

    __slots__ = ("_file",)

    def __init__(self, file: File, at: int | None) -> None:
        super().__init__(FileSink(file, at))
        self._file = file.share()

    def dropped(self) -> None:
        self._file.release()


def broken(error: OSError | OverflowError) -> WitError:
    """The `stream-error` of a failed read or write. An offset beyond all files is `invalid`."""
    if isinstance(error, OverflowError):
        error = OSError(errno.EINVAL, "the offset is too large")
    return WitError({"last-operation-failed": FileError(error)})
