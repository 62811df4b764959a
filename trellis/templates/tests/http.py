import asyncio
from pathlib import Path

from trellis.testing import running

ACTOR = Path(__file__).parents[1] / "{{folder}}"


def test_it_answers():
    async def visit() -> None:
        async with running(ACTOR) as actor:
            assert await actor.get("/") == (200, "hello from {{name}}\n")

    asyncio.run(visit())
