"""Secrets in files: `db/password` is all of DIR/db/password, as Docker and Kubernetes mount them."""

from __future__ import annotations

import asyncio
from pathlib import Path

from lattice import LatticeError
from lattice.secrets import SecretReference, SecretValue
from providers.secrets.field import of_field, unversioned

MOST = 1024 * 1024
"""Bytes of a secret."""


class FileSecrets:
    """Read anew each time. Text when it is UTF-8, else bytes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def __call__(self, reference: SecretReference) -> SecretValue | None:
        unversioned(reference)
        data = await asyncio.to_thread(self._read, reference.key)
        if data is None:
            return None
        try:
            return of_field(data.decode(), reference)
        except UnicodeDecodeError:
            return of_field(data, reference)

    def _read(self, key: str) -> bytes | None:
        """Links are followed, as Kubernetes makes them, within the folder. Raises LatticeError."""
        try:
            folder = self._folder.resolve(strict=True)
            file = (folder / key).resolve()
            if not file.is_relative_to(folder):
                raise LatticeError(f"`{key}` is not within that folder")
            with file.open("rb") as opened:
                data = opened.read(MOST + 1)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except (OSError, ValueError) as error:
            raise LatticeError(f"`{key}` cannot be read: {getattr(error, 'strerror', None) or error}") from error
        if len(data) > MOST:
            raise LatticeError(f"`{key}` is larger than {MOST} bytes")
        return data
