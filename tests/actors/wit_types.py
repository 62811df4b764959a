"""WIT types drawn at random, their text in WAT, and values of them: what the property tests of values are made of."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import strategies as st

from actors import types
from actors.types import Enum, Flags, List, Option, Primitive, Record, Result, Tuple, Type, Variant

INTEGERS = {
    "s8": (-(2**7), 2**7 - 1),
    "u8": (0, 2**8 - 1),
    "s16": (-(2**15), 2**15 - 1),
    "u16": (0, 2**16 - 1),
    "s32": (-(2**31), 2**31 - 1),
    "u32": (0, 2**32 - 1),
    "s64": (-(2**63), 2**63 - 1),
    "u64": (0, 2**64 - 1),
}
PRIMITIVES = [*INTEGERS, "bool", "f32", "f64", "char", "string"]

SCALARS = st.characters(exclude_categories=["Cs"])
"""Every Unicode scalar value: what is not half a surrogate pair."""


def names(least: int, most: int) -> st.SearchStrategy[tuple[str, ...]]:
    return st.integers(least, most).map(lambda count: tuple(f"n{i}" for i in range(count)))


def _containers(inner: st.SearchStrategy[Type]) -> st.SearchStrategy[Type]:
    maybe = st.none() | inner
    few = st.lists(inner, min_size=1, max_size=4)

    def named(kinds: list[Any]) -> tuple[tuple[str, Any], ...]:
        return tuple((f"n{i}", kind) for i, kind in enumerate(kinds))

    return st.one_of(
        inner.map(List),
        few.map(lambda kinds: Tuple(tuple(kinds))),
        few.map(lambda kinds: Record(named(kinds))),
        st.lists(maybe, min_size=1, max_size=5).map(lambda kinds: Variant(named(kinds))),
        inner.map(Option),
        st.builds(Result, maybe, maybe),
    )


wit_types: st.SearchStrategy[Type] = st.recursive(
    st.one_of(
        st.sampled_from([Primitive(name) for name in PRIMITIVES]),
        names(1, 300).map(Enum),  # beyond 256 cases a case takes two bytes
        names(1, 32).map(Flags),
    ),
    _containers,
    max_leaves=8,
)


def wat(kind: Type) -> tuple[str, dict[str, str]]:
    """`kind` in WAT, and the named types it needs, in order (records, variants, enums and flags must have names)."""
    definitions: dict[str, str] = {}
    return _wat(kind, definitions), definitions


def _wat(kind: Type, definitions: dict[str, str]) -> str:
    def inner(other: Type) -> str:
        return _wat(other, definitions)

    match kind:
        case Primitive(name=name):
            return name
        case List(element=element):
            return f"(list {inner(element)})"
        case Option(payload=payload):
            return f"(option {inner(payload)})"
        case Tuple(elements=elements):
            return f"(tuple {' '.join(map(inner, elements))})"
        case Result(ok=ok, err=err):
            left = "" if ok is None else f" {inner(ok)}"
            return f"(result{left})" if err is None else f"(result{left} (error {inner(err)}))"
        case Record(fields=fields):
            body = _listed("record", [f'(field "{name}" {inner(field)})' for name, field in fields])
        case Variant(cases=cases):
            written = [f'(case "{name}"{"" if case is None else " " + inner(case)})' for name, case in cases]
            body = _listed("variant", written)
        case Enum(cases=words):
            body = _listed("enum", [f'"{word}"' for word in words])
        case Flags(names=words):
            body = _listed("flags", [f'"{word}"' for word in words])
        case _:
            raise TypeError(kind)
    name = f"t{len(definitions)}"
    definitions[name] = body
    return f"${name}"


def _listed(keyword: str, parts: list[str]) -> str:
    return f"({keyword} {' '.join(parts)})"


def values(kind: Type) -> st.SearchStrategy[Any]:
    """Values of `kind`, in the form in which they come back."""
    match kind:
        case Primitive(name=name) if name in INTEGERS:
            least, most = INTEGERS[name]
            return st.integers(least, most) | st.sampled_from([least, most, 0])
        case Primitive(name="bool"):
            return st.booleans()
        case Primitive(name="f32"):
            return st.floats(width=32)
        case Primitive(name="f64"):
            return st.floats()
        case Primitive(name="char"):
            return SCALARS
        case Primitive(name="string"):
            return st.text(SCALARS, max_size=20)
        case List(element=Primitive(name="u8")):
            return st.binary(max_size=50)
        case List(element=element):
            return st.lists(values(element), max_size=4)
        case Tuple(elements=elements):
            return st.tuples(*map(values, elements))
        case Record(fields=fields):
            return st.fixed_dictionaries({name: values(field) for name, field in fields})
        case Variant(cases=cases):
            return st.one_of([st.just(name) if case is None else _tagged(name, case) for name, case in cases])
        case Enum(cases=words):
            return st.sampled_from(words)
        case Flags(names=words):
            return st.sets(st.sampled_from(words)).map(lambda some: [word for word in words if word in some])
        case Option(payload=Option() as payload):
            return st.none() | values(payload).map(lambda value: [value])
        case Option(payload=payload):
            return st.none() | values(payload)
        case Result(ok=ok, err=err):
            return st.one_of(_tagged("ok", ok), _tagged("err", err))
        case _:
            raise TypeError(kind)


def _tagged(name: str, kind: Type | None) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries({name: st.none() if kind is None else values(kind)})


def same(one: Any, other: Any) -> bool:
    """Equality of type and value, in which every NaN is a NaN and -0.0 is not 0.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return (
            math.isnan(one) == math.isnan(other) if math.isnan(one) or math.isnan(other) else repr(one) == repr(other)
        )
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)


