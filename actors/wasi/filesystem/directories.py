"""`directory-entry-stream`: the entries of a directory, read as they are asked for."""

from __future__ import annotations

import os
import stat

from actors.host_api import Resource
from actors.wasi.filesystem.errors import code_of
from actors.wasi.filesystem.handles import File
from actors.wasi.filesystem.metadata import type_of
from lattice import Value, WitError


class DirectoryEntryStream(Resource, interface="wasi:filesystem/types", name="directory-entry-stream"):
    """`directory-entry-stream`. `.` and `..` are not among the entries. Takes over `file`, a directory of its own."""

    __slots__ = ("_entries", "_file")

    def __init__(self, file: File) -> None:
        self._file = file
        self._entries = os.scandir(file.fd)

    def read_directory_entry(self) -> Value:
        """A name that is not UTF-8 is `illegal-byte-sequence`; the next call goes on after it."""
        try:
            entry = next(self._entries, None)
            if entry is None:
                return None
            return {"type": _type_of(entry), "name": os.fsencode(entry.name).decode()}
        except UnicodeDecodeError as error:
            raise WitError("illegal-byte-sequence") from error
        except OSError as error:
            raise WitError(code_of(error)) from error

    def dropped(self) -> None:
        self._entries.close()
        self._file.release()


def _type_of(entry: os.DirEntry[str]) -> str:
    """Mostly known without looking at the entry itself, which may be gone meanwhile."""
    if entry.is_symlink():
        return type_of(stat.S_IFLNK)
    if entry.is_dir(follow_symlinks=False):
        return type_of(stat.S_IFDIR)
    if entry.is_file(follow_symlinks=False):
        return type_of(stat.S_IFREG)
    try:
        return type_of(entry.stat(follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return "unknown"
