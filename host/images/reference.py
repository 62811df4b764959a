"""What an image reference says: a file, an address on the web, or a place in an OCI registry."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from urllib.parse import unquote, urlsplit

from host.images import failures

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_REGISTRY = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?")

DOCKER_HUB = "docker.io"


@dataclass(frozen=True, slots=True)
class FileImage:
    """A file of this machine, or, with `digest` (hexadecimal), that content wherever the lattice has it."""

    path: Path
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class WebImage:
    url: str
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class RegistryImage:
    """`digest` is that of the manifest. Without it and without a tag the tag is `latest`."""

    registry: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    @property
    def selector(self) -> str:
        """What the registry is asked for: the digest where there is one, since a tag may move."""
        return f"sha256:{self.digest}" if self.digest else self.tag or "latest"

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.registry}/{self.repository}{tag}" + (f"@sha256:{self.digest}" if self.digest else "")


Reference: TypeAlias = FileImage | WebImage | RegistryImage


def parse(reference: str) -> Reference:
    """Raises BadInput when it is none of them."""
    if not reference:
        raise failures.malformed(reference, "it is empty", "name the component's file, e.g. file:///app/a.wasm")
    if reference.startswith(("file://", "/", "./", "../")):
        return _file(reference)
    if reference.startswith(("http://", "https://")):
        return _web(reference)
    if reference.startswith("oci://") or "://" not in reference:
        return registry_image(reference)
    scheme = reference.partition("://")[0]
    raise failures.malformed(reference, f"images do not come from {scheme}://", "use file://, https:// or oci://")


def _file(reference: str) -> FileImage:
    plain, digest = _split_digest(reference)
    if not plain.startswith("file://"):
        return FileImage(Path(plain), digest)
    parts = urlsplit(plain)
    if parts.netloc not in ("", "localhost"):
        raise failures.malformed(
            reference, f"file:// names the host {parts.netloc!r}", "write file:///absolute/path.wasm"
        )
    return FileImage(Path(unquote(parts.path)), digest)


def _web(reference: str) -> WebImage:
    plain, digest = _split_digest(reference)
    try:
        parts = urlsplit(plain)
        named = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        named = False
    if not named:
        raise failures.malformed(reference, "it names no server", "write https://HOST/PATH.wasm#sha256:DIGEST")
    if parts.username is not None or parts.password is not None:
        hidden = f"{parts.scheme}://***@{parts.hostname}{parts.path}"
        raise failures.malformed(hidden, "a manifest is no place for a password", "serve it where none is needed")
    return WebImage(plain.partition("#")[0], digest)


def _split_digest(reference: str) -> tuple[str, str | None]:
    """`x#sha256:...` -> (x, the digest in hexadecimal)."""
    plain, mark, digest = reference.rpartition("#sha256:")
    if not mark:
        return reference, None
    if _DIGEST.fullmatch(f"sha256:{digest}") is None:
        raise failures.malformed(reference, f"sha256:{digest} is not a digest", "write 64 hexadecimal digits")
    return plain, digest


def registry_image(reference: str) -> RegistryImage:
    """`[oci://]REGISTRY/REPOSITORY[:TAG][@sha256:DIGEST]`. Raises BadInput."""
    rest = reference.removeprefix("oci://")
    rest, at, digest = rest.partition("@")
    if at and _DIGEST.fullmatch(digest) is None:
        raise failures.malformed(reference, f"{digest!r} is not a digest", "write @sha256: and 64 hexadecimal digits")
    registry, slash, path = rest.partition("/")
    if not slash or not ("." in registry or ":" in registry or registry == "localhost"):
        raise failures.malformed(
            reference,
            "it names no registry",
            f"write ghcr.io/NAME/IMAGE:TAG; of Docker Hub: {DOCKER_HUB}/library/{rest}",
        )
    repository, colon, tag = path.partition(":")
    if _REGISTRY.fullmatch(registry) is None:
        raise failures.malformed(reference, f"{registry!r} is not a registry's name", "write HOST or HOST:PORT")
    if _REPOSITORY.fullmatch(repository) is None or len(repository) > 255:
        raise failures.malformed(
            reference, f"{repository!r} is not a repository's name", "use lower case letters, digits, '-', '_' and '/'"
        )
    if colon and _TAG.fullmatch(tag) is None:
        raise failures.malformed(reference, f"{tag!r} is not a tag", "use letters, digits, '-', '_' and '.'")
    if registry == DOCKER_HUB and "/" not in repository:
        repository = f"library/{repository}"
    return RegistryImage(registry, repository, tag or None, digest.removeprefix("sha256:") or None)
