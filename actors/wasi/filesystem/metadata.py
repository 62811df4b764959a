"""What is known of a file besides its bytes: its type, `descriptor-stat`, timestamps, `metadata-hash-value`."""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import time
from typing import Any

from lattice import Value

NANOSECONDS = 10**9

_TYPES = {
    stat.S_IFBLK: "block-device",
    stat.S_IFCHR: "character-device",
    stat.S_IFDIR: "directory",
    stat.S_IFIFO: "fifo",
    stat.S_IFLNK: "symbolic-link",
    stat.S_IFREG: "regular-file",
    stat.S_IFSOCK: "socket",
}


def type_of(mode: int) -> str:
    """`descriptor-type`"""
    return _TYPES.get(stat.S_IFMT(mode), "unknown")


def stat_of(found: os.stat_result) -> Value:
    """`descriptor-stat`. A time before 1970 cannot be said, and is left out."""
    return {
        "type": type_of(found.st_mode),
        "link-count": found.st_nlink,
        "size": found.st_size,
        "data-access-timestamp": _datetime(found.st_atime_ns),
        "data-modification-timestamp": _datetime(found.st_mtime_ns),
        "status-change-timestamp": _datetime(found.st_ctime_ns),
    }


def hash_of(found: os.stat_result) -> Value:
    """`metadata-hash-value`: the same for the same object, as long as it exists. Guests take it for an inode number."""
    identity = struct.pack("<QQ", found.st_dev & (2**64 - 1), found.st_ino & (2**64 - 1))
    lower, upper = struct.unpack("<QQ", hashlib.blake2b(identity, digest_size=16).digest())
    return {"lower": lower, "upper": upper}


def set_times(target: int | bytes, found: os.stat_result, access: Value, modification: Value, **at: Any) -> None:
    """Set two `new-timestamp`s of a file that is like `found` now. `target` and `at` are for `os.utime`."""
    if access == modification == "no-change":
        return
    if access == modification == "now":
        os.utime(target, **at)  # whoever may write may do this, the owner or not
        return
    now = time.time_ns()
    times = _nanoseconds(access, found.st_atime_ns, now), _nanoseconds(modification, found.st_mtime_ns, now)
    os.utime(target, ns=times, **at)


def _nanoseconds(wanted: Value, current: int, now: int) -> int:
    if wanted == "no-change":
        return current
    if wanted == "now":
        return now
    stamp = wanted["timestamp"]
    return int(stamp["seconds"]) * NANOSECONDS + int(stamp["nanoseconds"])


def _datetime(nanoseconds: int) -> Value:
    if nanoseconds < 0:
        return None
    seconds, rest = divmod(nanoseconds, NANOSECONDS)
    return {"seconds": seconds, "nanoseconds": rest}
