"""wasi:filesystem/preopens: the folders an actor was granted."""

from __future__ import annotations

import os

from actors.guest import Guest
from actors.host_api import serves
from actors.wasi.filesystem.handles import OpenFiles
from actors.wasi.filesystem.sandbox import AVAILABLE, DIRECTORY
from actors.wasi.filesystem.types import Descriptor
from lattice import Trap


@serves("wasi:filesystem/preopens")
class Preopens:
    @staticmethod
    def get_directories(guest: Guest) -> list[tuple[Descriptor, str]]:
        """One descriptor for each grant. Traps when a granted folder cannot be opened: its name would be a lie."""
        if guest.grants.directories and not AVAILABLE:
            raise Trap(f'"{guest.actor}" was granted folders, which this operating system cannot confine')
        found: list[tuple[Descriptor, str]] = []
        files = guest.kept(OpenFiles)
        for grant in guest.grants.directories:
            try:
                file = files.open(os.open, grant.host, os.O_RDONLY | DIRECTORY)
            except OSError as error:
                for descriptor, _ in found:
                    descriptor.dropped()
                raise Trap(
                    f'the folder granted to "{guest.actor}" as "{grant.guest}" cannot be opened: '
                    f"{grant.host}: {error.strerror}"
                ) from error
            found.append((Descriptor(guest, grant, file, "directory"), grant.guest))
        return found
