"""`trellis build`"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import click

from trellis.failures import failure
from trellis.running import run


@click.command
@click.argument("folder", metavar="[DIR]", default=".", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--force", is_flag=True, help="Build even what has not changed.")
def command(folder: Path, force: bool) -> None:
    """Compile the components below DIR: every folder there that has a trellis.toml."""
    run(build_all(folder, force=force))


async def build_all(folder: Path, *, force: bool = False, quiet_if_none: bool = False) -> int:
    """Build as many at a time as there are processors, a line each; how many there were. Raises Failure or BadInput."""
    from trellis.building import Recipe, build, recipe
    from trellis.project import actor_folders
    from trellis.show import megabytes, relative

    recipes = [recipe(found) for found in actor_folders(folder)]
    if not recipes and not quiet_if_none:
        raise failure(
            "TRL-BLD-001",
            f"there is no trellis.toml in {folder} or below",
            why="each actor's folder has one that says how to build it",
            fix='an actor in Python needs:  [build]  language = "python"  world = "..."  output = "build/NAME.wasm"',
        )
    room = asyncio.Semaphore(os.cpu_count() or 1)

    async def build_one(one: Recipe) -> None:
        async with room:
            built = await build(one, force=force)
        how = f"built in {built.seconds:.1f} s" if built.fresh else "unchanged"
        click.echo(f"{one.name:<12} {megabytes(built.size):>8}  {how:<16} {relative(one.output)}")

    building = [asyncio.create_task(build_one(one)) for one in recipes]
    try:
        await asyncio.gather(*building)
    finally:
        for task in building:
            task.cancel()
        await asyncio.gather(*building, return_exceptions=True)
    return len(recipes)
