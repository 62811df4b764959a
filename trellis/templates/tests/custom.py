import asyncio
from pathlib import Path

import pytest

from lattice import WitError
from trellis.testing import running

ACTOR = Path(__file__).parents[1] / "{{folder}}"


def test_it_greets():
    async def greet() -> None:
        async with running(ACTOR) as actor:
            assert await actor.call("local:{{name}}/greeter#greet", "Ada") == "hello Ada"
            with pytest.raises(WitError, match="nobody"):
                await actor.call("local:{{name}}/greeter#greet", "")

    asyncio.run(greet())
