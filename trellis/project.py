"""What lies in a user's folders: the manifest, and the actors to build."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from trellis.failures import failure

if TYPE_CHECKING:
    from wadm.manifest import Manifest

MANIFESTS = ("app.yaml", "app.yml", "wadm.yaml", "wadm.yml", "app.json")
"""A project's manifest, by preference. `wadm.yaml` is what wasmCloud projects call theirs."""

BUILD_FILE = "trellis.toml"

_SKIPPED = {"node_modules", "target", "build", "dist", "__pycache__", "site-packages"}
_VENV = "pyvenv.cfg"


def manifest_in(folder: Path) -> Path | None:
    """The manifest of the project in `folder`."""
    return next((folder / name for name in MANIFESTS if (folder / name).is_file()), None)


def manifest_at(path: Path) -> Path:
    """The manifest that `path` means: the file itself, or the one in that folder. Raises Failure."""
    if path.is_dir():
        found = manifest_in(path)
        if found is None:
            raise failure(
                "TRL-CLI-002",
                f"there is no app.yaml in {path}",
                fix="name the manifest's file, or begin with  trellis new app NAME",
            )
        return found
    if not path.is_file():
        raise failure("TRL-CLI-002", f"there is no file {path}", fix="name a manifest, or the folder it is in")
    return path


def text_of(file: Path) -> str:
    """What somebody wrote. Raises Failure when it cannot be read."""
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise failure("TRL-CLI-002", f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise failure("TRL-CLI-002", f"{file} is not UTF-8 text", why=str(error), fix="save it as UTF-8") from error


def actor_folders(base: Path) -> Iterator[Path]:
    """`base` and every folder below it that has a trellis.toml, in order of name; hidden and built ones left out."""
    return (folder for folder in source_folders(base) if (folder / BUILD_FILE).is_file())


def source_folders(base: Path) -> Iterator[Path]:
    """`base` and the folders below it, in order of name, but for hidden ones and those that tools write."""
    for folder, below, files in os.walk(base):
        if _VENV in files:
            below.clear()
            continue
        below[:] = sorted(name for name in below if name not in _SKIPPED and not name.startswith("."))
        yield Path(folder)


def urls(manifest: Manifest) -> list[str]:
    """Where the app answers HTTP, as far as its links say: their `address`, and `path` when they have one."""
    found: list[str] = []
    for component in manifest.spec.components:
        for link in component.links():
            if (link.namespace, link.package) != ("wasi", "http") or "incoming-handler" not in link.interfaces:
                continue
            settings = {key: value for config in link.for_source() for key, value in (config.properties or {}).items()}
            address = settings.get("address")
            if address:
                host, _, port = address.rpartition(":")
                host = "127.0.0.1" if host in ("", "0.0.0.0", "[::]") else host
                found.append(f"http://{host}:{port}{settings.get('path', '/')}")
    return found
