"""What can go wrong between a caller and a target.

    WitError                       an answer: the `err` side of a WIT result
    LatticeError                   everything else
    ├── Unreachable                nobody listens there, or the broker is gone
    ├── NotLinked                  the source has no link for that interface and link name
    ├── UnknownFunction            the target runs, but does not export that function
    ├── Busy                       the target is full; another host may not be
    ├── DeadlineExceeded           the caller's time is over
    ├── Denied                     a policy, or a missing grant, said no
    ├── Refused                    a host will not do what the control interface asked of it (`lattice.client`)
    ├── BadValue                   a value does not fit its WIT type; a ValueError, too
    ├── ProtocolError              bytes that are not what the protocol says
    └── Trap                       the guest (or a provider's code) failed
        └── LimitExceeded          it asked for more than it was given
    BadInput                       something a person wrote is wrong; carries code, place, cause and fix

A LatticeError crosses the lattice as (code, message, details) and is raised on the other side as the same class.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar


class WitError(Exception):
    """The `err` side of a WIT `result`: the callee answered, and the answer is `payload` (a WIT value)."""

    def __init__(self, payload: Any = None) -> None:
        super().__init__(payload)
        self.payload = payload


class LatticeError(Exception):
    """A call that got no answer. `code` is stable and travels on the wire; `details` holds plain values."""

    code: ClassVar[str] = "failed"

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.details: dict[str, Any] = details

    @property
    def message(self) -> str:
        return str(self.args[0])


class Unreachable(LatticeError):
    code = "unreachable"


class NotLinked(LatticeError):
    code = "not-linked"


class UnknownFunction(LatticeError):
    code = "unknown-function"


class Busy(LatticeError):
    code = "busy"


class DeadlineExceeded(LatticeError):
    code = "deadline-exceeded"


class Denied(LatticeError):
    code = "denied"


class BadValue(LatticeError, ValueError):
    code = "bad-value"


class ProtocolError(LatticeError):
    code = "protocol"


class Trap(LatticeError):
    """The guest stopped. `details["output"]` holds the last lines it wrote, where there were any."""

    code = "trap"


class LimitExceeded(Trap):
    """`details["limit"]` names the limit."""

    code = "limit-exceeded"


def _leaves(cls: type[LatticeError]) -> dict[str, type[LatticeError]]:
    found = {cls.code: cls}
    for sub in cls.__subclasses__():
        found |= _leaves(sub)
    return found


def from_wire(code: str, message: str, details: Mapping[str, Any]) -> LatticeError:
    """The error that `code` names; an unknown code (a newer peer) becomes a plain LatticeError."""
    cls = _leaves(LatticeError).get(code, LatticeError)
    error = cls(message)
    error.details.update(details)
    return error


LONGEST_SHOWN = 200
"""Characters of a line of which all is shown."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a file: line and column count from 1; `text` is that line, for the caret."""

    file: str
    line: int
    column: int
    text: str = ""
    length: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"

    def shown(self) -> tuple[str, int]:
        """The part of a long line that the spot is in, and the column of the spot there."""
        if len(self.text) <= LONGEST_SHOWN:
            return self.text, self.column
        begin = max(0, self.column - 1 - LONGEST_SHOWN // 2)
        end = begin + LONGEST_SHOWN
        before, after = "..." if begin else "", "..." if end < len(self.text) else ""
        return f"{before}{self.text[begin:end]}{after}", self.column - begin + len(before)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing wrong (or doubtful) in what a person wrote: what, where, why, and how to mend it."""

    code: str
    message: str
    place: Place | None = None
    hint: str = ""
    why: str = ""
    fix: str = ""
    level: str = "error"  # "error" | "warning"

    def render(self) -> str:
        """The message as people read it, with the line and a caret under the spot."""
        lines = [f"{self.level}[{self.code}]: {self.message}"]
        if self.place is not None:
            lines.append(f"  --> {self.place}")
            if self.place.text:
                text, column = self.place.shown()
                caret = "^" * max(1, min(self.place.length, len(text) - column + 1))
                lines.append(f"  {self.place.line:>4} | {text}")
                lines.append(f"       | {' ' * (column - 1)}{caret} {self.hint}".rstrip())
            elif self.hint:
                lines.append(f"       {self.hint}")
        elif self.hint:
            lines.append(f"  hint: {self.hint}")
        if self.why:
            lines.append(f"  why: {self.why}")
        if self.fix:
            lines.append(f"  fix: {self.fix}")
        return "\n".join(lines)


class BadInput(Exception):
    """A person's input cannot be used. `findings` says everything that is wrong, not only the first."""

    def __init__(self, *findings: Finding) -> None:
        super().__init__("\n".join(f.render() for f in findings))
        self.findings = findings


def failure(error: BaseException) -> str:
    """What went wrong in one line, with code and cause, for events and logs."""
    if isinstance(error, BadInput):
        return "; ".join(
            f"{finding.code}: {finding.message}"
            + (f" ({finding.why})" if finding.why else "")
            + (f"; fix: {finding.fix}" if finding.fix else "")
            for finding in error.findings
        )
    if isinstance(error, LatticeError):
        return error.message
    return f"{type(error).__name__}: {error}"
