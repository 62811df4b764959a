"""Components for the verbs that run one without a lattice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import components
import pytest


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of compiled code for this test alone."""
    monkeypatch.setenv("TRELLIS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], Path]:
    """Puts one of the components into a file, by the name of its constant."""

    def write(name: str) -> Path:
        file = tmp_path / f"{name.lower()}.wasm"
        file.write_text(getattr(components, name))
        return file

    return write
