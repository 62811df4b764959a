"""What members of a lattice log (`lattice.journal`), as it is read: from batches to the lines that are wanted."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

import click

from trellis.show import seconds
from wadm.manifest import derived

Line: TypeAlias = Mapping[str, Any]
"""As the journal describes it, with `host` and `host_id`."""

LEVELS = ("debug", "info", "warning", "error", "critical")

_COLOURS = ("cyan", "green", "magenta", "blue", "bright_cyan", "bright_green", "bright_magenta", "bright_blue")
SHADES = {"warning": "yellow", "error": "red", "critical": "red", "debug": "bright_black"}
_TEXTS = frozenset({"level", "event", "app", "component", "provider", "trace", "exception"})
"""What a provider's process logs may have these names for anything."""

_SAID_ELSEWHERE = _TEXTS | {"time", "timestamp", "host", "host_id", "cut"}

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Batches:
    """Takes batches, some of them perhaps twice: from the stream, and as they are sent."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}
        """The number of the last batch of each member."""

    def lines(self, raw: bytes) -> Iterator[Line]:
        """The lines of a batch that is new; nothing for what is none."""
        try:
            batch = json.loads(raw)
            id, host, number, lines = batch["id"], batch["host"], int(batch["number"]), batch["lines"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return
        if self._last.get(id, 0) >= number:
            return
        self._last[id] = number
        for line in lines:
            if isinstance(line, dict) and isinstance(line.get("time"), str):
                texts = {key: str(line[key]) for key in _TEXTS if key in line}
                yield {**line, **texts, "host": str(host), "host_id": str(id)}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which lines are shown: those of which all is true that is said here."""

    app: str | None = None
    component: str | None = None
    """A component or provider: its id, or its name in its app."""
    host: str | None = None
    """Its name or id."""
    level: str = "debug"
    """The least."""
    trace: str | None = None
    """How it begins."""

    def __contains__(self, line: Line) -> bool:
        return (
            (self.host is None or self.host in (line["host"], line["host_id"]))
            and _rank(line.get("level")) >= _rank(self.level)
            and (self.trace is None or str(line.get("trace", "")).startswith(self.trace))
            and (self.app is None or self._of_app(self.app, line))
            and (self.component is None or self._of_component(self.component, line))
        )

    @staticmethod
    def _of_app(app: str, line: Line) -> bool:
        """What is not started yet, or gone, belongs to no app; its id tells."""
        return app == line["app"] if "app" in line else _about(line).startswith(derived(app, ""))

    @staticmethod
    def _of_component(name: str, line: Line) -> bool:
        ids = {line.get("component"), line.get("provider")}
        return name in ids or ("app" in line and derived(line["app"], name) in ids)


def _rank(level: object) -> int:
    """What has no level that we know is shown as what needs to be seen."""
    return LEVELS.index(level) if level in LEVELS else len(LEVELS)


def _about(line: Line) -> str:
    return str(line.get("component") or line.get("provider") or "")


class Printer:
    """Lines of text, in columns that grow with what is in them."""

    def __init__(self) -> None:
        self._host = self._about = 0

    def text(self, line: Line) -> str:
        """`12:58:03.120  host-b  shop-api  error    no stock for sku 8812  trace 9be14d0a`"""
        host, about = str(line["host"]), _about(line) or "-"
        self._host, self._about = max(self._host, len(host)), max(self._about, len(about))
        level = str(line.get("level", ""))
        words = [
            clock(line["time"]),
            host.ljust(self._host),
            coloured(about.ljust(self._about), about),
            click.style(f"{level:<7}", fg=SHADES.get(level)),
            _harmless(said(line)),
        ]
        if line.get("trace"):
            words.append(click.style(f"trace {str(line['trace'])[:8]}", dim=True))
        text = "  ".join(words)
        return f"{text}\n{_harmless(line['exception'])}" if "exception" in line else text


def _harmless(text: str) -> str:
    """Anybody's text for a terminal, which must not take parts of it for commands."""
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


def coloured(text: str, whose: str) -> str:
    """In a colour that is always the same for the same member, component or provider."""
    return click.style(text, fg=_COLOURS[zlib.crc32(whose.encode()) % len(_COLOURS)])


def clock(time: str, exactly: str = "milliseconds") -> str:
    """Here's."""
    try:
        return datetime.fromisoformat(time).astimezone().time().isoformat(exactly)
    except ValueError:
        return time


def said(line: Line) -> str:
    """What the line says: a guest's or a process's own words, a request and its answer, or the event."""
    match line:
        case {"event": "component.wrote" | "provider.wrote", "line": str(text)}:
            return text
        case {"event": "guest.logged", "message": message, "context": context}:
            return f"{context}: {message}" if context else str(message)
        case {"event": "http.answered", "method": method, "path": path, "status": status, "seconds": float(took)}:
            return f"{method} {path} {status} {seconds(took)}"
        case {"event": "http.failed", "method": method, "path": path, "status": status, "error": error}:
            return f"{method} {path} {status} {error}"  # what the guest printed has lines of its own
    facts = (f"{key}={value}" for key, value in line.items() if key not in _SAID_ELSEWHERE)
    return " ".join([str(line.get("event", "")), *facts])
