"""The planner: wanted versus seen gives commands. Talks only to the lattice.

The names below are loaded when they are first used, so that `import wadm` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wadm.loop import Manager
    from wadm.manifest import Manifest
    from wadm.reasons import State
    from wadm.resolve import resolve_images
    from wadm.validate import Checked, check

__all__ = ["Checked", "Manager", "Manifest", "State", "check", "resolve_images"]

_HOMES = {
    "Checked": "wadm.validate",
    "Manager": "wadm.loop",
    "Manifest": "wadm.manifest",
    "State": "wadm.reasons",
    "check": "wadm.validate",
    "resolve_images": "wadm.resolve",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'wadm' has no attribute {name!r}")
