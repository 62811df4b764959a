"""Compiled components on disk, so that Cranelift runs once per component, engine configuration and CPU.

An entry is native code that will be run unchecked: the directory belongs to us alone (0700), and a directory that
others can write to is not used. Entries are written under another name and renamed, so a reader sees all or nothing.
Behind the code they say where it came from, and they end in a checksum, so that one which a disk or a hand has damaged
is compiled anew.

Processes share the directory. Whoever compiles holds a lock on a file beside the entry, and the others wait for it;
the lock goes with its process, so nobody waits for the dead, and for the stuck no longer than PATIENCE. The worst that
can come of it is that something is compiled twice. When the directory outgrows its limit, the entries that were not
used for the longest time go first.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
import platform
import struct
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import structlog

if sys.platform != "win32":
    import fcntl

log = structlog.get_logger("actors")

GIB = 1024**3

LIMIT = 4 * GIB
"""Bytes of compiled code that are kept, unless told otherwise. A Python component is about 40 MB of it."""

PATIENCE = 120.0
"""Seconds to wait for another process that compiles the same component."""

_SUFFIX = ".cwasm"
_LOCK = ".lock"
_UNFINISHED = ".new-"
_ABANDONED = 3600.0
"""Seconds after which a file that somebody began to write is taken for a dead process's."""

_SEAL = struct.Struct("<8sI")
_MAGIC = b"trellis1"
_ABOUT = struct.Struct("<4sI")
_ABOUT_MAGIC = b"from"


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


@dataclass(frozen=True, slots=True)
class Entry:
    """One component, compiled for one `environment`: engine settings, wasmtime version and CPU."""

    path: Path
    digest: str  # sha256 of the .wasm
    environment: str
    size: int  # bytes
    used: float  # seconds since the epoch: when it was last written or loaded

    def about(self) -> About:
        """Where it came from, read from its file; all of it unknown when the file is gone or older than that."""
        try:
            with self.path.open("rb") as file:
                file.seek(-_SEAL.size - _ABOUT.size, os.SEEK_END)
                magic, length = _ABOUT.unpack(file.read(_ABOUT.size))
                if magic != _ABOUT_MAGIC:
                    return About()
                file.seek(-_SEAL.size - _ABOUT.size - length, os.SEEK_END)
                data = json.loads(file.read(length))
                return About(str(data["source"]), str(data["wasmtime"]))
        except (OSError, ValueError, KeyError, TypeError, struct.error):
            return About()


@dataclass(frozen=True, slots=True)
class About:
    """What the code of an entry was compiled from, and by which wasmtime; "" where that is not known."""

    source: str = ""
    wasmtime: str = ""

    def tail(self) -> bytes:
        data = json.dumps({"source": self.source, "wasmtime": self.wasmtime}).encode()
        return data + _ABOUT.pack(_ABOUT_MAGIC, len(data))


def entries(directory: Path | None = None) -> list[Entry]:
    """What is in the cache, the longest unused first. Without a directory: what is in the default one."""
    found = []
    for path in _files(directory or default_directory(), _SUFFIX):
        digest, _, environment = path.name.removesuffix(_SUFFIX).partition(".")
        with contextlib.suppress(OSError):
            stat = path.stat()
            found.append(Entry(path, digest, environment, stat.st_size, stat.st_mtime))
    return sorted(found, key=lambda entry: entry.used)


def evict(max_bytes: int, directory: Path | None = None) -> list[Entry]:
    """Remove entries, the longest unused first, until the rest takes `max_bytes` or less. Returns those removed.

    An entry that runs at this moment may go as well: where the system does not allow that it stays, and elsewhere its
    code lives until its last user is gone. What dead processes left half written goes in any case.
    """
    folder = directory or default_directory()
    kept = entries(folder)
    total = sum(entry.size for entry in kept)
    removed = []
    for entry in kept:
        if total <= max_bytes:
            break
        try:
            entry.path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("cache.not_removed", path=str(entry.path), reason=str(error))
            continue
        total -= entry.size
        removed.append(entry)
    _sweep(folder)
    return removed


