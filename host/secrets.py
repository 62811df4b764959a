"""What components are trusted with: references among their configurations, resolved by the host's back ends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydantic import ValidationError

from actors.secrets import Secrets
from host.configs import Configs
from lattice import BadInput, EntityId, Finding
from lattice.secrets import PREFIX, SecretBackend, SecretReference, SecretValue


class SecretReferences:
    """Fetched when a component starts, so that one that cannot be had is told then, and not to the first caller."""

    def __init__(self, configs: Configs, backends: Mapping[str, SecretBackend]) -> None:
        self._configs = configs
        self._backends = backends

    async def of(self, id: EntityId, names: Iterable[str]) -> Secrets:
        """The secrets that the configurations `names` refer to.

        Raises BadInput with all that cannot be had, LatticeError when a back end cannot be asked.
        """
        values: dict[str, SecretValue] = {}
        findings: list[Finding] = []
        for name in names:
            if not name.startswith(PREFIX):
                continue
            try:
                reference = SecretReference.model_validate(await self._configs.merged([name]))
            except ValidationError:
                findings.append(Finding("TRL-SEC-001", f'the configuration {name} of "{id}" refers to no secret'))
                continue
            found = await self._value(id, reference)
            if isinstance(found, Finding):
                findings.append(found)
            else:
                values[reference.name] = found
        if findings:
            raise BadInput(*findings)

        async def secrets(name: str) -> SecretValue | None:
            return values.get(name)

        return secrets

    async def _value(self, id: EntityId, reference: SecretReference) -> SecretValue | Finding:
        secret = f'secret `{reference.name}` of "{id}"'
        backend = self._backends.get(reference.backend)
        if backend is None:
            return Finding(
                "TRL-SEC-001",
                f"{secret} is kept in `{reference.backend}`, a back end that this host does not have",
                why=f"it has {', '.join(sorted(self._backends)) or 'none'}",
                fix="name another `backend` in the secret's policy",
            )
        value = await backend(reference)
        if value is None:
            return Finding("TRL-SEC-002", f"{secret} is missing: `{reference.backend}` has no `{reference.key}`")
        return value
