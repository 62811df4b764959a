"""wasi:filesystem/types: descriptors of files and directories below a granted folder.

What a path may lead to is decided in `sandbox`. What may be changed is decided by the grant, here: below a read-only
folder every change is `read-only`, and moving or linking needs write access at both ends.
"""

from __future__ import annotations

import errno
import os
import stat
import sys

from actors.denials import denied
from actors.grants import Preopen
from actors.guest import Guest
from actors.host_api import Resource, serves
from actors.wasi.filesystem.directories import DirectoryEntryStream
from actors.wasi.filesystem.errors import INTERFACE, Answers, FileError
from actors.wasi.filesystem.handles import File, OpenFiles
from actors.wasi.filesystem.metadata import hash_of, set_times, stat_of, type_of
from actors.wasi.filesystem.sandbox import DIRECTORY, Walk, failure, look, open_at
from actors.wasi.filesystem.streams import FileInput, FileOutput
from actors.wasi.io import InputStream, IoError, OutputStream
from lattice import Value, WitError
from lattice.streams import CHUNK

SYNCHRONOUS = frozenset(("file-integrity-sync", "data-integrity-sync", "requested-write-sync"))

_ADVICE = {
    "normal": "POSIX_FADV_NORMAL",
    "sequential": "POSIX_FADV_SEQUENTIAL",
    "random": "POSIX_FADV_RANDOM",
    "will-need": "POSIX_FADV_WILLNEED",
    "dont-need": "POSIX_FADV_DONTNEED",
    "no-reuse": "POSIX_FADV_NOREUSE",
}


