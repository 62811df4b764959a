"""Compiled components on disk, so that Cranelift runs once per component, engine configuration and CPU.

An entry is native code that will be run unchecked: the directory belongs to us alone (0700), and a directory that
others can write to is not used. Entries are written under another name and renamed, so a reader sees all or nothing.
"""

from __future__ import annotations

import hashlib
import os
import platform
import sys
import tempfile
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import structlog

log = structlog.get_logger("actors")


def default_directory() -> Path:
    """`TRELLIS_CACHE`, or the platform's place for caches."""
    if chosen := os.environ.get("TRELLIS_CACHE"):
        return Path(chosen).expanduser() / "compiled"
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "trellis" / "compiled"


@lru_cache(maxsize=1)
def cpu() -> str:
    """What distinguishes this machine's CPU for compiled code: its architecture and features."""
    features = platform.processor()
    try:
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith(("flags", "Features")):
                features = line
                break
    except OSError:
        pass
    return f"{sys.platform} {platform.machine()} {features}"


class CompiledCache:
    """Finds and keeps compiled code. Without a usable directory it finds nothing and keeps nothing."""

    def __init__(self, directory: Path | None, engine: str) -> None:
        self._engine = engine
        self.directory = None if directory is None else self._prepared(directory)

    @staticmethod
    def _prepared(directory: Path) -> Path | None:
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = directory.stat()
            if sys.platform != "win32" and found.st_uid != os.getuid():
                log.warning("cache.refused", directory=str(directory), reason="it belongs to another user")
                return None
            if found.st_mode & 0o077:
                directory.chmod(0o700)
        except OSError as error:
            log.warning("cache.refused", directory=str(directory), reason=str(error))
            return None
        return directory

    def path(self, digest: str) -> Path | None:
        """Where the compiled form of the component with this sha256 is, or would be."""
        if self.directory is None:
            return None
        key = "\n".join((digest, version("wasmtime"), self._engine, cpu()))
        return self.directory / f"{hashlib.sha256(key.encode()).hexdigest()}.cwasm"

    def keep(self, digest: str, compiled: bytes | bytearray) -> None:
        """Write an entry. A full disk is logged, not raised: the code can be compiled again."""
        path = self.path(digest)
        if path is None:
            return
        try:
            descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(compiled)
                Path(name).replace(path)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise
        except OSError as error:
            log.warning("cache.not_written", path=str(path), reason=str(error))

    def discard(self, digest: str) -> None:
        """Remove an entry that turned out to be damaged."""
        path = self.path(digest)
        if path is not None:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                log.warning("cache.not_removed", path=str(path), reason=str(error))
