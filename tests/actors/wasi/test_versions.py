"""Every package of WASI in every patch of 0.2: all that a component can import of it, at once, is served."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from actors import Engine
from actors.actor import Actor
from actors.component import STANDARD
from actors.signatures import drafts, served
from lattice import EntityId
from lattice.types import (
    Enum,
    Flags,
    Handle,
    InterfaceType,
    List,
    Option,
    Primitive,
    Record,
    ResourceId,
    Result,
    Tuple,
    Type,
    Variant,
    walk,
)

PACKAGES = [package.removesuffix("/") for package in STANDARD]
PATCHES = (0, 6, 12)
GUESTS_SIDE = ("wasi:cli/run", "wasi:http/incoming-handler")


def handled(interface: InterfaceType) -> set[ResourceId]:
    """The resources that pass through its functions, and its own."""
    kinds = [kind for signature in interface.functions.values() for kind in signature.types()]
    return {
        one.resource for kind in (*kinds, *interface.types.values()) for one in walk(kind) if isinstance(one, Handle)
    }


def needed(package: str) -> Iterator[InterfaceType]:
    """The interfaces of a package, and those whose resources pass through them; owners first."""
    found: dict[str, InterfaceType] = {}

    def take(key: str) -> None:
        if key not in found:
            for resource in handled(served()[key]):
                if resource.interface != key:
                    take(resource.interface)
            found[key] = served()[key]

    for key in served():
        if key.startswith(f"{package}/") and key not in GUESTS_SIDE:
            take(key)
    yield from found.values()


def listed(keyword: str, parts: list[str]) -> str:
    return f"({keyword} {' '.join(parts)})"


def mark(resource: ResourceId) -> str:
    return f"${resource.interface}/{resource.name}"


class Import:
    """One interface, with all of its functions, as a component called $C imports it."""

    def __init__(self, interface: InterfaceType) -> None:
        self.interface = interface
        self.lines: list[str] = []
        self.names: dict[Type, str] = {}
        self.own = sorted((r for r in handled(interface) if r.interface == interface.key), key=mark)
        self.handles: dict[ResourceId, str] = {}
        for resource in sorted(handled(interface), key=mark):
            local = self.handles[resource] = f"$r{len(self.handles)}"
            bound = "(sub resource)"
            if resource not in self.own:
                self.lines.append(f"(alias outer $C {mark(resource)} (type {local}-outer))")
                bound = f"(eq {local}-outer)"
            self.lines.append(f'(export "{resource.name}" (type {local} {bound}))')
        for name, signature in interface.functions.items():
            params = " ".join(f'(param "{param}" {self.spelled(kind)})' for param, kind in signature.params)
            result = "" if signature.result is None else f"(result {self.spelled(signature.result)})"
            self.lines.append(f'(export "{name}" (func {params} {result}))')

    def spelled(self, kind: Type | None) -> str:
        match kind:
            case None:
                return ""
            case Primitive(name=name):
                return name
            case Handle(resource=resource, owned=owned):
                return f"({'own' if owned else 'borrow'} {self.handles[resource]})"
            case List(element=element):
                return f"(list {self.spelled(element)})"
            case Option(payload=payload):
                return f"(option {self.spelled(payload)})"
            case Tuple(elements=elements):
                return f"(tuple {' '.join(map(self.spelled, elements))})"
            case Result(ok=ok, err=None):
                return f"(result {self.spelled(ok)})"
            case Result(ok=ok, err=err):
                return f"(result {self.spelled(ok)} (error {self.spelled(err)}))"
        if kind not in self.names:
            body = self.defined(kind)
            name = f"t{len(self.names)}"
            self.lines.append(f'(type ${name}-body {body}) (export "{name}" (type ${name} (eq ${name}-body)))')
            self.names[kind] = f"${name}"
        return self.names[kind]

    def defined(self, kind: Type) -> str:
        match kind:
            case Record(fields=fields):
                return listed("record", [f'(field "{name}" {self.spelled(of)})' for name, of in fields])
            case Variant(cases=cases):
                return listed("variant", [f'(case "{name}" {self.spelled(of)})' for name, of in cases])
            case Enum(cases=words) | Flags(names=words):
                return listed(type(kind).__name__.lower(), [f'"{word}"' for word in words])
        raise TypeError(kind)

    def text(self, version: str) -> str:
        key = self.interface.key
        body = "\n    ".join(self.lines)
        after = "\n  ".join(f'(alias export ${key} "{r.name}" (type {mark(r)}))' for r in self.own)
        return f'(import "{key}@{version}" (instance ${key}\n    {body}))\n  {after}'


def everything_of(package: str, version: str) -> bytes:
    imports = "\n  ".join(Import(interface).text(version) for interface in needed(package))
    return f"(component $C\n  {imports})".encode()


@pytest.mark.parametrize("package", PACKAGES)
async def test_every_function_of_wasi_is_served_in_patches_of_0_2_early_and_late(wat_engine: Engine, package: str):
    for patch in PATCHES:
        component = await wat_engine.load(everything_of(package, f"0.2.{patch}"))
        actor = Actor(EntityId("subject"), component)
        await actor.prove()
        hows = {function.how for interface in component.describe().imports for function in interface.functions}
        assert hows == {"served"}, f"0.2.{patch}"


async def test_a_draft_that_is_otherwise_is_served_as_it_is(wat_engine: Engine):
    imports = "\n  ".join(Import(interface).text("0.2.0-draft2") for interface in drafts().values())
    component = await wat_engine.load(f"(component $C\n  {imports})".encode())
    await Actor(EntityId("subject"), component).prove()
    described = [function for interface in component.describe().imports for function in interface.functions]
    assert {function.how for function in described} == {"served"}
    assert any("cursor: option<string>" in function.text for function in described)
