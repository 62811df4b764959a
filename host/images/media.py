"""What registries keep for a Wasm component: manifests, and the media types of their parts, today's and older ones."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from host.images import failures

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
ACCEPTED = ", ".join((MANIFEST, INDEX, DOCKER_MANIFEST, DOCKER_INDEX))

WASM_CONFIG = "application/vnd.wasm.config.v0+json"
WASM_LAYER = "application/wasm"
"""The CNCF's: what `trellis push` writes."""

OLD_CONFIG = "application/vnd.wasmcloud.actor.archive.config"
OLD_LAYER = "application/vnd.module.wasm.content.layer.v1+wasm"
"""wasmCloud's first ones, which some registries and older hosts understand better."""

PLAIN_LAYER = "application/vnd.oci.image.layer.v1.tar"
"""Of any artifact; wasmCloud's tools write the component into it as it is, not as a tar."""

PROVIDER_CONFIG = "application/vnd.wasmcloud.provider.archive.config"
PROVIDER_LAYER = "application/vnd.wasmcloud.provider.archive.layer.v1+par"
"""Of native code, which only wasmCloud's hosts run."""

MAGIC = b"\0asm"

_T = TypeVar("_T", bound=BaseModel)


class _Read(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class Platform(_Read):
    architecture: str = ""
    os: str = ""


class Descriptor(_Read):
    media_type: str = Field("", alias="mediaType")
    digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    size: int = Field(ge=0)
    artifact_type: str | None = Field(None, alias="artifactType")
    platform: Platform | None = None

    @property
    def hex(self) -> str:
        return self.digest.removeprefix("sha256:")


class ImageManifest(_Read):
    media_type: str = Field("", alias="mediaType")
    config: Descriptor
    layers: tuple[Descriptor, ...]


class ImageIndex(_Read):
    manifests: tuple[Descriptor, ...]


def is_index(data: dict[str, Any], content_type: str) -> bool:
    kind = data.get("mediaType") or content_type
    return kind in (INDEX, DOCKER_INDEX) or ("manifests" in data and "layers" not in data)


def read(model: type[_T], data: Any, what: str) -> _T:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise failures.not_wasm(what, f"its manifest cannot be read: {where}: {first['msg']}") from error


def choose(index: ImageIndex, what: str) -> Descriptor:
    """The one manifest of an index that is Wasm. Raises BadInput."""
    wasm = [
        m
        for m in index.manifests
        if m.artifact_type in (WASM_CONFIG, WASM_LAYER)
        or (m.platform is not None and (m.platform.architecture == "wasm" or m.platform.os.startswith("wasi")))
    ]
    if not wasm and len(index.manifests) == 1:
        return index.manifests[0]
    if len(wasm) != 1:
        offers = ", ".join(f"{m.platform.os}/{m.platform.architecture}" if m.platform else "?" for m in index.manifests)
        why = f"it is an index of {len(index.manifests)} images, {len(wasm)} of them Wasm"
        raise failures.not_wasm(what, f"{why} ({offers})" if offers else why)
    return wasm[0]


def component_layer(manifest: ImageManifest, what: str) -> Descriptor:
    """The layer that is the component. Raises BadInput."""
    for kinds in ((WASM_LAYER, OLD_LAYER), (PLAIN_LAYER,)):
        found = [layer for layer in manifest.layers if layer.media_type.partition(";")[0].strip() in kinds]
        if len(found) == 1:
            return found[0]
        if found:
            raise failures.not_wasm(what, f"it has {len(found)} layers of {kinds[0]}, where one is expected")
    kinds_seen = ", ".join(dict.fromkeys(layer.media_type or "no type" for layer in manifest.layers)) or "nothing"
    if any(layer.media_type == PROVIDER_LAYER for layer in manifest.layers):
        raise failures.not_wasm(what, "it is a wasmCloud provider archive", "providers of Trellis are Python classes")
    raise failures.not_wasm(what, f"its layers are {kinds_seen}")
