"""Fetched images on disk, named by their sha256: one copy however many references lead to it.

An entry is looked at again, byte by byte, each time before it is used, so that neither a disk nor a hand can make a
host run something else under that name. Entries are written under another name and renamed; the directory belongs to
us alone. When it outgrows its limit, what was not used for the longest time goes first.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from actors.cache import default_directory as compiled_directory
from host.images import failures

log = structlog.get_logger("host")

LIMIT = 4 * 1024**3
"""Bytes of images that are kept."""

TELL_EVERY = 5.0
"""Seconds after which the log says again how far an image is."""

_SUFFIX = ".image"
_UNFINISHED = ".new-"
_ABANDONED = 3600.0
"""Seconds after which a file that somebody began to write is taken for a dead process's."""


def default_directory() -> Path:
    """Beside the compiled code: `$TRELLIS_CACHE/images`, or in the platform's place for caches."""
    return compiled_directory().parent / "images"


class Incoming:
    """An image as it arrives. `what` names it in errors; more than `largest` bytes are refused."""

    def __init__(self, path: Path, descriptor: int, what: str, largest: int) -> None:
        self.path = path
        self.size = 0
        self._what = what
        self._largest = largest
        self._told = time.monotonic()
        self._hash = hashlib.sha256()
        self._file = os.fdopen(descriptor, "wb")

    def write(self, data: bytes) -> None:
        """Raises BadInput when it grows too large."""
        self.size += len(data)
        if self.size > self._largest:
            raise failures.too_large(self._what, self._largest)
        if time.monotonic() - self._told > TELL_EVERY:
            self._told = time.monotonic()
            log.info("image.receiving", image=self._what, bytes=self.size)
        self._hash.update(data)
        self._file.write(data)

    @property
    def digest(self) -> str:
        """Of what was written so far."""
        return self._hash.hexdigest()

    def close(self) -> None:
        self._file.close()


class ImageCache:
    """A directory of images. Where it cannot be used, a temporary one is, until `close`."""

    def __init__(self, directory: Path | None = None, limit: int = LIMIT) -> None:
        self.limit = limit
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self.directory = self._prepared(default_directory() if directory is None else directory)

    def _prepared(self, directory: Path) -> Path:
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = directory.stat()
            if sys.platform != "win32" and found.st_uid != os.getuid():
                raise PermissionError("it belongs to another user")
            if found.st_mode & 0o077:
                directory.chmod(0o700)
            if not os.access(directory, os.W_OK):
                raise PermissionError("it cannot be written to")
        except OSError as error:
            log.warning("images.cache_refused", directory=str(directory), reason=str(error))
            self._temporary = tempfile.TemporaryDirectory(prefix="trellis-images-")
            return Path(self._temporary.name)
        return directory

    def path(self, digest: str) -> Path:
        """Where the content with this sha256 is, or would be."""
        return self.directory / f"{digest}{_SUFFIX}"

    async def find(self, digest: str) -> Path | None:
        """The file with exactly this content, which counts as used now; one that was damaged is removed."""
        return await asyncio.to_thread(self._find, digest)

    def _find(self, digest: str) -> Path | None:
        path = self.path(digest)
        try:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            return None
        if found != digest:
            log.warning("images.cache_damaged", path=str(path))
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return path

    @asynccontextmanager
    async def receive(self, what: str, largest: int) -> AsyncIterator[Incoming]:
        """Somewhere to write; call `keep` inside the block, or all is forgotten at its end."""
        descriptor, name = tempfile.mkstemp(dir=self.directory, prefix=_UNFINISHED)
        incoming = Incoming(Path(name), descriptor, what, largest)
        try:
            yield incoming
        finally:
            incoming.close()
            incoming.path.unlink(missing_ok=True)

    async def keep(self, incoming: Incoming) -> Path:
        """Give what arrived its name, and make room for it."""
        return await asyncio.to_thread(self._keep, incoming)

    def _keep(self, incoming: Incoming) -> Path:
        incoming.close()
        path = self.path(incoming.digest)
        incoming.path.replace(path)
        self._evict(path)
        return path

    def _evict(self, newest: Path) -> None:
        found = []
        for path in self.directory.iterdir():
            with contextlib.suppress(OSError):
                stat = path.stat()
                if path.name.startswith(_UNFINISHED):
                    if stat.st_mtime < time.time() - _ABANDONED:
                        path.unlink(missing_ok=True)
                elif path.suffix == _SUFFIX:
                    found.append((stat.st_mtime, stat.st_size, path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= self.limit:
                break
            if path == newest:
                continue
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
                total -= size
                log.info("images.cache_evicted", digest=path.stem, bytes=size)

    def close(self) -> None:
        if self._temporary is not None:
            self._temporary.cleanup()
