"""What components and providers are trusted with: references among their configurations, resolved by the host's back
ends."""

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
        self.given: set[SecretValue] = set()
        """All values that were handed out, to be hidden from whoever looks at calls."""

    async def of(
        self, id: EntityId, names: Iterable[str], said: Mapping[str, Mapping[str, str]] | None = None
    ) -> Secrets:
        """What a component may ask for: the secrets that the configurations `names` refer to. Raises as `_values`."""
        values = await self._values(id, names, said)

        async def secrets(name: str) -> SecretValue | None:
            return values.get(name)

        return secrets

    async def merged(self, id: EntityId, names: Iterable[str]) -> dict[str, str]:
        """What a provider or one of its links is given: the configurations merged, and each secret under its name.

        Raises as `_values`, and BadInput for a secret that is no text.
        """
        names = tuple(names)
        merged = await self._configs.merged(name for name in names if not name.startswith(PREFIX))
        for name, value in (await self._values(id, names)).items():
            try:
                merged[name] = value if isinstance(value, str) else value.decode()
            except UnicodeDecodeError:
                raise BadInput(
                    Finding("TRL-SEC-001", f'secret `{name}` of "{id}" is no text, as configuration has to be')
                ) from None
        return merged

    async def _values(
        self, id: EntityId, names: Iterable[str], said: Mapping[str, Mapping[str, str]] | None = None
    ) -> dict[str, SecretValue]:
        """By the secrets' own names.

        Raises BadInput with all that cannot be had, LatticeError when a back end cannot be asked.
        """
        values: dict[str, SecretValue] = {}
        findings: list[Finding] = []
        for name in names:
            if not name.startswith(PREFIX):
                continue
            try:
                reference = SecretReference.model_validate(await self._configs.merged([name], said))
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
        return values

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
        self.given.add(value)
        return value