def collect(max_bytes: int, directory: Path | None = None) -> list[Entry]:
    """Remove what this wasmtime cannot load, and then `evict`. Returns all that was removed."""
    folder = directory or default_directory()
    current = version("wasmtime")
    stale = []
    for entry in entries(folder):
        if entry.about().wasmtime != current:
            try:
                entry.path.unlink(missing_ok=True)
            except OSError as error:
                log.warning("cache.not_removed", path=str(entry.path), reason=str(error))
                continue
            stale.append(entry)
    return [*stale, *evict(max_bytes, folder)]


def _sweep(folder: Path) -> None:
    """Remove what dead processes left behind."""
    before = time.time() - _ABANDONED
    for path in _files(folder, ""):
        if path.name.startswith(_UNFINISHED) or path.name.endswith(_LOCK):
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < before:
                    path.unlink(missing_ok=True)


def _files(folder: Path, suffix: str) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if path.name.endswith(suffix)]
    except OSError:
        return []


class CompiledCache:
    """Finds and keeps compiled code. Without a usable directory it finds nothing and keeps nothing."""

    def __init__(self, directory: Path | None, engine: str, limit: int = LIMIT) -> None:
        key = "\n".join((version("wasmtime"), engine, cpu()))
        self.environment = hashlib.sha256(key.encode()).hexdigest()[:16]
        self.limit = limit
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
        return None if self.directory is None else self.directory / f"{digest}.{self.environment}{_SUFFIX}"

    def find(self, digest: str) -> Path | None:
        """The file of an entry that is whole; it counts as used now. One that is damaged is removed."""
        path = self.path(digest)
        if path is None or not path.exists():
            return None
        if not _whole(path):
            log.warning("cache.damaged", path=str(path), reason="its checksum does not fit")
            self.discard(digest)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return path

    def keep(self, digest: str, compiled: bytes | bytearray, source: str = "") -> None:
        """Write an entry, and make room for it. A full disk is logged, not raised: code can be compiled again.

        `source` is what people know the component as: a file's path.
        """
        path = self.path(digest)
        if path is None:
            return
        about = About(source, version("wasmtime")).tail()
        try:
            descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=_UNFINISHED)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(compiled)
                    file.write(about)
                    file.write(_SEAL.pack(_MAGIC, zlib.crc32(about, zlib.crc32(compiled))))
                    file.flush()
                    os.fsync(file.fileno())
                Path(name).replace(path)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise
        except OSError as error:
            log.warning("cache.not_written", path=str(path), reason=str(error))
            return
        for entry in evict(self.limit, path.parent):
            log.info("cache.evicted", digest=entry.digest, bytes=entry.size)

    def discard(self, digest: str) -> None:
        """Remove an entry that turned out to be damaged."""
        path = self.path(digest)
        if path is not None:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                log.warning("cache.not_removed", path=str(path), reason=str(error))

    @contextlib.contextmanager
    def alone(self, digest: str, patience: float = PATIENCE) -> Iterator[None]:
        """Hold off other processes that would compile this component, and wait for one that does. Blocks.

        Look for the entry again inside. Where files cannot be locked, or after `patience` seconds, nobody is held off.
        """
        path = self.path(digest)
        descriptor = None if path is None else _locked(path.with_suffix(_LOCK), patience)
        try:
            yield
        finally:
            if descriptor is not None and path is not None:
                # removed while it is held: who waits for it finds the entry, who comes later makes a lock of their own
                with contextlib.suppress(OSError):
                    path.with_suffix(_LOCK).unlink(missing_ok=True)
                os.close(descriptor)


def _whole(path: Path) -> bool:
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if len(data) < _SEAL.size:
                return False
            magic, checksum = _SEAL.unpack_from(data, len(data) - _SEAL.size)
            with memoryview(data) as view, view[: -_SEAL.size] as code:
                return bool(magic == _MAGIC and zlib.crc32(code) == checksum)
    except (OSError, ValueError):
        return False


def _locked(path: Path, patience: float) -> int | None:
    """A descriptor that holds the lock on `path`, or None when it cannot be had."""
    if sys.platform == "win32":
        return None
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return None
    until = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < until:
                time.sleep(0.02)
                continue
            log.warning("cache.not_waited", path=str(path), seconds=patience)
        except OSError:
            pass
        else:
            return descriptor
        os.close(descriptor)
        return None
