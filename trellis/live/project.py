"""An app while somebody works on it: deployed, and brought up to date with every edit.

| what is edited                         | what happens                                                              |
|----------------------------------------|---------------------------------------------------------------------------|
| an actor in Python                     | its runner imports it anew: the next call has it                          |
| an actor in another language           | it is built, and deployed                                                 |
| a provider of the app's own, in Python | a new process takes its links over before the old one leaves              |
| app.yaml, a trellis.toml, WIT          | everything is read again, built where it has to be, and deployed          |

What cannot be used is told, and what ran before goes on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import click
import structlog

from host import Host
from lattice import EntityId
from providers.load import is_python, split_class
from trellis.building import Recipe, recipe
from trellis.commands.build import build_each
from trellis.commands.deploy import Progress, deploy, lines
from trellis.failures import USER_ERROR, Failure, explain, failure
from trellis.live.parts import Built, FromSources, OwnProvider, Part, digest
from trellis.live.sources import SourceActor, has_native_code
from trellis.live.watching import changes, since
from trellis.options import Where
from trellis.output import TEXT, Output
from trellis.project import BUILD_FILE, actor_folders, source_folders, text_of
from trellis.running import told_if_slow
from trellis.show import relative, seconds
from wadm.images import local_file
from wadm.manifest import Manifest, component_id
from wadm.resolve import resolve_images
from wadm.validate import check

MORE_WATCHES = "where it is a limit of inotify:  sysctl fs.inotify.max_user_watches"

log = structlog.get_logger("trellis")

SILENT = Output("json")
"""When it is deployed again, only what is wrong is told."""


class Project:
    """The app of the manifest `file`, on the lattice at `place`; making it ready may take `timeout` seconds.

    With a `host` in this process, actors in Python run from their sources there, copied to the folder `copies`. Without
    one they are built, as everything else is.
    """

    def __init__(self, file: Path, place: Where, host: Host | None, copies: Path, timeout: float) -> None:
        self.file = file.resolve()
        self._place = place
        self._host = host
        self._copies = copies
        self._timeout = timeout
        self._actors: dict[Recipe, SourceActor] = {}
        self._parts: list[Part] = []
        self._whole = Whole(self)
        self._instead: dict[Path, Path] = {}
        """What runs in the place of a component that is not built."""
        self._turn = asyncio.Lock()
        self._renewing: set[Part] = set()

    # -- deploying

    async def start(self) -> None:
        """Build and deploy it. Raises Failure or BadInput for what keeps it from being ready."""
        await self.read(TEXT)
        await self.deploy(TEXT)

    async def read(self, output: Output = SILENT) -> None:
        """Find its parts, and have what they run from. Raises Failure or BadInput."""
        recipes = [recipe(folder) for folder in actor_folders(self.file.parent)]
        actors, providers = self._components()
        here: list[Part] = []
        instead: dict[Path, Path] = {}
        if (host := self._host) is not None:
            here += [OwnProvider(id, file, [one.folder for one in recipes], host) for id, file in providers.items()]
            for one in [one for one in recipes if one.output in actors and can_run_from_sources(one)]:
                recipes.remove(one)
                part, runner = await self._from_sources(one, actors[one.output], host, output)
                here.append(part)
                instead[one.output] = runner
        await build_each(recipes, output=output)
        self._parts = [*here, *(Built(one, self.deploy) for one in recipes)]
        self._instead = instead

    def _components(self) -> tuple[dict[Path, list[EntityId]], dict[EntityId, Path]]:
        """The ids of the components by their files, and the files of providers by their ids."""
        manifest = manifest_of(self.file)
        actors: dict[Path, list[EntityId]] = {}
        providers: dict[EntityId, Path] = {}
        for component in manifest.spec.components:
            id, file = EntityId(component_id(manifest.name, component)), local_file(component.properties.image or "")
            if file is not None and component.capability:
                providers |= {id: Path(split_class(str(file))[0])} if is_python(str(file)) else {}
            elif file is not None:
                actors.setdefault(file, []).append(id)
        return actors, providers

    async def _from_sources(self, recipe: Recipe, ids: list[EntityId], host: Host, output: Output) -> tuple[Part, Path]:
        actor = self._actors.get(recipe)
        if actor is None:
            actor = SourceActor(recipe, self._copies, host.engine)
        say = Progress(output).say if output.text else lambda *_: None
        with told_if_slow(partial(say, "building", recipe.name, "its runner, once for its world")):
            built = await actor.prepare()
        if built.fresh:
            say("built", recipe.name, "its runner")
        say("sources", recipe.name, relative(recipe.folder))
        part = FromSources(actor, ids, host)
        await actor.renew()
        await part.mount()
        self._actors[recipe] = actor
        return part, built.recipe.output

    async def deploy(self, output: Output = SILENT) -> None:
        """Have the lattice run what there is now. Raises Failure when it does not."""
        async with self._turn:
            found = await deploy(
                self._place, self.file, timeout=self._timeout, replace=True, output=output, instead=self._instead
            )
        if output.text:
            output.answer(found, lines(found))

    # -- following

    async def follow(self) -> None:
        """Bring it up to date with every edit, for as long as the system lets us watch its files."""
        async with asyncio.TaskGroup() as tasks:
            try:
                async for changed in changes(self._folders):
                    for part in (self._whole, *self._parts):
                        of_it = {file for file in changed if part.has(file)}
                        if of_it or not changed:
                            part.changed |= of_it
                            part.asked = True
                            if part not in self._renewing:
                                self._renewing.add(part)
                                tasks.create_task(self._renew(part))
            except OSError as error:
                failure("TRL-UP-006", "edits are not followed any more", why=str(error), fix=MORE_WATCHES).show()

    def _folders(self) -> set[Path]:
        return {folder for part in (self._whole, *self._parts) for folder in part.watched() if folder.is_dir()}

    async def _renew(self, part: Part) -> None:
        """Until nobody has asked for it while it was being renewed."""
        try:
            while part.asked:
                changed, part.changed, part.asked = part.changed or part.changed_untold(), set(), False
                part.looked = time.time()
                begun = time.monotonic() - since(changed)
                try:
                    new = await part.renew()
                except Exception as error:
                    if (told := explain(error)) is None:
                        log.exception("part.not_renewed", part=part.name)
                    else:
                        told.show()
                    click.echo(f"{part.name} goes on as it was")
                else:
                    if new:
                        click.echo(f"{_named(changed, part)} changed -> live in {seconds(time.monotonic() - begun)}")
        finally:
            self._renewing.discard(part)


class Whole(Part):
    """The app as a whole: what says which parts there are."""

    def __init__(self, project: Project) -> None:
        super().__init__(project.file.name, project.file.parent)
        self._project = project
        self._digest = self._now()
        self._unfinished = False
        """The last renewal failed: any change may be what it needs."""

    def watched(self) -> Iterator[Path]:
        yield self.folders[0]
        for folder in actor_folders(self.folders[0]):
            yield from source_folders(folder)

    def has(self, file: Path) -> bool:
        return self._unfinished or file == self._project.file or file.name == BUILD_FILE or file.suffix == ".wit"

    async def renew(self) -> bool:
        now = self._now()
        if now == self._digest and not self._unfinished:
            return False
        self._digest, self._unfinished = now, True
        await self._project.read()
        await self._project.deploy()
        self._unfinished = False
        return True

    def _now(self) -> bytes:
        files = [self._project.file]
        for folder in actor_folders(self.folders[0]):
            files += [folder / BUILD_FILE, *(folder / "wit").rglob("*.wit")]
        return digest(files)


def manifest_of(file: Path) -> Manifest:
    """With absolute files, be they there or not. Raises Failure with what is wrong in the manifest itself."""
    checked = check(text_of(file), relative(file))
    manifest = resolve_images(checked, file.parent.resolve(), must_exist=False).manifest
    if manifest is None:
        raise Failure(USER_ERROR, *checked.findings)
    return manifest


def can_run_from_sources(recipe: Recipe) -> bool:
    return recipe.language == "python" and not has_native_code(recipe)


def _named(files: set[Path], part: Part) -> str:
    """`actor/app.py`, or `actor/app.py and 2 more`: those still there, since editors write to other files first.

    A folder is new, and stands for what is in it.
    """
    files = {one for file in files for one in (file.iterdir() if file.is_dir() else (file,)) if part.has(one)}
    names = sorted(map(relative, filter(Path.exists, files))) or sorted(map(relative, files))
    return " ".join([names[0], *([f"and {len(names) - 1} more"] if names[1:] else [])]) if names else part.name
