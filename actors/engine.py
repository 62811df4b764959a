"""One wasmtime engine for all components of a process, and the clock that preempts their guests."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import structlog
from wasmtime import Engine as WasmtimeEngine
from wasmtime import WasmtimeError, wat2wasm
from wasmtime import component as wc

from actors import _ffi
from actors.cache import LIMIT, CompiledCache, default_directory
from actors.compile import TooMuch, compile_apart
from actors.compile import settings as compile_settings
from actors.component import Component, newer_than_served
from actors.limits import size_text
from lattice.errors import BadInput, Finding

log = structlog.get_logger("actors")

GIB = 1024**3

_T = TypeVar("_T")

COMPILE_APART = 4096
"""Bytes of Wasm from which on the compiler gets a process of its own: few enough that no harm can be done in them."""


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """How the engine is made. `pool` instances share preallocated memory and start faster; 0 means no pool.

    Instances beyond that, and all of them where the machine does not give the address space a pool reserves, are
    allocated on demand. Those are limited as well, and more are Busy: each takes about five memory mappings, Linux
    gives a process 65,530 (vm.max_map_count), and a process that has none left dies.
    """

    pool: int = 1000
    on_demand: int = 10_000
    pool_memory: int = 4 * GIB  # bytes: the largest linear memory of an instance in the pool
    tick: float = 0.002  # seconds between the moments at which a running guest may be preempted
    stack: int = 512 * 1024  # bytes of a guest's stack that Wasm itself may use
    optimize: bool = True
    fuel: bool = False  # count instructions, for actors with a limit of them; costs a tenth of a guest's speed or more
    cache: Path | None = None  # where compiled code is kept; None: `default_directory()`
    cache_limit: int = LIMIT  # bytes of compiled code; beyond that the longest unused goes
    largest: int = 256 * 1024**2  # bytes of a component's Wasm; more is not even read
    compile_time: float = 300.0  # seconds for the compiler's own process, before it is given up
    compile_memory: int = 4 * GIB  # bytes for it, likewise; a Python component takes a tenth


class Ticker:
    """Increments the epoch of some engines while guests run. A daemon thread that sleeps when none does."""

    def __init__(self, seconds: float, *engines: int) -> None:
        self.engines = engines
        self._seconds = seconds
        self._awake = threading.Event()
        self._stopped = False
        self._thread: threading.Thread | None = None
        self.busy: set[object] = set()
        """Whoever is inside a poll, at this moment. Add first, then look at `asleep`."""
        self.asleep = True

    def wake(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="epoch", daemon=True)
            self._thread.start()
        self.asleep = False
        self._awake.set()

    def stop(self) -> None:
        self._stopped = True
        self._awake.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        idle = 0
        while not self._stopped:
            time.sleep(self._seconds)
            if self.busy:
                idle = 0
                for engine in self.engines:
                    _ffi.increment_epoch(engine)
                continue
            idle += 1
            if idle < 50:
                continue
            self._awake.clear()
            self.asleep = True
            if self.busy or self._stopped:  # it came in between, and may not have seen that we sleep
                self.asleep = False
                continue
            _ffi.give_back_buffers()
            self._awake.wait()
            idle = 0


class Engine:
    """Compiles and loads components. Make one per process, and `close()` it after its actors."""

    def __init__(self, config: EngineConfig | None = None) -> None:
        self.config = config = config or EngineConfig()
        self.pooled = False
        _ffi.keep_large_buffers()
        self.wasmtime = self._make(config)
        self.address = _ffi.pointer(self.wasmtime)
        self.ticker = Ticker(config.tick, self.address)
        self.workers = ThreadPoolExecutor(max_workers=os.cpu_count() or 2, thread_name_prefix="guest")
        """Where guests go that compute for long, so that the event loop and the other cores stay free."""
        self.compilers = ThreadPoolExecutor(max_workers=os.cpu_count() or 2, thread_name_prefix="compile")
        """Where components are read, compiled and loaded: apart from the threads that file operations need."""
        self.cache = CompiledCache(
            default_directory() if config.cache is None else config.cache,
            f"plain stack={config.stack} optimize={config.optimize} fuel={config.fuel}",
            config.cache_limit,
        )
        self.closed = False
        self.alive = 0
        """Instances that have a place here, or are about to look for one."""
        self._spare: Engine | None = None
        self._sparing = threading.Lock()
        self._loading: dict[str, asyncio.Task[Component]] = {}
        self._loaded: weakref.WeakValueDictionary[str, Component] = weakref.WeakValueDictionary()

    def _make(self, config: EngineConfig) -> WasmtimeEngine:
        settings = compile_settings(config.stack, config.optimize, config.fuel)
        if config.pool > 0:
            room = config.pool * 2 * (max(config.pool_memory, 4 * GIB) + GIB) + config.pool * 8 * 1024**2
            if _ffi.can_reserve(room):
                _ffi.use_pool(settings, pool_settings(config))
                self.pooled = True
            else:
                log.warning("engine.pool_refused", instances=config.pool, bytes=room)
        return WasmtimeEngine(settings)

    async def load(self, source: bytes | Path, name: str = "") -> Component:
        """The component in a file, or in these bytes (Wasm, or its text form). Raises BadInput.

        `name` is what people know it as; unless it is given, the file's path. Compiling happens off the event loop,
        once however many ask at the same time, and not at all when the compiled code is in the cache.
        """
        name = name or (str(source) if isinstance(source, Path) else "<bytes>")
        wasm, digest = await self._apart(_read, source, name, self.config.largest)
        loaded = self._loaded.get(digest)
        if loaded is not None:
            return loaded
        task = self._loading.get(digest)
        if task is None:
            task = asyncio.create_task(self._load(wasm, digest, name), name=f"load {name}")
            self._loading[digest] = task
            task.add_done_callback(lambda _: self._loading.pop(digest, None))
        return await asyncio.shield(task)

    async def _load(self, wasm: bytes, digest: str, name: str) -> Component:
        component = await self._apart(self._ready, wasm, digest, name)
        self._loaded[digest] = component
        return component

    async def on_demand(self, component: Component) -> Component:
        """`component`, which this engine has loaded, once more for instances that find no room in the pool."""
        return await self._apart(self._without_pool, component)

    def _without_pool(self, component: Component) -> Component:
        spare = self._beside_pool()
        # code does not depend on where instances are allocated
        compiled = spare._cached(component.digest)
        if compiled is None:
            compiled = wc.Component.deserialize(spare.wasmtime, component.wasmtime.serialize())
        return Component(spare, compiled, component.digest, component.size, component.name)

    def _beside_pool(self) -> Engine:
        """An engine without a pool, made when first needed, that shares this one's clock and threads."""
        with self._sparing:
            if self._spare is None:
                self._spare = Engine(replace(self.config, pool=0))
                self._spare.ticker, self._spare.workers = self.ticker, self.workers
                self.ticker.engines += (self._spare.address,)
            return self._spare

    async def _apart(self, function: Callable[..., _T], *args: Any) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self.compilers, function, *args)

    def _ready(self, wasm: bytes, digest: str, name: str) -> Component:
        begun = time.perf_counter()
        how = "cache"
        try:
            compiled = self._cached(digest)
            if compiled is None:
                with self.cache.alone(digest):
                    compiled = self._cached(digest)  # by another process, meanwhile
                    if compiled is None:
                        how = "compiled"
                        compiled = self._compile(wasm, digest, name)
        except _TooLargeForPool:
            log.info("component.not_pooled", source=name, digest=digest)
            return self._beside_pool()._ready(wasm, digest, name)
        component = Component(self, compiled, digest, len(wasm), name)
        log.debug("component.loaded", source=name, digest=digest, how=how, seconds=time.perf_counter() - begun)
        return component

    def _cached(self, digest: str) -> wc.Component | None:
        path = self.cache.find(digest)
        if path is None:
            return None
        try:
            return wc.Component.deserialize_file(self.wasmtime, str(path))
        except WasmtimeError as error:
            if _TOO_LARGE in str(error):
                raise _TooLargeForPool from error
            log.warning("cache.damaged", path=str(path), reason=str(error).splitlines()[0])
            self.cache.discard(digest)
            return None

    def _compile(self, wasm: bytes, digest: str, name: str) -> wc.Component:
        try:
            if len(wasm) >= COMPILE_APART:
                config = self.config
                most = config.compile_time, config.compile_memory
                code = compile_apart(wasm, config.stack, config.optimize, config.fuel, *most)
                if code is not None:
                    self.cache.keep(digest, code, name)
                    return self._cached(digest) or wc.Component.deserialize(self.wasmtime, code)
            component = wc.Component(self.wasmtime, wasm)
        except TooMuch as error:
            why = "a component as others are takes seconds, and a fraction of that memory"
            fix = "give its functions less to do each; a hostile component looks like this, too"
            raise BadInput(Finding("TRL-IMG-014", f"{name} cannot be compiled: {error}", why=why, fix=fix)) from error
        except (WasmtimeError, ValueError) as error:
            if _TOO_LARGE in str(error):
                raise _TooLargeForPool from error
            if beyond := _BEYOND.search(str(error)):
                raise BadInput(newer_than_served(f"{name} uses {beyond[1]}")) from error
            raise BadInput(
                Finding(
                    "TRL-IMG-002",
                    f"{name} is not a valid component: {_cause(str(error))}",
                    fix="build it again with a current toolchain; `wasm-tools validate` says more",
                )
            ) from error
        if self.cache.directory is not None:
            self.cache.keep(digest, component.serialize(), name)
        return component

    def close(self) -> None:
        """Stop the clock and the worker threads. Drain the actors first: a guest that still computes traps."""
        self.closed = True
        if self._spare is not None:
            self._spare.closed = True
        self.workers.shutdown(wait=True, cancel_futures=True)
        self.compilers.shutdown(wait=False, cancel_futures=True)
        self.ticker.stop()


