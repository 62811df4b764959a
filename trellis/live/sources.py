"""A Python actor that runs from its sources.

Each state of its folders is copied, so that a guest reads one state to its end, and tried: the runner imports it once
in an instance of its own before anybody else gets it. That trial also leaves the compiled modules beside the copy.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from pathlib import Path

import actors.wasi  # noqa: F401  (what a runner imports)
from actors import Actor, Engine, Limits
from actors.grants import Grants, Preopen
from host.components import Mounted
from lattice import EntityId, Finding, Invocation, LatticeError, Place, WitError
from trellis.building import Built, Recipe, sources
from trellis.failures import USER_ERROR, Failure
from trellis.live.runner import LOAD, runner
from trellis.show import relative

TRIAL = EntityId("trial")
TRIAL_SECONDS = 10.0
"""What an import may take."""


def has_native_code(recipe: Recipe) -> bool:
    """Extension modules are linked when a component is built: nothing can import them later."""
    folders = (recipe.folder, *recipe.paths)
    return any(file.suffix == ".so" for folder in folders for file in sources(folder, recipe.output))


class SourceActor:
    """`recipe`'s actor. `copies` is a folder for its own use; what is in it stays as long as somebody may read it."""

    def __init__(self, recipe: Recipe, copies: Path, engine: Engine) -> None:
        self.recipe = recipe
        self.folders = {"/app": recipe.folder, **{f"/path{n}": path for n, path in enumerate(recipe.paths)}}
        """Where its modules are, by what guests call these folders."""
        self.mounted: Mounted | None = None
        """The last state that could be imported."""
        self._copies = copies
        self._engine = engine
        self.runner: Path | None = None
        """What runs it, once it is prepared."""
        self._trial: Actor
        self._tried: Mounted | None = None
        self._turn = asyncio.Lock()

    async def prepare(self) -> Built:
        """Have its runner; what another one could not import may be right for this one. Raises Failure."""
        async with self._turn:
            built = await runner(self.recipe)
            if built.recipe.output != self.runner:
                self.runner = built.recipe.output
                component = await self._engine.load(self.runner)
                self._trial = Actor(TRIAL, component, limits=Limits(execution=TRIAL_SECONDS))
                self._tried = None
        return built

    async def renew(self) -> bool:
        """Turn to its sources as they are now; False when they are as they were, good or bad.

        Raises Failure when they cannot be imported: `mounted` is what it was.
        """
        async with self._turn:
            new = await asyncio.to_thread(self._copied)
            if new == self._tried:
                return False
            self._tried = new
            self._trial.grants = Grants(tuple(replace(one, writable=True) for one in new.directories))
            self._trial.environment = new.environment
            try:
                await self._trial.handle(Invocation(TRIAL, LOAD, (), TRIAL))
            except WitError as error:
                raise self._failure(**error.payload) from error
            except LatticeError as error:
                raise self._failure("", 1, error.message) from error
            self.mounted = new
            return True

    def _copied(self) -> Mounted:
        directories = tuple(Preopen(self._copy(folder), name) for name, folder in self.folders.items())
        return Mounted(directories, {"PYTHONPATH": ":".join(self.folders), "TRELLIS_MODULE": self.recipe.module})

    def _copy(self, folder: Path) -> Path:
        """Where the present content of `folder` is, under a name that says what it is."""
        contents = {}
        for file in sources(folder, self.recipe.output):
            try:
                contents[file.relative_to(folder)] = file.read_bytes()
            except FileNotFoundError:
                continue  # an editor is just replacing it, and will have done so soon
        digest = hashlib.sha256(repr([folder, *contents.items()]).encode()).hexdigest()[:16]
        copy = self._copies / digest
        if not copy.exists():
            part = copy.with_suffix(".part")
            for name, content in contents.items():
                (part / name).parent.mkdir(parents=True, exist_ok=True)
                (part / name).write_bytes(content)
            part.mkdir(parents=True, exist_ok=True)
            part.rename(copy)
        return copy

    def _failure(self, file: str, line: int, message: str) -> Failure:
        place = self._place(file, line)
        return Failure(USER_ERROR, Finding("TRL-UP-004", f"`{self.recipe.name}` cannot be imported: {message}", place))

    def _place(self, guests: str, line: int) -> Place | None:
        """Of a file that guests call so; None when it is not the actor's."""
        for name, folder in self.folders.items():
            if guests.startswith(f"{name}/"):
                return place_in(folder / guests.removeprefix(f"{name}/"), line)
        return None


def place_in(file: Path, line: int) -> Place:
    """The whole of that line."""
    lines = file.read_text(errors="replace").splitlines() if file.is_file() else []
    text = lines[line - 1] if 0 < line <= len(lines) else ""
    bare = text.strip()
    return Place(relative(file), line, len(text) - len(text.lstrip()) + 1, text, len(bare))
