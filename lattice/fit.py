"""Does a plain value fit its WIT type? By the table in `lattice.values`, without a component at hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeAlias

from lattice.streams import ByteStream
from lattice.types import (
    Enum,
    Flags,
    Handle,
    List,
    Option,
    Primitive,
    Record,
    Result,
    Tuple,
    Type,
    Unsupported,
    Variant,
    text,
)
from lattice.values import Value

Fit: TypeAlias = Callable[[Value], Value]
"""Gives the value as the table has it (a tuple that crossed the lattice as a list is one again), or raises Misfit."""


class Misfit(ValueError):
    """A value that does not fit its WIT type. The text says where and why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path = ""

    def under(self, part: str) -> Misfit:
        """`self`, seen from the value that holds it."""
        self.path = part + self.path
        return self

    def __str__(self) -> str:
        return f"{self.path.removeprefix('.')}: {self.reason}" if self.path else self.reason


def shown(value: Any) -> str:
    """`value` as an error shows it: no more than 60 characters."""
    full = repr(value)
    return full if len(full) <= 60 else f"{full[:57]}..."


def misfit(value: Any, kind: Type) -> Misfit:
    return Misfit(f"{shown(value)} ({type(value).__name__}) is not a {text(kind)}")


@lru_cache(maxsize=1024)
def fitter(kind: Type) -> Fit:
    """What holds values against `kind`; built once for each type."""
    match kind:
        case Primitive(name="bool"):
            return _instance(kind, bool)
        case Primitive(name="string"):
            return _instance(kind, str)
        case Primitive(name="char"):
            return _char(kind)
        case Primitive(name="f32" | "f64"):
            return _float(kind)
        case Primitive(name=name):
            return _whole(kind, name)
        case List(element=Primitive(name="u8")):
            return _bytes(kind)
        case List(element=element):
            return _list(kind, fitter(element))
        case Tuple(elements=elements):
            return _tuple(kind, [fitter(element) for element in elements])
        case Record(fields=fields):
            return _record(kind, {name: fitter(inner) for name, inner in fields}, _optional(fields))
        case Variant(cases=cases):
            return _variant(kind, {name: None if inner is None else fitter(inner) for name, inner in cases})
        case Enum(cases=names):
            return _enum(names)
        case Flags(names=names):
            return _flags(kind, names)
        case Option(payload=payload):
            return _option(kind, payload)
        case Result(ok=ok, err=err):
            return _result({"ok": None if ok is None else fitter(ok), "err": None if err is None else fitter(err)})
        case Handle(resource=resource):
            return _never(f"{resource.name} is a resource, which cannot cross the lattice")
        case Unsupported(name=name):
            return _never(f"a {name} cannot be passed")


def _optional(fields: tuple[tuple[str, Type], ...]) -> frozenset[str]:
    return frozenset(name for name, inner in fields if isinstance(inner, Option))


def _never(reason: str) -> Fit:
    def fit(value: Value) -> Value:
        raise Misfit(reason)

    return fit


def _instance(kind: Type, wanted: type) -> Fit:
    def fit(value: Value) -> Value:
        if not isinstance(value, wanted):
            raise misfit(value, kind)
        return value

    return fit


def _char(kind: Type) -> Fit:
    def fit(value: Value) -> Value:
        if not isinstance(value, str) or len(value) != 1:
            raise misfit(value, kind)
        return value

    return fit


def _whole(kind: Type, name: str) -> Fit:
    bits = int(name[1:])
    least, most = (0, 2**bits - 1) if name[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)

    def fit(value: Value) -> Value:
        if not isinstance(value, int) or isinstance(value, bool):
            raise misfit(value, kind)
        if not least <= value <= most:
            raise Misfit(f"{shown(value)} does not fit {name}: it holds {least} to {most}")
        return value

    return fit


def _float(kind: Type) -> Fit:
    def fit(value: Value) -> Value:
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise misfit(value, kind)
        return float(value)

    return fit


def _bytes(kind: Type) -> Fit:
    def fit(value: Value) -> Value:
        if not isinstance(value, (bytes, bytearray, memoryview, ByteStream)):
            raise misfit(value, kind)
        return value

    return fit


def _sequence(value: Value, kind: Type) -> Sequence[Value]:
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        raise misfit(value, kind)
    return value


