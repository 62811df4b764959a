"""From a component's image reference to the file that holds it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from lattice import BadInput, Finding


def component_file(reference: str) -> Path:
    """The file behind `file://...` or a bare path. Raises BadInput for anything this host cannot fetch."""
    if reference.startswith("file://"):
        parts = urlsplit(reference)
        if parts.netloc not in ("", "localhost"):
            raise _refused(reference, f"file:// names the host {parts.netloc!r}", "write file:///absolute/path.wasm")
        return Path(unquote(parts.path))
    if reference.startswith(("/", "./", "../")):
        return Path(reference)
    if not reference:
        raise _refused(reference, "the reference is empty", "name the component's file, e.g. file:///app/a.wasm")
    raise _refused(
        reference,
        "this host does not pull from OCI registries",
        "give the component as a file: file:///absolute/path.wasm",
    )


def _refused(reference: str, why: str, fix: str) -> BadInput:
    return BadInput(Finding("TRL-IMG-001", f"cannot fetch the image {reference!r}", why=why, fix=fix))
