"""What configurations leave to each host: values that it has in its environment, or in its files.

| in a value   | is filled with                                                            |
|--------------|---------------------------------------------------------------------------|
| ${env:KEY}   | the variable TRELLIS_CONFIG_KEY of the host, `-` and the like being `_`    |
| ${file:KEY}  | all of the file KEY below the host's folder of configuration               |
| $${...       | ${...: what is meant as it is                                             |

Only what is kept for this purpose is within reach of those who write manifests.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from lattice import BadInput, Finding, LatticeError
from lattice.secrets import SecretBackend, SecretReference
from providers.secrets.environment import EnvironmentSecrets
from providers.secrets.files import FileSecrets

PREFIX = "TRELLIS_CONFIG_"
_REFERENCE = re.compile(r"(?<!\$)\$\{(env|file):([^{}]+)\}")


def refers(value: str) -> bool:
    """Whether a part of it is for the host to fill in."""
    return _REFERENCE.search(value) is not None


class OwnValues:
    """Read anew each time."""

    def __init__(self, folder: Path | None = None, environment: Mapping[str, str] | None = None) -> None:
        self._backends: dict[str, SecretBackend] = {"env": EnvironmentSecrets(environment, PREFIX)}
        if folder is not None:
            self._backends["file"] = FileSecrets(folder)

    async def filled(self, config: dict[str, str]) -> dict[str, str]:
        """With what this host has. Raises BadInput for all that it does not have."""
        found: dict[str, str] = {}
        findings: list[Finding] = []
        for key, value in config.items():
            try:
                found[key] = await self._filled(value) if "${" in value else value
            except (LookupError, LatticeError) as error:
                findings.append(Finding("TRL-CFG-003", f'the value of "{key}" is left to the host: {error.args[0]}'))
        if findings:
            raise BadInput(*findings)
        return found

    async def _filled(self, value: str) -> str:
        parts, end = [], 0
        for match in _REFERENCE.finditer(value):
            parts += [value[end : match.start()], await self._value(match[1], match[2])]
            end = match.end()
        return "".join([*parts, value[end:]]).replace("$${", "${")

    async def _value(self, backend: str, key: str) -> str:
        """Raises LookupError and LatticeError."""
        keeper = self._backends.get(backend)
        if keeper is None:
            raise LookupError(f"it has no folder of configuration for ${{{backend}:{key}}} (--config-dir)")
        value = await keeper(SecretReference(name=key, backend=backend, key=key))
        if value is None:
            raise LookupError(f"it has no ${{{backend}:{key}}}")
        return value if isinstance(value, str) else value.decode("utf-8", "replace")
