"""Whether a component means the same by a served function as the host does: compared before anything is called."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from lattice.types import InterfaceType, Primitive, Signature, Type, function_text, text
from lattice.wit import read_wit

WIT = Path(__file__).parent / "wit"
DRAFTS = Path(__file__).parent / "drafts"

SHAPELESS = ("wasi:config/", "wasmcloud:bus/")
"""Packages that had several shapes, all of which are served."""


@cache
def served() -> Mapping[str, InterfaceType]:
    """What guests are built against, by interface without version."""
    return read_wit(WIT)


@cache
def drafts() -> Mapping[str, InterfaceType]:
    """Other drafts of some of them, which are served as well, by interface with version."""
    return {interface.name: interface for interface in read_wit(DRAFTS).values()}


def differing(interface: InterfaceType) -> Iterator[tuple[str, str, str]]:
    """Each function of an imported interface whose types are not those of ours.

    (its name, its text as imported, what the host has instead)
    """
    ours = drafts().get(interface.name) or served().get(interface.key)
    if interface.key.startswith(SHAPELESS):
        return
    if ours is None:
        return
    for name, imported in interface.functions.items():
        offered = ours.functions.get(name)
        if offered is None or _shape(imported) == _shape(offered):
            continue
        shown, ourselves = (
            function_text(name, imported, _names(interface)),
            function_text(name, offered, _names(ours)),
        )
        if shown == ourselves:
            theirs = {kind: named for named, kind in interface.types.items() if ours.types.get(named) != kind}
            others = [f"`{named}`" for kind, named in theirs.items() if kind in set(imported.types())]
            ourselves = f"another {' and '.join(others) or 'type'}"
        yield name, shown, ourselves


def _shape(signature: Signature) -> tuple[list[str], str | None]:
    return [text(kind) for _, kind in signature.params], None if signature.result is None else text(signature.result)


def _names(interface: InterfaceType) -> dict[Type, str]:
    return {kind: name for name, kind in interface.types.items() if not isinstance(kind, Primitive)}