_BEYOND = re.compile(r"(\S.*?) requires? the component model (?:async|error-context) feature")
"""How the validator says that a component is of WASI 0.3."""


class _TooLargeForPool(Exception):
    """The component's memories or tables exceed what an instance in the pool may have."""


_TOO_LARGE = "pooling allocator"


def pool_settings(config: EngineConfig) -> dict[str, int]:
    """A pool for `config.pool` components, each of up to dozens of core instances (Python has about 30)."""
    return {
        "total_component_instances": config.pool,
        "total_core_instances": config.pool * 64,
        "total_memories": config.pool * 2,
        "total_tables": config.pool * 8,
        "total_stacks": config.pool,
        "max_component_instance_size": 4 * 1024**2,
        "max_core_instance_size": 4 * 1024**2,
        "max_core_instances_per_component": 1000,
        "max_memories_per_component": 20,
        "max_tables_per_component": 100,
        "max_tables_per_module": 20,
        "max_memories_per_module": 4,
        "max_memory_size": config.pool_memory,
        "table_elements": 100_000,
        # what an instance's slot keeps between two uses is cleared by hand, which for small guests beats the kernel
        "linear_memory_keep_resident": 1024**2,
        "table_keep_resident": 64 * 1024,
    }


_CORE_MODULE = b"\0asm\x01\0\0\0"
_TEXT = re.compile(rb"\s*(?:\(|;;)")
_COMPONENT = b"\0asm\x0d\0\x01\0"


