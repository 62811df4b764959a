"""wasi:filesystem: an actor has no files. There are no preopened directories, so no descriptor ever exists."""

from __future__ import annotations

from actors.guest import Guest
from actors.host_api import Resource, serves
from actors.wasi.io import IoError


class Descriptor(Resource, interface="wasi:filesystem/types", name="descriptor"):
    """`descriptor`: no guest is given one, so its methods cannot be reached."""


class DirectoryEntryStream(Resource, interface="wasi:filesystem/types", name="directory-entry-stream"):
    """`directory-entry-stream`: no guest is given one."""


@serves("wasi:filesystem/types", Descriptor, DirectoryEntryStream)
class Types:
    @staticmethod
    def filesystem_error_code(guest: Guest, error: IoError) -> str | None:
        """No stream breaks because of a file."""
        return None


@serves("wasi:filesystem/preopens")
class Preopens:
    @staticmethod
    def get_directories(guest: Guest) -> list[tuple[Descriptor, str]]:
        return []
