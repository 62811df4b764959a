"""From an actor's source to a component.

An actor's folder has a trellis.toml:

    [build]
    language = "python"          # or another of trellis.toolchains; or give `command` for any other toolchain
    world = "counter"            # of the WIT in wit/; in Rust, the source names it
    module = "app"               # what implements the world: app.py, app.js or app.c; in Go, the folder
    output = "build/counter.wasm"

A build is keyed by the content of everything that goes into it, not by times, so nothing is built twice.
"""

from __future__ import annotations

import asyncio
import difflib
import hashlib
import json
import os
import shlex
import shutil
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from time import monotonic
from typing import Any

from lattice import BadInput, Finding, Place
from trellis.cargo import artefact, readable
from trellis.failures import USER_ERROR, Failure
from trellis.project import BUILD_FILE
from trellis.toolchains import (
    GO_TARGET,
    LANGUAGES,
    RUST_TARGET,
    cargo,
    check_rust_target,
    compiler_version,
    componentize,
    go,
    jco,
    missing,
    names_componentize_go,
    qjs,
    zig,
)

STAMP = Path(".trellis") / "build.json"
CARGO_LOCK = "Cargo.lock"
TAIL = 15
"""Lines of a failed build's output that are printed."""

_IGNORED = {"__pycache__", "node_modules", "target"}
_FIELDS = ("language", "world", "module", "output", "command", "paths")


@dataclass(frozen=True, slots=True)
class Recipe:
    """What one trellis.toml says. Paths are absolute."""

    folder: Path
    output: Path
    language: str | None = None
    world: str | None = None
    module: str = "app"
    paths: tuple[Path, ...] = ()
    """Where Python looks for modules, beside the folder itself."""
    shell: str | None = None

    @property
    def name(self) -> str:
        return self.output.stem


@dataclass(frozen=True, slots=True)
class Built:
    recipe: Recipe
    size: int
    seconds: float
    fresh: bool
    """False: nothing had changed, so nothing was done."""


def recipe(folder: Path) -> Recipe:
    """Read `folder`'s trellis.toml. Raises BadInput with everything that is wrong in it."""
    file = folder / BUILD_FILE
    try:
        text = file.read_text(encoding="utf-8")
        data = tomllib.loads(text)
    except OSError as error:
        raise BadInput(Finding("TRL-CLI-002", f"{file} cannot be read: {error.strerror}")) from error
    except ValueError as error:
        raise BadInput(Finding("TRL-BLD-001", f"{file} is not TOML: {error}")) from error
    wrong: list[Finding] = []

    def report(message: str, key: str = "", **more: str) -> None:
        wrong.append(Finding("TRL-BLD-001", message, _place(file, text, key), **more))

    build = data.get("build")
    if not isinstance(build, dict):
        report("there is no [build] table", fix='add:  [build]  language = "python"  world = "..."')
        raise BadInput(*wrong)
    for key in build:
        if key not in _FIELDS:
            close = difflib.get_close_matches(key, _FIELDS, n=1)
            hint = f"did you mean `{close[0]}`?" if close else ""
            report(f"unknown field `{key}`", key, hint=hint, why=f"[build] accepts {', '.join(_FIELDS)}")
    for key in ("language", "world", "module", "output", "command"):
        if key in build and not isinstance(build[key], str):
            report(f"`{key}` must be text", key)
    language, shell = build.get("language"), build.get("command")
    if (language is None) == (shell is None):
        report("[build] needs either `language` or `command`", "language" if language else "build")
    elif language not in (None, *LANGUAGES):
        report(
            f"`{language}` is not a language that is built in",
            "language",
            why=f"{', '.join(LANGUAGES)} are; any other toolchain can be named as `command`",
        )
    elif language not in (None, "rust") and not build.get("world"):
        report("an actor needs `world`", "language", fix="name the world of wit/ that the module implements")
    if not build.get("output"):
        report("`output` is missing", "build", fix='add:  output = "build/NAME.wasm"')
    paths = build.get("paths", [])
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        report("`paths` must be a list of folders", "paths")
    if wrong:
        raise BadInput(*wrong)
    folder = folder.resolve()
    return Recipe(
        folder,
        folder / build["output"],
        language,
        build.get("world"),
        build.get("module", "app"),
        tuple(folder / path for path in paths),
        shell,
    )


def _place(file: Path, text: str, key: str) -> Place | None:
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.lstrip(" \t[")
        if key and stripped.startswith(key) and not stripped[len(key) :].lstrip().startswith("#"):
            return Place(str(file), number, line.index(key) + 1, line, len(key))
    return Place(str(file), 1, 1)


