"""`pg-value` of wasmcloud:postgres, and the Python values that asyncpg takes and gives.

A parameter's case only says how it is written: PostgreSQL knows of what type the parameter is, and asyncpg refuses what
does not fit. A result's case is named after its column's type.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

import asyncpg

from lattice import Value

Convert = Callable[[Any], Any]


class Unfit(Exception):
    """A parameter is no `pg-value`: a sentence."""


class Inexpressible(Exception):
    """A result is no `pg-value`: a sentence."""


# -- numbers


def float_of(parts: Any) -> float:
    """`hashable-f64`: (mantissa, exponent, sign)."""
    mantissa, exponent, sign = parts
    if exponent == _BEYOND:
        return math.copysign(math.inf, sign) if mantissa == _ONE else math.nan
    return math.copysign(math.ldexp(float(mantissa), exponent), sign)


def parts_of(number: float) -> tuple[int, int, int]:
    sign = -1 if math.copysign(1.0, number) < 0 else 1
    if math.isnan(number) or math.isinf(number):
        return _ONE + math.isnan(number), _BEYOND, sign
    fraction, exponent = math.frexp(abs(number))
    return int(fraction * 2**53), exponent - 53, sign


_ONE, _BEYOND = 2**52, 972
"""How infinity is taken apart, as if it were a number; with any other mantissa it is none."""


def _numeric(number: Decimal) -> str:
    return f"{number:f}" if number.is_finite() else str(number)


# -- bytes with a length


def _sized(pair: Any) -> str:
    size, data = pair
    if len(data) != size:
        raise Unfit(f"a char of {size} bytes has {len(data)}")
    return bytes(data).decode()


def _limited(pair: Any) -> str:
    limit, data = pair
    if limit is not None and len(data) > limit:
        raise Unfit(f"a varchar of at most {limit} bytes has {len(data)}")
    return bytes(data).decode()


def _bits(pair: Any) -> Any:
    size, data = pair
    return asyncpg.BitString.frombytes(bytes(data), bitlength=8 * len(data) if size is None else size)


# -- times


def _date(value: Any) -> dt.date:
    if isinstance(value, str):
        return {"positive-infinity": dt.date.max, "negative-infinity": dt.date.min}[value]
    return dt.date(*value["ymd"])


def _date_value(date: dt.date) -> Value:
    if date == dt.date.max:
        return "positive-infinity"
    if date == dt.date.min:
        return "negative-infinity"
    return {"ymd": (date.year, date.month, date.day)}


def _time(value: Mapping[str, int]) -> dt.time:
    return dt.time(value["hour"], value["min"], value["sec"], value["micro"])


def _time_value(time: dt.time | dt.datetime) -> Value:
    return {"hour": time.hour, "min": time.minute, "sec": time.second, "micro": time.microsecond}


def _time_tz(value: Mapping[str, Any]) -> dt.time:
    zone = dt.time.fromisoformat(f"00:00{value['timesonze'] or 'Z'}").tzinfo
    return _time(value["time"]).replace(tzinfo=zone)


def _time_tz_value(time: dt.time) -> Value:
    return {"timesonze": time.isoformat("seconds")[8:], "time": _time_value(time)}


def _timestamp(value: Mapping[str, Any]) -> dt.datetime:
    date = _date(value["date"])
    if date in (dt.date.max, dt.date.min):
        return dt.datetime.max if date == dt.date.max else dt.datetime.min
    return dt.datetime.combine(date, _time(value["time"]))


def _timestamp_value(moment: dt.datetime) -> Value:
    return {"date": _date_value(moment.date()), "time": _time_value(moment)}


def _timestamp_tz(value: Mapping[str, Any]) -> dt.datetime:
    [(side, seconds)] = value["offset"].items()
    east = seconds if side == "eastern-hemisphere-secs" else -seconds
    return _timestamp(value["timestamp"]).replace(tzinfo=dt.timezone(dt.timedelta(seconds=east)))


def _timestamp_tz_value(moment: dt.datetime) -> Value:
    return {"timestamp": _timestamp_value(moment), "offset": {"eastern-hemisphere-secs": 0}}


def _range(value: Mapping[str, Any]) -> Any:
    return asyncpg.Range(
        _date(value["start"]), _date(value["end"]), lower_inc=value["start-inclusive"], upper_inc=value["end-inclusive"]
    )


def _range_value(dates: Any) -> Value:
    if dates.isempty:
        raise Inexpressible("an empty range is no `interval`")
    return {
        "start": _date_value(dates.lower or dt.date.min),
        "start-inclusive": dates.lower_inc,
        "end": _date_value(dates.upper or dt.date.max),
        "end-inclusive": dates.upper_inc,
    }


# -- shapes


def _point(pair: Any) -> tuple[float, float]:
    return float_of(pair[0]), float_of(pair[1])


def _point_value(point: Any) -> Value:
    return parts_of(point[0]), parts_of(point[1])


def _points(value: Any) -> list[tuple[float, float]]:
    return [_point(point) for point in value]


def _points_value(shape: Any) -> list[Value]:
    return [_point_value(point) for point in shape]


def _line_value(line: Any) -> Value:
    """PostgreSQL keeps A, B, C of Ax + By + C = 0: two points of it."""
    a, b, c = line
    ends = [(0.0, -c / b), (1.0, -(a + c) / b)] if b else [(-c / a, 0.0), (-c / a, 1.0)]
    return tuple(_point_value(end) for end in ends)


def _line(value: Any) -> tuple[float, float, float]:
    (x1, y1), (x2, y2) = _points(value)
    return y1 - y2, x2 - x1, x1 * y2 - x2 * y1


def _mac(value: Mapping[str, Any]) -> str:
    return ":".join(f"{byte:02x}" for byte in value["bytes"])


def _mac_value(text: str) -> Value:
    return {"bytes": tuple(bytes.fromhex(text.replace(":", "")))}


# -- what PostgreSQL writes and reads as text


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)


def _hstore(pairs: Any) -> str:
    return ",".join(f"{_quoted(key)}=>{'NULL' if value is None else _quoted(value)}" for key, value in pairs)


_QUOTED = r'"((?:[^"\\]|\\.)*)"'
_PAIR = re.compile(rf"{_QUOTED}=>(?:NULL|{_QUOTED})", re.DOTALL)


def _hstore_value(text: str) -> Value:
    return [(_unquoted(key[1]), None if key[2] is None else _unquoted(key[2])) for key in _PAIR.finditer(text)]


def _lexeme(lexeme: Mapping[str, Any]) -> str:
    word = lexeme["data"].replace("\\", "\\\\").replace("'", "''")
    position, weight = lexeme["position"], lexeme["weight"]
    if position is None:
        if weight is not None:
            raise Unfit("a lexeme that has a weight needs a position")
        return f"'{word}'"
    return f"'{word}':{position}{weight or ''}"


_LEXEME = re.compile(r"'((?:[^']|'')*)'(?::([\dABCD,]+))?", re.DOTALL)


def _lexemes(text: str) -> Value:
    """One for each position of each word. Where PostgreSQL shows no weight, it is D."""
    found: list[Value] = []
    for word, positions in _LEXEME.findall(text):
        data = word.replace("''", "'").replace("\\\\", "\\")
        found += [
            {"position": int(at.rstrip("ABCD")), "weight": at[-1] if at[-1] in "ABCD" else "D", "data": data}
            for at in filter(None, positions.split(","))
        ] or [{"position": None, "weight": None, "data": data}]
    return found


# -- all of them


class Kind(NamedTuple):
    """One type of value: its case, PostgreSQL's types that give it, and both conversions."""

    case: str
    types: tuple[str, ...]
    to_python: Convert
    to_wit: Convert
    also: tuple[str, ...] = ()
    """Other cases that are written the same."""


