"""Loading components: once, from the cache when it can, and with a sentence when it cannot."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
import time
from pathlib import Path

import pytest
from guests import COMPUTE, COUNTERS, STREAMING, caller, echo
from tests_support import call
from wasmtime import wat2wasm

from actors import Actor, Engine, EngineConfig
from actors.cache import default_directory
from lattice import BadInput, EntityId


@pytest.fixture
def cached(tmp_path: Path) -> EngineConfig:
    return EngineConfig(pool=0, cache=tmp_path / "compiled")


async def answers(engine: Engine, source: bytes | Path) -> bool:
    actor = Actor(EntityId("subject"), await engine.load(source))
    return bool(await actor.handle(call("divide", 8, 2)) == 4)


def entries(config: EngineConfig) -> list[Path]:
    assert config.cache is not None
    return sorted(config.cache.iterdir())


async def test_a_component_is_compiled_once_for_all_who_ask(cached: EngineConfig) -> None:
    engine = Engine(cached)
    first, second = await asyncio.gather(engine.load(COMPUTE.encode()), engine.load(COMPUTE.encode()))
    assert first is second
    assert await engine.load(COMPUTE.encode()) is first
    assert len(entries(cached)) == 1
    engine.close()


async def test_cancelling_one_who_waits_for_a_component_does_not_hurt_the_other(cached: EngineConfig) -> None:
    engine = Engine(cached)
    one = asyncio.create_task(engine.load(COMPUTE.encode()))
    other = asyncio.create_task(engine.load(COMPUTE.encode()))
    await asyncio.sleep(0)
    one.cancel()
    with pytest.raises(asyncio.CancelledError):
        await one
    assert (await other).size > 0
    engine.close()


async def test_a_new_engine_finds_the_compiled_code(cached: EngineConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    for turn in range(2):
        engine = Engine(cached)
        if turn == 1:
            monkeypatch.setattr(engine, "_compile", None)  # it must not be needed
        assert await answers(engine, COMPUTE.encode())
        engine.close()


@pytest.mark.parametrize("damage", ["empty", "something else", "cut short", "a flipped bit"])
async def test_a_damaged_entry_is_compiled_again(cached: EngineConfig, damage: str) -> None:
    engine = Engine(cached)
    await answers(engine, COMPUTE.encode())
    engine.close()
    (entry,) = entries(cached)
    whole = entry.read_bytes()
    middle = len(whole) // 2
    entry.write_bytes(
        {
            "empty": b"",
            "something else": b"not compiled code",
            "cut short": whole[:middle],
            "a flipped bit": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
        }[damage]
    )
    engine = Engine(cached)
    assert await answers(engine, COMPUTE.encode())
    engine.close()
    assert len(entry.read_bytes()) == len(whole)


async def test_an_entry_that_another_wasmtime_wrote_is_compiled_again(cached: EngineConfig) -> None:
    engine = Engine(cached)
    digest = (await engine.load(COMPUTE.encode())).digest
    engine.cache.keep(digest, b"\x7fELF of another age")
    engine.close()
    engine = Engine(cached)
    assert await answers(engine, COMPUTE.encode())
    engine.close()


async def test_engines_that_differ_do_not_share_code(cached: EngineConfig) -> None:
    for config in (cached, EngineConfig(pool=0, cache=cached.cache, optimize=False)):
        engine = Engine(config)
        assert await answers(engine, COMPUTE.encode())
        engine.close()
    assert len(entries(cached)) == 2


async def test_the_cache_belongs_to_its_owner_alone(cached: EngineConfig) -> None:
    assert cached.cache is not None
    cached.cache.mkdir(mode=0o777)
    cached.cache.chmod(0o777)
    Engine(cached).close()
    assert stat.S_IMODE(cached.cache.stat().st_mode) == 0o700


async def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    engine = Engine(EngineConfig(pool=0, cache=tmp_path / "file" / "compiled"))
    assert await answers(engine, COMPUTE.encode())
    engine.close()


def test_the_place_of_the_cache_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRELLIS_CACHE", str(tmp_path))
    assert default_directory() == tmp_path / "compiled"
    monkeypatch.delenv("TRELLIS_CACHE")
    assert default_directory().parts[-2:] == ("trellis", "compiled")


async def test_a_large_component_is_compiled_in_a_process_of_its_own(
    cached: EngineConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.engine.COMPILE_APART", 1)
    engine = Engine(cached)
    before = os.times().children_user
    assert await answers(engine, COMPUTE.encode())
    assert os.times().children_user > before
    assert len(entries(cached)) == 1
    with pytest.raises(BadInput, match="not a valid component"):
        await engine.load(b"\0asm\x0d\0\x01\0 and then nonsense")
    engine.close()


def with_functions(count: int) -> str:
    """A component whose core module has this many functions, each of them some work for the compiler."""
    body = "".join("(local.set 0 (i32.mul (i32.add (local.get 0) (local.get 1)) (i32.const 77)))" for _ in range(12))
    functions = "\n".join(f"(func $f{i} (param i32 i32) (result i32) {body} (local.get 0))" for i in range(count))
    return f"""(component
  (core module $m {functions} (export "run" (func $f0)))
  (core instance $i (instantiate $m))
  (func (export "run") (param "a" u32) (param "b" u32) (result u32) (canon lift (core func $i "run"))))"""


@pytest.mark.parametrize("apart", [False, True])
async def test_compiling_does_not_hold_up_the_event_loop(
    cached: EngineConfig, monkeypatch: pytest.MonkeyPatch, apart: bool
) -> None:
    wasm = bytes(wat2wasm(with_functions(4000)))
    monkeypatch.setattr("actors.engine.COMPILE_APART", 1 if apart else 2 * len(wasm))
    engine = Engine(cached)
    loading = asyncio.create_task(engine.load(wasm))
    lags: list[float] = []
    begun = last = time.perf_counter()
    while not loading.done():
        await asyncio.sleep(0.001)
        now = time.perf_counter()
        lags.append(now - last)
        last = now
    await loading
    assert max(lags) < max(0.1, (last - begun) / 4)
    engine.close()


LOADER = """
import asyncio, sys
from pathlib import Path
import structlog
from actors import Engine, EngineConfig

