"""Secrets by reference: what a manifest names, where its value is kept, and who can get it.

A reference is a named configuration like any other, whose name begins with `SECRET_`; wadm puts it, and the value never
passes through there. A back end turns it into the value.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from pydantic import BaseModel, ConfigDict

PREFIX = "SECRET_"
"""How the names of references begin, among those of configurations."""

SecretValue: TypeAlias = str | bytes


class SecretReference(BaseModel):
    """`name` is what the guest asks for; `backend` holds the value under `key`. `policy` is JSON, for the back end."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    backend: str
    key: str
    field: str | None = None
    version: str | None = None
    policy: str = "{}"


SecretBackend: TypeAlias = Callable[[SecretReference], Awaitable[SecretValue | None]]
"""The value, or None when there is none of that key. Raises LatticeError when it cannot be asked."""
