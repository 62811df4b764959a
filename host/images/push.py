"""Putting a component into a registry, as the CNCF's layout for Wasm wants it, or as wasmCloud's older one did."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from host.images import media
from host.images.reference import RegistryImage
from host.images.registry import Registry


@dataclass(frozen=True, slots=True)
class Pushed:
    """`digest` is the manifest's, `layer` the component's (both `sha256:...`); `uploaded` is False for a known one."""

    digest: str
    layer: str
    size: int
    uploaded: bool


async def push(
    registry: Registry,
    image: RegistryImage,
    component: bytes,
    *,
    exports: Sequence[str] = (),
    imports: Sequence[str] = (),
    created: float = 0.0,
    old_media_types: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> Pushed:
    """Upload what the registry does not have, and look whether it arrived. Raises BadInput.

    The same component, `created` at the same time, has the same digest however often it is pushed.
    """
    layer = _descriptor(component, media.OLD_LAYER if old_media_types else media.WASM_LAYER)
    config = b"{}" if old_media_types else _config(layer["digest"], exports, imports, created)
    manifest = {
        "schemaVersion": 2,
        "mediaType": media.MANIFEST,
        "config": _descriptor(config, media.OLD_CONFIG if old_media_types else media.WASM_CONFIG),
        "layers": [layer],
    }
    body = json.dumps(manifest, separators=(",", ":")).encode()
    uploaded = await registry.upload(component, progress)
    await registry.upload(config)
    digest = await registry.put_manifest(body, media.MANIFEST)
    return Pushed(digest, layer["digest"], len(component), uploaded)


def _descriptor(data: bytes, kind: str) -> dict[str, Any]:
    return {"mediaType": kind, "digest": f"sha256:{hashlib.sha256(data).hexdigest()}", "size": len(data)}


def _config(layer: str, exports: Sequence[str], imports: Sequence[str], created: float) -> bytes:
    config = {
        "created": datetime.fromtimestamp(int(created), UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "architecture": "wasm",
        "os": "wasip2",
        "layerDigests": [layer],
        "component": {"exports": list(exports), "imports": list(imports)},
    }
    return json.dumps(config, separators=(",", ":")).encode()
