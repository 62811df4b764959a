"""A short look at arguments and answers, for people: never at secrets."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from lattice.streams import ByteStream
from lattice.values import Value

WIDTH = 200
"""Characters of a look, at most; what is longer ends with an ellipsis."""

_LEAF = 80
"""Characters of a text or of bytes in it."""

_LOOKED_THROUGH = 4096
"""Characters of a text that are looked through for secrets: more than is shown, since one may begin in what is."""

_MANY = 8
"""Members of a list or record."""

_DEEP = 4

HIDDEN = "***"

_NAME = r"authorization|cookie|passw|secret|token|credential|api[-_]?key|session[-_]?id"
_CONFIDENTIAL = re.compile(_NAME, re.IGNORECASE)
_QUERY = re.compile(rf"([?&][^=&\s]*(?:{_NAME})[^=&\s]*=)[^&\s]*", re.IGNORECASE)


def glimpse(value: Value, secrets: Collection[str | bytes] = ()) -> str:
    """`value` in a line. `secrets` are hidden where they occur, and so is what is named like one."""
    known = [secret.decode(errors="replace") if isinstance(secret, bytes) else secret for secret in secrets]
    text = _text(value, sorted(filter(None, known), key=len, reverse=True), 0)
    return text if len(text) <= WIDTH else f"{text[: WIDTH - 1]}…"


def _text(value: Value, secrets: list[str], depth: int) -> str:
    match value:
        case str():
            return f'"{_leaf(value, secrets)}"'
        case bytes() | bytearray() | memoryview():
            return f'b"{_leaf(bytes(value[:_LOOKED_THROUGH]).decode(errors="replace"), secrets, len(value))}"'
        case ByteStream():
            return "<stream>"
        case Mapping() | list() | tuple() if depth == _DEEP:
            return "…"
        case Mapping():
            inner = [_named(str(key), one, secrets, depth) for key, one in list(value.items())[:_MANY]]
            return "{" + ", ".join(inner + _rest(value)) + "}"
        case (str(name), str() | bytes()) if _CONFIDENTIAL.search(name):
            return f"({_text(name, secrets, depth)}, {HIDDEN})"
        case list() | tuple():
            inner = [_text(one, secrets, depth + 1) for one in value[:_MANY]]
            return "[" + ", ".join(inner + _rest(value)) + "]"
    return _hidden(str(value), secrets)


def _named(name: str, value: Value, secrets: list[str], depth: int) -> str:
    hide = value is not None and _CONFIDENTIAL.search(name)
    return f"{_hidden(name, secrets)}: {HIDDEN if hide else _text(value, secrets, depth + 1)}"


def _rest(value: Mapping[str, Value] | list[Value] | tuple[Value, ...]) -> list[str]:
    return [f"… {len(value) - _MANY} more"] if len(value) > _MANY else []


def _leaf(text: str, secrets: list[str], size: int | None = None) -> str:
    shown = _hidden(text[:_LOOKED_THROUGH], secrets)
    shown = shown.encode("unicode_escape").decode() if not shown.isprintable() else shown
    size = len(text) if size is None else size
    return shown if len(shown) <= _LEAF and size <= _LOOKED_THROUGH else f"{shown[:_LEAF]}… {size} in all"


def _hidden(text: str, secrets: list[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return _QUERY.sub(rf"\1{HIDDEN}", text)
