"""`error-code` of wasi:filesystem/types, from what the operating system says."""

from __future__ import annotations

import errno
from types import TracebackType
from typing import Literal

from actors.denials import denied
from actors.grants import Preopen
from actors.guest import Guest
from actors.wasi.io import IoError
from lattice import WitError

INTERFACE = "wasi:filesystem/types"

_NAMES = {
    "EACCES": "access",
    "EAGAIN": "would-block",
    "EWOULDBLOCK": "would-block",
    "EALREADY": "already",
    "EBADF": "bad-descriptor",
    "EBUSY": "busy",
    "EDEADLK": "deadlock",
    "EDQUOT": "quota",
    "EMFILE": "quota",
    "ENFILE": "quota",
    "EEXIST": "exist",
    "EFBIG": "file-too-large",
    "EILSEQ": "illegal-byte-sequence",
    "EINPROGRESS": "in-progress",
    "EINTR": "interrupted",
    "EINVAL": "invalid",
    "EIO": "io",
    "EISDIR": "is-directory",
    "ELOOP": "loop",
    "EMLINK": "too-many-links",
    "EMSGSIZE": "message-size",
    "ENAMETOOLONG": "name-too-long",
    "ENODEV": "no-device",
    "ENOENT": "no-entry",
    "ENOLCK": "no-lock",
    "ENOMEM": "insufficient-memory",
    "ENOSPC": "insufficient-space",
    "ENOTDIR": "not-directory",
    "ENOTEMPTY": "not-empty",
    "ENOTRECOVERABLE": "not-recoverable",
    "ENOSYS": "unsupported",
    "ENOTSUP": "unsupported",
    "EOPNOTSUPP": "unsupported",
    "ENOTTY": "no-tty",
    "ENXIO": "no-such-device",
    "EOVERFLOW": "overflow",
    "EPERM": "not-permitted",
    "EPIPE": "pipe",
    "EROFS": "read-only",
    "ESPIPE": "invalid-seek",
    "ETXTBSY": "text-file-busy",
    "EXDEV": "cross-device",
}

CODES = {getattr(errno, name): code for name, code in _NAMES.items() if hasattr(errno, name)}
"""By errno; not every system has every one."""


def code_of(error: OSError) -> str:
    """The `error-code` of an errno; `io` when there is no closer one."""
    return CODES.get(error.errno or 0, "io")


class FileError(IoError):
    """`error` of a stream whose file broke: what `filesystem-error-code` looks into. No error of wasi:http."""

    __slots__ = ("code",)

    def __init__(self, error: OSError) -> None:
        super().__init__(error.strerror or str(error))
        self.code = code_of(error)


class Escape(PermissionError):
    """A path that leaves its folder: absolute, too many `..`, or a symlink that leads there."""

    def __init__(self) -> None:
        super().__init__(errno.EPERM, "the path leads out of its folder")


class Answers:
    """A block whose OSError is the guest's answer: WitError(error-code). Escapes are recorded as denials.

    Numbers that no offset, size or time of this system can hold are OverflowError there: `invalid`, or what `too_big`
    says.
    """

    __slots__ = ("_function", "_grant", "_guest", "_too_big")

    def __init__(self, guest: Guest, grant: Preopen, function: str, too_big: str = "invalid") -> None:
        self._guest = guest
        self._grant = grant
        self._function = function
        self._too_big = too_big

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        if isinstance(error, OSError):
            if isinstance(error, Escape):
                grant = (
                    f'a folder that holds what the path leads to; it leaves the one granted as "{self._grant.guest}"'
                )
                denied(self._guest, INTERFACE, self._function, grant)
            raise WitError(code_of(error)) from error
        if isinstance(error, OverflowError):
            raise WitError(self._too_big) from error
        return False
