"""Why something is not as wanted: stable codes, and which failures no retry will mend.

| code        | what                                         | code        | what                                 |
|-------------|----------------------------------------------|-------------|--------------------------------------|
| TRL-PLC-001 | no host satisfies the requirements           | TRL-IMG-001 | the image is not there               |
| TRL-PLC-002 | fewer hosts than wanted                      | TRL-IMG-002 | the image is not what it should be   |
| TRL-PLC-003 | no host on the lattice                       | TRL-IMG-003 | the host may not load the image      |
| TRL-CFG-001 | a configuration is not on the lattice        | TRL-LNK-001 | an import that nothing provides      |
| TRL-OWN-001 | another application has that id              | TRL-LNK-002 | another link is in the way           |
| TRL-RUN-001 | a host could not start it (tried again)      | TRL-PRV-001 | a port is taken                      |
| TRL-RUN-002 | a change is under way                        | TRL-PRV-002 | a provider says it is not well       |
| TRL-POL-001 | a policy said no                             | TRL-RUN-003 | a change waits for somebody          |
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """The state words that people see."""

    READY = "ready"
    PROGRESSING = "progressing"
    DEGRADED = "degraded"
    BLOCKED = "blocked"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Reason:
    """`message` is a full sentence; `fix` a next step, where there is one."""

    code: str
    message: str
    fix: str = ""


NO_FIT = "TRL-PLC-001"
TOO_FEW = "TRL-PLC-002"
NO_HOST = "TRL-PLC-003"
NO_CONFIG = "TRL-CFG-001"
OWNED = "TRL-OWN-001"
RETRYING = "TRL-RUN-001"
UNDER_WAY = "TRL-RUN-002"
PAUSED = "TRL-RUN-003"
IN_THE_WAY = "TRL-LNK-002"
UNWELL = "TRL-PRV-002"

NOT_STARTED = "TRL-PRV-005"
_PASSING = frozenset({RETRYING, UNDER_WAY, UNWELL, NOT_STARTED})
"""Codes of what may mend itself: a back end that is down comes back."""

_CODED = re.compile(r"\b(TRL-[A-Z]+-\d{3})\b")
CODE_PREFIX = re.compile(r"\bTRL-[A-Z]+-\d{3}: ")
_TERMINAL: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (code, re.compile(pattern, re.IGNORECASE))
    for code, pattern in (
        ("TRL-PRV-001", r"already in use|address in use|port \d+ is (taken|in use|busy)|errno 98|eaddrinuse"),
        ("TRL-POL-001", r"policy denied"),
        ("TRL-CFG-001", r"\bconfig(uration)?\b.*(does not exist|not found)"),
        (
            "TRL-LNK-001",
            r"nothing provides|nobody provides|no link (for|provides)|not linked to|unsatisfied import|unknown import"
            r"|matching implementation was not found",
        ),
        (
            "TRL-IMG-003",
            r"file loading is disabled|currently prohibited|not allowed|unauthorized|authentication required",
        ),
        (
            "TRL-IMG-002",
            r"not a (wasm |webassembly )?component|not a valid (wasm|webassembly)|magic (number|header)"
            r"|failed to parse (wasm|webassembly)"
            r"|is a (core )?module|not a provider|unsupported media type",
        ),
        (
            "TRL-IMG-001",
            r"no such (file|image)|image not found|manifest unknown|name unknown|not found in (the )?registry|\b404\b"
            r"|unknown builtin|no builtin|file not found|(image|file|reference) .*(not found|does not exist)",
        ),
    )
)


def terminal(error: str) -> str | None:
    """The reason code of a host's error that will not go away by itself, or None when trying again may help."""
    coded = _CODED.search(error)
    if coded is not None:
        return None if coded[1] in _PASSING else coded[1]
    return next((code for code, pattern in _TERMINAL if pattern.search(error)), None)


_FIX = re.compile(r"; fix: (.*?)(?=; TRL-[A-Z]+-\d{3}: |\Z)", re.DOTALL)


def told(error: str, before: str = "", after: str = "") -> Reason:
    """What a host or a provider says, as a reason: its code, its words as a sentence without that, its way out."""
    text = CODE_PREFIX.sub("", _FIX.sub("", error).strip())
    sentence = text if text.endswith((".", "!", "?")) else f"{text}."
    return Reason(terminal(error) or RETRYING, f"{before}{sentence}{after}", "; ".join(_FIX.findall(error)))
