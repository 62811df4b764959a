"""The same guest in several languages, built by the toolchain of each and run as users run it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from toolchains import BuildFailed, Missing, Toolchains

import actors.wasi  # noqa: F401  registers the interfaces
from actors import Actor, Engine, EngineConfig
from lattice import EntityId, Function, Invocation, Trap, Value
from lattice.http import HANDLE
from lattice.streams import read_body

pytestmark = pytest.mark.toolchain

SUBJECT = EntityId("subject")
SHOUT = Function("demo:text/transform", "shout")
SPOKEN = {"python": "Python", "javascript": "JavaScript", "c": "C"}


@pytest.fixture(scope="session")
def component(pytestconfig: pytest.Config) -> Callable[[str], Path]:
    toolchains = Toolchains(pytestconfig.cache.mkdir("components"))

    def build(guest: str) -> Path:
        try:
            return toolchains.component(guest)
        except Missing as error:
            pytest.skip(str(error))
        except BuildFailed as error:
            pytest.fail(str(error), pytrace=False)

    return build


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    made = Engine(EngineConfig(pool=0))
    yield made
    made.close()


@pytest.fixture
async def deployed(engine: Engine, component: Callable[[str], Path]) -> AsyncIterator[Callable[..., Awaitable[Actor]]]:
    """`await deployed(guest, **Actor's arguments)`."""
    made: list[Actor] = []

    async def deploy(guest: str, **options: Any) -> Actor:
        made.append(Actor(SUBJECT, await engine.load(component(guest)), **options))
        return made[-1]

    yield deploy
    for actor in made:
        await actor.drain()


# zig compiles the whole libc of WASI first, on a machine that it is new to
@pytest.fixture(params=["python", "javascript", pytest.param("c", marks=pytest.mark.slow)])
def language(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def call(function: Function, *args: Value) -> Invocation:
    return Invocation(SUBJECT, function, args, deadline=time.monotonic() + 60)


async def get(actor: Actor, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    """The answer's status and body; with a `body`, to a POST."""
    request = {
        "method": "GET" if body is None else "POST",
        "path-with-query": path,
        "scheme": "http",
        "authority": "example.com",
        "headers": [],
        "body": body or b"",
    }
    answer = await actor.handle(call(HANDLE, request))
    return answer["status"], await read_body(answer["body"])


async def test_a_guest_answers_over_http(deployed, language):
    actor = await deployed(language)
    assert await get(actor, "/") == (200, f"Hello from {SPOKEN[language]}!".encode())


async def test_a_guest_counts_in_a_key_value_store(deployed, language):
    store: dict[tuple[str, str], int] = {}

    async def counter(invocation: Invocation) -> Value:
        bucket, key, by = invocation.args
        store[bucket, key] = store.get((bucket, key), 0) + by
        return store[bucket, key]

    actor = await deployed(language, imports=counter)
    assert [await get(actor, "/count") for _ in range(2)] == [(200, b"1"), (200, b"2")]
    assert store == {("default", "visits"): 2}


async def test_a_guest_imports_and_exports_an_interface_of_its_own(deployed, language):
    async def louder(invocation: Invocation) -> Value:
        assert invocation.function.key == SHOUT.key
        return invocation.args[0].upper()

    actor = await deployed(language, imports=louder)
    assert await actor.handle(call(SHOUT, "grüezi")) == f"GRÜEZI, says {SPOKEN[language]}"


async def test_a_guest_that_fails_traps_with_its_own_words(deployed, language):
    actor = await deployed(language)
    with pytest.raises(Trap) as trap:
        await get(actor, "/fail")
    assert "the guest fails on purpose" in trap.value.details["output"]
    assert trap.value.details["function"].startswith("wasi:http/incoming-handler")


async def test_a_failure_ends_that_call_alone(deployed, language):
    actor = await deployed(language)
    for _ in range(3):
        with pytest.raises(Trap):
            await get(actor, "/fail")
        assert (await get(actor, "/"))[0] == 200


@pytest.mark.slow  # one more component to build and to compile
@pytest.mark.xdist_group("javascript")
async def test_javascript_that_listens_for_fetch_and_fetches_runs_as_it_is(deployed):
    async def upstream(invocation: Invocation) -> Value:
        request = invocation.args[0]
        assert (request["method"], request["authority"]) == ("POST", "upstream.example")
        return {"status": 202, "headers": [], "body": (await read_body(request["body"])).upper()}

    actor = await deployed("fetch", imports=upstream)
    assert await get(actor, "/shout", b"hello") == (200, b"202 HELLO")
    body = bytes(range(256)) * 1000
    assert await get(actor, "/echo", body) == (201, body)
