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
    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._environment = environment

    async def __call__(self, reference: SecretReference) -> SecretValue | None:
        unversioned(reference)
        name = PREFIX + re.sub(r"[^A-Za-z0-9]", "_", reference.key).upper()
        value = self._environment.get(name)
        return None if value is None else of_field(value, reference)
