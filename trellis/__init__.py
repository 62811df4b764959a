"""The command line `trellis`, and what it needs; `trellis.lattice()` is a whole lattice in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trellis.embedded import lattice

__all__ = ["lattice"]


def __getattr__(name: str) -> Any:
    """On demand: the command line must not wait for what it does not use."""
    if name == "lattice":
        from trellis.embedded import lattice

        return lattice
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
