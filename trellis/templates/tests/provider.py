import asyncio
from pathlib import Path

import pytest

from lattice import WitError
from providers.load import resolve
from providers.testing import running

PROVIDER = Path(__file__).parents[1] / "{{folder}}" / "provider.py"


def test_it_greets():
    async def greet() -> None:
        async with running(resolve(str(PROVIDER))()) as provider:
            assert await provider.call("local:{{name}}/greeter#greet", "Ada") == "hello Ada"
            with pytest.raises(WitError, match="nobody"):
                await provider.call("local:{{name}}/greeter#greet", "")

    asyncio.run(greet())
