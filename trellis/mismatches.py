"""A component and a provider that are linked: do both mean the same by the interfaces between them?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from lattice import Finding, Place
from lattice.types import InterfaceType, function_text
from trellis.known import Known
from wadm.manifest import Link


class Ends(NamedTuple):
    """What a component imports and exports, with types."""

    imports: Sequence[InterfaceType]
    exports: Sequence[InterfaceType]


def unanswered(name: str, link: Link, target: Known, ends: Ends | None, place: Place) -> Iterator[Finding]:
    """What the component `name` asks of a provider that does not answer it, or not so."""
    linked = _linked(link)
    if not target.exports.intersection(linked):
        yield Finding(
            "TRL-LNK-005",
            f"`{name}` is linked to `{link.target.name}` for {', '.join(linked)}, which {target.name} does not export",
            place,
            why=f"it exports {', '.join(sorted(target.exports)) or 'nothing'}",
            fix="correct the interfaces, or link to another provider",
        )
        return
    for interface in ends.imports if ends else ():
        if interface.key not in linked or _held_by_hosts(interface):
            continue
        for wanted, other in _different(interface, target.description.functions.get(interface.key, [])):
            has = f"has {other}" if other else "does not answer it"
            said = f"`{name}` imports {wanted} of {interface.key}, and `{link.target.name}` {has}"
            yield _mismatch(said, place, level="error" if other else "warning")  # it may never be called


def uncalled(name: str, link: Link, source: Known, ends: Ends | None, place: Place) -> Iterator[Finding]:
    """What the provider `name` does not call at the other end of its link, or calls with other types than are there."""
    calls, linked = source.description.calls, _linked(link)
    if calls is not None and not calls.keys() & set(linked):
        yield Finding(
            "TRL-LNK-005",
            f"`{name}` is linked to `{link.target.name}` for {', '.join(linked)}, which {source.name} does not call",
            place,
            why=f"it calls {', '.join(sorted(calls)) or 'nothing'}",
            fix="correct the interfaces; a component that calls the provider has the link among its own traits",
        )
    for interface in ends.exports if ends else ():
        if interface.key not in linked or _held_by_hosts(interface):
            continue
        for offered, other in _different(interface, (calls or {}).get(interface.key, [])):
            if other:
                said = f"`{link.target.name}` exports {offered} of {interface.key}, and `{name}` calls {other}"
                yield _mismatch(said, place)


def _linked(link: Link) -> list[str]:
    return [f"{link.namespace}:{link.package}/{interface}" for interface in link.interfaces]


def _held_by_hosts(interface: InterfaceType) -> bool:
    """It passes resources: hosts keep those, and have a form without them for its provider."""
    return any(signature.handles() for signature in interface.functions.values())


def _different(interface: InterfaceType, theirs: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Functions that a component and a provider see differently: as the component has it, and as the provider has it.

    The latter is "" for one that the provider does not have. Where its functions have no types, nothing is known.
    """
    texts = {text.partition(":")[0]: text for text in theirs if ":" in text}
    for function, signature in interface.functions.items() if texts else ():
        own, other = function_text(function, signature), texts.get(function, "")
        if other != own:
            yield own, other


def _mismatch(message: str, place: Place, level: str = "error") -> Finding:
    return Finding(
        "TRL-LNK-009",
        message,
        place,
        why="both were written against a WIT of that name, but not the same one",
        fix="give both the same WIT, and build again",
        level=level,
    )