def _list(kind: Type, element: Fit) -> Fit:
    def fit(value: Value) -> Value:
        found = []
        for index, item in enumerate(_sequence(value, kind)):
            try:
                found.append(element(item))
            except Misfit as wrong:
                raise wrong.under(f"[{index}]") from None
        return found

    return fit


def _tuple(kind: Type, elements: list[Fit]) -> Fit:
    def fit(value: Value) -> Value:
        items = _sequence(value, kind)
        if len(items) != len(elements):
            raise Misfit(f"{shown(value)} has {len(items)} values; {text(kind)} has {len(elements)}")
        found = []
        for index, (element, item) in enumerate(zip(elements, items, strict=True)):
            try:
                found.append(element(item))
            except Misfit as wrong:
                raise wrong.under(f"[{index}]") from None
        return tuple(found)

    return fit


def _record(kind: Type, fields: dict[str, Fit], optional: frozenset[str]) -> Fit:
    def fit(value: Value) -> Value:
        if not isinstance(value, Mapping):
            raise misfit(value, kind)
        if extra := sorted(str(name) for name in value if name not in fields):
            raise Misfit(f"no field {', '.join(extra)}; the record has {', '.join(fields)}")
        found = {}
        for name, field in fields.items():
            try:
                if name not in value and name not in optional:
                    raise Misfit("this field is missing")
                found[name] = field(value.get(name))
            except Misfit as wrong:
                raise wrong.under(f".{name}") from None
        return found

    return fit


def _variant(kind: Type, cases: dict[str, Fit | None]) -> Fit:
    def fit(value: Value) -> Value:
        if isinstance(value, str):
            name, given, payload = value, False, None
        elif isinstance(value, Mapping) and len(value) == 1:
            ((name, payload),) = value.items()
            given = True
        else:
            raise Misfit(f"{shown(value)} is not a variant: give a case's name, or {{case: payload}}")
        if name not in cases:
            raise Misfit(f"no case {shown(name)}; there are {', '.join(cases)}")
        inner = cases[name]
        if inner is None:
            if payload is not None:
                raise Misfit(f"case {name} has no payload, but {shown(payload)} was given")
            return name
        if not given:
            raise Misfit(f'case {name} needs a payload: {{"{name}": ...}}')
        try:
            return {name: inner(payload)}
        except Misfit as wrong:
            raise wrong.under(f".{name}") from None

    return fit


def _enum(names: tuple[str, ...]) -> Fit:
    def fit(value: Value) -> Value:
        if value not in names:
            raise Misfit(f"{shown(value)} is not one of {', '.join(names)}")
        return value

    return fit


def _flags(kind: Type, names: tuple[str, ...]) -> Fit:
    def fit(value: Value) -> Value:
        given = _sequence(value, kind)
        for name in given:
            if name not in names:
                raise Misfit(f"no flag {shown(name)}; there are {', '.join(names)}")
        return [name for name in names if name in given]

    return fit


def _option(kind: Type, payload: Type) -> Fit:
    inner = fitter(payload)
    nested = isinstance(payload, Option)

    def fit(value: Value) -> Value:
        if value is None:
            return None
        if not nested:
            return inner(value)
        if not isinstance(value, (list, tuple)) or len(value) != 1:
            raise Misfit(f"{shown(value)} is not a {text(kind)}: give None or [inner]")
        return [inner(value[0])]

    return fit


def _result(sides: dict[str, Fit | None]) -> Fit:
    def fit(value: Value) -> Value:
        if not isinstance(value, Mapping) or len(value) != 1 or not value.keys() <= sides.keys():
            raise Misfit(f'{shown(value)} is not a result: give {{"ok": value}} or {{"err": value}}')
        ((side, payload),) = value.items()
        try:
            return {side: side_fits(payload, sides[side])}
        except Misfit as wrong:
            raise wrong.under(f".{side}") from None

    return fit


def side_fits(payload: Value, inner: Fit | None) -> Value:
    """`payload` as one side of a result, or all that a function returns; `inner` None: there is none."""
    if inner is not None:
        return inner(payload)
    if payload is not None:
        raise Misfit(f"nothing is wanted here, but {shown(payload)} was given")
    return None