async def main():
    engine = Engine(EngineConfig(pool=0, cache=Path(sys.argv[1])))
    compile = engine._compile
    def noticed(*args):
        print("compiled", flush=True)
        return compile(*args)
    engine._compile = noticed
    sys.stdin.readline()
    await engine.load(Path(sys.argv[2]))
    engine.close()

structlog.configure(processors=[lambda *_: (_ for _ in ()).throw(structlog.DropEvent)])
asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="files are not locked there")
async def test_processes_that_want_the_same_component_compile_it_once(cached: EngineConfig, tmp_path: Path) -> None:
    source = tmp_path / "large.wasm"
    source.write_bytes(wat2wasm(with_functions(2000)))
    command = [sys.executable, "-c", LOADER, str(cached.cache), str(source)]
    pipe = asyncio.subprocess.PIPE
    loaders = [await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe) for _ in range(3)]
    said = await asyncio.gather(*[loader.communicate(b"go\n") for loader in loaders])
    assert [loader.returncode for loader in loaders] == [0, 0, 0]
    assert b"".join(out for out, _ in said) == b"compiled\n"


# -- refusals


async def refusal(engine: Engine, source: bytes | Path) -> BadInput:
    with pytest.raises(BadInput) as caught:
        await engine.load(source)
    return caught.value


async def test_a_missing_file_is_named(wat_engine: Engine, tmp_path: Path) -> None:
    refused = await refusal(wat_engine, tmp_path / "absent.wasm")
    assert refused.findings[0].code == "TRL-IMG-001"
    assert "absent.wasm: No such file" in str(refused)
    assert "is a directory" in str(await refusal(wat_engine, tmp_path))


async def test_a_core_module_is_told_from_a_component(wat_engine: Engine) -> None:
    refused = await refusal(wat_engine, bytes(wat2wasm("(module)")))
    assert refused.findings[0].code == "TRL-IMG-002"
    assert "wasm-tools component new" in refused.findings[0].fix


@pytest.mark.parametrize("data", [b"", b"#!/bin/sh", b"\0asm\x02\0\0\0"])
async def test_something_that_is_not_wasm_is_refused(wat_engine: Engine, data: bytes) -> None:
    assert (await refusal(wat_engine, data)).findings[0].code == "TRL-IMG-002"


