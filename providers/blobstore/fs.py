"""A blob store on the file system: a folder for each container, a file for each object.

A name is the file's name, but for the characters that a file name cannot have (or that mean something to the file
system), which are written as `%XX`. So ordinary files that somebody puts there are objects, and no name leads out of
the root. Symbolic links are neither followed nor listed. New objects are written in the folder `.parts` of the root and
renamed, so a file is always a whole object; and a reader keeps the file it has opened.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import structlog
from pydantic import BaseModel, ConfigDict

from lattice import BadInput, Finding
from providers.blobstore.store import BlobStore, Info, ObjectId, Reader, Refused, Store, no_container, no_object
from providers.link import Link, LinkId

log = structlog.get_logger("providers")

Result = TypeVar("Result")

PIECE = 256 * 1024
"""Bytes read or written in one go."""

LONGEST = 255
"""Bytes that file systems take as the name of one file."""

PARTS = ".parts"
FORGOTTEN = 24 * 3600.0
"""Seconds after which what lies in `.parts` is from a writer that did not live to end it."""

BORN = b".created"
"""An empty file in each container that we made: folders do not remember when they were made."""


class FsLink(BaseModel):
    """A link's target_config."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    root: str | None = None
    """Where the containers are; an absolute path. Left out, `{tmp}/{component id}`, as wasmCloud has it."""


_UNSAFE = re.compile(r"[\x00-\x1f\x7f/\\%]|^\.")
_ESCAPE = re.compile(r"%([0-9A-F]{2})")


def escaped(name: str) -> bytes:
    """The file name of `name`. Raises Refused when there can be none."""
    if not name:
        return b"%"
    file = _UNSAFE.sub(lambda m: f"%{ord(m[0]):02X}", name).encode("utf-8", "surrogatepass")
    if len(file) > LONGEST:
        raise Refused(f"a name of {len(file)} bytes is too long; {LONGEST} at most")
    return file


def unescaped(file: bytes) -> str | None:
    """The name that `escaped` made `file` from; None when it was not made so."""
    try:
        text = file.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return None
    name = "" if text == "%" else _ESCAPE.sub(lambda m: chr(int(m[1], 16)), text)
    try:
        return name if escaped(name) == file else None
    except Refused:
        return None


async def in_thread(
    work: Callable[..., Result], *args: Any, undo: Callable[[Result], object] = lambda _: None
) -> Result:
    """Run blocking work. When we are cancelled it still ends first: nobody closes a file under its hands.

    Nobody gets its result then; `undo` gives back what it holds.
    """
    running = asyncio.ensure_future(asyncio.to_thread(work, *args))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([running])
        if not running.cancelled() and running.exception() is None:
            undo(running.result())
        raise