class Descriptor(Resource, interface="wasi:filesystem/types", name="descriptor"):
    """`descriptor`: an open file or directory below the folder `grant`.

    A directory is the root of the paths it is given: not even within its grant does `..` lead above it.
    """

    __slots__ = ("_file", "_grant", "_guest", "_readable", "_type", "_writable")

    def __init__(
        self, guest: Guest, grant: Preopen, file: File, kind: str, *, readable: bool = True, writable: bool = False
    ) -> None:
        self._guest = guest
        self._grant = grant
        self._file = file
        self._type = kind
        self._readable = readable
        self._writable = writable

    # -- this object

    def get_flags(self) -> list[str]:
        if self._type == "directory":
            return ["read", "mutate-directory"] if self._grant.writable else ["read"]
        return [name for name, has in (("read", self._readable), ("write", self._writable)) if has]

    def get_type(self) -> str:
        return self._type

    def stat(self) -> Value:
        with self._answers("stat"):
            return stat_of(os.fstat(self._file.fd))

    def metadata_hash(self) -> Value:
        with self._answers("metadata-hash"):
            return hash_of(os.fstat(self._file.fd))

    def is_same_object(self, other: Descriptor) -> bool:
        return os.path.samestat(os.fstat(self._file.fd), os.fstat(other._file.fd))

    def set_times(self, data_access_timestamp: Value, data_modification_timestamp: Value) -> None:
        self._allow_change("set-times")
        with self._answers("set-times", too_big="overflow"):
            fd = self._file.fd
            set_times(fd, os.fstat(fd), data_access_timestamp, data_modification_timestamp)

    async def sync(self) -> None:
        with self._answers("sync"):
            await self._file.in_thread(_flush)

    async def sync_data(self) -> None:
        with self._answers("sync-data"):
            await self._file.in_thread(_flush_data)

    def dropped(self) -> None:
        self._file.release()

    # -- the bytes of a file

    async def read(self, length: int, offset: int) -> tuple[bytes, bool]:
        """At most CHUNK bytes, and whether the end was found."""
        self._want_bytes(self._readable)
        with self._answers("read"):
            data = os.pread(self._file.fd, min(length, CHUNK), offset)
        return data, not data and length > 0

    async def write(self, buffer: bytes, offset: int) -> int:
        self._allow_bytes("write")
        with self._answers("write"):
            if len(buffer) <= CHUNK:
                return os.pwrite(self._file.fd, buffer, offset)
            return await self._file.in_thread(os.pwrite, buffer, offset)

    def read_via_stream(self, offset: int) -> InputStream:
        self._want_bytes(self._readable)
        return FileInput(self._file, offset)

    def write_via_stream(self, offset: int) -> OutputStream:
        self._allow_bytes("write-via-stream")
        return FileOutput(self._file, offset)

    def append_via_stream(self) -> OutputStream:
        self._allow_bytes("append-via-stream")
        return FileOutput(self._file, None)

    def set_size(self, size: int) -> None:
        self._allow_bytes("set-size")
        with self._answers("set-size"):
            os.ftruncate(self._file.fd, size)

    def advise(self, offset: int, length: int, advice: str) -> None:
        """Passed on where the system takes advice."""
        self._want_bytes(True)
        if hasattr(os, "posix_fadvise"):
            with self._answers("advise"):
                os.posix_fadvise(self._file.fd, offset, length, getattr(os, _ADVICE[advice]))

    # -- what is in a directory

    def read_directory(self) -> DirectoryEntryStream:
        with self._answers("read-directory"):
            file = self._files.open(os.open, ".", os.O_RDONLY | DIRECTORY, dir_fd=self._directory)
            try:
                return DirectoryEntryStream(file)
            except BaseException:
                file.release()
                raise

    def open_at(self, path_flags: list[str], path: str, open_flags: list[str], flags: list[str]) -> Descriptor:
        """`mutate-directory` need not be asked for: a directory may change what its grant lets it change.

        The flags for synchronous writing are `unsupported`: `sync` and `sync-data` do that.
        """
        directory = self._directory
        write = "write" in flags
        if write or "mutate-directory" in flags or "create" in open_flags or "truncate" in open_flags:
            self._allow_change("open-at")
        if SYNCHRONOUS.intersection(flags):
            raise WitError("unsupported")
        with self._answers("open-at"):
            file = self._files.open(
                open_at, directory, path, _open_mode(open_flags, flags), follow="symlink-follow" in path_flags
            )
            try:
                kind = type_of(os.fstat(file.fd).st_mode)
            except BaseException:
                file.release()
                raise
        return Descriptor(self._guest, self._grant, file, kind, readable="read" in flags or not write, writable=write)

    def stat_at(self, path_flags: list[str], path: str) -> Value:
        with self._answers("stat-at"), Walk(self._directory, path) as walk:
            return stat_of(look(walk, follow="symlink-follow" in path_flags)[1])

    def metadata_hash_at(self, path_flags: list[str], path: str) -> Value:
        with self._answers("metadata-hash-at"), Walk(self._directory, path) as walk:
            return hash_of(look(walk, follow="symlink-follow" in path_flags)[1])

    def set_times_at(
        self, path_flags: list[str], path: str, data_access_timestamp: Value, data_modification_timestamp: Value
    ) -> None:
        directory = self._directory_to_change("set-times-at")
        with self._answers("set-times-at", too_big="overflow"), Walk(directory, path) as walk:
            name, found = look(walk, follow="symlink-follow" in path_flags)
            at = {"dir_fd": walk.here, "follow_symlinks": False}
            set_times(name, found, data_access_timestamp, data_modification_timestamp, **at)

    def readlink_at(self, path: str) -> str:
        """An absolute target is `not-permitted`: it says where things are in the host."""
        with self._answers("readlink-at"), Walk(self._directory, path) as walk:
            target = os.readlink(walk.last(), dir_fd=walk.here)
            if target.startswith(b"/"):
                raise failure(errno.EPERM)
        try:
            return target.decode()
        except UnicodeDecodeError as error:
            raise WitError("illegal-byte-sequence") from error

    # -- changing what is in a directory

    def create_directory_at(self, path: str) -> None:
        directory = self._directory_to_change("create-directory-at")
        with self._answers("create-directory-at"), Walk(directory, path, naming=True) as walk:
            os.mkdir(walk.last(), dir_fd=walk.here)

    def remove_directory_at(self, path: str) -> None:
        directory = self._directory_to_change("remove-directory-at")
        with self._answers("remove-directory-at"), Walk(directory, path, naming=True) as walk:
            try:
                os.rmdir(walk.last(), dir_fd=walk.here)
            except FileExistsError as error:  # what POSIX lets a system say instead
                raise failure(errno.ENOTEMPTY) from error

    def unlink_file_at(self, path: str) -> None:
        directory = self._directory_to_change("unlink-file-at")
        with self._answers("unlink-file-at"), Walk(directory, path, naming=True) as walk:
            name = walk.last()
            if _is_directory(walk, name):  # some systems say EPERM, and some let root do it
                raise failure(errno.EISDIR)
            if walk.slash:
                raise failure(errno.ENOTDIR)
            os.unlink(name, dir_fd=walk.here)

    def symlink_at(self, old_path: str, new_path: str) -> None:
        """An absolute target is `not-permitted`. A relative one may lead outside; following it is refused."""
        directory = self._directory_to_change("symlink-at")
        with self._answers("symlink-at"), Walk(directory, new_path, naming=True) as walk:
            if "\0" in old_path:
                raise failure(errno.EINVAL)
            if old_path.startswith("/"):
                raise failure(errno.EPERM)
            name = _new_name(walk)
            os.symlink(old_path.encode(), name, dir_fd=walk.here)

    def link_at(self, old_path_flags: list[str], old_path: str, new_descriptor: Descriptor, new_path: str) -> None:
        """A symlink is linked itself; to follow it is `invalid`."""
        source = self._directory_to_change("link-at")
        target = new_descriptor._directory_to_change("link-at")
        if "symlink-follow" in old_path_flags:
            raise WitError("invalid")
        with self._answers("link-at"), Walk(source, old_path) as old, Walk(target, new_path, naming=True) as new:
            old_name = old.last()
            os.link(old_name, _new_name(new), src_dir_fd=old.here, dst_dir_fd=new.here, follow_symlinks=False)

    def rename_at(self, old_path: str, new_descriptor: Descriptor, new_path: str) -> None:
        source = self._directory_to_change("rename-at")
        target = new_descriptor._directory_to_change("rename-at")
        with (
            self._answers("rename-at"),
            Walk(source, old_path, naming=True) as old,
            Walk(target, new_path, naming=True) as new,
        ):
            old_name, new_name = old.last(), new.last()
            if (old.slash or new.slash) and not _is_directory(old, old_name):
                raise failure(errno.ENOTDIR)
            os.rename(old_name, new_name, src_dir_fd=old.here, dst_dir_fd=new.here)

    # -- what may be done

    @property
    def _files(self) -> OpenFiles:
        return self._guest.kept(OpenFiles)

    @property
    def _directory(self) -> int:
        if self._type != "directory":
            raise WitError("not-directory")
        return self._file.fd

    def _directory_to_change(self, function: str) -> int:
        directory = self._directory
        self._allow_change(function)
        return directory

    def _want_bytes(self, allowed: bool) -> None:
        if self._type == "directory" or not allowed:
            raise WitError("bad-descriptor")

    def _allow_bytes(self, function: str) -> None:
        self._want_bytes(True)
        self._allow_change(function)
        self._want_bytes(self._writable)

    def _allow_change(self, function: str) -> None:
        grant = self._grant
        if not grant.writable:
            wanted = f'the folder "{grant.guest}" writable: {grant.host}::{grant.guest}:rw'
            denied(self._guest, INTERFACE, f"[method]descriptor.{function}", wanted)
            raise WitError("read-only")

    def _answers(self, function: str, too_big: str = "invalid") -> Answers:
        return Answers(self._guest, self._grant, f"[method]descriptor.{function}", too_big)


