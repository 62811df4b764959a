"""Between JSON and WIT values, directed by the WIT type: how people write arguments and read results.

The forms are those of the table in `lattice.values`. What JSON has no form for:

| WIT         | JSON                                                                             |
|-------------|----------------------------------------------------------------------------------|
| list<u8>    | {"$bytes": "base64"}; an array of numbers is read as well                        |
| s64, u64    | a number, exact to the last digit                                                |
| f32, f64    | a number, or "NaN", "Infinity", "-Infinity"; an f32 has the digits that tell it  |
| tuple<..>   | an array                                                                         |

What does not fit raises Misfit, with the path to it and JSON's words for what was found.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import struct
from collections.abc import Callable
from typing import Any, NoReturn

from actors import types
from actors.codec import Misfit
from lattice.values import Value

BYTES = "$bytes"

_SPECIAL = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_BYTE = types.Primitive("u8")
_LARGEST_F32 = struct.unpack("<f", b"\xff\xff\x7f\x7f")[0]


# -- text


def loads(text: str) -> Any:
    """`text` as JSON. Raises ValueError, also for what Python lets pass: NaN, and a key that is there twice."""
    try:
        return json.loads(text, parse_constant=_no_constant, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg[:1].lower()}{error.msg[1:]} (character {error.pos + 1})") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def dumps(data: Any) -> str:
    return json.dumps(data, ensure_ascii=False, allow_nan=False)


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f'JSON has no {word}; write "{word}"')


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f'the key "{next(n for n in names if names.count(n) > 1)}" is there twice')
    return found


def _shown(data: Any) -> str:
    text = json.dumps(data, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _misfit(data: Any, kind: types.Type, form: str = "") -> Misfit:
    return Misfit(f"{_shown(data)} is not a {types.text(kind)}{f': {form}' if form else ''}")


# -- from JSON


def from_json(data: Any, kind: types.Type) -> Value:
    """The value of this type that `data` stands for. Raises Misfit."""
    match kind:
        case types.Primitive(name=name):
            return _primitive(data, kind, name)
        case types.List(element=element):
            return _bytes(data, kind) if element == _BYTE else _each(_array(data, kind), element)
        case types.Tuple(elements=elements):
            given = _array(data, kind)
            if len(given) != len(elements):
                raise Misfit(f"{_shown(data)} has {len(given)} values; {types.text(kind)} has {len(elements)}")
            return tuple(_at(f"[{index}]", given[index], inner) for index, inner in enumerate(elements))
        case types.Record(fields=fields):
            return _record(data, kind, fields)
        case types.Variant(cases=cases):
            return _variant(data, dict(cases))
        case types.Enum(cases=names):
            if data not in names:
                raise Misfit(f"{_shown(data)} is not one of {', '.join(names)}")
            return data
        case types.Flags(names=names):
            for name in _array(data, kind):
                if name not in names:
                    raise Misfit(f"no flag {_shown(name)}; there are {', '.join(names)}")
            return [name for name in names if name in data]
        case types.Option(payload=payload):
            return _option(data, kind, payload)
        case types.Result(ok=ok, err=err):
            return _result(data, {"ok": ok, "err": err})
        case types.Handle(resource=resource):
            raise Misfit(f"{resource.name} is a resource, which JSON cannot hold")
        case types.Unsupported(name=name):
            raise Misfit(f"a {name} cannot be passed")


def _at(part: str, data: Any, kind: types.Type) -> Value:
    try:
        return from_json(data, kind)
    except Misfit as misfit:
        raise misfit.under(part) from None


def _array(data: Any, kind: types.Type) -> list[Any]:
    if not isinstance(data, list):
        raise _misfit(data, kind, "give an array")
    return data


def _each(items: list[Any], element: types.Type) -> list[Value]:
    return [_at(f"[{index}]", item, element) for index, item in enumerate(items)]


def _primitive(data: Any, kind: types.Type, name: str) -> Value:
    match name:
        case "bool":
            if not isinstance(data, bool):
                raise _misfit(data, kind, "give true or false")
            return data
        case "string" | "char":
            if not isinstance(data, str):
                raise _misfit(data, kind, 'give "text" in double quotes')
            if name == "char" and len(data) != 1:
                raise _misfit(data, kind, "give one character")
            if any(0xD800 <= ord(character) <= 0xDFFF for character in data):
                raise Misfit(f"{_shown(data)} holds half a surrogate pair, which no {name} may")
            return data
        case "f32" | "f64":
            return _float(data, kind, name)
        case _:
            if isinstance(data, bool) or not isinstance(data, int):
                raise _misfit(data, kind, "give a whole number")
            least, most = _bounds(name)
            if not least <= data <= most:
                raise Misfit(f"{_shown(data)} does not fit {name}: it holds {least} to {most}")
            return data


def _bounds(name: str) -> tuple[int, int]:
    bits = int(name[1:])
    return (0, 2**bits - 1) if name[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def _float(data: Any, kind: types.Type, name: str) -> float:
    if isinstance(data, str) and data in _SPECIAL:
        return _SPECIAL[data]
    if isinstance(data, bool) or not isinstance(data, (int, float)):
        raise _misfit(data, kind, f"give a number, or {', '.join(map(_shown, _SPECIAL))}")
    try:
        number = float(data)
    except OverflowError:
        number = math.inf
    if math.isinf(number) or (name == "f32" and abs(number) > _LARGEST_F32):
        raise Misfit(f'{_shown(data)} is too large for {name}; infinity is written "Infinity"')
    return number


def _bytes(data: Any, kind: types.Type) -> bytes:
    if isinstance(data, list):
        return bytes(_each(data, _BYTE))
    if isinstance(data, dict) and data.keys() == {BYTES} and isinstance(data[BYTES], str):
        try:
            return base64.b64decode(data[BYTES], validate=True)
        except (binascii.Error, ValueError):
            raise Misfit(f"{_shown(data[BYTES])} is not base64").under(f".{BYTES}") from None
    raise _misfit(data, kind, f'give {{"{BYTES}": "base64"}} or an array of numbers')


def _record(data: Any, kind: types.Type, fields: tuple[tuple[str, types.Type], ...]) -> dict[str, Value]:
    names = [name for name, _ in fields]
    if not isinstance(data, dict):
        raise _misfit(data, kind, f"give an object with {', '.join(names)}")
    if extra := sorted(data.keys() - set(names)):
        raise Misfit(f"no field {', '.join(extra)}; the record has {', '.join(names)}")
    found = {}
    for name, inner in fields:
        if name not in data and not isinstance(inner, types.Option):
            raise Misfit("this field is missing").under(f".{name}")
        found[name] = _at(f".{name}", data.get(name), inner)
    return found


def _variant(data: Any, cases: dict[str, types.Type | None]) -> Value:
    if isinstance(data, str):
        name, given, payload = data, False, None
    elif isinstance(data, dict) and len(data) == 1:
        ((name, payload),) = data.items()
        given = True
    else:
        raise Misfit(f"{_shown(data)} is not a variant: give a case's name, or {{case: payload}}")
    if name not in cases:
        raise Misfit(f"no case {_shown(name)}; there are {', '.join(cases)}")
    inner = cases[name]
    if inner is None:
        if payload is not None:
            raise Misfit(f"case {name} has no payload, but {_shown(payload)} was given")
        return name
    if not given:
        raise Misfit(f'case {name} needs a payload, a {types.text(inner)}: {{"{name}": ...}}')
    return {name: _at(f".{name}", payload, inner)}


def _option(data: Any, kind: types.Type, payload: types.Type) -> Value:
    if data is None:
        return None
    if not isinstance(payload, types.Option):
        return from_json(data, payload)
    if not isinstance(data, list) or len(data) != 1:
        raise _misfit(data, kind, "give null or [inner]")
    return [_at("[0]", data[0], payload)]


def _result(data: Any, sides: dict[str, types.Type | None]) -> Value:
    if data in ("ok", "err"):
        data = {data: None}
    if not isinstance(data, dict) or len(data) != 1 or not data.keys() <= sides.keys():
        raise Misfit(f'{_shown(data)} is not a result: give {{"ok": value}} or {{"err": value}}')
    ((side, payload),) = data.items()
    inner = sides[side]
    if inner is None:
        if payload is not None:
            raise Misfit(f"{side} has no payload, but {_shown(payload)} was given")
        return {side: None}
    return {side: _at(f".{side}", payload, inner)}


# -- to JSON


def to_json(value: Value, kind: types.Type) -> Any:
    """What `json` prints of a value of this type: of one that came out of a component, so nothing is checked."""
    match kind:
        case types.Primitive(name="f32" | "f64" as name):
            return _number(value, name)
        case types.Primitive() | types.Enum() | types.Flags():
            return value
        case types.List(element=element):
            if element == _BYTE:
                return {BYTES: base64.b64encode(value).decode()}
            return [to_json(item, element) for item in value]
        case types.Tuple(elements=elements):
            return [to_json(item, inner) for item, inner in zip(value, elements, strict=True)]
        case types.Record(fields=fields):
            return {name: to_json(value[name], inner) for name, inner in fields}
        case types.Variant(cases=cases):
            return _case(value, dict(cases).get)
        case types.Option(payload=payload):
            if value is None:
                return None
            return [to_json(value[0], payload)] if isinstance(payload, types.Option) else to_json(value, payload)
        case types.Result(ok=ok, err=err):
            return _case(value, {"ok": ok, "err": err}.get)
        case types.Handle(resource=resource):
            return {"$resource": resource.name}  # it stays where it is
        case types.Unsupported():
            return None  # a component that has one is not loaded


def _case(value: Value, payload: Callable[[str], types.Type | None]) -> Any:
    if isinstance(value, str):
        return value
    ((name, inside),) = value.items()
    kind = payload(name)
    return {name: None if kind is None else to_json(inside, kind)}


def _number(value: float, name: str) -> float | str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if name == "f32":
        narrow = struct.pack("<f", value)
        for digits in range(6, 9):
            short = float(f"{value:.{digits}g}")
            if abs(short) <= _LARGEST_F32 and struct.pack("<f", short) == narrow:
                return short
    return value
