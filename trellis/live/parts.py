"""The parts of an app that are brought up to date one by one."""

from __future__ import annotations

import asyncio
import hashlib
import math
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path

from host import Host
from lattice import EntityId, Finding, LatticeError
from trellis.building import Recipe, build, sources
from trellis.failures import USER_ERROR, Failure
from trellis.live.sources import SourceActor, place_in
from trellis.live.watching import changed_at
from trellis.project import source_folders

ITS_OWN = 3
"""Builds in which a file has changed until it is taken for what they write: somebody may save it while one goes on."""

SETTLED = 1.0
"""Seconds after a build until a change is not its own."""

TICK = 0.01
"""Seconds that the times of files may be behind the clock."""

_LINE = re.compile(r'(?:File "([^"]+)", line |(/\S+\.py):)(\d+)')


class Part:
    """Made of what lies in `folders`."""

    def __init__(self, name: str, *folders: Path) -> None:
        self.name = name
        self.folders = folders
        self.changed: set[Path] = set()
        """The files that changed since it was renewed."""
        self.asked = False
        self.looked = time.time()
        """When its renewal began last."""

    def watched(self) -> Iterator[Path]:
        for folder in self.folders:
            yield from source_folders(folder)

    def has(self, file: Path) -> bool:
        """Whether it has to be renewed when that file changes."""
        return any(file.is_relative_to(folder) for folder in self.folders)

    def changed_untold(self) -> set[Path]:
        """Its files that changed since its renewal began last, by their times: nobody was watching them."""
        found = {file for folder in self.watched() if folder.is_dir() for file in folder.iterdir() if self.has(file)}
        return {file for file in found if changed_at(file) > self.looked - TICK}

    async def renew(self) -> bool:
        """Bring it up to date; False when nothing of it had changed. What it raises leaves everything as it was."""
        raise NotImplementedError


class FromSources(Part):
    """An actor in Python, in the host of this process."""

    def __init__(self, actor: SourceActor, ids: list[EntityId], host: Host) -> None:
        super().__init__(actor.recipe.name, *actor.folders.values())
        self.actor = actor
        self._ids = ids
        self._host = host

    async def renew(self) -> bool:
        if not await self.actor.renew():
            return False
        await self.mount()
        return True

    async def mount(self) -> None:
        assert self.actor.mounted is not None
        for id in self._ids:
            await self._host.components.mount(id, self.actor.mounted)


class Built(Part):
    """A component that its toolchain builds; `deploy` puts it in its old one's place."""

    def __init__(self, recipe: Recipe, deploy: Callable[[], Awaitable[None]]) -> None:
        super().__init__(recipe.name, recipe.folder, *recipe.paths)
        self._recipe = recipe
        self._deploy = deploy
        self._wrote: dict[Path, int] = {}
        """How many builds, one after the other, each file has changed in that changed in the last."""
        self._ended = -math.inf

    def has(self, file: Path) -> bool:
        """A file that changes in build after build is the build's own, unless it changes while there is none."""
        its_own = self._wrote.get(file, 0) >= ITS_OWN and time.monotonic() - self._ended < SETTLED
        return super().has(file) and file != self._recipe.output and not its_own

    def changed_untold(self) -> set[Path]:
        return super().changed_untold() - self._wrote.keys()

    async def renew(self) -> bool:
        before = await asyncio.to_thread(self._contents)
        self._ended = math.inf
        try:
            built = await build(self._recipe)
        finally:
            self._ended = time.monotonic()
        if not built.fresh:
            return False
        after = await asyncio.to_thread(self._contents)
        changed = [file for file, digest in after.items() if before.get(file) != digest]
        self._wrote = {file: self._wrote.get(file, 0) + 1 for file in changed}
        await self._deploy()
        return True

    def _contents(self) -> dict[Path, bytes]:
        return {file: digest([file]) for folder in self.folders for file in sources(folder, self._recipe.output)}


class OwnProvider(Part):
    """A provider of the app's own, in Python, in the host of this process."""

    def __init__(self, id: EntityId, file: Path, others: list[Path], host: Host) -> None:
        super().__init__(id, file if file.is_dir() else file.parent)
        self._id = id
        self._host = host
        self._others = others
        """The folders of actors: what is in them is not the provider's."""
        self._digest = self._now()

    def has(self, file: Path) -> bool:
        return super().has(file) and file.suffix == ".py" and not any(map(file.is_relative_to, self._others))

    async def renew(self) -> bool:
        now = self._now()
        if now == self._digest:
            return False
        self._digest = now
        try:
            return await self._host.capabilities.renew(self._id)
        except LatticeError as error:
            raise Failure(USER_ERROR, self._finding(error.message)) from error

    def _finding(self, said: str) -> Finding:
        """With the last of the provider's own lines that `said` names, as tracebacks do."""
        named = [(Path(file or other), int(line)) for file, other, line in _LINE.findall(said)]
        own = [place_in(file, line) for file, line in named if file.is_relative_to(self.folders[0])]
        first, *rest = said.strip().splitlines()
        return Finding("TRL-UP-005", ": ".join([first, *rest[-1:]]), own[-1] if own else None)

    def _now(self) -> bytes:
        return digest(file for folder in self.watched() for file in sorted(folder.glob("*.py")) if self.has(file))


def digest(files: Iterable[Path]) -> bytes:
    """Of what is in these files, in this order."""
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).digest()
