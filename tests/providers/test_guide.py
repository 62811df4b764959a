"""docs/providers.md shows what works."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lattice import BadInput, BadValue, WitError
from providers.load import resolve
from providers.provider import Provider
from providers.testing import linked, running

PAGE = (Path(__file__).parents[2] / "docs" / "providers.md").read_text()
SHOUT = "demo:text/transform#shout"


async def test_the_provider_of_the_guide_does_what_the_guide_says(tmp_path: Path):
    file = tmp_path / "shout.py"
    file.write_text(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[0])
    provider = resolve(str(file))()
    async with running(provider, linked(provider, times="2", suffix="?")) as shout:
        assert await shout.call(SHOUT, "hi") == "HIHI?"
        with pytest.raises(WitError, match="there is nothing to shout"):
            await shout.call(SHOUT, "")
        with pytest.raises(BadValue, match='argument "text"'):
            await shout.call(SHOUT, 3)
        with pytest.raises(BadInput, match='"times" input should be less than or equal to 3'):
            await shout.runtime.put_link(linked(provider, source="other", times="4")[0])


def test_every_hook_of_the_guide_is_one():
    table = PAGE.partition("| hook | when |")[2].partition("\n\n")[0]
    hooks = set(re.findall(r"`(\w+)`", "".join(row.split("|")[1] for row in table.splitlines()[2:])))
    assert hooks == {
        name
        for name, method in vars(Provider).items()
        if not name.startswith("_") and name not in ("spawn", "exports", "observe") and callable(method)
    }
