"""What the digest promises."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from lattice.nats_transport import NatsTransport

pytestmark = [pytest.mark.nats, pytest.mark.toolchain]


async def test_everything_told_is_in_one_digest_and_in_no_other(deployed: Any, nats: NatsTransport):
    digests: asyncio.Queue[dict[str, list[str]]] = asyncio.Queue()
    await nats.subscribe("digest", lambda message: digests.put_nowait(json.loads(message.data)))
    await deployed("digest", {'cronjobs: "digest=0 9 * * 1-5:"': 'cronjobs: "digest=* * * * * *:"'})
    wanted = {"weather": {"rain", "sun"}, "sports": {"one all"}}
    for about, texts in wanted.items():
        for text in texts:
            await nats.publish(f"news.{about}", text.encode())
    told: list[tuple[str, str]] = []
    async with asyncio.timeout(20):
        while len(told) < 3:
            told += [(about, text) for about, texts in (await digests.get()).items() for text in texts]
    assert sorted(told) == sorted((about, text) for about, texts in wanted.items() for text in texts)
    await nats.publish("news.weather", b"snow")
    async with asyncio.timeout(20):
        assert await digests.get() == {"weather": ["snow"]}, "what was in a digest is in no other"
