"""What one actor may use."""

from __future__ import annotations

import re
from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Per invocation, except for the two that say how many there may be at a time.

    `memory` is bytes of linear memory for each memory of the component. A guest that asks for more is refused by the
    engine, which looks to it like a machine out of memory; most then trap, and that trap is reported as LimitExceeded.
    """

    memory: int = 256 * MIB
    execution: float = 30.0  # seconds, waiting included
    concurrent: int = 100  # invocations running at a time
    queue: int = 1024  # invocations waiting for their turn; more are Busy
    table_elements: int = 1_000_000
    instances: int = 1_000  # core instances inside the component
    tables: int = 1_000
    memories: int = 100
    fuel: int | None = None  # Wasm instructions, roughly; needs an engine that counts them

    def __post_init__(self) -> None:
        for name in ("memory", "execution", "concurrent", "table_elements", "instances", "tables", "memories"):
            if getattr(self, name) <= 0:
                raise ValueError(f"the limit {name} must be more than 0, not {getattr(self, name)}")
        if self.queue < 0:
            raise ValueError(f"the limit queue must not be less than 0, not {self.queue}")


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
