"""What the todo list promises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
import pytest

pytestmark = [pytest.mark.nats, pytest.mark.toolchain]


async def test_todos_are_kept_and_changed(deployed: Any, tmp_path: Path):
    url = await deployed("todo", {"/tmp/trellis-todo.db": str(tmp_path / "todo.db")})
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
        assert await ask("PATCH", "/todos/1", done=True) == (200, {**beans, "done": True})
        assert await ask("DELETE", "/todos/2") == (200, {"deleted": 2})
        assert await ask("DELETE", "/todos/2") == (404, {"error": "there is no todo 2"})
        assert (await ask("POST", "/todos", due="2030-01-01"))[1] == {"error": "a todo needs a `text`"}
        status, said = await ask("PATCH", "/todos/1", due="tomorrow")
        assert (status, said["error"]) == (
            400,
            '`due` cannot be "tomorrow"; there are `text`, `due` (a day) and `done`',
        )
