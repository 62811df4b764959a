"""Granted folders for the filesystem tests, and what the host answers about them."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from actors.grants import Grants, Preopen
from actors.guest import Guest
from actors.wasi.filesystem.preopens import Preopens
from actors.wasi.filesystem.types import Descriptor
from lattice import EntityId, WitError

FOLLOW = ["symlink-follow"]
READ, WRITE = ["read"], ["read", "write"]


def held_open() -> set[str]:
    """The file descriptors of this process (one of them is the listing's own)."""
    return set(os.listdir("/dev/fd"))  # noqa: PTH208  a Path would hide what is listed


@contextmanager
def granted(*directories: Preopen) -> Iterator[list[Descriptor]]:
    """The descriptors a guest with these grants gets. At the end of the guest, nothing of it is open."""
    before = held_open()
    guest = Guest(EntityId("reader"), grants=Grants(directories=directories))
    try:
        yield [descriptor for descriptor, _ in Preopens.get_directories(guest)]
    finally:
        guest.end()
    assert len(held_open()) == len(before)


async def outcome(function: Any, *args: Any) -> Any:
    """What a host function answers: its value, or the error-code as a string."""
    try:
        value = function(*args)
        return await value if inspect.isawaitable(value) else value
    except WitError as error:
        return error.payload


def create(root: Descriptor, path: str, data: bytes = b"", *, flags: list[str] = WRITE) -> Descriptor:
    file = root.open_at(FOLLOW, path, ["create"], flags)
    if data:
        stream = file.write_via_stream(0)
        assert stream.check_write() >= len(data)
        stream.write(data)
        stream.dropped()
    return file


def names(directory: Descriptor) -> dict[str, str]:
    stream = directory.read_directory()
    found = {}
    while (entry := stream.read_directory_entry()) is not None:
        found[entry["name"]] = entry["type"]
    stream.dropped()
    return found


def writable(host: Path, guest: str = "/data") -> Preopen:
    return Preopen(host, guest, writable=True)
