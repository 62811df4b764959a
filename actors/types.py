"""WIT types as wasmtime reports them about a component."""

from __future__ import annotations

from collections.abc import Mapping

from wasmtime import component as wc
from wasmtime.component._types import ComponentExtern

from actors import _ffi
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
    Signature,
    Tuple,
    Type,
    Unsupported,
    Variant,
    children,
    function_text,
    spelled,
    text,
    walk,
)

__all__ = [
    "MOST_TYPES",
    "Enum",
    "Flags",
    "Handle",
    "InterfaceType",
    "Introspection",
    "List",
    "Option",
    "Primitive",
    "Record",
    "ResourceId",
    "Result",
    "Signature",
    "TooManyTypes",
    "Tuple",
    "Type",
    "Unsupported",
    "Variant",
    "children",
    "function_text",
    "spelled",
    "text",
    "walk",
]

_PRIMITIVES: dict[type, str] = {
    wc.Bool: "bool",
    wc.S8: "s8",
    wc.U8: "u8",
    wc.S16: "s16",
    wc.U16: "u16",
    wc.S32: "s32",
    wc.U32: "u32",
    wc.S64: "s64",
    wc.U64: "u64",
    wc.F32: "f32",
    wc.F64: "f64",
    wc.Char: "char",
    wc.String: "string",
}
_UNSUPPORTED: dict[type, str] = {wc.StreamType: "stream", wc.FutureType: "future", wc.ErrorContext: "error-context"}


MOST_TYPES = 50_000
"""Types inside types that are looked at in one component: real ones have a few thousand, all of WASI imported."""


class TooManyTypes(Exception):
    """Types that double with every level are small in Wasm, but not here."""


class Introspection:
    """Reads wasmtime's type objects. One per component: it remembers which resource is which.

    A resource that one interface `use`s from another shows up in both; equality of wasmtime's ResourceType objects
    tells that they are one. The interface seen first is the one that defines it, because components import in order.
    """

    def __init__(self) -> None:
        self._resources: list[tuple[wc.ResourceType, ResourceId]] = []
        self._left = MOST_TYPES

    def resource(self, found: wc.ResourceType, otherwise: ResourceId) -> ResourceId:
        for known, identity in self._resources:
            if known == found:
                return identity
        self._resources.append((found, otherwise))
        return otherwise

    def signature(self, function: wc.FuncType) -> Signature:
        try:
            params = tuple((name, self.type(kind)) for name, kind in function.params)
            result = function.result
            return Signature(params, None if result is None else self.type(result), _ffi.is_async(function))
        except TypeError:  # a kind of value that wasmtime-py has no class for: maps, fixed-length lists
            return Signature((), Unsupported("a type this version of wasmtime-py does not know"))

    def type(self, kind: wc.ValType) -> Type:
        self._left -= 1
        if self._left < 0:
            raise TooManyTypes
        cls = type(kind)
        if (primitive := _PRIMITIVES.get(cls)) is not None:
            return Primitive(primitive)
        if (name := _UNSUPPORTED.get(cls)) is not None:
            return Unsupported(name)
        match kind:
            case wc.ListType():
                return List(self.type(kind.element))
            case wc.RecordType():
                return Record(tuple((name, self.type(inner)) for name, inner in kind.fields))
            case wc.TupleType():
                return Tuple(tuple(self.type(inner) for inner in kind.elements))
            case wc.VariantType():
                return Variant(tuple((n, None if t is None else self.type(t)) for n, t in kind.cases))
            case wc.EnumType():
                return Enum(tuple(kind.names))
            case wc.OptionType():
                return Option(self.type(kind.payload))
            case wc.ResultType():
                ok, err = kind.ok, kind.err
                return Result(None if ok is None else self.type(ok), None if err is None else self.type(err))
            case wc.FlagsType():
                return Flags(tuple(kind.names))
            case wc.OwnType():
                return Handle(self.resource(kind.ty, ResourceId("", "resource", False)), True)
            case wc.BorrowType():
                return Handle(self.resource(kind.ty, ResourceId("", "resource", False)), False)
            case _:
                return Unsupported(cls.__name__)

    def interface(self, name: str, items: Mapping[str, ComponentExtern], *, imported: bool) -> InterfaceType:
        """The functions, types and resources among `items`; nested interfaces are not looked at."""
        kinds = {item: extern.ty for item, extern in items.items()}
        key = name.partition("@")[0]
        resources = {
            item: self.resource(kind, ResourceId(key, item, imported))
            for item, kind in kinds.items()
            if isinstance(kind, wc.ResourceType)
        }
        types: dict[str, Type] = {}
        for item, kind in kinds.items():
            if isinstance(kind, wc.ValType):
                types[item] = self.type(kind)
        functions = {item: self.signature(kind) for item, kind in kinds.items() if isinstance(kind, wc.FuncType)}
        return InterfaceType(name, functions, types, resources)