def _same(value: Any) -> Any:
    return value


KINDS = (
    Kind("int8", ("int8", "oid"), _same, _same, ("big-int", "big-serial", "serial8")),
    Kind("int4", ("int4",), _same, _same, ("integer", "int", "serial", "serial4")),
    Kind("int2", ("int2",), _same, _same, ("small-int", "small-serial", "serial2")),
    Kind("bool", ("bool",), _same, _same, ("boolean",)),
    Kind("float8", ("float8",), float_of, parts_of, ("double",)),
    Kind("float4", ("float4",), float_of, parts_of, ("real",)),
    Kind("numeric", ("numeric",), Decimal, _numeric, ("decimal",)),
    Kind("money", ("money",), _same, _same),
    Kind("bit", ("bit",), _bits, lambda bits: (len(bits), bits.bytes)),
    Kind("varbit", ("varbit",), _bits, lambda bits: (None, bits.bytes), ("bit-varying",)),
    Kind("bytea", ("bytea",), bytes, _same),
    Kind("char", ("bpchar",), _sized, lambda text: (len(text.encode()), text.encode())),
    Kind("varchar", ("varchar",), _limited, lambda text: (None, text.encode())),
    Kind("text", ("text",), _same, _same),
    Kind("name", ("name",), _same, _same),
    Kind("xml", ("xml",), _same, _same),
    Kind("json", ("json",), _same, _same),
    Kind("jsonb", ("jsonb",), _same, _same),
    Kind("uuid", ("uuid",), _same, str),
    Kind("cidr", ("cidr",), _same, str),
    Kind("inet", ("inet",), _same, str),
    Kind("macaddr", ("macaddr",), _mac, _mac_value),
    Kind("macaddr8", ("macaddr8",), _mac, _mac_value),
    Kind("date", ("date",), _date, _date_value),
    Kind("time", ("time",), _time, _time_value),
    Kind("time-tz", ("timetz",), _time_tz, _time_tz_value),
    Kind("timestamp", ("timestamp",), _timestamp, _timestamp_value),
    Kind("timestamp-tz", ("timestamptz",), _timestamp_tz, _timestamp_tz_value),
    Kind("interval", ("daterange",), _range, _range_value),
    Kind("point", ("point",), _point, _point_value),
    Kind("box", ("box",), _points, lambda box: (_point_value(box.low), _point_value(box.high))),
    Kind("lseg", ("lseg",), _points, lambda lseg: (_point_value(lseg.p1), _point_value(lseg.p2))),
    Kind("line", ("line",), _line, _line_value),
    Kind("path", ("path",), _points, _points_value),
    Kind("polygon", ("polygon",), _points, _points_value),
    Kind(
        "circle",
        ("circle",),
        lambda value: (_point(value[0]), float_of(value[1])),
        lambda circle: (_point_value(circle.center), parts_of(circle.radius)),
    ),
    Kind("pg-lsn", ("pg_lsn",), _same, _same),
)