def _read(source: bytes | Path, name: str, largest: int) -> tuple[bytes, str]:
    """The Wasm in `source` and its sha256. Raises BadInput for what is no component."""
    data = _begin_of(source, name, largest + 1) if isinstance(source, Path) else bytes(source)
    if len(data) > largest:
        raise BadInput(
            Finding(
                "TRL-IMG-005",
                f"{name} is larger than the {size_text(largest)} that this host loads",
                fix="strip debug information (`wasm-tools strip`), or raise the host's limit",
            )
        )
    if _TEXT.match(data):
        try:
            data = bytes(wat2wasm(data.decode()))
        except (WasmtimeError, UnicodeDecodeError) as error:
            raise BadInput(Finding("TRL-IMG-002", f"{name}: {_first_lines(str(error), 8)}")) from error
    if data.startswith(_CORE_MODULE):
        raise BadInput(
            Finding(
                "TRL-IMG-002",
                f"{name} is a core Wasm module, not a component",
                why="an actor talks to its host through typed interfaces, which only components have",
                fix="build for wasm32-wasip2, or wrap it: `wasm-tools component new module.wasm -o component.wasm`; "
                "from Python use componentize-py",
            )
        )
    if not data.startswith(_COMPONENT):
        raise BadInput(
            Finding(
                "TRL-IMG-002",
                f"{name} is not WebAssembly: it begins with {data[:8]!r}" if data else f"{name} is empty",
                fix="give a component's .wasm file",
            )
        )
    return data, hashlib.sha256(data).hexdigest()


def _begin_of(path: Path, name: str, most: int) -> bytes:
    """The first `most` bytes of a file."""
    try:
        with path.open("rb") as file:
            return file.read(most)
    except IsADirectoryError as error:
        raise BadInput(Finding("TRL-IMG-001", f"{name} is a directory", fix="name the .wasm file inside it")) from error
    except OSError as error:
        why = f"cannot read {name}: {error.strerror or error}"
        raise BadInput(Finding("TRL-IMG-001", why, fix="build the component first, or correct the path")) from error


def _cause(text: str) -> str:
    """What lies at the bottom of one of wasmtime's errors, as a part of a sentence."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and line.strip() != "Caused by:"]
    return re.sub(r"^\d+: ", "", lines[-1]) if lines else "unknown reason"


def _first_lines(text: str, count: int) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return "\n".join(lines[:count])
