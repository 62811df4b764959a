"""A request through hosts and a provider in processes of their own, as `trellis trace` shows it."""

import asyncio
import json

import aiohttp
import pytest
from processes import start_host
from servers import free_port
from shop import web
from verbs import ended, environment
from worlds import ASKER, SUM, in_time, link, start_http

pytestmark = pytest.mark.nats

REST = "demo:math/asks#ask", "demo:math/ops#add"


async def shown(world, *arguments: str) -> tuple[int | None, str, str]:
    return await ended(*arguments, env=environment(TRELLIS_NATS=world.url, TRELLIS_LATTICE=world.lattice.name))


async def test_a_request_through_three_processes_is_one_waterfall_and_its_calls_can_be_watched(world):
    near = await world.host(name="near")
    await start_host(world._stack, world.url, world.lattice.name, "far")

    async def far():
        replies = await world.lattice.control_all("host", "ping", seconds=0.5, most=2)
        return next((reply.response["id"] for reply in replies if reply.response["friendly_name"] == "far"), None)

    there, port = await in_time(far), free_port()
    (world.folder / "sum.py").write_text(SUM)
    for ends in (("web", "asker", "demo:math", "asks"), ("asker", "store", "demo:math", "ops")):
        assert (await world.ask("link", "put", **link(*ends))).success
    await world.scale(near, "web", world.wasm("web", web()))
    scaled = {"component_id": "asker", "component_ref": world.wasm("asker", ASKER), "count": 2}
    assert (await world.ask("component", "scale", there, **scaled)).success
    provider = {"provider_id": "store", "provider_ref": (world.folder / "sum.py").as_uri()}
    assert (await world.ask("provider", "start", there, **provider)).success
    await start_http(world, near, port)

    async def answered():
        async with aiohttp.ClientSession() as client, client.get(f"http://127.0.0.1:{port}/") as answer:
            return answer.status == 200 and answer.headers["x-trellis-trace"]

    trace = await in_time(answered)
    code, out, err = await shown(world, "trace", trace[:12], "-o", "json")
    assert (code, err) == (0, ""), err
    spans = json.loads(out)["spans"]
    assert [(span["host"], span["kind"], span["function"]) for span in spans[2:]] == [
        ("near", "away", REST[0]),
        ("far", "component", REST[0]),
        ("far", "away", REST[1]),
        ("process of store", "provider", REST[1]),
    ]
    assert [(span["kind"], span["depth"], span["outcome"]) for span in spans[:2]] == [
        ("request", 0, "ok"),
        ("component", 1, "ok"),
    ]
    code, out, err = await shown(world, "trace", "0" * 32)
    assert (code, out) == (1, "")
    assert "error[TRL-TRC-002]: no host remembers a trace that begins with 00000" in err
    watching = asyncio.create_task(shown(world, "tap", "->store", "--values", "-n", "5", "-o", "ndjson"))

    async def watched():
        await answered()
        return watching.done()

    await in_time(watched)
    code, out, err = watching.result()
    assert code == 0, err
    told = json.loads(out.splitlines()[-1])  # of the first, one side may not have known yet that somebody looks
    assert (code, told["target"], told["args"], told["answer"]) == (0, "store", "1, 1", "")
    assert told["answered"]["host"] == "process of store"  # which does not know what is secret, and so shows nothing