_NO_ARRAYS = (
    Kind("ts-query", ("tsquery",), _same, _same),
    Kind("ts-vector", ("tsvector",), lambda lexemes: " ".join(map(_lexeme, lexemes)), _lexemes),
    Kind("hstore", ("hstore",), _hstore, _hstore_value),
    Kind("int2-vector", ("int2vector",), list, list),
    Kind("pg-snapshot", ("pg_snapshot", "txid_snapshot"), _same, lambda parts: (parts[0], parts[1], list(parts[2]))),
)


def _each(convert: Convert) -> Convert:
    return lambda values: [convert(value) for value in values]


def _each_of_array(convert: Convert) -> Convert:
    def converted(values: list[Any]) -> list[Value]:
        if any(value is None or isinstance(value, list) for value in values):
            raise Inexpressible("an array that holds NULL, or other arrays, is no `pg-value`: cast it to text")
        return [convert(value) for value in values]

    return converted


PARAMETERS: dict[str, Convert] = {
    case: kind.to_python for kind in (*KINDS, *_NO_ARRAYS) for case in (kind.case, *kind.also)
} | {f"{kind.case}-array": _each(kind.to_python) for kind in KINDS}

RESULTS: dict[str, tuple[str, Convert]] = {
    type: (kind.case, kind.to_wit) for kind in (*KINDS, *_NO_ARRAYS) for type in kind.types
} | {f"{type}[]": (f"{kind.case}-array", _each_of_array(kind.to_wit)) for kind in KINDS for type in kind.types}
RESULTS["interval[]"] = ("text-array", _each_of_array(_same))


def argument(value: Value) -> Any:
    """What asyncpg takes for a `pg-value`. Raises Unfit."""
    if value == "null":
        return None
    [(case, payload)] = value.items()
    convert = PARAMETERS.get(case)
    if convert is None:
        raise Unfit(f"{case} is not supported as a parameter: pass it as text, and cast it in the statement")
    try:
        return convert(payload)
    except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError) as error:
        raise Unfit(f"a parameter is no {case}: {error or type(error).__name__}") from error


def pg_value(cell: Any, type: str, column: str) -> Value:
    """The `pg-value` of what asyncpg gave. Raises Inexpressible for a type that has none."""
    if cell is None:
        return "null"
    found = RESULTS.get(type)
    if found is not None:
        case, convert = found
        return {case: convert(cell)}
    if isinstance(cell, str):  # enums, domains and types of extensions, in PostgreSQL's own notation
        return {"text": cell}
    raise Inexpressible(f'column "{column}" is of type {type}, which is no `pg-value`: cast it to text')
