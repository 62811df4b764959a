"""Cranelift in a process of its own: a large component takes it seconds and hundreds of megabytes, and one that means
harm all there is.

`python -m actors.compile STACK OPTIMIZE FUEL MEMORY` reads Wasm and writes compiled code; it ends with REFUSED, and the
reason on its standard error, when the Wasm is not a valid component.
"""

from __future__ import annotations

import subprocess
import sys

import structlog
from wasmtime import Config, Engine, WasmtimeError
from wasmtime import component as wc

from actors import _ffi
from actors.limits import size_text

log = structlog.get_logger("actors")

REFUSED = 65  # EX_DATAERR

_OUT_OF_MEMORY = ("memory allocation of", "MemoryError")
"""What the compiler and Python say before they give up."""


class TooMuch(Exception):
    """The compiler was given up; why, as a clause."""


def settings(stack: int, optimize: bool, fuel: bool = False) -> Config:
    """What compiled code depends on; the engine that runs it is made from the same."""
    config = Config()
    config.epoch_interruption = True
    config.wasm_component_model = True
    config.consume_fuel = fuel
    config.cranelift_opt_level = "speed" if optimize else "none"
    config.max_wasm_stack = stack
    # host functions run on the guest's stack, so there is room for Python beside what Wasm may use
    _ffi.set_stack(config, stack + 1536 * 1024)
    _ffi.without_concurrency(config)
    return config


def compile_apart(wasm: bytes, stack: int, optimize: bool, fuel: bool, seconds: float, memory: int) -> bytes | None:
    """Compiled code, or None when no child process could be started.

    Raises ValueError for an invalid component, TooMuch for one that takes more than `seconds` or bytes of `memory`.
    """
    numbers = (stack, int(optimize), int(fuel), memory)
    command = [sys.executable, "-P", "-m", "actors.compile", *map(str, numbers)]
    try:
        done = subprocess.run(command, input=wasm, capture_output=True, check=False, timeout=seconds)
    except subprocess.TimeoutExpired as error:
        raise TooMuch(f"the compiler did not finish within {seconds:g} s") from error
    except OSError as error:
        log.warning("compiler.not_started", reason=str(error))
        return None
    said = done.stderr.decode(errors="replace").strip()
    if done.returncode == REFUSED:
        raise ValueError(said)
    if any(words in said for words in _OUT_OF_MEMORY):
        raise TooMuch(f"the compiler needs more than {size_text(memory)} of memory")
    if done.returncode < 0:
        raise TooMuch(f"the compiler was killed by signal {-done.returncode}")
    if done.returncode != 0:
        log.warning("compiler.failed", status=done.returncode, reason=said[-500:])
        return None
    return done.stdout


def _limit_memory(size: int) -> None:
    """Where the kernel counts what a process has written to, and not what it has reserved."""
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (size, size))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> int:
    stack, optimize, fuel = int(sys.argv[1]), sys.argv[2] == "1", sys.argv[3] == "1"
    _limit_memory(int(sys.argv[4]))
    try:
        component = wc.Component(Engine(settings(stack, optimize, fuel)), sys.stdin.buffer.read())
    except WasmtimeError as error:
        sys.stderr.write(str(error))
        return REFUSED
    sys.stdout.buffer.write(component.serialize())
    return 0


if __name__ == "__main__":
    sys.exit(main())