@contextmanager
def _said(what: str) -> Iterator[None]:
    """The file system's errors as sentences."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Refused(f"{what}: the disk is full") from error
        raise Refused(f"{what}: {error.strerror or error}") from error


class FileReader:
    """A part of an open file."""

    def __init__(self, file: int, at: int, size: int) -> None:
        self._file = file
        self._at = at
        self.size = size

    async def read(self) -> bytes:
        if self.size <= 0:
            return b""
        with _said("the object cannot be read on"):
            data = await in_thread(os.pread, self._file, min(self.size, PIECE), self._at)
        if not data:
            raise Refused("the object became shorter while it was read")
        self._at += len(data)
        self.size -= len(data)
        return data

    def close(self) -> None:
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)


class FsStore(Store):
    """The containers under one root."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._root = os.fsencode(root)
        self._parts = os.path.join(self._root, os.fsencode(PARTS))  # noqa: PTH118  bytes, as the names are

    def _folder(self, container: str) -> bytes:
        return os.path.join(self._root, escaped(container))  # noqa: PTH118

    def _existing(self, container: str) -> bytes:
        """Raises Refused when there is no such container; blocks, as all below it that begins with an underscore."""
        folder = self._folder(container)
        if not _is_folder(folder):
            raise Refused(no_container(container))
        return folder

    def _path(self, id: ObjectId) -> bytes:
        return os.path.join(self._existing(id.container), escaped(id.object))  # noqa: PTH118

    def _part(self) -> bytes:
        return os.path.join(self._parts, secrets.token_hex(16).encode())  # noqa: PTH118

    def prepare(self) -> None:
        """Make the folders, and clear away what writers left long ago. Raises OSError."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        parts = self.root / PARTS
        parts.mkdir(exist_ok=True, mode=0o700)
        if not os.access(parts, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        for left in parts.iterdir():
            if time.time() - left.lstat().st_mtime > FORGOTTEN:
                _remove(os.fsencode(left))

    # -- containers

    async def create_container(self, name: str) -> None:
        with _said(f'cannot create container "{name}"'):
            await in_thread(self._create, self._folder(name))

    def _create(self, folder: bytes) -> None:
        try:
            os.mkdir(folder)  # noqa: PTH102
        except FileExistsError:
            if not _is_folder(folder):
                raise
            return
        os.close(os.open(os.path.join(folder, BORN), os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))  # noqa: PTH118

    async def container_created(self, name: str) -> int | None:
        with _said(f'cannot look at container "{name}"'):
            return await in_thread(_created, self._folder(name))

    async def clear_container(self, name: str) -> None:
        with _said(f'cannot clear container "{name}"'):
            for file in await in_thread(self._files, name):
                await in_thread(_remove, file)

    async def delete_container(self, name: str) -> None:
        """At once for everybody else: it is moved away first."""
        with _said(f'cannot delete container "{name}"'):
            away = await in_thread(self._move_away, self._folder(name))
            if away is not None:
                await in_thread(_remove, away)

    def _move_away(self, folder: bytes) -> bytes | None:
        if not _is_folder(folder):
            return None
        away = self._part()
        os.rename(folder, away)  # noqa: PTH104
        return away

    def _files(self, container: str) -> list[bytes]:
        with os.scandir(self._existing(container)) as entries:
            return [e.path for e in entries if e.is_file(follow_symlinks=False) and unescaped(e.name) is not None]

    async def list_objects(self, container: str, offset: int, limit: int | None) -> list[str]:
        with _said(f'cannot list container "{container}"'):
            return await in_thread(self._list, container, offset, limit)

    def _list(self, container: str, offset: int, limit: int | None) -> list[str]:
        files = (os.path.basename(file) for file in self._files(container))  # noqa: PTH119
        names = sorted(name for file in files if (name := unescaped(file)) is not None)
        return names[offset:] if limit is None else names[offset : offset + limit]

    # -- objects

    async def info(self, id: ObjectId) -> Info | None:
        with _said(f"cannot look at {id}"):
            return await in_thread(self._info, id)

    def _info(self, id: ObjectId) -> Info | None:
        try:
            found = os.lstat(self._path(id))
        except FileNotFoundError:
            return None
        return Info(found.st_size, int(found.st_mtime)) if stat.S_ISREG(found.st_mode) else None

    async def open(self, id: ObjectId, start: int, end: int) -> Reader:
        with _said(f"cannot read {id}"):
            return await in_thread(self._open, id, start, end, undo=FileReader.close)

    def _open(self, id: ObjectId, start: int, end: int) -> FileReader:
        try:
            # a pipe that somebody put there must not make us wait for its other end
            file = os.open(self._path(id), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO):
                raise Refused(no_object(id)) from None
            raise
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            os.close(file)
            raise Refused(no_object(id))
        return FileReader(file, start, max(0, min(end + 1, found.st_size) - start))

    async def write(self, id: ObjectId, chunks: AsyncIterator[bytes]) -> None:
        part = self._part()
        with _said(f"cannot write {id}"):
            try:
                file = await in_thread(self._begin, id, part, undo=os.close)
                try:
                    async for chunk in chunks:
                        await in_thread(_write_all, file, chunk)
                    await in_thread(os.fsync, file)
                finally:
                    os.close(file)
                await in_thread(self._put, part, id)
            except BaseException:
                with suppress(FileNotFoundError):
                    os.unlink(part)  # noqa: PTH108
                raise

    def _begin(self, id: ObjectId, part: bytes) -> int:
        self._path(id)  # there, and a name that can be: said before all the bytes have come
        return os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def _put(self, file: bytes, id: ObjectId) -> None:
        try:
            os.replace(file, self._path(id))  # noqa: PTH105
        except FileNotFoundError:
            raise Refused(no_container(id.container)) from None

    async def delete(self, id: ObjectId) -> None:
        with _said(f"cannot delete {id}"):
            await in_thread(self._delete, id)

    def _delete(self, id: ObjectId) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self._path(id))  # noqa: PTH108

    async def move(self, source: ObjectId, target: ObjectId) -> None:
        with _said(f"cannot move {source}"):
            await in_thread(self._move, source, target)

    def _move(self, source: ObjectId, target: ObjectId) -> None:
        if self._info(source) is None:
            raise Refused(no_object(source))
        self._put(self._path(source), target)


def _created(folder: bytes) -> int | None:
    """When a container was made; None when it is none."""
    if not _is_folder(folder):
        return None
    try:
        return int(os.lstat(os.path.join(folder, BORN)).st_mtime)  # noqa: PTH118
    except FileNotFoundError:
        return int(os.lstat(folder).st_mtime)


def _is_folder(path: bytes) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _remove(path: bytes) -> None:
    """A file, or a folder with all that is in it; nothing when it is not there."""
    with suppress(FileNotFoundError):
        if _is_folder(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)  # noqa: PTH108


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


class FsBlobStore(BlobStore):
    """`builtin:blobstore-fs`. Actors whose links name the same root share its containers."""

    link_config = FsLink

    def __init__(self) -> None:
        self._stores: dict[LinkId, FsStore] = {}

    def store(self, link: Link[Any]) -> FsStore:
        return self._stores[link.id]

    async def link_added(self, link: Link[FsLink]) -> None:
        store = FsStore(_root(link))
        try:
            await in_thread(store.prepare)
        except OSError as error:
            raise BadInput(
                Finding(
                    "TRL-PRV-011",
                    f'link {link.record}: "root" {store.root} cannot be used: {error.strerror or error}',
                    fix="name a folder that this process may write to",
                )
            ) from error
        self._stores[link.id] = store

    async def link_removed(self, link: Link[Any]) -> None:
        self._stores.pop(link.id, None)


def _root(link: Link[FsLink]) -> Path:
    """Raises BadInput for a root that would depend on where the process was started, or be somebody else's."""
    if link.config.root is None:
        root = Path(tempfile.gettempdir()) / link.peer
        if root.is_symlink() or (root.exists() and root.stat().st_uid != os.geteuid()):
            raise _unusable(link, root, "it belongs to somebody else")
        log.warning("blobstore.root_defaulted", link=str(link.record), root=str(root))
        return root
    root = Path(link.config.root)
    if not root.is_absolute():
        raise _unusable(link, root, "it is not an absolute path")
    return root


def _unusable(link: Link[FsLink], root: Path, why: str) -> BadInput:
    return BadInput(
        Finding(
            "TRL-PRV-011",
            f'link {link.record}: "root" {root} cannot be used: {why}',
            fix='set "root" to the absolute path of a folder',
        )
    )
