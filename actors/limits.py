"""What one actor may use."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields

from lattice.errors import LimitExceeded

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Per invocation, except for the two that say how many there may be at a time.

    A breach ends that invocation alone, with LimitExceeded: `details["limit"]` is the name of the limit here, "stack"
    or "copied"; `details["amount"]` is how much there was. Two breaches have errors of their own, with the same
    details: too many calls at a time are Busy, and time that is over is DeadlineExceeded.

    `memory` is bytes of linear memory for each memory of the component. A guest that asks for more is refused by the
    engine, which looks to it like a machine out of memory; most then trap, and that trap is reported as LimitExceeded.
    The same goes for tables. What WebAssembly's stack may take is the engine's affair (`EngineConfig.stack`), and how
    much a call may copy between guest and host is wasmtime's (COPIED).
    """

    memory: int = 256 * MIB
    execution: float = 30.0  # seconds, waiting included
    concurrent: int = 100  # invocations running at a time
    queue: int = 1024  # invocations waiting for their turn; more are Busy
    table_elements: int = 1_000_000
    core_instances: int = 1_000  # inside the component
    tables: int = 1_000
    memories: int = 100
    fuel: int | None = None  # Wasm instructions, roughly; needs an engine that counts them (`EngineConfig.fuel`)
    handles: int = 2_000  # resources of the host that a guest holds at a time: streams, files, fields...
    buffered: int = 64 * MIB  # bytes a guest has written into streams and nobody has read
    output: int = 16 * MIB  # bytes printed to stdout, and to stderr, that are passed on as lines

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "queue" and value is not None and value <= 0:
                raise ValueError(f"the limit {field.name} must be more than 0, not {value}")
        if self.queue < 0:
            raise ValueError(f"the limit queue must not be less than 0, not {self.queue}")


COPIED = 128 * MIB
"""Bytes of the host's memory that the values of one call may take: wasmtime's own limit, which the C API cannot move.

A byte of a `list<u8>` takes 32 of them.
"""


def exceeded(actor: str, limit: str, amount: int, what: str) -> LimitExceeded:
    """The error for `what` the actor did beyond `limit`: a clause with a verb."""
    return LimitExceeded(f'"{actor}" {what}', limit=limit, amount=amount)


def size_text(size: int) -> str:
    """`268435456` -> `256 MiB`"""
    for unit, name in ((1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB")):
        if size >= unit:
            return f"{size / unit:.4g} {name}"
    return f"{size} bytes"


_REFUSED = re.compile(r"memory minimum size of (?P<pages>\d+) pages exceeds memory limits|memory minimum size")
_OUT_OF_MEMORY = re.compile(
    r"memory allocation of \d+ bytes failed"  # Rust
    r"|MemoryError"  # Python
    r"|out of memory|OutOfMemory|Out of memory"  # C, Go, JavaScript
    r"|std::bad_alloc|bad_alloc"  # C++
    r"|handle_alloc_error|rust_oom|alloc_error_handler|abortOnOOM|ReportOutOfMemory|PyErr_NoMemory"  # in backtraces
)


def out_of_memory(trap: str, output: str) -> bool:
    """Whether a trap looks like the end of a guest that was refused memory.

    The engine tells the guest (`memory.grow` returns -1), not us, so this reads what guests do about it: the message
    their runtime prints, or the function it dies in. A guest that traps on a failed allocation without either is
    reported as a plain trap.
    """
    return bool(_REFUSED.search(trap) or _OUT_OF_MEMORY.search(trap) or _OUT_OF_MEMORY.search(output))


_BREACHES = (
    (re.compile("instance count too high"), "core_instances", "core instances"),
    (re.compile("memory count too high"), "memories", "memories"),
    (re.compile("table count too high"), "tables", "tables"),
    (re.compile("table minimum size of .* exceeds table limits"), "table_elements", "elements in a table"),
    (re.compile("all fuel consumed"), "fuel", "units of fuel"),
)


def breach(trap: str, limits: Limits, stack: int) -> tuple[str, int, str] | None:
    """The limit that a trap's text is about: its name, its amount, and what the guest did, up to "in its function"."""
    for pattern, name, unit in _BREACHES:
        if pattern.search(trap):
            amount = getattr(limits, name)
            return name, amount, f"needed more than its limit of {amount} {unit}"
    if "call stack exhausted" in trap:
        return "stack", stack, f"recursed too deeply: it ran out of its {size_text(stack)} of stack"
    if "fuel allocated for hostcalls" in trap:
        return "copied", COPIED, f"passed values of more than {size_text(COPIED)} at once between guest and host"
    return None