async def build(recipe: Recipe, *, force: bool = False) -> Built:
    """Build unless the output is up to date. Raises Failure when the toolchain is missing, or fails."""
    begun = monotonic()
    stamp = recipe.folder / STAMP
    with (
        as_file(files("actors") / "wit") as standard,
        tempfile.TemporaryDirectory(prefix="trellis-build-") as temporary,
    ):
        scratch = Path(temporary)
        key = await asyncio.to_thread(_key, recipe, commands(recipe, Path(), recipe.output), standard)
        if not force and _up_to_date(stamp, recipe.output, key + _locked(recipe)):
            return Built(recipe, recipe.output.stat().st_size, monotonic() - begun, fresh=False)
        recipe.output.parent.mkdir(parents=True, exist_ok=True)
        part = recipe.output.with_name(f"{recipe.output.name}.{os.getpid()}.part")
        _prepare(recipe, standard, scratch)
        try:
            for command in commands(recipe, scratch, part):
                said = await _run(recipe, command, scratch)
            if recipe.language == "rust" and (made := artefact(said, recipe.folder)) is not None:
                shutil.copyfile(made, part)
            if part.is_file():
                part.replace(recipe.output)
            if not recipe.output.is_file():
                raise _failed(recipe, command, f"succeeded, but wrote no {recipe.output}", said)
        finally:
            part.unlink(missing_ok=True)
    size = recipe.output.stat().st_size
    stamp.parent.mkdir(exist_ok=True)
    record = {**_stamps(stamp), str(recipe.output): {"key": key + _locked(recipe), "sha256": _digest(recipe.output)}}
    stamp.write_text(json.dumps(record, indent=1))
    return Built(recipe, size, monotonic() - begun, fresh=True)


# -- is there anything to do?


def _key(recipe: Recipe, commands: Sequence[Sequence[str]], standard: Path) -> str:
    """Of everything that decides what the output will be, but for `_locked`."""
    digest = hashlib.sha256()

    def add(*parts: bytes) -> None:
        for part in parts:
            digest.update(len(part).to_bytes(8, "big") + part)

    add(compiler_version(recipe.language).encode(), *(part.encode() for command in commands for part in command[1:]))
    for folder in (recipe.folder, standard, *recipe.paths):
        for file in sources(folder, recipe.output):
            if file != recipe.folder / CARGO_LOCK:
                add(str(file.relative_to(folder)).encode(), file.read_bytes())
    return digest.hexdigest()


def _locked(recipe: Recipe) -> str:
    """Of the source that a build may write itself: the first one with cargo does."""
    lock = recipe.folder / CARGO_LOCK
    return _digest(lock) if lock.is_file() else ""


def sources(folder: Path, output: Path) -> Iterator[Path]:
    """The files of `folder` that a build depends on, in order of name: not hidden ones, nor what toolchains write."""
    for found, below, names in os.walk(folder):
        here = Path(found)
        below[:] = sorted(
            name for name in below if name not in _IGNORED and not name.startswith(".") and here / name != output.parent
        )
        for name in sorted(names):
            file = here / name
            if file != output and not name.startswith(".") and not name.endswith((".pyc", ".part")):
                yield file


def _up_to_date(stamp: Path, output: Path, key: str) -> bool:
    known = _stamps(stamp).get(str(output))
    if not isinstance(known, dict) or known.get("key") != key or not output.is_file():
        return False
    return bool(known.get("sha256") == _digest(output))


def outdated(output: Path) -> bool:
    """Whether the sources of what `build` made there have changed since. Raises BadInput.

    Of what was made otherwise, or cannot be built here, nothing is known.
    """
    folder = next((one for one in output.parents if (one / BUILD_FILE).is_file()), None)
    if folder is None or not output.is_file():
        return False
    made, known = recipe(folder), _stamps(folder / STAMP).get(str(output))
    if made.output != output or not isinstance(known, dict) or known.get("sha256") != _digest(output):
        return False
    with as_file(files("actors") / "wit") as standard:
        try:
            key = _key(made, commands(made, Path(), output), standard)
        except Failure:
            return False
    return bool(known.get("key") != key + _locked(made))


def _stamps(stamp: Path) -> dict[str, Any]:
    try:
        data = json.loads(stamp.read_text())
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


# -- doing it


