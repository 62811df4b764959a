"""`trellis check`"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trellis.failures import USER_ERROR, show
from trellis.options import Where, lattice_options, output_option, registry_options, where
from trellis.output import Output
from trellis.running import run

if TYPE_CHECKING:
    from lattice import Finding
    from trellis.preflight import Examined
    from wadm.manifest import Component, Manifest
    from wadm.validate import Checked


@click.command
@click.argument("path", metavar="[FILE]", default=".", type=click.Path(path_type=Path))
@click.option("--on-lattice", is_flag=True, help="Ask the lattice, too: for configurations, and running providers.")
@registry_options
@output_option
@lattice_options
def command(path: Path, on_lattice: bool, output: Output, nats: str | None, lattice: str | None) -> int:
    """Say everything that is wrong with a manifest and its components. Needs no lattice, unless you want it asked.

    FILE is a manifest, or a folder with an app.yaml. Components of registries are fetched.
    """
    checked = run(_examined(path, where(nats, lattice) if on_lattice else None)).checked
    checked = replace(checked, findings=(*checked.findings, *_wit(path if path.is_dir() else path.parent)))
    answered = _answered(checked.manifest)
    if not output.text:
        findings = [asdict(f) for f in checked.findings]
        output.answer({"ok": checked.manifest is not None, "findings": findings, "answered_by": answered})
    else:
        show(*checked.findings)
        for name, ours in answered.items():
            click.echo(f"`{name}` is answered by {ours}")
        errors, warnings = len(checked.errors), len(checked.warnings)
        if errors or warnings:
            click.echo(f"{_count(errors, 'error')}, {_count(warnings, 'warning')}")
        else:
            click.echo("no findings")
    return USER_ERROR if checked.errors else 0


async def _examined(path: Path, place: Where | None) -> Examined:
    examined = await examined_manifest(path, fetch=True)
    if place is None:
        return examined
    from trellis.published import held_against_lattice
    from trellis.session import joined

    async with joined(place) as lattice:
        return await held_against_lattice(lattice, examined)


def _wit(folder: Path) -> Iterator[Finding]:
    """What somebody has changed of the WIT that actors below `folder` have added."""
    from trellis.project import actor_folders
    from trellis.wit import changed

    for actor in actor_folders(folder):
        yield from changed(actor / "wit")


def _answered(manifest: Manifest | None) -> dict[str, str]:
    """Which of our providers answers an image of wasmCloud's own, by component."""
    from wadm.images import answered_by

    found: dict[str, str] = {}
    for component in manifest.spec.components if manifest is not None else ():
        image = component.properties.image or ""
        ours = answered_by(image) if component.capability else None
        if ours is not None and ours != image:
            found[component.name] = ours
    return found


async def examined_manifest(
    path: Path,
    say: Callable[[str, str, str], None] = lambda *_: None,
    *,
    fetch: bool = False,
    instead: Mapping[Path, Path] | None = None,
) -> Examined:
    """The manifest at `path` and its components, with every finding. Raises Failure when it cannot be read.

    `fetch` those that are no local files, too. `instead` names files that others take the place of.
    """
    from actors import Engine
    from trellis.preflight import Examined, examine, read, remote
    from trellis.project import manifest_at
    from trellis.show import relative

    file = manifest_at(path)
    checked = read(file, instead)
    if checked.manifest is None:
        return Examined(checked, {})
    components = checked.manifest.spec.components
    parts = f"{_count(len(components), 'component')}, {_count(sum(len(list(c.links())) for c in components), 'link')}"
    say("checked", checked.manifest.name, f"{relative(file)}: {parts}")
    if instead is None:
        changed = await asyncio.to_thread(_outdated, checked, components)
        checked = replace(checked, findings=(*checked.findings, *changed))
    engine = Engine()
    try:
        if not fetch or not any(map(remote, components)):
            return await examine(checked, engine, say)
        from host.images import Images
        from trellis.registries import image_settings

        images = Images(image_settings())
        try:
            return await examine(checked, engine, say, images)
        finally:
            await images.close()
    finally:
        engine.close()


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _outdated(checked: Checked, components: Sequence[Component]) -> list[Finding]:
    """A warning for each component whose sources have changed since it was built."""
    from lattice import BadInput, Finding
    from trellis.building import outdated
    from wadm.images import local_file

    assert checked.document is not None
    found = []
    for index, component in enumerate(components):
        file = None if component.capability else local_file(component.properties.image or "")
        try:
            if file is not None and outdated(file):
                place = checked.document.place(("spec", "components", index, "properties", "image"))
                message = f"the sources of `{component.name}` have changed since it was built"
                found.append(Finding("TRL-BLD-004", message, place, fix="trellis build", level="warning"))
        except BadInput:
            continue  # of trellis.toml: `trellis build` tells
    return found