async def test_a_broken_component_is_refused(wat_engine: Engine) -> None:
    broken = bytes(wat2wasm(COMPUTE))[:-7]
    assert (await refusal(wat_engine, broken)).findings[0].code == "TRL-IMG-002"
    assert "expected" in str(await refusal(wat_engine, b"(component (nonsense))"))


async def test_a_component_with_streams_is_refused_before_it_could_abort_the_process(wat_engine: Engine) -> None:
    refused = await refusal(wat_engine, STREAMING.encode())
    assert "uses `stream`" in str(refused)
    assert "WASI 0.2" in refused.findings[0].fix


async def test_a_component_larger_than_the_host_loads_is_not_read(tmp_path: Path) -> None:
    engine = Engine(EngineConfig(pool=0, cache=tmp_path, largest=1024))
    sparse = tmp_path / "huge.wasm"
    with sparse.open("wb") as file:
        file.truncate(1024**3)
    refused = await refusal(engine, sparse)
    assert refused.findings[0].code == "TRL-IMG-005"
    assert "huge.wasm is larger than the 1 KiB that this host loads" in str(refused)
    assert (await refusal(engine, b"\0asm\x0d\0\1\0" + bytes(1024))).findings[0].code == "TRL-IMG-005"
    engine.close()


async def test_a_compiler_that_takes_too_long_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.engine.COMPILE_APART", 1)
    engine = Engine(EngineConfig(pool=0, cache=tmp_path, compile_time=0.01))
    assert "did not finish within 0.01 s" in str(await refusal(engine, COMPUTE.encode()))
    engine.close()


def bomb(loops: int, variables: int) -> str:
    """A small component that is much to compile: every loop carries every variable around."""
    changed = "".join(f"(local.set {n} (i32.add (local.get {n}) (i32.const 1)))" for n in range(variables))
    body = "(loop " * loops + changed + "(br_if 0 (local.get 0)))" * loops
    return f"(component (core module (func (local {'i32 ' * variables}) {body})))"


async def test_a_compiler_that_needs_too_much_memory_is_given_up_alone(tmp_path: Path) -> None:
    wasm = bytes(wat2wasm(bomb(200, 1000)))
    assert len(wasm) < 12_000
    engine = Engine(EngineConfig(pool=0, cache=tmp_path, compile_memory=64 * 1024**2))
    (finding,) = (await refusal(engine, wasm)).findings
    assert finding.code == "TRL-IMG-014"
    assert finding.message == "<bytes> cannot be compiled: the compiler needs more than 64 MiB of memory"
    assert await answers(engine, COMPUTE.encode())
    engine.close()


# -- what it is


async def test_a_component_describes_what_it_imports_and_exports(wat_engine: Engine) -> None:
    import test_host_functions  # noqa: F401  (serves test:host/counters)

    described = (await wat_engine.load(COUNTERS.encode())).describe()
    counters = next(i for i in described.imports if i.name == "test:host/counters")
    assert counters.how == "served"
    assert counters.types == ("resource counter",)
    assert [f.text for f in counters.functions] == [
        "[constructor]counter: func(start: u32) -> counter",
        "[method]counter.add: func(self: borrow<counter>, n: u32) -> u32",
        "[static]counter.merge: func(a: counter, b: counter) -> counter",
    ]
    world = next(i for i in described.exports if i.name == "")
    assert "given: func(c: counter) -> u32" in [f.text for f in world.functions]

    linked = (await wat_engine.load(caller("acme:shop/prices@1.0.0", "now", result="u32").encode())).describe()
    assert [(i.name, i.how) for i in linked.imports] == [("acme:shop/prices@1.0.0", "linked")]


async def test_types_are_written_as_wit_writes_them(wat_engine: Engine) -> None:
    shape = {
        "color": '(enum "red" "green")',
        "shape": '(variant (case "dot") (case "disc" (tuple f64 $color)) (case "maybe" (option (list u8))))',
        "answer": '(record (field "ok" (result u8 (error $shape))) (field "may" (flags "read" "write")))',
    }
    (far, *_) = (
        (await wat_engine.load(echo("(option string)", {k: shape[k] for k in ("color", "shape")}).encode()))
        .describe()
        .imports
    )
    assert far.types == (
        "color = enum { red, green }",
        "shape = variant { dot, disc(tuple<f64, color>), maybe(option<list<u8>>) }",
    )
    assert far.functions[0].text == "echo: func(x: list<option<string>>) -> list<option<string>>"
