"""What an actor is trusted with: values that no log, no repr and no error shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

SecretValue: TypeAlias = str | bytes


class Secrets(Mapping[str, SecretValue]):
    """Secrets by name; a copy of what it is made from. Its repr has the names only."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, SecretValue] | None = None) -> None:
        self._values = dict(values or {})

    def __getitem__(self, name: str) -> SecretValue:
        try:
            return self._values[name]
        except KeyError:
            raise KeyError(name) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"<Secrets {', '.join(sorted(self._values)) or 'none'}>"


NONE = Secrets()
