"""What went wrong in a guest, as one of our errors: a sentence, the guest's last output, and where it happened."""

from __future__ import annotations

import re

from actors.guest import Guest
from actors.limits import breach, exceeded, out_of_memory, size_text
from lattice.errors import LatticeError, Trap

BACKTRACE_KEPT = 20
"""Frames."""


def trap_of(guest: Guest, export: str, text: str, stack: int) -> Trap:
    """The error for a guest that wasmtime stopped in `export`, and said `text`. `stack` is its limit in bytes."""
    reason, frames = taken_apart(text)
    output = _output(guest)
    if out_of_memory(text, output):
        limit = guest.limits.memory
        what = f"ran out of memory in {export}: its limit is {size_text(limit)} ({reason})"
        return _told(exceeded(guest.actor, "memory", limit, what), export, output, frames)
    if found := breach(text, guest.limits, stack):
        limit_name, amount, what = found
        return _told(exceeded(guest.actor, limit_name, amount, f"{what} in {export}"), export, output, frames)
    return _told(Trap(f'"{guest.actor}" trapped in {export}: {last_words(output) or reason}'), export, output, frames)


def trap_in_host(guest: Guest, export: str, function: str, cause: BaseException, text: str = "") -> BaseException:
    """The error for a guest that was stopped by `cause`, raised in the host function that it called.

    A Trap is the error itself; anything that is not an Exception is passed through.
    """
    if not isinstance(cause, Exception):
        return cause
    error: Trap
    if isinstance(cause, Trap):
        error = cause
    elif isinstance(cause, LatticeError):
        error = Trap(f'"{guest.actor}" stopped in {export}: {function}: {cause}', cause=cause.code)
    else:
        error = Trap(f'"{guest.actor}" stopped in {export}: {function}: {type(cause).__name__}: {cause}')
    return _told(error, export, _output(guest), taken_apart(text)[1])


def _output(guest: Guest) -> str:
    return guest.stderr.tail() or guest.stdout.tail()


def _told(error: Trap, export: str, output: str, frames: list[str]) -> Trap:
    """With all that is known in its details, where they have nothing yet."""
    if output:
        error.details.setdefault("output", output)
    if frames:
        error.details.setdefault("backtrace", frames[:BACKTRACE_KEPT])
    error.details.setdefault("function", export)
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
