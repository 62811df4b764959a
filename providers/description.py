"""What a provider says of itself: the functions it answers and calls, and the configuration it takes.

Before it runs, its class says so; while it runs, anybody on the lattice may ask it (`published`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import structlog
from pydantic import TypeAdapter

from lattice import DeadlineExceeded, EntityId, Unreachable, subjects
from lattice.lattice import Lattice
from lattice.replies import reply_on
from lattice.transport import Subscription
from lattice.types import InterfaceType, function_text
from providers.exports import declared
from providers.provider import Provider
from providers.schema import model_of, schema_of

log = structlog.get_logger("providers")

ANSWERING = 1.0
"""Seconds that a running provider has to say what it is."""


@dataclass(frozen=True, slots=True)
class Description:
    """`functions`, which it answers, and `calls`, which it makes of the other end of a link, are by interface: with
    types where the WIT is declared, else by name. Configurations are JSON Schemas, or None where any keys are taken."""

    summary: str = ""
    functions: dict[str, list[str]] = field(default_factory=dict)
    calls: dict[str, list[str]] | None = None
    """None where it does not say."""
    config: dict[str, Any] | None = None
    link_config: dict[str, Any] | None = None
    reference: str = ""
    """What it was started from, when it runs."""


def describe(kind: type[Provider], reference: str = "") -> Description:
    wit = declared(kind) or {}
    functions: dict[str, list[str]] = {}
    for key in sorted(kind.exports):
        function = kind.exports[key].function
        functions.setdefault(function.interface, []).extend(_texts(wit, function.interface, [function.name]))
    calls = None
    if kind.calls is not None:
        calls = {name: _texts(wit, name, wit[name].functions if name in wit else ()) for name in kind.calls}
    summary = (kind.__doc__ or kind.__name__).strip().partition("\n")[0]
    return Description(
        summary, functions, calls, schema_of(kind.settings_model), schema_of(kind.link_config), reference
    )


def _texts(wit: Mapping[str, InterfaceType], interface: str, functions: Iterable[str]) -> list[str]:
    typed = wit[interface].functions if interface in wit else {}
    return [function_text(name, typed[name]) if name in typed else name for name in functions]


async def publish(lattice: Lattice, id: EntityId, description: Description) -> Subscription:
    """Answer who asks what the provider `id` is, until the subscription ends."""
    said = json.dumps(asdict(description), default=str).encode()
    subject = subjects.description(lattice.name, id)
    return await reply_on(lattice.transport, subject, lambda _: said, queue=subject)


async def published(lattice: Lattice, id: EntityId) -> Description | None:
    """What the provider that runs as `id`, wherever, says of itself; None when none does, or none says so rightly."""
    try:
        answer = await lattice.transport.request(subjects.description(lattice.name, id), b"", timeout=ANSWERING)
        said = _DESCRIPTION.validate_json(answer.data)
        model_of(said.config), model_of(said.link_config)
    except (Unreachable, DeadlineExceeded):
        return None
    except ValueError as error:
        log.warning("provider.description_unusable", provider=id, error=str(error))
        return None
    return said


_DESCRIPTION = TypeAdapter(Description)
