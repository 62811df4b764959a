"""The command line as a user's shell runs it: a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

COMMAND = [sys.executable, "-m", "trellis"]


def trellis(*arguments: object, stdin: bytes = b"", cache: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run a verb to its end."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        timeout=120,
        check=False,
        env=environment(cache),
    )


def started(*arguments: object, cache: Path | None = None, **options: Any) -> subprocess.Popen[bytes]:
    """Begin a verb."""
    options.setdefault("stdout", subprocess.PIPE)
    options.setdefault("stderr", subprocess.PIPE)
    return subprocess.Popen([*COMMAND, *map(str, arguments)], env=environment(cache), **options)


def environment(cache: Path | None) -> dict[str, str]:
    return dict(os.environ) if cache is None else {**os.environ, "TRELLIS_CACHE": str(cache)}
