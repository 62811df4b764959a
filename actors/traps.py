"""What went wrong in a guest, as one of our errors: a sentence, the guest's last output, and where it happened."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from actors.limits import breach, exceeded, out_of_memory, size_text
from lattice.errors import LatticeError, LimitExceeded, Trap

if TYPE_CHECKING:
    from actors.instance import Instance

BACKTRACE_KEPT = 20
"""Frames."""


def trap_of(instance: Instance, title: str | None, cause: BaseException | None, text: str = "") -> BaseException:
    """The error for a guest that stopped: because of wasmtime's `text`, or of `cause` in the host function `title`.

    A Trap that a host function raised is the error itself; anything that is not an Exception is passed through.
    """
    if cause is not None and not isinstance(cause, Exception):
        return cause
    actor = instance.guest.actor
    reason, frames = taken_apart(text)
    output = instance.guest.stderr.tail() or instance.guest.stdout.tail()
    error: Trap
    if isinstance(cause, Trap):
        error = cause
    elif cause is not None:
        said = str(cause) if isinstance(cause, LatticeError) else f"{type(cause).__name__}: {cause}"
        error = Trap(f'"{actor}" stopped in {instance.export.title}: {title}: {said}')
        if isinstance(cause, LatticeError):
            error.details["cause"] = cause.code
    elif out_of_memory(text, output):
        limit = instance.limits.memory
        error = LimitExceeded(
            f'"{actor}" ran out of memory in {instance.export.title}: its limit is {size_text(limit)} ({reason})',
            limit="memory",
            amount=limit,
        )
    elif found := breach(text, instance.limits, instance.linker.component.engine.config.stack):
        limit_name, amount, what = found
        error = exceeded(actor, limit_name, amount, f"{what} in {instance.export.title}")
    else:
        error = Trap(f'"{actor}" trapped in {instance.export.title}: {last_words(output) or reason}')
    if output:
        error.details.setdefault("output", output)
    if frames:
        error.details.setdefault("backtrace", frames[:BACKTRACE_KEPT])
    error.details.setdefault("function", instance.export.title)
    return error


_TRACEBACK = re.compile(r"^Traceback \(most recent call last\):\n(?:[ \t].*\n|\n)*(?P<said>\S.*)$", re.MULTILINE)
_THROWN = re.compile(r"^(?P<said>\S[^\n]*)\nStack:\n\s+(?P<place>\S+@\S+:\d+:\d+)$", re.MULTILINE)
_PANIC = re.compile(r"panicked at (?P<place>[^\n:]+:\d+(?::\d+)?):\n(?P<said>[^\n]+)")


def last_words(output: str) -> str:
    """What the guest's own runtime printed as the reason, where it is one we can read: a Python, a Rust or a
    JavaScript guest.

    Wasm only knows that `unreachable` was executed, which is how all of them end.
    """
    if tracebacks := list(_TRACEBACK.finditer(output)):
        return tracebacks[-1]["said"].strip()
    if panics := list(_PANIC.finditer(output)):
        return f"{panics[-1]['said'].strip()} (at {panics[-1]['place']})"
    if thrown := list(_THROWN.finditer(output)):
        return f"{thrown[-1]['said'].strip()} (at {thrown[-1]['place']})"
    return ""


def taken_apart(text: str) -> tuple[str, list[str]]:
    """wasmtime's message as (the reason, the frames, innermost first)."""
    before, _, after = text.partition("wasm backtrace:")
    frames: list[str] = []
    rest: list[str] = []
    for line in after.splitlines():
        stripped = line.strip()
        number, colon, frame = stripped.partition(":")
        if colon and number.isdigit() and "0x" in frame.split("-")[0]:
            frames.append(frame.strip())
        elif stripped:
            rest.append(stripped)
    reasons = [line for line in rest if line not in ("Caused by:",) and not line.startswith("note:")]
    if not reasons:
        reasons = [line.strip() for line in before.splitlines() if line.strip() and line.strip() != "Caused by:"]
    cleaned = [_without_number(line) for line in reasons]
    return (cleaned[-1] if cleaned else "unknown reason"), frames


def _without_number(line: str) -> str:
    number, colon, rest = line.partition(": ")
    return rest if colon and number.isdigit() else line
