import asyncio
from pathlib import Path

from trellis.testing import running

ACTOR = Path(__file__).parents[1] / "{{folder}}"


def test_it_counts_its_visits():
    async def visit() -> None:
        async with running(ACTOR, kv=True) as actor:
            assert await actor.get("/") == (200, "visit 1 to {{name}}\n")
            assert await actor.get("/") == (200, "visit 2 to {{name}}\n")

    asyncio.run(visit())
