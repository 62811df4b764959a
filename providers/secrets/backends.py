"""The back ends that a host has, by the names that manifests' policies give them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lattice import BadInput, Finding
from lattice.secrets import SecretBackend
from providers.secrets.environment import EnvironmentSecrets
from providers.secrets.files import FileSecrets

if TYPE_CHECKING:
    from lattice.lattice import Lattice


async def backends(lattice: Lattice, *, folder: Path | None, key_file: Path | None) -> dict[str, SecretBackend]:
    """`env` always, `files` with a folder, `nats-kv` with the key that opens what is sealed. Raises BadInput."""
    found: dict[str, SecretBackend] = {"env": EnvironmentSecrets()}
    if folder is not None:
        if not folder.is_dir():
            raise _unusable(f"{folder} is not a folder of secrets")
        found["files"] = FileSecrets(folder)
    if key_file is not None:
        from providers.secrets.nats import Keys, SealedSecrets, secrets_of

        try:
            mode, text = key_file.stat().st_mode, key_file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise _unusable(f"the key of secrets {key_file} cannot be read") from error
        if mode & 0o077:
            raise _unusable(f"the key of secrets {key_file} can be read by others than its owner: chmod 600")
        found["nats-kv"] = SealedSecrets(await secrets_of(lattice), Keys.parse(text))
    return found


def _unusable(said: str) -> BadInput:
    return BadInput(Finding("TRL-SEC-003", said, fix="trellis secret keygen makes a key that hosts can use"))