def commands(recipe: Recipe, scratch: Path, output: Path) -> list[list[str]]:
    """What builds `output`, one after the other, with a folder for what is in between. Raises Failure.

    A command of the user's own always writes where trellis.toml says.
    """
    if recipe.shell is not None:
        return [shlex.split(recipe.shell)]
    if recipe.language == "rust":
        target = ["--release", "--target", RUST_TARGET]
        return [[cargo(), "build", *target, "--quiet", "--message-format", "json"]]
    assert recipe.world is not None
    wit, core, typed = str(scratch / "wit"), str(scratch / "core.wasm"), str(scratch / "typed.wasm")
    world = recipe.world.rpartition("/")[2]
    if recipe.language == "go" and names_componentize_go(recipe.folder):
        return [[go(), "tool", "componentize-go", "-d", wit, "-w", world, "build", "-o", str(output)]]
    if recipe.language == "javascript" and (tool := qjs(recipe.folder)) is not None:
        return [[tool, "--wit", wit, "--world", world, "--js", f"{recipe.module}.js", "--sync", "-o", str(output)]]
    if recipe.language == "javascript":
        # `fetch-event` is off since the actor exports the handler itself; without `http` its own requests would fail
        options = ["--wit", wit, "--world-name", world, "--disable", "fetch-event"]
        return [[jco(recipe.folder), "componentize", f"{recipe.module}.js", *options, "-o", str(output)]]
    if recipe.language in ("c", "go"):
        tool = jco(recipe.folder)
        return [
            [*_compiler(recipe), "-o", core],
            [tool, "embed", core, "--wit", wit, "--world-name", world, "-o", typed],
            [tool, "new", typed, "--wasi-reactor", "-o", str(output)],
        ]
    paths = [part for path in (recipe.folder, *recipe.paths) for part in ("-p", str(path))]
    return [
        [
            *(componentize(), "-d", wit, "-w", recipe.world),
            *("componentize", recipe.module, *paths, "-o", str(output)),
        ]
    ]


def _compiler(recipe: Recipe) -> list[str]:
    """What makes a core module of C or Go: a reactor, which jco makes a component of. Raises Failure."""
    if recipe.language == "c":
        target = ["--target=wasm32-wasi", "-mexec-model=reactor", "-std=gnu23", "-Os", "-s", "-Wall"]
        return [*zig(), "cc", *target, f"{recipe.module}.c"]
    return [go(), "build", "-buildmode=c-shared", "-trimpath", "-buildvcs=false"]


def _prepare(recipe: Recipe, standard: Path, scratch: Path) -> None:
    """What a toolchain needs to find in `scratch`: the actor's WIT, and all that it may stand on. Raises Failure."""
    if recipe.language == "rust":
        check_rust_target()
    if recipe.language in (None, "rust"):  # what they build against is all in their folder
        return
    wit, own = scratch / "wit", recipe.folder / "wit"
    shutil.copytree(standard, wit)
    if own.is_dir():
        (wit / "world.wit").rename(wit / "deps" / "trellis-actor.wit")
        shutil.copytree(own, wit, dirs_exist_ok=True)
    # componentize-py adds the packages of the environment it finds, whichever those happen to be; what goes into a
    # component is what its folder and `paths` say, so it finds an empty one
    (scratch / "lib" / "site-packages").mkdir(parents=True)


async def _run(recipe: Recipe, command: Sequence[str], scratch: Path) -> str:
    """Run one command; what it printed. Raises Failure."""
    environment = dict(os.environ)
    if recipe.language is not None:
        environment |= {"VIRTUAL_ENV": str(scratch), "RUST_BACKTRACE": "0", "NO_COLOR": "1"}
    if recipe.language == "go" and not names_componentize_go(recipe.folder):
        environment |= GO_TARGET
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=recipe.folder,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
    except FileNotFoundError as error:
        raise missing(command[0], f"the `command` of {recipe.folder / BUILD_FILE} begins with it") from error
    except OSError as error:
        raise _failed(recipe, command, f"cannot be run: {error.strerror or error}") from error
    try:
        output, _ = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    said = output.decode(errors="replace").replace(str(scratch / "wit"), str(recipe.folder / "wit"))
    if process.returncode != 0:
        raise _failed(recipe, command, f"exited with {process.returncode}", said)
    return said


def _failed(recipe: Recipe, command: Sequence[str], how: str, said: str = "") -> Failure:
    text = readable(said).rstrip() if recipe.language == "rust" else said.rstrip()
    text = text.partition("\nAssertionError: ")[2] or text  # how componentize-py's script begins every error
    lines = text.splitlines()[-TAIL:]
    finding = Finding(
        "TRL-BLD-003",
        f"`{recipe.name}` was not built: {Path(command[0]).name} {how}",
        Place(str(recipe.folder / BUILD_FILE), 1, 1),
        why="\n       ".join(["its last lines:", *lines]) if lines else "",
        fix=f"to run it by hand, in {recipe.folder}:  {shlex.join(command)}" if recipe.shell is not None else "",
    )
    return Failure(USER_ERROR, finding)
