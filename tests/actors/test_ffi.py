"""The border to wasmtime's C API: an upgrade that moves something fails here, and loudly."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from pathlib import Path

import pytest
from guests import COMPUTE, echo
from tests_support import MakeActor, call
from wasmtime import _ffi as capi

from actors import Actor, Engine, EngineConfig, _ffi
from actors.callbacks import CALLERS
from actors.engine import Ticker
from lattice import BadValue, EntityId, Invocation, LatticeError, Value


@pytest.mark.parametrize("symbol", _ffi.SYMBOLS)
def test_every_bound_symbol_exists(symbol: str) -> None:
    assert getattr(capi.dll, symbol)


def resident() -> int:
    """Bytes of this process's memory that are in RAM."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is the allocator's own affair")
async def test_the_memory_of_large_buffers_goes_back_when_guests_rest(actor_of: MakeActor) -> None:
    actor = await actor_of(echo("u8"))
    data = bytes(1024**2)
    assert await actor.handle(call("echo", data)) == data
    kept = resident()
    async with asyncio.timeout(10):
        while resident() > kept - 60 * 1024**2:
            await asyncio.sleep(0.02)


def test_bytes_are_written_and_read_at_any_length() -> None:
    for size in (1, 31, 8192, 8193, 20_000):
        data = bytes(i * 13 % 256 for i in range(size))
        memory = _ffi.buffer(size * _ffi.VAL)()
        _ffi.write_bytes(_ffi.address_of(memory), data)
        assert _ffi.read_bytes(_ffi.address_of(memory), size) == data
        assert set(bytes(memory)[0 :: _ffi.VAL]) == {_ffi.U8}


@pytest.mark.parametrize("function", ["echo", "through"])
async def test_bytes_of_any_length_come_back_from_wherever_they_stand_in_a_value(
    actor_of: MakeActor, function: str
) -> None:
    async def far(invocation: Invocation) -> Value:
        return invocation.args[0]

    actor = await actor_of(echo("(option (tuple (list u8) (list (list u8))))"), imports=far)
    parts = [bytes(i * 7 % 256 for i in range(size)) for size in (0, 1, 255, 256, 257, 8192, 8193, 70_000)]
    sent = [(part, [part, b"between", part]) for part in parts] + [None]
    assert await actor.handle(call(function, sent)) == sent


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody says how much memory there is")
async def test_arguments_that_do_not_fit_half_way_leave_no_memory_behind(actor_of: MakeActor) -> None:
    actor = await actor_of(echo("(tuple (list u8) u8)"))
    large = bytes(1024**2)  # takes 32 MiB on its way

    async def refused(times: int) -> int:
        for _ in range(times):
            with pytest.raises(BadValue, match=r"x\[1\]\[1\]: 256 does not fit u8"):
                await actor.handle(call("echo", [(large, 255), (large, 256)]))
        return resident()

    before = await refused(2)
    assert await refused(5) < before + 64 * 1024**2


def test_an_address_space_beyond_all_bounds_is_not_to_be_had() -> None:
    assert _ffi.can_reserve(1024**2)
    assert not _ffi.can_reserve(2**62)


async def test_an_engine_whose_pool_cannot_be_reserved_allocates_on_demand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_ffi, "can_reserve", lambda _: False)
    engine = Engine(EngineConfig(pool=100, cache=tmp_path))
    assert not engine.pooled
    actor = Actor(EntityId("subject"), await engine.load(COMPUTE.encode()))
    assert await actor.handle(call("divide", 6, 2)) == 3
    engine.close()


async def test_the_clock_sleeps_while_no_guest_runs(wat_engine: Engine) -> None:
    ticker = Ticker(0.0001, wat_engine.address)
    assert ticker.asleep
    ticker.wake()
    assert not ticker.asleep
    while not ticker.asleep:
        await asyncio.sleep(0.001)
    ticker.busy.add(1)
    ticker.wake()
    await asyncio.sleep(0.02)
    assert not ticker.asleep
    ticker.busy.discard(1)
    ticker.stop()
    assert not any(thread.name == "epoch" and thread is ticker._thread for thread in threading.enumerate())


def test_an_engine_that_closes_while_its_ticker_falls_asleep_does_not_wait_for_ever() -> None:
    ticker = Ticker(0.0001)

    class Awake(threading.Event):
        def clear(self) -> None:
            ticker._stopped = True  # the first half of `stop`, at the worst moment
            self.set()
            super().clear()

    ticker._awake = Awake()
    ticker.wake()
    thread = ticker._thread
    assert thread is not None
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
async def test_stores_do_not_leak_however_calls_end(wat_engine: Engine) -> None:
    actor = Actor(EntityId("subject"), await wat_engine.load(COMPUTE.encode()))
    endings = [call("divide", 1, 1), call("trap"), call("divide", 1, 0), call("recurse"), call("divide", "no", 1)]

    async def round_of_calls(count: int) -> None:
        for _ in range(count):
            for invocation in endings:
                try:
                    await actor.handle(invocation)
                except LatticeError:
                    pass
        with pytest.raises(LatticeError):
            await actor.handle(call("spin", deadline=time.monotonic() + 0.005))

    await round_of_calls(50)
    before = resident()
    await round_of_calls(400)
    assert not CALLERS
    assert resident() - before < 16 * 1024**2  # 2000 leaked stores would be far more
