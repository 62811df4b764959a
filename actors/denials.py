"""What a guest asked for and may not have: one event for each, naming what would allow it."""

from __future__ import annotations

import structlog

from actors.guest import Guest

log = structlog.get_logger("actors")


def denied(guest: Guest, interface: str, function: str, grant: str) -> None:
    """Record that `guest` was refused `interface#function`; `grant` says what would allow it."""
    log.warning("guest.denied", actor=guest.actor, interface=interface, function=function, grant=grant)


def link_grant(interface: str) -> str:
    """The grant that a missing link is."""
    return f"a link from this actor to a provider of {interface}"