def _open_mode(open_flags: list[str], flags: list[str]) -> int:
    """What `os.open` takes. Truncating writes, whether the guest may write afterwards or not."""
    if "directory" in open_flags:
        if len(open_flags) > 1:
            raise WitError("invalid")
        mode = DIRECTORY
    else:
        mode = 0
    write = "write" in flags or "truncate" in open_flags
    read = "read" in flags or "write" not in flags
    mode |= os.O_RDWR if read and write else os.O_WRONLY if write else os.O_RDONLY
    if "create" in open_flags:
        mode |= os.O_CREAT
        if "exclusive" in open_flags:
            mode |= os.O_EXCL
    if "truncate" in open_flags:
        mode |= os.O_TRUNC
    return mode


def _new_name(walk: Walk) -> bytes:
    """The last name of a path to something that is no directory and does not exist: no slash may follow it."""
    name = walk.last()
    if walk.slash:
        os.stat(name, dir_fd=walk.here, follow_symlinks=False)
        raise failure(errno.EEXIST)
    return name


def _is_directory(walk: Walk, name: bytes) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=walk.here, follow_symlinks=False).st_mode)


if sys.platform == "darwin":
    import fcntl

    def _flush(fd: int) -> None:
        """There, fsync does not wait for the disk."""
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)

else:
    _flush = os.fsync

_flush_data = getattr(os, "fdatasync", _flush)


@serves("wasi:filesystem/types", Descriptor, DirectoryEntryStream)
class Types:
    @staticmethod
    def filesystem_error_code(guest: Guest, err: IoError) -> str | None:
        """Why a file's stream broke; None for the errors of other streams."""
        return err.code if isinstance(err, FileError) else None