class Nothing:
    """A value that no WIT type takes."""


def spoiled(kind: Type, value: Any) -> list[tuple[str, Any]]:
    """Copies of `value`, each with one part that does not fit, and the path to that part."""
    found: list[tuple[str, Any]] = [("", Nothing())]
    match kind:
        case Primitive(name=name) if name in INTEGERS:
            least, most = INTEGERS[name]
            found += [("", least - 1), ("", most + 1), ("", 0.5), ("", True), ("", "1")]
        case Primitive(name="bool"):
            found += [("", 1), ("", None), ("", "true")]
        case Primitive(name="f32" | "f64"):
            found += [("", "1.0"), ("", False), ("", 10**400)]
        case Primitive(name="char"):
            found += [("", ""), ("", "ab"), ("", "\ud800"), ("", 97)]
        case Primitive(name="string"):
            found += [("", b"bytes"), ("", "half \udfff"), ("", 1)]
        case List(element=Primitive(name="u8")):
            found += [("", "text"), (f"[{len(value)}]", [*value, 256]), ("", 5)]
        case List(element=element):
            found.append(("", "text"))
            for i, item in enumerate(value):
                found += [(f"[{i}]{path}", [*value[:i], bad, *value[i + 1 :]]) for path, bad in spoiled(element, item)]
        case Tuple(elements=elements):
            found += [("", value[:-1]), ("", (*value, 1))]
            for i, element in enumerate(elements):
                found += [
                    (f"[{i}]{path}", (*value[:i], bad, *value[i + 1 :])) for path, bad in spoiled(element, value[i])
                ]
        case Record(fields=fields):
            found.append(("", {**value, "one-too-many": 1}))
            for name, field in fields:
                if not isinstance(field, types.Option):
                    found.append((f".{name}", {key: part for key, part in value.items() if key != name}))
                found += [(f".{name}{path}", {**value, name: bad}) for path, bad in spoiled(field, value[name])]
        case Variant(cases=cases):
            found += [("", "no-such-case"), ("", {}), ("", {"no-such-case": 1})]
            for name, case in cases:
                if case is None:
                    found.append(("", {name: 1}))
                elif isinstance(value, dict) and name in value:
                    found += [(f".{name}{path}", {name: bad}) for path, bad in spoiled(case, value[name])]
                    found.append(("", name))
        case Enum() | Flags():
            found += [("", "no-such-name"), ("", ["no-such-name"]), ("", 1)]
        case Option(payload=Option() as payload):
            found += [("", [])]
            if value is not None:
                found += [(path, [bad]) for path, bad in spoiled(payload, value[0]) if bad is not None]
        case Option(payload=payload):
            if value is not None:
                found += [(path, bad) for path, bad in spoiled(payload, value) if bad is not None]
        case Result(ok=ok, err=err):
            found += [("", {}), ("", "neither"), ("", {"ok": None, "err": None})]
            for side, inner in (("ok", ok), ("err", err)):
                if inner is None:
                    found.append((f".{side}", {side: 1}))
                elif side in value:
                    found += [(f".{side}{path}", {side: bad}) for path, bad in spoiled(inner, value[side])]
    return found
