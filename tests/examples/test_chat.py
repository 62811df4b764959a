"""What the chat promises."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from lattice.nats_transport import NatsTransport


@asynccontextmanager
async def listening(
    client: aiohttp.ClientSession, url: str, **headers: str
) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
    """The room's events: `await heard()` is the next one, (id, data)."""
    async with client.get(url, headers=headers) as response:
        assert response.headers["content-type"] == "text/event-stream"
        await response.content.readuntil(b"\n\n")  # when to come back

        async def heard() -> tuple[str, Any]:
            async with asyncio.timeout(20):
                lines = (await response.content.readuntil(b"\n\n")).decode().splitlines()
            event = dict(line.split(": ", 1) for line in lines if line)
            return event["id"], json.loads(event["data"])

        yield heard


@pytest.mark.nats
@pytest.mark.toolchain
async def test_what_is_said_reaches_everybody_who_listens(deployed: Any, nats: NatsTransport):
    url = await deployed("chat")
    async with aiohttp.ClientSession() as client:

        async def post(path: str, data: bytes) -> tuple[int, str]:
            async with client.post(f"{url}/{path}", data=data) as response:
                return response.status, await response.text()

        async with (
            listening(client, f"{url}/rooms/lobby/events") as one,
            listening(client, f"{url}/rooms/lobby/events") as two,
        ):
            assert await post("rooms/lobby", "hällo".encode()) == (202, "said\n")
            assert await one() == await two() == ("1", {"text": "hällo"})
            await nats.publish("chat.lobby", b"from any program")
            assert await one() == ("2", {"text": "from any program"})
        async with listening(client, f"{url}/rooms/lobby/events", **{"last-event-id": "1"}) as again:
            assert (await again())[0] == "2"
        assert (await post("rooms/lobby", b""))[0] == 400
        assert (await post("rooms/lobby", b"x" * 5000))[0] == 413
        assert (await post("rooms/NO ROOM", b"x"))[0] == 400
