"""The fixture `lattice`: a lattice in the test's process (`trellis.lattice`), one host unless a mark says otherwise.

@pytest.mark.lattice(hosts=3)
async def test_counting(lattice):
    app = await lattice.deploy("app.yaml")

pytest loads this for everybody who has Trellis installed, so nothing is imported before somebody asks for the fixture.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from trellis.embedded import EmbeddedLattice

try:
    from pytest_asyncio import fixture
except ImportError:  # then no test of theirs is async, and none can use the fixture
    fixture = pytest.fixture  # type: ignore[assignment]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "lattice(hosts=1, nats=None): what the fixture `lattice` starts")


@fixture
async def lattice(request: pytest.FixtureRequest) -> AsyncIterator[EmbeddedLattice]:
    """A lattice in this process; the mark `lattice` takes the arguments of `trellis.lattice`."""
    import trellis

    mark = request.node.get_closest_marker("lattice")
    async with trellis.lattice(*mark.args if mark else (), **mark.kwargs if mark else {}) as made:
        yield made
