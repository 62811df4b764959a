"""Paths that cannot leave their folder.

The operating system is never given a path, only one name at a time, relative to the directory it was found in, and
never follows a symlink for us. We enter each directory by name, read each symlink, and walk its target likewise.
`..` goes back to the directory we came from, which we still hold open. So there is no moment between a check and a
use: whatever somebody renames or swaps meanwhile, each step is taken from a directory reached from within.
"""

from __future__ import annotations

import errno
import os
import stat
from types import TracebackType

from actors.wasi.filesystem.errors import Escape

MOST_LINKS = 40
"""Symlinks followed in one path; one more is `loop`."""
LONGEST = 4096
"""Bytes of a path, one fewer at most; `name-too-long`."""
DEEPEST = 256
"""Directories between a descriptor and what a path leads to, as each is held open meanwhile; `name-too-long`."""
MOST_STEPS = 2 * LONGEST
"""Directories entered for one path, symlinks included; `loop`."""

AVAILABLE = {os.open, os.stat, os.readlink, os.mkdir, os.rmdir, os.unlink, os.rename, os.link, os.symlink} <= (
    os.supports_dir_fd
)
"""Whether this system can take paths apart like this; Windows cannot."""

DIRECTORY = getattr(os, "O_DIRECTORY", 0)
_BARE = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
"""Follow nothing, wait for nobody (a FIFO without its other end), and become nobody's terminal."""
_THROUGH = getattr(os, "O_PATH", os.O_RDONLY) | DIRECTORY | _BARE
_MAYBE_LINK = frozenset((errno.ELOOP, errno.ENOTDIR, errno.EMLINK))
"""What systems say to O_NOFOLLOW at a symlink."""


def failure(code: int) -> OSError:
    return OSError(code, os.strerror(code))


class Walk:
    """One path on its way from the directory `root`. A context manager: it closes what it opened.

    `naming`: the path names an entry to be made, moved or removed. A trailing slash is then not entered but only noted
    in `slash`. Raises OSError, of which Escape means outside.
    """

    __slots__ = ("_dirs", "_links", "_steps", "_todo", "slash")

    def __init__(self, root: int, path: str, *, naming: bool = False) -> None:
        raw = path.encode()
        if not raw:
            raise failure(errno.ENOENT)
        if b"\0" in raw:
            raise failure(errno.EINVAL)
        if len(raw) >= LONGEST:
            raise failure(errno.ENAMETOOLONG)
        self._dirs = [root]
        self._todo: list[bytes] = []
        self._links = 0
        self._steps = 0
        self.slash = raw.endswith(b"/")
        self._ahead(raw.rstrip(b"/") or raw if naming else raw)

    def __enter__(self) -> Walk:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while len(self._dirs) > 1:
            os.close(self._dirs.pop())

    @property
    def here(self) -> int:
        """The directory reached. It stays open as long as the walk is not left or gone on with."""
        return self._dirs[-1]

    def last(self) -> bytes:
        """Go as far as the directory that holds the last name; returns that name, which may be a symlink's.

        It is never `..`, and `.` when the path ends in a directory (`a/`, `a/.`, `a/..`).
        """
        while True:
            name = self._todo.pop()
            if name == b"..":
                self._leave()
                name = b"."
            if not self._todo:
                return name
            if name != b".":
                self._enter(name)

    def follow(self, name: bytes) -> bool:
        """Walk on to where the symlink `name`, here, points to; False when it is no symlink."""
        try:
            target = os.readlink(name, dir_fd=self.here)
        except OSError as error:
            if error.errno == errno.EINVAL:
                return False
            raise
        self._links += 1
        if self._links > MOST_LINKS:
            raise failure(errno.ELOOP)
        self._ahead(target)
        return True

    def _ahead(self, raw: bytes) -> None:
        if raw.startswith(b"/"):
            raise Escape
        names = raw.split(b"/")
        ahead = [name for name in names if name not in (b"", b".")]
        if names[-1] in (b"", b"."):
            ahead.append(b".")
        self._todo += reversed(ahead)

    def _enter(self, name: bytes) -> None:
        self._steps += 1
        if self._steps > MOST_STEPS:
            raise failure(errno.ELOOP)
        if len(self._dirs) > DEEPEST:
            raise failure(errno.ENAMETOOLONG)
        try:
            self._dirs.append(os.open(name, _THROUGH, dir_fd=self.here))
        except OSError as error:
            if error.errno not in _MAYBE_LINK or not self.follow(name):
                raise

    def _leave(self) -> None:
        if len(self._dirs) == 1:
            raise Escape
        os.close(self._dirs.pop())


def look(walk: Walk, *, follow: bool) -> tuple[bytes, os.stat_result]:
    """Where the path ends, and what is there; a symlink itself unless told to follow it."""
    while True:
        name = walk.last()
        found = os.stat(name, dir_fd=walk.here, follow_symlinks=False)
        if not (follow and stat.S_ISLNK(found.st_mode) and walk.follow(name)):
            return name, found


def open_at(root: int, path: str, flags: int, *, follow: bool) -> int:
    """Open what the path leads to; a new file descriptor. A symlink that is not to be followed is `loop`."""
    create = flags & os.O_CREAT != 0
    with Walk(root, path, naming=create) as walk:
        while True:
            name = walk.last()
            if create and walk.slash:
                raise failure(errno.EISDIR)
            try:
                return os.open(name, flags | _BARE, 0o666, dir_fd=walk.here)
            except OSError as error:
                if error.errno not in _MAYBE_LINK or not walk.follow(name):
                    raise
                if not follow:
                    raise failure(errno.ELOOP) from error
