"""A component, compiled once: what it imports and exports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from wasmtime import component as wc
from wasmtime.component._types import ComponentExtern

from actors import _ffi, types
from actors.host_api import SERVED, HostInterface, host_of
from actors.signatures import differing
from lattice.errors import BadInput, Finding

if TYPE_CHECKING:
    from actors.engine import Engine

STANDARD = ("wasi:cli/", "wasi:clocks/", "wasi:filesystem/", "wasi:http/", "wasi:io/", "wasi:random/", "wasi:sockets/")
"""Packages that toolchains import whether a program uses them or not: what the host lacks of them traps when called."""

SERVED_VERSION = "0.2."
"""How versions of those packages begin that this host serves, whatever follows."""

How = Literal["served", "stubbed", "linked", "refused", "differs", "other version"]
"""The host implements it / it traps when called / it needs a link / no link can carry it / the host has other types."""


_ODD: dict[type, str] = {wc.ModuleType: "a core module", wc.ComponentType: "a component"}
_ODD_INSIDE = _ODD | {wc.ComponentInstanceType: "an instance inside an interface"}

_FEWER = "pass large values as a list of records, or as bytes"


def newer_than_served(problem: str) -> Finding:
    """A component of WASI 0.3: `problem` says what of it is used, and where."""
    return Finding(
        "TRL-IMG-004",
        problem,
        why="streams, futures and async functions belong to WASI 0.3, which is not served yet",
        fix="build for WASI 0.2 (wasm32-wasip2)",
    )


def of_another_wasi(component: str, interface: str) -> Finding:
    """A standard interface (its name with its version) that is imported in a version that is not served."""
    version = interface.partition("@")[2]
    return Finding(
        "TRL-LNK-008",
        f"{component} imports {interface}; this host serves version {SERVED_VERSION}x of it",
        why="that is WASI 0.3, which is not served yet" if version.startswith("0.3.") else "",
        fix="build for WASI 0.2 (wasm32-wasip2)",
    )


@dataclass(frozen=True, slots=True)
class FunctionDescription:
    name: str
    text: str
    how: How | None = None  # None for an export


@dataclass(frozen=True, slots=True)
class InterfaceDescription:
    """One interface as `trellis inspect` shows it. `name` has its version; it is "" for the world's own functions."""

    name: str
    functions: tuple[FunctionDescription, ...]
    types: tuple[str, ...] = ()
    how: How | None = None


@dataclass(frozen=True, slots=True)
class ComponentDescription:
    digest: str
    size: int  # bytes of the .wasm
    imports: tuple[InterfaceDescription, ...]
    exports: tuple[InterfaceDescription, ...]


