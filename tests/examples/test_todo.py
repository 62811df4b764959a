"""What the todo list promises."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from lattice.nats_transport import NatsTransport

pytestmark = [pytest.mark.nats, pytest.mark.toolchain]


async def test_todos_are_kept_changed_and_told_in_the_digest(deployed: Any, nats: NatsTransport, tmp_path: Path):
    digests: asyncio.Queue[Any] = asyncio.Queue()
    await nats.subscribe("todo.digest", lambda message: digests.put_nowait(json.loads(message.data)))
    url = await deployed(
        "todo",
        {
            "/tmp/trellis-todo.db": str(tmp_path / "todo.db"),
            'cronjobs: "digest=0 9 * * 1-5:"': 'cronjobs: "digest=* * * * * *:"',
        },
    )
    async with aiohttp.ClientSession(url) as client:

        async def ask(method: str, path: str, **body: Any) -> tuple[int, Any]:
            async with client.request(method, path, json=body or None) as response:
                return response.status, await response.json()

        beans = {"id": 1, "text": "water the beans", "due": "2001-02-03", "done": False}
        assert await ask("GET", "/todos") == (200, [])
        assert await ask("POST", "/todos", text="water the beans", due="2001-02-03") == (201, beans)
        injected = "'); DROP TABLE todo; --"
        assert (await ask("POST", "/todos", text=injected))[0] == 201
        assert [todo["text"] for todo in (await ask("GET", "/todos"))[1]] == ["water the beans", injected]
        async with asyncio.timeout(20):
            while (digest := await digests.get())["open"] < 2:
                pass
        assert digest == {"open": 2, "late": ["water the beans"], "first": "water the beans"}
        assert await ask("PATCH", "/todos/1", done=True) == (200, {**beans, "done": True})
        assert await ask("DELETE", "/todos/2") == (200, {"deleted": 2})
        assert await ask("DELETE", "/todos/2") == (404, {"error": "there is no todo 2"})
        assert (await ask("POST", "/todos", due="2030-01-01"))[1] == {"error": "a todo needs a `text`"}
        status, said = await ask("PATCH", "/todos/1", due="tomorrow")
        assert (status, said["error"]) == (
            400,
            '`due` cannot be "tomorrow"; there are `text`, `due` (a day) and `done`',
        )
