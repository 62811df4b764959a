"""What an actor is trusted with. Guests ask by name; no log, no repr and no error shows a value."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from lattice.secrets import SecretValue

Secrets: TypeAlias = Callable[[str], Awaitable[SecretValue | None]]
"""From a name to the value; None for a name that the actor is not trusted with. May raise LatticeError."""


async def no_secrets(name: str) -> SecretValue | None:
    """Of an actor that was given none."""
    return None
