"""docs/quickstart.md, followed word for word.

Its first section is left out: what it installs is what runs the tests. The port is another one, since others may run.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pages import LOOKS, PATIENCE, blocks, dialogue, environment, fits
from servers import free_port

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "quickstart.md").read_text()
BLOCK = re.compile(r"^```(console|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
STAYS = "trellis up"
BUILT = ("build", ".trellis")
"""What a build leaves in the actor's folder: the next run puts it back, so that what has not changed is not built."""

pytestmark = [pytest.mark.nats, pytest.mark.toolchain]


class Reader:
    """Somebody who does what the page says."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = str(port)
        self.environment = environment()
        self.up: subprocess.Popen[str] | None = None

    def enter(self, command: str, expected: list[str]) -> None:
        if command.startswith("cd "):
            self.folder /= command.removeprefix("cd ")
        elif command == STAYS:
            self.stay(expected)
        else:
            done = self.run(command)
            until = time.monotonic() + PATIENCE
            while command.startswith(LOOKS) and not fits(done.stdout, expected) and time.monotonic() < until:
                done = self.run(command)
            assert done.returncode == 0, f"$ {command}\n{done.stdout}"
            matches(done.stdout, expected)

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command.replace("8000", self.port), shell=True, cwd=self.folder, env=self.environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300, check=False,
        )  # fmt: skip

    def stay(self, expected: list[str]) -> None:
        self.up = subprocess.Popen(
            STAYS, shell=True, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
        assert self.up.stdout is not None
        said = ""
        for line in self.up.stdout:
            said += line
            if line.strip() == expected[-1]:
                break
        matches(said, expected)

    def edit(self, block: str) -> None:
        """Put the block's definition in the place of the one of that name, and see it live where the app runs."""
        self._put(block)
        if self.up is not None:
            assert self.up.stdout is not None
            assert any("app.py changed -> live in" in line for line in self.up.stdout)

    def _put(self, block: str) -> None:
        (new,) = ast.parse(block).body
        assert isinstance(new, ast.ClassDef | ast.FunctionDef)
        for file in sorted(self.folder.rglob("*.py")):
            text = file.read_text()
            for old in ast.parse(text).body:
                if isinstance(old, ast.ClassDef | ast.FunctionDef) and old.name == new.name:
                    lines = text.splitlines(keepends=True)
                    file.write_text("".join([*lines[: old.lineno - 1], block, *lines[old.end_lineno :]]))
                    return
        pytest.fail(f"no file of the app has a {new.name}")


def matches(said: str, expected: list[str]) -> None:
    assert fits(said, expected), f"expected:\n{expected}\nsaid:\n{said}"


@pytest.fixture
def folder() -> Path:
    """A folder of its own, at the same place each time."""
    base = ROOT / ".trellis" / "quickstart"
    base.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(base / "hello", ignore_errors=True)
    (base / "pytest.ini").write_text("[pytest]\n")  # else the settings of this repository would count
    return base


def test_the_quickstart_works_word_for_word(folder: Path):
    reader, kept = Reader(folder, free_port()), folder / "kept"
    begun, answered = time.monotonic(), 0.0
    try:
        for kind, block in BLOCK.findall(PAGE.partition("## Begin")[2]):
            if kind == "python":
                reader.edit(block)
                continue
            for command, expected in dialogue(block):
                reader.enter(command, expected)
                if command.startswith("trellis new"):
                    manifest = folder / "hello" / "app.yaml"
                    manifest.write_text(manifest.read_text().replace("8000", reader.port))
                    if kept.exists():
                        shutil.copytree(kept, folder / "hello" / "actor", dirs_exist_ok=True)
                elif command.startswith("curl") and not answered:
                    answered = time.monotonic() - begun
                    sys.stdout.write(f"from `trellis new` to the first answer: {answered:.1f} s\n")
        assert reader.up is not None and reader.up.poll() is None
        for name in BUILT:
            shutil.copytree(reader.folder / "actor" / name, kept / name, dirs_exist_ok=True)
    finally:
        if reader.up is not None:
            os.killpg(reader.up.pid, signal.SIGINT)
            reader.up.communicate(timeout=30)


def test_the_readme_shows_the_beginning_of_the_quickstart():
    section = (ROOT / "README.md").read_text().partition("## A function of your own\n")[2].partition("\n## ")[0]
    shown = [(kind, block) for kind, _, block in blocks(section)]
    steps = [step for kind, block in BLOCK.findall(PAGE) if kind == "console" for step in dialogue(block)]
    assert {kind for kind, _ in shown} == {"console", "python"}
    assert all(step in steps for kind, block in shown if kind == "console" for step in dialogue(block))
    assert all((kind, block) in BLOCK.findall(PAGE) for kind, block in shown if kind == "python")
