"""`trellis push`"""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trellis.failures import failure
from trellis.options import output_option
from trellis.output import Output
from trellis.registries import Access, access, access_options, images_of
from trellis.running import run

if TYPE_CHECKING:
    from host.images.push import Pushed


@click.command
@click.argument("file", metavar="FILE.wasm", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("reference", metavar="REF")
@access_options
@click.option("--old-media-types", is_flag=True, help="For hosts and registries that do not know the CNCF's layout.")
@output_option
def command(
    file: Path,
    reference: str,
    insecure: bool,
    registry_ca: Path | None,
    user: str | None,
    old_media_types: bool,
    output: Output,
) -> None:
    """Put a component into an OCI registry.

    REF is REGISTRY/NAME:TAG, such as ghcr.io/acme/hello:0.1.0.
    """
    how = access(insecure, registry_ca, user)
    pushed = run(_push(file, reference, how, old_media_types, quiet=not output.text))
    plain = reference.removeprefix("oci://")
    following = f"next: in a manifest,  image: {plain.rpartition(':')[0]}@{pushed.digest}"
    output.answer({"image": reference, **asdict(pushed)}, [f"pushed  {plain}  {pushed.digest}", following])


async def _push(file: Path, reference: str, how: Access, old_media_types: bool, *, quiet: bool) -> Pushed:
    """Only what is a component is pushed. Raises Failure."""
    import actors.wasi  # noqa: F401  so that imports are described as hosts see them
    from actors import Engine
    from host.images import component_bytes
    from host.images.push import push
    from host.images.reference import registry_image
    from trellis.show import megabytes, seconds

    image = registry_image(reference)
    if image.tag is None or image.digest is not None:
        raise failure(
            "TRL-IMG-009", f"`{reference}` has no tag to push to", fix=f"{image.registry}/{image.repository}:0.1.0"
        )
    data = component_bytes(file)
    engine = Engine()
    try:
        found = (await engine.load(data, str(file))).describe()
    finally:
        engine.close()
    begun = told = time.monotonic()

    def progress(sent: int) -> None:
        nonlocal told
        if not quiet and time.monotonic() - told > 1.0 and sent < len(data):
            told = time.monotonic()
            click.echo(f"uploading  {megabytes(sent)} of {megabytes(len(data))}")

    async with images_of(image.registry, how) as images:
        pushed = await push(
            await images.registry(image),
            image,
            data,
            exports=_names(found.exports),
            imports=_names(found.imports),
            created=file.stat().st_mtime,
            old_media_types=old_media_types,
            progress=progress,
        )
    if not quiet:
        how_long = f"uploaded in {seconds(time.monotonic() - begun)}" if pushed.uploaded else "there already"
        click.echo(f"layer   {megabytes(pushed.size)}  {pushed.layer}  {how_long}")
    return pushed


def _names(interfaces: Any) -> list[str]:
    return [i.name for i in interfaces if i.name]
