"""WIT types as plain data, and as people write them.

Types are structural and hashable. A resource is named after the interface that defines it, wherever it is used from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Primitive:
    name: str  # "bool", "u8", ... "string"


@dataclass(frozen=True, slots=True)
class List:
    element: Type


@dataclass(frozen=True, slots=True)
class Record:
    fields: tuple[tuple[str, Type], ...]


@dataclass(frozen=True, slots=True)
class Tuple:
    elements: tuple[Type, ...]


@dataclass(frozen=True, slots=True)
class Variant:
    cases: tuple[tuple[str, Type | None], ...]


@dataclass(frozen=True, slots=True)
class Enum:
    cases: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Option:
    payload: Type


@dataclass(frozen=True, slots=True)
class Result:
    ok: Type | None
    err: Type | None


@dataclass(frozen=True, slots=True)
class Flags:
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ResourceId:
    """A resource by the interface (without version) and name it was defined under; "" for one of the world itself."""

    interface: str
    name: str
    imported: bool = True


@dataclass(frozen=True, slots=True)
class Handle:
    resource: ResourceId
    owned: bool


@dataclass(frozen=True, slots=True)
class Unsupported:
    """A type that wasmtime's C API cannot carry: it would abort the process."""

    name: str  # "stream", "future", "error-context", ...


Type: TypeAlias = Primitive | List | Record | Tuple | Variant | Enum | Option | Result | Flags | Handle | Unsupported


@dataclass(frozen=True, slots=True)
class Signature:
    """`async_` marks the component model's own async functions, which belong to WASI 0.3."""

    params: tuple[tuple[str, Type], ...]
    result: Type | None
    async_: bool = False

    def types(self) -> Iterator[Type]:
        for _, kind in self.params:
            yield from walk(kind)
        if self.result is not None:
            yield from walk(self.result)

    def unsupported(self) -> list[str]:
        """What keeps this function from being called at all: `stream`, `future`, `async func`..."""
        found = {kind.name for kind in self.types() if isinstance(kind, Unsupported)}
        return sorted(found | ({"async func"} if self.async_ else set()))

    def handles(self) -> bool:
        """Whether resources pass through it."""
        return any(isinstance(kind, Handle) for kind in self.types())


@dataclass(frozen=True, slots=True)
class InterfaceType:
    """One imported or exported interface. `name` is as the component says it, version included; "" is the world."""

    name: str
    functions: Mapping[str, Signature] = field(default_factory=dict)
    types: Mapping[str, Type] = field(default_factory=dict)
    resources: Mapping[str, ResourceId] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The name without its version."""
        return self.name.partition("@")[0]

    @property
    def version(self) -> str | None:
        return self.name.partition("@")[2] or None


def children(kind: Type) -> Iterator[Type]:
    match kind:
        case List(element=inner) | Option(payload=inner):
            yield inner
        case Record(fields=fields):
            yield from (inner for _, inner in fields)
        case Tuple(elements=elements):
            yield from elements
        case Variant(cases=cases):
            yield from (inner for _, inner in cases if inner is not None)
        case Result(ok=ok, err=err):
            yield from (inner for inner in (ok, err) if inner is not None)
        case _:
            pass


def walk(kind: Type) -> Iterator[Type]:
    """`kind` and every type inside it."""
    yield kind
    for inner in children(kind):
        yield from walk(inner)


# -- as text


def text(kind: Type, names: Mapping[Type, str] | None = None) -> str:
    """`kind` as WIT writes it; types in `names` by their name."""
    if names and kind in names:
        return names[kind]
    return spelled(kind, names)


def spelled(kind: Type, names: Mapping[Type, str] | None = None) -> str:
    """`kind` in full, whatever its own name; what is inside it goes by `names`."""

    def inner(other: Type | None) -> str:
        return "_" if other is None else text(other, names)

    match kind:
        case Primitive(name=name) | Unsupported(name=name):
            return name
        case List(element=element):
            return f"list<{inner(element)}>"
        case Option(payload=payload):
            return f"option<{inner(payload)}>"
        case Result(ok=None, err=None):
            return "result"
        case Result(ok=ok, err=None):
            return f"result<{inner(ok)}>"
        case Result(ok=ok, err=err):
            return f"result<{inner(ok)}, {inner(err)}>"
        case Tuple(elements=elements):
            return f"tuple<{', '.join(map(inner, elements))}>"
        case Record(fields=fields):
            return f"record {{ {', '.join(f'{n}: {inner(t)}' for n, t in fields)} }}"
        case Variant(cases=cases):
            return f"variant {{ {', '.join(n if t is None else f'{n}({inner(t)})' for n, t in cases)} }}"
        case Enum(cases=names_):
            return f"enum {{ {', '.join(names_)} }}"
        case Flags(names=names_):
            return f"flags {{ {', '.join(names_)} }}"
        case Handle(resource=resource, owned=owned):
            return resource.name if owned else f"borrow<{resource.name}>"


def function_text(name: str, signature: Signature, names: Mapping[Type, str] | None = None) -> str:
    """`get: func(key: string) -> option<string>`"""
    params = ", ".join(f"{param}: {text(kind, names)}" for param, kind in signature.params)
    arrow = "" if signature.result is None else f" -> {text(signature.result, names)}"
    return f"{name}: {'async ' if signature.async_ else ''}func({params}){arrow}"
