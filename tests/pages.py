"""Pages of the documentation, as somebody reads them who does what they say.

What the word behind a block's fence means:

    console             commands with what they print; followed word for word (`...` is any text)
    sh, ini             for another machine, or for what is not here (systemd, docker): not run, but each `trellis` in
                        it is held against the commands that there are
    text                what is printed, and samples: the same
    LANGUAGE FILE       the file of that name, written before what follows it is entered
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ENDS = "the command above has ended with"
LOOKS = ("trellis host ls", "trellis status", "curl")
"""What people enter again until it shows what they wait for."""
PATIENCE = 30.0


def blocks(page: str) -> list[tuple[str, str, str]]:
    """(language, file name or "", text) of each fenced block."""
    return [(language, name, text) for language, name, text in BLOCK.findall(page)]


def dialogue(block: str) -> Iterator[tuple[str, list[str]]]:
    """Each command with the lines that should follow it."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, *expected = part.rstrip("\n").split("\n")
        while command.endswith("\\") and expected:
            command += "\n" + expected.pop(0)
        yield command, expected


def fits(said: str, expected: list[str]) -> bool:
    """`...` is any text, in a line and as a line; without a line anything fits."""
    pattern = "\n".join(re.escape(line.rstrip()).replace(re.escape("..."), "(?s:.*)") for line in expected)
    lines = "\n".join(line.rstrip() for line in said.strip().split("\n"))
    return not expected or re.fullmatch(pattern, lines) is not None


def environment() -> dict[str, str]:
    """That of a newcomer: nothing is said of a lattice, and `trellis` is on PATH."""
    named = ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER")
    plain = {key: value for key, value in os.environ.items() if not key.startswith("TRELLIS_") and key not in named}
    plain |= {"TRELLIS_CACHE": os.environ["TRELLIS_CACHE"]} if "TRELLIS_CACHE" in os.environ else {}
    return plain | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONWARNINGS": "ignore"}


class Reader:
    """A shell in `folder`: where it is, what it exported and what it left running stays from one command to the next.

    `ports` are written in the page's words for those that are free here.
    """

    def __init__(self, folder: Path, ports: Mapping[str, int]) -> None:
        self.folder = folder
        self.ports = ports
        self.shell = subprocess.Popen(
            ["bash", "--noprofile", "--norc"], cwd=folder, env=environment(), text=True, start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def here(self, text: str) -> str:
        for written, port in self.ports.items():
            text = text.replace(written, str(port))
        return text

    def follow(self, page: str) -> None:
        for language, name, text in blocks(page):
            if name:
                (self.folder / name).write_text(self.here(text))
            elif language == "console":
                for command, expected in dialogue(text):
                    self.enter(self.here(command), [self.here(line) for line in expected])

    def enter(self, command: str, expected: list[str]) -> None:
        until = time.monotonic() + PATIENCE
        while True:
            code, said = self._answer(command)
            fine = (code == 0 or any("error[" in line for line in expected)) and fits(said, expected)
            if fine or not command.startswith(LOOKS) or time.monotonic() > until:
                break
            time.sleep(0.2)
        assert fine, f"$ {command}\n{said}\nended with {code}; the page shows:\n" + "\n".join(expected)
        if command.startswith("nats-server") and command.endswith("&"):
            listening(next(iter(self.ports.values())))

    def _answer(self, command: str) -> tuple[int, str]:
        assert self.shell.stdin is not None and self.shell.stdout is not None
        self.shell.stdin.write(f"{{ {command}\n}} < /dev/null\nended=$?; echo; echo {ENDS} $ended\n")
        self.shell.stdin.flush()
        said: list[str] = []
        for line in self.shell.stdout:
            if line.startswith(ENDS):
                return int(line.removeprefix(ENDS)), "".join(said)
            said.append(line)
        pytest.fail(f"the shell has ended at:  {command}\n{''.join(said)}")

    def leave(self) -> None:
        """End everything that was started, the latest first, so that none waits for a server that is gone."""
        try:
            self.shell.communicate("for job in $(jobs -p | tac); do kill $job; wait $job; done\n", timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(self.shell.pid, signal.SIGKILL)
            self.shell.communicate()


def listening(port: int) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    pytest.fail(f"nobody listens on port {port}")


@contextmanager
def reader(folder: Path, ports: Mapping[str, int]) -> Iterator[Reader]:
    one = Reader(folder, ports)
    try:
        yield one
    finally:
        one.leave()
