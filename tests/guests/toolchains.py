"""Builds the guests of this folder with the toolchains of their languages, once per content.

What can be had is fetched where the language has a way of its own (`npm ci`, from the lock file beside the guest), into
pytest's cache. Nothing is installed into the Python that runs the tests.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
STANDARD = HERE.parents[1] / "actors" / "wit"
WIT = HERE / "wit" / "world.wit"
WORLD = "guest"
PYTHON = HERE / "python"
NAMED_FIELDS = "type field-name = string; type field-key = field-name;"
"""What WASI 0.2.3 has in place of `field-key`."""
PATIENCE = 600
"""Seconds, for any one tool."""


class Missing(Exception):
    """A toolchain is not here and cannot be had; the message says what would help."""


class BuildFailed(Exception):
    """A toolchain is here and refused the guest; the message is its output."""


class Toolchains:
    """The guests as components, kept in `directory`. Safe to share between processes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def component(self, guest: str) -> Path:
        """The component of "python", "javascript", "fetch" or "c". Raises Missing and BuildFailed."""
        python = [*PYTHON.glob("*.py"), *PYTHON.glob("wit/*.wit")]
        build, tool, sources = {
            "python": (self._python, "componentize-py " + version("componentize-py"), python),
            "javascript": (self._javascript, "", [HERE / "js" / "guest.js", HERE / "js" / "package-lock.json"]),
            "fetch": (self._fetch, "", [HERE / "js" / "fetch.js", HERE / "js" / "package-lock.json"]),
            "c": (self._c, "", [HERE / "c" / "guest.c", HERE / "js" / "package-lock.json"]),
        }[guest]
        sources += [Path(__file__), WIT, *STANDARD.rglob("*.wit")]
        output = self.directory / f"guest-{guest}-{digest(sources, tool)}.wasm"
        with self._alone(f"guest-{guest}"):
            if not output.exists():
                with tempfile.TemporaryDirectory(dir=self.directory) as folder:
                    build(made := Path(folder) / "guest.wasm")
                    made.replace(output)
        return output

    def _python(self, output: Path) -> None:
        tool = Path(sys.executable).parent / "componentize-py"
        wit = [argument for folder in (STANDARD, WIT.parent, PYTHON / "wit") for argument in ("-d", folder)]
        run(tool, "-q", *wit, "-w", "tests:guest/everything", "componentize", "-p", PYTHON, "app", "-o", output)

    def _javascript(self, output: Path) -> None:
        # StarlingMonkey's `http` stays on, since switching it off also cuts the guest's own imports of wasi:http
        options = ["--world-name", WORLD, "--disable", "fetch-event"]
        run(
            self.jco(),
            "componentize",
            HERE / "js" / "guest.js",
            "--wit",
            whole_wit(output.parent),
            "-o",
            output,
            *options,
        )

    def _fetch(self, output: Path) -> None:
        wit = fetch_wit(output.parent)
        run(self.jco(), "componentize", HERE / "js" / "fetch.js", "--wit", wit, "--world-name", WORLD, "-o", output)

    def _c(self, output: Path) -> None:
        if importlib.util.find_spec("ziglang") is None:
            raise Missing("no C compiler for wasm32-wasi: pip install 'trellis-lattice[guests]'")
        jco, core, typed = self.jco(), output.with_name("core.wasm"), output.with_name("typed.wasm")
        compiler = [sys.executable, "-m", "ziglang", "cc", "--target=wasm32-wasi", "-mexec-model=reactor"]
        run(*compiler, "-std=gnu23", "-Os", "-s", "-Wall", "-Wextra", "-Werror", HERE / "c" / "guest.c", "-o", core)
        run(jco, "embed", core, "--wit", whole_wit(output.parent), "--world-name", WORLD, "-o", typed)
        run(jco, "new", typed, "--wasi-reactor", "-o", output)

    def jco(self) -> Path:
        """The `jco` of the lock file, installed when it is not in the cache yet."""
        if (npm := shutil.which("npm")) is None or shutil.which("node") is None:
            raise Missing("no Node: jco, which makes components of JavaScript and of C, runs on it")
        packages = [HERE / "js" / "package.json", HERE / "js" / "package-lock.json"]
        folder = self.directory / f"npm-{digest(packages, '')}"
        with self._alone("npm"):
            if not folder.exists():
                with tempfile.TemporaryDirectory(dir=self.directory) as made:
                    for file in packages:
                        shutil.copy(file, made)
                    quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1"]
                    try:
                        run(npm, "ci", *quiet, cwd=Path(made))
                    except BuildFailed as error:
                        said = [line for line in str(error).splitlines() if line.startswith("npm error")] or [
                            "no reason given"
                        ]
                        raise Missing(f"npm cannot install jco: {said[0]}") from error
                    shutil.move(made, folder)
                    Path(made).mkdir()
        return folder / "node_modules" / ".bin" / "jco"

    @contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        """Only one process at a time does `name`."""
        with (self.directory / f"{name}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def digest(sources: list[Path], tool: str) -> str:
    found = hashlib.sha256(tool.encode())
    for source in sorted(sources):
        found.update(source.name.encode() + source.read_bytes())
    return found.hexdigest()[:16]


def whole_wit(folder: Path) -> Path:
    """The guests' WIT with all it stands on, in the one folder that jco reads."""
    wit = folder / "wit"
    wit.mkdir()
    shutil.copy(WIT, wit)
    shutil.copytree(STANDARD / "deps", wit / "deps")
    return wit


def fetch_wit(folder: Path) -> Path:
    """A world for listeners of `fetch`, in the version of WASI that StarlingMonkey was built with."""
    deps = folder / "wit" / "deps"
    deps.mkdir(parents=True)
    for package in ("clocks", "http", "io", "random"):
        text = (STANDARD / "deps" / f"{package}.wit").read_text()
        text = re.sub(r"(wasi:[a-z]+(?:/[a-z-]+)?@0\.2\.)0", r"\g<1>3", text)
        text = re.sub(r".*wasi:cli/.*\n", "", text)
        (deps / f"{package}.wit").write_text(text.replace("type field-key = string;", NAMED_FIELDS))
    http = "wasi:http/{}@0.2.3;".format
    world = f"import {http('types')} import {http('outgoing-handler')} export {http('incoming-handler')}"
    (deps.parent / "world.wit").write_text(f"package test:fetch; world {WORLD} {{ {world} }}")
    return deps.parent


def run(*command: str | Path, cwd: Path | None = None) -> None:
    """Raises BuildFailed with what the command said, when it fails or takes too long."""
    try:
        done = subprocess.run(
            [str(part) for part in command],
            cwd=cwd,
            env=os.environ | {"NO_COLOR": "1", "NO_UPDATE_NOTIFIER": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
    except subprocess.TimeoutExpired as error:
        raise BuildFailed(f"{command[0]} took more than {PATIENCE} s") from error
    if done.returncode != 0:
        raise BuildFailed(f"{' '.join(str(part) for part in command)}\n{done.stdout}{done.stderr}")
