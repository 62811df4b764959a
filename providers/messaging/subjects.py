"""Which subjects there can be, and which of them are the lattice's own."""

from __future__ import annotations

RESERVED = frozenset(("$JS", "$KV", "$O", "$SYS", "trellis", "wadm", "wasmbus"))
"""First words of subjects that are the lattice's own: on its connection, no actor speaks or listens there."""


def words(subject: str) -> list[str]:
    """The parts between the dots; none when it cannot be a subject."""
    found = subject.split(".")
    usable = all(found) and not any(c.isspace() or c == "\0" for c in subject) and ">" not in found[:-1]
    return found if usable else []


def internal(subject: str) -> bool:
    """Nothing that an actor on the lattice's own connection should hear."""
    first = subject.partition(".")[0]
    return first in RESERVED or first == "_INBOX"
