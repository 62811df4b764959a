"""Random components and random arguments against the engine, in a process of their own.

    python tests/actors/fuzz.py components|arguments SECONDS SEED FOLDER

Anything but a refusal, a trap or an answer is a failure: an exception of another kind, a guest left behind, a process
that dies. What is being tried is in FOLDER/input before it is tried, to be found there when the process is gone.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import guests
import structlog
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from wasmtime import wat2wasm
from wit_types import values, wat, wit_types

import actors.wasi
from actors import Actor, Engine, EngineConfig, Limits, Session
from actors.callbacks import CALLERS
from actors.types import Type
from lattice import BadInput, BadValue, EntityId, Invocation, LatticeError, WitError

ME = EntityId("subject")
LIMITS = Limits(execution=0.1, memory=2**24, concurrent=10)
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

TEXTS = [
    guests.COMPUTE,
    guests.COUNTERS,
    guests.THINGS,
    guests.FOREIGN_RESOURCE,
    guests.STREAMING,
    guests.LARGE_FROM_THE_START,
    guests.caller("wasi:clocks/monotonic-clock@0.2.0", "now", result="u64").replace("(result i32)", "(result i64)"),
    guests.echo("(list (option string))"),
    guests.echo("$person", {"color": '(enum "red" "green")', "person": '(record (field "a" $color) (field "b" u8))'}),
    guests.echo("$shape", {"shape": '(variant (case "a" f64) (case "b") (case "c" (tuple u32 string)))'}),
    guests.echo_beside("(result u8 (error string))"),
    (BENCHMARKS / "hello_http.wat").read_text(),
    (BENCHMARKS / "echo_http.wat").read_text(),
]
TOKEN = re.compile(r'"[^"]*"|[()]|[^\s()"]+')
WORDS = [
    *(
        "u8",
        "s8",
        "u32",
        "s64",
        "f32",
        "char",
        "bool",
        "string",
        "i32",
        "i64",
        "f64",
        "0",
        "1",
        "-1",
        "65536",
        "4294967295",
    ),
    *("(list u8)", "(option u8)", "(result)", "(tuple u8 u8)", "(stream u8)", "(future)", "error-context", "async"),
    *("(own 0)", "(borrow 0)", "(list (list string))", '(flags "a")', '(enum "a")', "func", "instance", "resource"),
]


def mutated_text(chance: random.Random, text: str) -> bytes:
    tokens = TOKEN.findall(text)
    for _ in range(chance.choice([1, 1, 2, 3])):
        at = chance.randrange(len(tokens))
        match chance.randrange(5):
            case 0:
                tokens[at] = chance.choice(WORDS)
            case 1:
                tokens[at] = chance.choice(tokens)
            case 2:
                del tokens[at]
            case 3:
                other = chance.randrange(len(tokens))
                tokens[at], tokens[other] = tokens[other], tokens[at]
            case _:
                kinds = [i for i, token in enumerate(tokens) if token in WORDS]
                tokens[chance.choice(kinds)] = chance.choice(WORDS)
    return " ".join(tokens).encode()


def mutated_bytes(chance: random.Random, wasm: bytes, other: bytes) -> bytes:
    data = bytearray(wasm)
    for _ in range(chance.choice([1, 1, 2, 4])):
        at = chance.randrange(8, len(data))
        match chance.randrange(6):
            case 0:
                data[at] ^= 1 << chance.randrange(8)
            case 1:
                data[at] = chance.choice([0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)])
            case 2:
                del data[at : at + chance.randrange(1, 8)]
            case 3:
                data[at:at] = chance.randbytes(chance.randrange(1, 8))
            case 4:
                start = chance.randrange(8, len(other))
                data[at : at + 16] = other[start : start + chance.randrange(1, 32)]
            case _:
                del data[at:]
        if len(data) <= 9:
            break
    return bytes(data)


async def imports(invocation: Invocation) -> Any:
    return invocation.args[0] if invocation.args else None


GUESSES: list[Any] = [
    0,
    1,
    -1,
    2**32,
    1.5,
    math.nan,
    True,
    None,
    "",
    "a",
    b"x",
    [],
    [1],
    (),
    {},
    {"ok": 1},
    {"a": None},
]


REQUEST = {
    "method": "POST",
    "path-with-query": "/",
    "scheme": "http",
    "authority": "localhost",
    "headers": [("content-type", b"text/plain")],
    "body": b"body",
}


async def attempt(engine: Engine, chance: random.Random, source: bytes) -> str:
    """Load it, and call all it exports with whatever fits, or does not."""
    try:
        actor = Actor(ME, await engine.load(source), imports=imports, limits=LIMITS)
    except BadInput:
        return "refused"
    outcome = "loaded"
    for export in list(actor.exports.values())[:6]:
        for _ in range(2):
            arguments = [chance.choice(GUESSES) for _ in export.signature.params]
            if export.adapter is not None:
                arguments = [REQUEST]
            try:
                await actor.handle(Invocation(ME, export.function, tuple(arguments)))
                async with Session(actor) as session:
                    await session.call(export.function, *arguments)
                outcome = "answered"
            except (LatticeError, WitError):
                pass
    await actor.drain()
    return outcome


async def components(seconds: float, number: int, folder: Path) -> dict[str, int]:
    chance = random.Random(number)
    wasms = [bytes(wat2wasm(text)) for text in TEXTS]
    engine = Engine(EngineConfig(pool=0, cache=folder / "cache", cache_limit=1))
    counts: dict[str, int] = {}
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        which = chance.randrange(len(TEXTS))
        if chance.random() < 0.5:
            source = mutated_text(chance, TEXTS[which])
        else:
            source = mutated_bytes(chance, wasms[which], chance.choice(wasms))
        (folder / "input").write_bytes(source)
        outcome = await attempt(engine, chance, source)
        if CALLERS:
            raise AssertionError(f"{len(CALLERS)} instances were left behind")
        counts[outcome] = counts.get(outcome, 0) + 1
    engine.close()
    return counts


anything: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.just(object),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(max_size=3), inner) | st.tuples(inner, inner) | st.sets(st.text())
    ),
    max_leaves=6,
)


async def arguments(seconds: float, number: int, folder: Path) -> dict[str, int]:
    """Values for a drawn type, drawn without regard for it."""
    engine = Engine(EngineConfig(pool=0, cache=folder / "cache", cache_limit=1))
    loop = asyncio.get_running_loop()
    counts: dict[str, int] = {}
    beside = (0,) * guests.PADDING
    until = time.monotonic() + seconds

    async def one(kind: Type, value: Any) -> None:
        (folder / "input").write_text(f"{kind!r}\n{value!r}", errors="surrogatepass")
        actor = Actor(ME, await engine.load(guests.echo_beside(*wat(kind)).encode()), limits=LIMITS)
        try:
            answer = await actor.handle(Invocation(ME, actor.exports["#echo"].function, (value, *beside)))
        except BadValue:
            outcome = "refused"
        else:
            outcome = "answered"
            again = await actor.handle(Invocation(ME, actor.exports["#echo"].function, (answer[0], *beside)))
            assert repr(again) == repr(answer), "what came back does not survive a second time"
        counts[outcome] = counts.get(outcome, 0) + 1
        assert not CALLERS

    def batch(round_: int) -> Callable[[], None]:
        @seed(number * 1000 + round_)
        @settings(
            max_examples=50,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(st.data())
        def check(data: st.DataObject) -> None:
            kind = data.draw(wit_types)
            value = data.draw(anything | values(kind))
            if time.monotonic() < until:
                asyncio.run_coroutine_threadsafe(one(kind, value), loop).result()

        return check

    round_ = 0
    while time.monotonic() < until:
        await asyncio.to_thread(batch(round_))
        round_ += 1
    engine.close()
    return counts


TARGETS = {"components": components, "arguments": arguments}


def main() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    target, seconds, number, folder = sys.argv[1:]
    counts = asyncio.run(TARGETS[target](float(seconds), int(number), Path(folder)))
    sys.stdout.write(", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items())) + "\n")


if __name__ == "__main__":
    assert actors.wasi.__all__, "the served interfaces are part of the target"
    main()
