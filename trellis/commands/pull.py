"""`trellis pull`"""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

import click

from trellis.failures import failure
from trellis.options import output_option
from trellis.output import Output
from trellis.registries import Access, access, access_options, images_of
from trellis.running import run


@click.command
@click.argument("reference", metavar="REF")
@click.option(
    "--to", "file", metavar="FILE", type=click.Path(path_type=Path), help="Where to put it.  [default: NAME.wasm]"
)
@click.option("-f", "--force", is_flag=True, help="Overwrite FILE.")
@access_options
@output_option
def command(
    reference: str,
    file: Path | None,
    force: bool,
    insecure: bool,
    registry_ca: Path | None,
    user: str | None,
    output: Output,
) -> None:
    """Get a component from an OCI registry, or from the web.

    REF is REGISTRY/NAME:TAG, REGISTRY/NAME@sha256:DIGEST, or https://...
    """
    from trellis.show import megabytes

    found = run(_pull(reference, file, force, access(insecure, registry_ca, user)))
    said = f"pulled  {found['file']}  {megabytes(found['size'])}  sha256:{found['digest']}"
    output.answer(found, [said, f"next: trellis inspect {found['file']}"])


async def _pull(reference: str, file: Path | None, force: bool, how: Access) -> dict[str, Any]:
    """Raises Failure."""
    from urllib.parse import urlsplit

    from host.images.reference import FileImage, WebImage, parse

    match image := parse(reference):
        case FileImage():
            raise failure("TRL-IMG-009", f"`{reference}` is a file here already", fix="name an image in a registry")
        case WebImage():
            server, name = urlsplit(image.url).netloc, Path(urlsplit(image.url).path).stem
        case _:
            server, name = image.registry, image.repository.rpartition("/")[2]
    to = file or Path(f"{name or 'component'}.wasm")
    if to.exists() and not force:
        raise failure("TRL-CLI-002", f"{to} is there already", fix="give another name --to, or --force")
    async with images_of(server, how) as images:
        data = await asyncio.to_thread((await images.fetch(reference)).read_bytes)
    try:
        _write(to, data)
    except OSError as error:
        raise failure("TRL-CLI-002", f"{to} cannot be written: {error.strerror or error}") from error
    return {"file": str(to), "size": len(data), "digest": hashlib.sha256(data).hexdigest()}


def _write(to: Path, data: bytes) -> None:
    """All of it or nothing."""
    descriptor, name = tempfile.mkstemp(dir=to.parent, prefix=f".{to.name}-")
    try:
        with os.fdopen(descriptor, "wb") as part:
            part.write(data)
        Path(name).chmod(0o644)
        Path(name).replace(to)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
