"""The component that runs a Python actor from its sources: built once for each world, and kept in the cache.

It exports what the actor's world exports, and `trellis:runner/sources` beside it. What it does is in
`guest/trellis_runner.py`.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path

from actors.cache import default_directory
from lattice import Finding, Function, Place
from trellis.building import Built, Recipe, build
from trellis.failures import Failure
from trellis.project import BUILD_FILE

LOAD = Function("trellis:runner/sources", "load")
"""Imports the actor's sources. Answers `err` with a record of `file`, `line` and `message`."""

KEPT = 8
"""Runners that stay in the cache, the last used ones."""

_INCLUDED = "included:actor/world"
"""Stands in `guest/runner.wit` for the actor's world."""

_PACKAGE = re.compile(r"^\s*package\s+([\w:-]+)(@[\w.+-]+)?\s*;", re.MULTILINE)


async def runner(recipe: Recipe) -> Built:
    """The runner for the world of a Python actor. Raises Failure when it cannot be built."""
    own = _own_wit(recipe)
    included = _included(recipe, own)
    kept = default_directory().parent / "runners"
    folder = kept / hashlib.sha256(repr((included, sorted(own.items()))).encode()).hexdigest()[:16]
    _put(folder / "wit" / "deps", own)
    with as_file(files("trellis.live") / "guest") as guest:
        world = (guest / "runner.wit").read_text().replace(_INCLUDED, included)
        _put(folder, {"wit/runner.wit": world, "trellis_runner.py": (guest / "trellis_runner.py").read_text()})
    output = folder / "build" / "runner.wasm"
    try:
        built = await build(Recipe(folder, output, "python", "trellis:runner/runner", "trellis_runner"))
    except Failure as failure:
        raise Failure(failure.exit_code, *(_of_actor(recipe, folder, one) for one in failure.findings)) from failure
    folder.touch()
    for old in sorted(kept.iterdir(), key=lambda one: one.stat().st_mtime)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return built


def _own_wit(recipe: Recipe) -> dict[str, str]:
    """The actor's WIT files, as they are to lie in `deps`.

    A package of worlds alone gets the same name in every project, so that their runner is the same.
    """
    wit = recipe.folder / "wit"
    deps = wit / "deps"
    found = {str(file.relative_to(deps)): file.read_text() for file in sorted(deps.rglob("*.wit"))}
    own = {f"included/{file.name}": file.read_text() for file in sorted(wit.glob("*.wit"))}
    if len(own) == 1 and "interface" not in (text := "".join(own.values())):
        own = dict.fromkeys(own, _PACKAGE.sub("package included:actor;", text, count=1))
    return found | own


def _included(recipe: Recipe, own: dict[str, str]) -> str:
    """The actor's world, as another package names it."""
    assert recipe.world is not None
    asked, _, world = recipe.world.partition("@")[0].rpartition("/")
    texts = [text for name, text in own.items() if name.startswith("included/")]
    texts = texts or [(files("actors") / "wit" / "world.wit").read_text()]
    for text in texts:
        if (declared := _PACKAGE.search(text)) and declared[1] in (asked or declared[1], "included:actor"):
            return f"{declared[1]}/{world}{declared[2] or ''}"
    return recipe.world


def _of_actor(recipe: Recipe, folder: Path, finding: Finding) -> Finding:
    """With the actor's own files in the place of their copies in `folder`."""
    why = finding.why.replace(str(folder / "wit" / "deps" / "included"), str(recipe.folder / "wit"))
    message = finding.message.replace("`runner`", f"the runner of `{recipe.name}`")
    return replace(finding, message=message, why=why, place=Place(str(recipe.folder / BUILD_FILE), 1, 1))


def _put(folder: Path, contents: dict[str, str]) -> None:
    for name, text in contents.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
