"""The command line as a user's shell runs it: a process of its own; or, which costs less, a thread of this one."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from trellis.cli import cli

COMMAND = [sys.executable, "-P", "-m", "trellis"]


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


def environment(cache: Path | None = None, **more: str) -> dict[str, str]:
    return {**os.environ, **({} if cache is None else {"TRELLIS_CACHE": str(cache)}), **more}


async def begun(*arguments: str, **options: Any) -> asyncio.subprocess.Process:
    """Begin a verb beside what this event loop does."""
    return await asyncio.create_subprocess_exec(*COMMAND, *arguments, **{"stdout": asyncio.subprocess.PIPE, **options})


async def ended(*arguments: str, seconds: float = 60, **options: Any) -> tuple[int | None, str, str]:
    """Run a verb to its end beside what this event loop does: exit code, stdout and stderr."""
    process = await begun(*arguments, stderr=asyncio.subprocess.PIPE, **options)
    async with asyncio.timeout(seconds):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def ran(*arguments: str, env: Mapping[str, str | None], seconds: float = 60) -> tuple[int, str, str]:
    """Run a verb to its end in a thread of this process, one at a time: exit code, stdout and stderr."""
    invoke = functools.partial(CliRunner().invoke, cli, arguments, env=env)
    result = await asyncio.wait_for(asyncio.to_thread(invoke), seconds)
    return result.exit_code, result.stdout, result.stderr


async def said(process: asyncio.subprocess.Process, pattern: str, seconds: float = 60) -> str:
    """What it writes up to the line that ends what `pattern` matches."""
    text = ""
    assert process.stdout is not None
    async with asyncio.timeout(seconds):
        while not re.search(pattern, text, re.MULTILINE):
            line = await process.stdout.readline()
            assert line, f"it ended, and never said {pattern}:\n{text}"
            text += line.decode()
    return text


class Terminal:
    """Where the environment names a lattice."""

    def __init__(self, url: str, lattice: str) -> None:
        self.environment = environment(TRELLIS_NATS=url, TRELLIS_LATTICE=lattice)

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        return await begun(*arguments, stderr=asyncio.subprocess.DEVNULL, env=self.environment)

    async def run(self, *arguments: str) -> tuple[int, str, str]:
        return await ran(*arguments, env=self.environment)

    async def text(self, *arguments: str) -> str:
        code, out, err = await self.run(*arguments)
        assert code == 0, err
        return out

    async def json(self, *arguments: str) -> Any:
        return json.loads(await self.text(*arguments, "-o", "json"))
