import asyncio
from pathlib import Path

import pytest

from lattice import WitError
from trellis.testing import running

ACTOR = Path(__file__).parents[1] / "{{folder}}"


def test_it_takes_a_job_and_refuses_nonsense():
    async def tick() -> None:
        async with running(ACTOR) as actor:
            await actor.call("wasmcloud:cron/scheduler#invoke", b'{"job": "sweep"}')
            with pytest.raises(WitError, match="not JSON"):
                await actor.call("wasmcloud:cron/scheduler#invoke", b"?")

    asyncio.run(tick())
