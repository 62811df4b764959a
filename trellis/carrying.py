"""Taking local components along: what a manifest names as a file is put into the lattice's own store of images."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import structlog

from host.images import component_bytes
from lattice.errors import DeadlineExceeded, LatticeError, Unreachable
from lattice.images import ImageStore
from lattice.lattice import Lattice
from trellis.failures import failure
from trellis.planner import Planner
from trellis.preflight import Examined
from trellis.show import megabytes
from wadm.images import local_file

log = structlog.get_logger("trellis")

SLOW = 1.0
"""Seconds of uploading after which it is told how far it is."""

_DIGEST = re.compile(r"#sha256:([0-9a-f]{64})$")


async def carry(lattice: Lattice, examined: Examined, say: Callable[[str, str, str], None]) -> None:
    """Upload the components that the lattice does not have, so that every host can run them; forget old ones.

    `say(stage, component, text)` tells what was uploaded. Raises Failure when a file is not what was examined, and
    LatticeError when the lattice cannot keep it.
    """
    manifest = examined.checked.manifest
    assert manifest is not None
    store = ImageStore(lattice.transport, lattice.name)
    uploaded = False
    for component in manifest.spec.components:
        description = examined.components.get(component.name)
        file = local_file(component.properties.image or "")
        if description is None or file is None:
            continue
        data = await _read(file)
        begun = told = time.monotonic()

        def progress(sent: int, name: str = component.name, size: int = len(data), began: float = begun) -> None:
            nonlocal told
            if time.monotonic() - max(told, began) > SLOW and sent < size:
                told = time.monotonic()
                say("uploading", name, f"{megabytes(sent)} of {megabytes(size)}")

        try:
            new = await store.put(description.digest, data, file.name, progress)
        except ValueError as error:
            raise failure(
                "TRL-IMG-007",
                f"{file} changed while it was being deployed",
                why=f"it was sha256:{description.digest[:12]} when it was checked",
                fix="deploy again when its build is done",
            ) from error
        if new:
            uploaded = True
            say("uploaded", component.name, f"{megabytes(len(data))}  for every host")
    if uploaded:
        await _tidy(lattice, store, {d.digest for d in examined.components.values()})


async def _read(file: Path) -> bytes:
    try:
        return await asyncio.to_thread(component_bytes, file)
    except OSError as error:
        raise failure("TRL-IMG-001", f"cannot read {file}: {error.strerror or error}") from error


async def _tidy(lattice: Lattice, store: ImageStore, ours: set[str]) -> None:
    """Remove old images that no deployed application refers to. Without a manager nobody can know: all stay."""
    try:
        needed = ours | await _deployed(Planner(lattice))
        for image in await store.tidy(needed):
            log.info("image.removed", name=image.name, digest=image.digest, bytes=image.size)
    except (Unreachable, DeadlineExceeded):
        return
    except LatticeError as error:
        log.warning("images.not_tidied", reason=error.message)


async def _deployed(planner: Planner) -> set[str]:
    """The digests that the deployed version of any application names."""
    found: set[str] = set()
    for app in await planner.apps():
        version = app.get("deployed_version")
        if not version:
            continue
        answer = await planner.get(app["name"], version)
        found |= _digests(answer.get("manifest"))
    return found


def _digests(manifest: Mapping[str, Any] | None) -> set[str]:
    components = ((manifest or {}).get("spec") or {}).get("components") or []
    images = ((part.get("properties") or {}).get("image") or "" for part in components)
    return {match[1] for image in images if (match := _DIGEST.search(image))}