class Component:
    """Compiled code and its types. Immutable, shared by all actors that run it; `digest` is the sha256 of the .wasm."""

    def __init__(self, engine: Engine, compiled: wc.Component, digest: str, size: int, name: str = "") -> None:
        self.engine = engine
        self.wasmtime = compiled
        self.address = _ffi.pointer(compiled)
        self.digest = digest
        self.size = size
        self.name = name
        seen = types.Introspection()
        kind = compiled.type
        imported = kind.imports(engine.wasmtime)
        try:
            self.imports = _interfaces(engine, seen, imported, imported=True)
            self.exports = _interfaces(engine, seen, kind.exports(engine.wasmtime), imported=False)
        except types.TooManyTypes:
            raise BadInput(
                Finding("TRL-IMG-012", f"{self} has types of more than {types.MOST_TYPES} parts", fix=_FEWER)
            ) from None
        if findings := [*self._unsupported(), *self._not_interfaces(imported)]:
            raise BadInput(*findings)

    def __str__(self) -> str:
        return self.name or "the component"

    def _not_interfaces(self, imported: Mapping[str, ComponentExtern]) -> list[Finding]:
        """Imports that are neither interfaces nor functions."""
        odd = {name: _ODD[type(extern.ty)] for name, extern in imported.items() if type(extern.ty) in _ODD}
        for name, extern in imported.items():
            if isinstance(extern.ty, wc.ComponentInstanceType):
                inside = extern.ty.exports(self.engine.wasmtime)
                odd |= {
                    f"{name}/{part}": _ODD_INSIDE[type(it.ty)]
                    for part, it in inside.items()
                    if type(it.ty) in _ODD_INSIDE
                }
        why = "a host gives a component functions and resources, in interfaces"
        return [
            Finding("TRL-IMG-011", f"{self} imports {what}, {name}", why=why, fix="compose it with what it needs")
            for name, what in odd.items()
        ]

    def __repr__(self) -> str:
        return f"<Component {self.name} {self.digest[:12]}>"

    def _unsupported(self) -> list[Finding]:
        findings = []
        for side, interfaces in (("imports", self.imports), ("exports", self.exports)):
            for interface in interfaces:
                for name, signature in interface.functions.items():
                    if used := signature.unsupported():
                        where = f"{self} {side} {interface.name}#{name}"
                        findings.append(newer_than_served(f"{where}, which uses {', '.join(used)}"))
        return findings

    def export_index(self, interface: str, name: str) -> wc.ExportIndex | None:
        """Where instances have the function; `interface` as the component names it, "" for the world."""
        if not interface:
            return self.wasmtime.get_export_index(name)
        scope = self.wasmtime.get_export_index(interface)
        return None if scope is None else self.wasmtime.get_export_index(name, scope)

    async def on_demand(self) -> Component:
        """The same component for instances outside of the engine's pool."""
        return await self.engine.on_demand(self)

    def needs_links(self) -> list[str]:
        """The interfaces, without version, that an actor of this component must be linked for."""
        return [i.key for i in self.imports if i.functions and how_imported(i) == "linked"]

    def describe(self) -> ComponentDescription:
        """Imports and exports as WIT-like text, and what becomes of each import on this host."""
        return ComponentDescription(
            self.digest,
            self.size,
            tuple(_describe(i, how_imported(i)) for i in self.imports),
            tuple(_describe(i, None) for i in self.exports),
        )


def other_version(interface: types.InterfaceType) -> bool:
    """Whether a standard interface is imported in a version that is not the one served."""
    version = interface.version
    return version is not None and interface.key.startswith(STANDARD) and not version.startswith(SERVED_VERSION)


def how_imported(interface: types.InterfaceType, served: Mapping[str, HostInterface] = SERVED) -> How:
    if other_version(interface):
        return "other version"
    if interface.key in served:
        return "served"
    if interface.key.startswith(STANDARD):
        return "stubbed"
    if interface.resources or any(signature.handles() for signature in interface.functions.values()):
        return "refused"
    return "linked"


def _describe(interface: types.InterfaceType, how: How | None) -> InterfaceDescription:
    names: dict[types.Type, str] = {
        kind: name for name, kind in interface.types.items() if not isinstance(kind, types.Primitive)
    }
    served = host_of(interface)
    others = {name for name, _, _ in differing(interface)} if how == "served" else set()
    functions = []
    for name, signature in interface.functions.items():
        one = how
        if name in others:
            one = "differs"
        elif how == "served" and served is not None and served.find(name) is None:
            one = "stubbed"
        functions.append(FunctionDescription(name, types.function_text(name, signature, names), one))
    shown = [
        f"resource {name}" for name, resource in interface.resources.items() if resource.interface == interface.key
    ]
    shown += [
        f"{name} = {types.spelled(kind, {k: n for k, n in names.items() if n != name})}"
        for name, kind in interface.types.items()
    ]
    return InterfaceDescription(interface.name, tuple(functions), tuple(shown), how)


def _interfaces(
    engine: Engine, seen: types.Introspection, items: Mapping[str, ComponentExtern], *, imported: bool
) -> tuple[types.InterfaceType, ...]:
    found = []
    world: dict[str, ComponentExtern] = {}
    for name, extern in items.items():
        kind = extern.ty
        if isinstance(kind, wc.ComponentInstanceType):
            found.append(seen.interface(name, kind.exports(engine.wasmtime), imported=imported))
        else:
            world[name] = extern
    own = seen.interface("", world, imported=imported)
    return (*found, own) if own.functions or own.resources else tuple(found)


def exported(interfaces: Iterable[types.InterfaceType]) -> list[str]:
    """The functions as people name them, for error messages."""
    return [f"{i.name}#{name}" for i in interfaces for name in i.functions]
