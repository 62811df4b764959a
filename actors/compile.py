"""Cranelift in a process of its own: compiling a large component takes seconds and hundreds of megabytes.

`python -m actors.compile STACK OPTIMIZE FUEL` reads Wasm and writes compiled code; it ends with REFUSED, and the reason
on its standard error, when the Wasm is not a valid component.
"""

from __future__ import annotations

import subprocess
import sys

import structlog
from wasmtime import Config, Engine, WasmtimeError
from wasmtime import component as wc

from actors import _ffi

log = structlog.get_logger("actors")

REFUSED = 65  # EX_DATAERR


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


def compile_apart(wasm: bytes, stack: int, optimize: bool, fuel: bool, seconds: float) -> bytes | None:
    """Compiled code, or None when no child process could make it.

    Raises ValueError for an invalid component, and for one that takes longer than `seconds`.
    """
    command = [sys.executable, "-P", "-m", "actors.compile", str(stack), str(int(optimize)), str(int(fuel))]
    try:
        done = subprocess.run(command, input=wasm, capture_output=True, check=False, timeout=seconds)
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"the compiler did not finish within {seconds:g} s") from error
    except OSError as error:
        log.warning("compiler.not_started", reason=str(error))
        return None
    said = done.stderr.decode(errors="replace").strip()
    if done.returncode == REFUSED:
        raise ValueError(said)
    if done.returncode != 0:
        log.warning("compiler.failed", status=done.returncode, reason=said[-500:])
        return None
    return done.stdout


def main() -> int:
    stack, optimize, fuel = int(sys.argv[1]), sys.argv[2] == "1", sys.argv[3] == "1"
    try:
        component = wc.Component(Engine(settings(stack, optimize, fuel)), sys.stdin.buffer.read())
    except WasmtimeError as error:
        sys.stderr.write(str(error))
        return REFUSED
    sys.stdout.buffer.write(component.serialize())
    return 0


if __name__ == "__main__":
    sys.exit(main())
