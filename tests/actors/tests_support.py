"""What tests of actors have in common."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from actors import Actor
from lattice import EntityId, Function, Invocation

MakeActor = Callable[..., Awaitable[Actor]]
"""`await actor_of(wat, **options of Actor)`."""


def call(name: str, *args: Any, interface: str = "", **fields: Any) -> Invocation:
    """An Invocation of a function that the actor's world exports."""
    return Invocation(EntityId("subject"), Function(interface, name), args, **fields)
