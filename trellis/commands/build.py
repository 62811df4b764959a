"""`trellis build`"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trellis.commands.deploy import Progress
from trellis.failures import failure
from trellis.options import output_option
from trellis.output import TEXT, Output
from trellis.running import run, told_if_slow

if TYPE_CHECKING:
    from trellis.building import Built, Recipe


@click.command
@click.argument("folder", metavar="[DIR]", default=".", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--force", is_flag=True, help="Build even what has not changed.")
@output_option
def command(folder: Path, force: bool, output: Output) -> None:
    """Compile the components below DIR: every folder there that has a trellis.toml."""
    made = run(build_all(folder, force=force, output=output))
    if output.form == "json":
        output.answer([_described(one) for one in made])


async def build_all(folder: Path, *, force: bool = False, output: Output = TEXT) -> list[Built]:
    """Build every recipe below `folder`, as `build_each` does."""
    from trellis.building import recipe
    from trellis.project import actor_folders

    recipes = [recipe(found) for found in actor_folders(folder)]
    if not recipes:
        raise failure(
            "TRL-BLD-001",
            f"there is no trellis.toml in {folder} or below",
            why="each actor's folder has one that says how to build it",
            fix='an actor in Python needs:  [build]  language = "python"  world = "..."  output = "build/NAME.wasm"',
        )
    return await build_each(recipes, force=force, output=output)


async def build_each(recipes: Sequence[Recipe], *, force: bool = False, output: Output = TEXT) -> list[Built]:
    """Build as many at a time as there are processors, a line each. Raises Failure or BadInput."""
    from trellis.building import build
    from trellis.show import megabytes, relative

    say = Progress(output).say if output.text else lambda *_: None
    room = asyncio.Semaphore(os.cpu_count() or 1)

    async def build_one(one: Recipe) -> Built:
        async with room:
            with told_if_slow(partial(say, "building", one.name, one.language or "by its command")):
                built = await build(one, force=force)
        if output.form == "ndjson":
            output.next(_described(built), "")
        what = f"{megabytes(built.size):>8}  {relative(built.recipe.output)}"
        say("built" if built.fresh else "unchanged", one.name, what)
        return built

    building = [asyncio.create_task(build_one(one)) for one in recipes]
    try:
        return await asyncio.gather(*building)
    finally:
        for task in building:
            task.cancel()
        await asyncio.gather(*building, return_exceptions=True)


def _described(built: Built) -> dict[str, Any]:
    return {
        "name": built.recipe.name,
        "file": str(built.recipe.output),
        "size": built.size,
        "fresh": built.fresh,
        "seconds": round(built.seconds, 4),
    }
