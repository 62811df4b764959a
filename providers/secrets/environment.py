"""Secrets in the host's environment: `db-password` is in TRELLIS_SECRET_DB_PASSWORD."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from lattice.secrets import SecretReference, SecretValue
from providers.secrets.field import of_field, unversioned

PREFIX = "TRELLIS_SECRET_"
"""What a manifest's secrets are among: not all that the host was started with is for those who write manifests."""


class EnvironmentSecrets:
    """`prefix` begins the names of those variables that may be asked for."""

    def __init__(self, environment: Mapping[str, str] | None = None, prefix: str = PREFIX) -> None:
        self._environment = os.environ if environment is None else environment
        self._prefix = prefix

    async def __call__(self, reference: SecretReference) -> SecretValue | None:
        unversioned(reference)
        name = self._prefix + re.sub(r"[^A-Za-z0-9]", "_", reference.key).upper()
        value = self._environment.get(name)
        return None if value is None else of_field(value, reference)
