"""Waiting for an application to become what its manifest says, and telling what happens meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lattice.errors import DeadlineExceeded
from trellis.planner import Planner
from trellis.show import ends, placed, state

PAUSE = 0.05
"""Seconds between two looks."""

QUIET = 5.0
"""Seconds without news after which it is said what is being waited for."""

SETTLED = 1.0
"""Seconds that a bad state must last to be believed: the manager may not have looked at the lattice yet."""

STUCK = ("TRL-PLC-001", "TRL-PLC-002", "TRL-PLC-003")
"""Reasons of a degraded app that will not go away by waiting."""

App = Mapping[str, Any]
"""How one application stands, as the manager tells it (`wadm.status.described`)."""


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that became ready, or that now stands in the way."""

    kind: str
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """How waiting ended. `app` is the last that was seen of it; None when nothing was."""

    end: str  # "ready" | "stuck" | "late"
    seconds: float
    app: App | None = None
    first: Mapping[str, float] = field(default_factory=dict)
    """Seconds until the first instance of each component ran."""


def parts(app: App) -> Iterator[tuple[str, str, str, str, Mapping[str, str] | None]]:
    """(kind, name, state, text, reason) of every config, link, provider and component: what comes first, first."""
    for config in app.get("configs", ()):
        text = "" if config["managed"] else "not ours"
        yield "config", config["name"], "ready" if config["present"] else "progressing", text, None
    for link in app.get("links", ()):
        yield "link", ends(link), link["state"], interfaces(link), link["reason"]
    for kind in ("provider", "component"):
        for one in app.get("components", ()):
            if one["kind"] == kind:
                yield kind, one["name"], one["state"], placed(one), one["reason"]


def interfaces(link: Mapping[str, Any]) -> str:
    """`wasi:keyvalue/store, atomics`"""
    first, *rest = link["interfaces"] or ["?"]
    return ", ".join([first, *(name.partition("/")[2] for name in rest)])


def news(before: App | None, now: App) -> list[Line]:
    """What `now` shows that `before` did not. Pure."""
    old = {} if before is None else {(kind, name): (word, text) for kind, name, word, text, _ in parts(before)}
    found = []
    for kind, name, word, text, reason in parts(now):
        was, said = old.get((kind, name), ("", ""))
        if word == "ready":
            if (was, said) != (word, text):
                found.append(Line(kind, name, text))
        elif word in ("blocked", "failed", "degraded") and was != word:
            found.append(Line(kind, name, f"{state(word)}: {reason['message'] if reason else 'no reason is known'}"))
        elif kind == "component" and said and text != said and not text.startswith("0/"):
            found.append(Line(kind, name, text))
    return found


BAD = ("failed", "blocked", "degraded", "progressing")
"""States with a reason, the worst first."""


def reasons(app: App) -> list[Mapping[str, str]]:
    """Each reason once, the worst parts' first."""
    known: dict[str, Mapping[str, str]] = {}
    for word in BAD:
        for _, _, its, _, reason in parts(app):
            if its == word and reason is not None:
                known.setdefault(reason["message"], reason)
    return list(known.values())


def worst(app: App) -> str | None:
    """The name of the component, provider or link (`a -> b`) that is worst; None when all are ready."""
    found = [(BAD.index(word), name) for kind, name, word, _, _ in parts(app) if word in BAD and kind != "config"]
    return min(found, key=lambda one: one[0])[1] if found else None


async def until_ready(
    planner: Planner,
    app: str,
    current: Callable[[App], bool],
    timeout: float,
    say: Callable[[Line], None],
    before: App | None = None,
) -> Outcome:
    """Look until the app is ready, cannot become so, or `timeout` seconds are over.

    `current` says whether a status is about what was asked for, and not still about what was before. What `before`
    shows is not news.
    """
    begun = told = time.monotonic()
    seen: App | None = None
    first: dict[str, float] = {}
    bad_since: float | None = None
    was_ready = False
    while True:
        now = time.monotonic()
        try:
            found = await planner.app(app)
        except DeadlineExceeded:
            found = None  # it is busy: what it does next counts
        if found is not None and current(found):
            seen = found
            for one in found["components"]:
                if one["running"]:
                    first.setdefault(one["name"], now - begun)
            lines = news(before, found)
            before = found
            for line in lines:
                say(line)
                told = now
            if found["state"] == "ready" and was_ready:  # once may be how it stood before the manager's next plan
                return Outcome("ready", now - begun, found, first)
            was_ready = found["state"] == "ready"
            if not hopeless(found):
                bad_since = None
            elif bad_since is None:
                bad_since = now
            elif now - bad_since >= SETTLED:
                return Outcome("stuck", now - begun, found, first)
        if now - begun >= timeout:
            return Outcome("late", now - begun, seen, first)
        if now - told >= QUIET:
            told = now
            waiting = [r["message"] for r in reasons(seen)] if seen is not None else ["the manager has not begun"]
            for message in waiting[:3]:
                say(Line("waiting", app, message))
        await asyncio.sleep(PAUSE)


async def until_deployed(
    planner: Planner,
    app: str,
    version: str,
    manifest: Mapping[str, Any],
    timeout: float,
    say: Callable[[Line], None],
    before: App | None = None,
) -> Outcome:
    """`until_ready`, with that version, which is `manifest`."""
    parts = {(part["name"], part["properties"].get("image")) for part in manifest["spec"]["components"]}
    images = {(name, image) for name, image in parts if image}

    def current(found: App) -> bool:
        there = {(one["name"], one["image"]) for one in found["components"]}
        return found.get("version") == version and there == images

    return await until_ready(planner, app, current, timeout, say, before)


def hopeless(app: App) -> bool:
    """Waiting alone will not make it ready."""
    if app["state"] in ("blocked", "failed"):
        return True
    found = reasons(app)
    return app["state"] == "degraded" and bool(found) and all(r["code"] in STUCK for r in found)
