"""What a plan asks for: values that the loop turns into control requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from lattice import EntityId, HostId
from lattice.links import LinkDefinition

Key: TypeAlias = tuple[str, ...]
"""What a command is about. Of two commands with one key, only the last one counts."""


@dataclass(frozen=True, slots=True)
class PutConfig:
    name: str
    data: Mapping[str, str]

    @property
    def key(self) -> Key:
        return ("config", self.name)


@dataclass(frozen=True, slots=True)
class DeleteConfig:
    name: str

    @property
    def key(self) -> Key:
        return ("config", self.name)


@dataclass(frozen=True, slots=True)
class PutLink:
    link: LinkDefinition

    @property
    def key(self) -> Key:
        return link_key(self.link)


@dataclass(frozen=True, slots=True)
class DeleteLink:
    link: LinkDefinition

    @property
    def key(self) -> Key:
        return link_key(self.link)


@dataclass(frozen=True, slots=True)
class ScaleComponent:
    """`count` instances at a time on that host; 0 stops it.

    With `update`, what runs there takes the image (the old one serves until the new one is proven); else only a start
    looks at it. `config_data` is what those of its configurations said that say something else by now.
    """

    host: HostId
    id: EntityId
    image: str
    count: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    config: tuple[str, ...] = ()
    limits: Mapping[str, str] | None = None
    update: bool = False
    config_data: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        return ("entity", self.host, self.id)


@dataclass(frozen=True, slots=True)
class StartProvider:
    """Once on that host. With `replace`, in place of the one that runs there, which serves until this one is ready."""

    host: HostId
    id: EntityId
    image: str
    annotations: Mapping[str, str] = field(default_factory=dict)
    config: tuple[str, ...] = ()
    replace: bool = False

    @property
    def key(self) -> Key:
        return ("entity", self.host, self.id)


@dataclass(frozen=True, slots=True)
class StopProvider:
    host: HostId
    id: EntityId

    @property
    def key(self) -> Key:
        return ("entity", self.host, self.id)


Command: TypeAlias = PutConfig | DeleteConfig | PutLink | DeleteLink | ScaleComponent | StartProvider | StopProvider


def link_key(link: LinkDefinition) -> Key:
    return ("link", link.source_id, link.target, link.wit_namespace, link.wit_package, link.name)


DEADLINE = 10.0
"""Seconds that a command has to show its effect; it is not sent again before."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A command on its way: the same one is not sent again before `until`. `tries` counts it in a row."""

    command: Command
    until: float
    tries: int = 1


Pending: TypeAlias = Mapping[Key, Sent]


def sent(pending: Pending, *commands: Command, now: float) -> dict[Key, Sent]:
    """After sending these."""
    after = dict(pending)
    for command in commands:
        old = pending.get(command.key)
        tries = old.tries + 1 if old is not None and old.command == command else 1
        after[command.key] = Sent(command, now + DEADLINE, tries)
    return after


def settled(pending: Pending, key: Key, now: float) -> dict[Key, Sent]:
    """After an effect showed. When the effect was not the wanted one, the same command waits longer each time."""
    old = pending.get(key)
    if old is None:
        return dict(pending)
    pause = 0.0 if old.tries <= 1 else min(DEADLINE, 0.25 * 2.0 ** (old.tries - 2))
    return {**pending, key: Sent(old.command, min(old.until, now + pause), old.tries)}


def expired(pending: Pending, now: float) -> dict[Key, Sent]:
    """Without the commands that nobody has asked for again for a long time."""
    return {key: s for key, s in pending.items() if now < s.until + 6 * DEADLINE}
