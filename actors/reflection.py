"""What a component exports, as plain data, so that a caller on the other side of the lattice can read its types.

Every actor answers the function `EXPORTS` with it. A type is written

    "u8", "string"...                     a primitive, by its name
    {"list": T}  {"option": T}            T is a type, or null for none
    {"tuple": [T, ...]}  {"result": [T, T]}
    {"record": [[name, T], ...]}  {"variant": [[name, T], ...]}
    {"enum": [name, ...]}  {"flags": [name, ...]}
    {"own": [interface, name]}  {"borrow": [interface, name]}      a handle of a resource
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from actors import types
from actors.types import InterfaceType, Signature, Type
from lattice.errors import ProtocolError
from lattice.names import Function
from lattice.values import Value

EXPORTS = Function("trellis:reflection/types", "exports")


def encode(interfaces: Iterable[InterfaceType]) -> Value:
    """The functions of `interfaces`, and the types that they name."""
    return [
        {
            "name": interface.name,
            "functions": [
                [name, [[param, _encode(kind)] for param, kind in signature.params], _encode(signature.result)]
                for name, signature in interface.functions.items()
            ],
            "types": [[name, _encode(kind)] for name, kind in interface.types.items()],
        }
        for interface in interfaces
    ]


def decode(data: Value) -> list[InterfaceType]:
    """What `encode` wrote. Raises ProtocolError for anything else."""
    try:
        return [
            InterfaceType(
                str(one["name"]),
                {
                    str(name): Signature(tuple((str(param), _typed(kind)) for param, kind in params), _decode(result))
                    for name, params, result in one["functions"]
                },
                {str(name): _typed(kind) for name, kind in one["types"]},
            )
            for one in data
        ]
    except (TypeError, ValueError, KeyError, RecursionError) as error:
        raise ProtocolError(f"not a description of exports: {error}") from error


def _encode(kind: Type | None) -> Value:
    match kind:
        case None:
            return None
        case types.Primitive(name=name) | types.Unsupported(name=name):
            return name
        case types.List(element=inner):
            return {"list": _encode(inner)}
        case types.Option(payload=inner):
            return {"option": _encode(inner)}
        case types.Tuple(elements=elements):
            return {"tuple": [_encode(one) for one in elements]}
        case types.Result(ok=ok, err=err):
            return {"result": [_encode(ok), _encode(err)]}
        case types.Record(fields=fields):
            return {"record": [[name, _encode(one)] for name, one in fields]}
        case types.Variant(cases=cases):
            return {"variant": [[name, _encode(one)] for name, one in cases]}
        case types.Enum(cases=names):
            return {"enum": list(names)}
        case types.Flags(names=names):
            return {"flags": list(names)}
        case types.Handle(resource=resource, owned=owned):
            return {"own" if owned else "borrow": [resource.interface, resource.name]}


def _typed(data: Any) -> Type:
    kind = _decode(data)
    if kind is None:
        raise ValueError("a type is missing")
    return kind


def _decode(data: Any) -> Type | None:
    match data:
        case None:
            return None
        case str():
            return types.Primitive(data)
        case {"list": inner}:
            return types.List(_typed(inner))
        case {"option": inner}:
            return types.Option(_typed(inner))
        case {"tuple": inner}:
            return types.Tuple(tuple(_typed(one) for one in inner))
        case {"result": [ok, err]}:
            return types.Result(_decode(ok), _decode(err))
        case {"record": inner}:
            return types.Record(tuple((str(name), _typed(one)) for name, one in inner))
        case {"variant": inner}:
            return types.Variant(tuple((str(name), _decode(one)) for name, one in inner))
        case {"enum": names}:
            return types.Enum(tuple(map(str, names)))
        case {"flags": names}:
            return types.Flags(tuple(map(str, names)))
        case {"own": [str(interface), str(name)]}:
            return types.Handle(types.ResourceId(interface, name), True)
        case {"borrow": [str(interface), str(name)]}:
            return types.Handle(types.ResourceId(interface, name), False)
    raise ValueError(f"{data!r} is not a type")
