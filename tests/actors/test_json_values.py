"""JSON and WIT values: what is printed can be given back, and what does not fit is refused with its path."""

from __future__ import annotations

import math
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import types
from actors.codec import Misfit
from actors.json_values import dumps, from_json, loads, to_json

P = types.Primitive
BYTES = types.List(P("u8"))
PERSON = types.Record((("name", P("string")), ("age", P("u8")), ("nick", types.Option(P("string")))))
SHAPE = types.Variant((("circle", P("f64")), ("nothing", None), ("maybe", types.Option(P("u8")))))


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (P("bool"), "true", True),
        (P("s8"), "-128", -128),
        (P("u64"), "18446744073709551615", 2**64 - 1),
        (P("s64"), "-9223372036854775808", -(2**63)),
        (P("f64"), "0.1", 0.1),
        (P("f64"), '"Infinity"', math.inf),
        (P("f32"), '"-Infinity"', -math.inf),
        (P("char"), '"é"', "é"),
        (P("string"), '"Grüße 😀"', "Grüße 😀"),
        (BYTES, '{"$bytes": "AP8="}', b"\0\xff"),
        (types.List(BYTES), '[{"$bytes": ""}]', [b""]),
        (types.Tuple((P("u8"), P("string"))), '[1, "a"]', (1, "a")),
        (PERSON, '{"name": "Ada", "age": 36, "nick": null}', {"name": "Ada", "age": 36, "nick": None}),
        (SHAPE, '"nothing"', "nothing"),
        (SHAPE, '{"circle": 1.5}', {"circle": 1.5}),
        (SHAPE, '{"maybe": null}', {"maybe": None}),
        (types.Enum(("red", "green")), '"green"', "green"),
        (types.Flags(("read", "write")), '["read", "write"]', ["read", "write"]),
        (types.Option(types.Option(P("u8"))), "[null]", [None]),
        (types.Option(types.Option(P("u8"))), "[3]", [3]),
        (types.Result(P("u8"), P("string")), '{"err": "no"}', {"err": "no"}),
        (types.Result(None, None), '{"ok": null}', {"ok": None}),
    ],
)
def test_every_form_is_read_and_printed_the_same(kind: types.Type, text: str, value: Any):
    assert from_json(loads(text), kind) == value
    assert dumps(to_json(value, kind)) == text


def test_other_forms_are_read_as_well():
    assert from_json([0, 255], BYTES) == b"\0\xff"
    assert from_json({"name": "Ada", "age": 36}, PERSON) == {"name": "Ada", "age": 36, "nick": None}
    assert from_json(["b", "a", "b"], types.Flags(("a", "b"))) == ["a", "b"]
    assert from_json("ok", types.Result(None, P("u8"))) == {"ok": None}
    assert from_json({"nothing": None}, SHAPE) == "nothing"
    assert from_json(3, P("f64")) == 3.0


def test_not_a_number_is_read_and_printed():
    assert math.isnan(from_json("NaN", P("f32")))
    assert to_json(math.nan, P("f32")) == "NaN"


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_an_f32_is_printed_with_the_digits_that_tell_it(number: float):
    printed = to_json(number, P("f32"))
    assert struct.pack("<f", printed) == struct.pack("<f", number)
    assert len(repr(printed)) <= len(repr(number))


def test_a_tenth_stays_a_tenth_in_an_f32():
    assert to_json(struct.unpack("<f", struct.pack("<f", 0.1))[0], P("f32")) == 0.1


@pytest.mark.parametrize(
    ("kind", "data", "message"),
    [
        (P("u8"), 300, "300 does not fit u8: it holds 0 to 255"),
        (P("u8"), True, "true is not a u8: give a whole number"),
        (P("u32"), 20.0, "20.0 is not a u32"),
        (P("bool"), 1, "1 is not a bool: give true or false"),
        (P("string"), None, "null is not a string"),
        (P("string"), "\ud800", "half a surrogate pair"),
        (P("char"), "ab", "give one character"),
        (P("f64"), "nan", 'give a number, or "NaN", "Infinity", "-Infinity"'),
        (P("f32"), 1e39, "too large for f32"),
        (P("f64"), 10**400, "too large for f64"),
        (BYTES, "AA==", 'give {"$bytes": "base64"} or an array of numbers'),
        (BYTES, {"$bytes": "a"}, '$bytes: "a" is not base64'),
        (BYTES, [1, 256], "[1]: 256 does not fit u8"),
        (types.List(PERSON), [{"name": "A", "age": 1}, {"name": "B", "age": -1}], "[1].age: -1 does not fit u8"),
        (PERSON, {"name": "A"}, "age: this field is missing"),
        (PERSON, {"name": "A", "age": 1, "size": 2}, "no field size; the record has name, age, nick"),
        (SHAPE, "square", 'no case "square"; there are circle, nothing, maybe'),
        (SHAPE, "circle", 'case circle needs a payload, a f64: {"circle": ...}'),
        (SHAPE, {"circle": "x"}, 'circle: "x" is not a f64'),
        (SHAPE, {"nothing": 1}, "case nothing has no payload"),
        (types.Enum(("red",)), "blue", '"blue" is not one of red'),
        (types.Enum(("red",)), [], "[] is not one of red"),
        (types.Flags(("a",)), ["b"], 'no flag "b"; there are a'),
        (types.Tuple((P("u8"),)), [1, 2], "has 2 values; tuple<u8> has 1"),
        (types.Option(types.Option(P("u8"))), 3, "give null or [inner]"),
        (types.Result(P("u8"), None), {"okay": 1}, 'give {"ok": value} or {"err": value}'),
        (types.Result(P("u8"), None), {"ok": "x"}, 'ok: "x" is not a u8'),
        (types.Result(P("u8"), None), {"err": "x"}, "err has no payload"),
        (types.Handle(types.ResourceId("a:b/c", "thing"), True), 1, "thing is a resource"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_path(kind: types.Type, data: Any, message: str):
    with pytest.raises(Misfit) as caught:
        from_json(data, kind)
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["NaN", '{"a": 1, "a": 2}', "[" * 100_000, "hello", "", "1 2"])
def test_what_is_not_quite_json_is_refused(text: str):
    with pytest.raises(ValueError):
        loads(text)
