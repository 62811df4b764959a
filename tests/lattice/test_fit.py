from __future__ import annotations

import re
from typing import Any

import pytest

from lattice.fit import Misfit, fitter
from lattice.types import (
    Enum,
    Flags,
    Handle,
    List,
    Option,
    Primitive,
    Record,
    ResourceId,
    Result,
    Tuple,
    Type,
    Variant,
)

STRING, U8, S16, F32 = Primitive("string"), Primitive("u8"), Primitive("s16"), Primitive("f32")
PERSON = Record((("name", STRING), ("age", U8), ("title", Option(STRING))))
SHAPE = Variant((("dot", None), ("circle", F32)))


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (STRING, "hi", "hi"),
        (Primitive("char"), "é", "é"),
        (U8, 255, 255),
        (F32, 1, 1.0),
        (List(U8), b"bytes", b"bytes"),
        (List(S16), (1, -2), [1, -2]),
        (Tuple((STRING, U8)), ["a", 1], ("a", 1)),
        (PERSON, {"name": "Ada", "age": 36}, {"name": "Ada", "age": 36, "title": None}),
        (SHAPE, "dot", "dot"),
        (SHAPE, {"circle": 2}, {"circle": 2.0}),
        (Enum(("red", "green")), "green", "green"),
        (Flags(("r", "w")), ["w", "r"], ["r", "w"]),
        (Option(Option(U8)), [None], [None]),
        (Result(Tuple((U8, U8)), None), {"ok": [1, 2]}, {"ok": (1, 2)}),
        (Result(None, STRING), {"ok": None}, {"ok": None}),
    ],
)
def test_a_value_that_fits_comes_out_in_the_form_of_the_table(kind: Type, value: Any, expected: Any):
    found = fitter(kind)(value)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        (STRING, 3, "3 (int) is not a string"),
        (Primitive("bool"), 1, "1 (int) is not a bool"),
        (Primitive("char"), "ab", "'ab' (str) is not a char"),
        (U8, True, "True (bool) is not a u8"),
        (U8, 256, "256 does not fit u8: it holds 0 to 255"),
        (F32, "1", "'1' (str) is not a f32"),
        (List(U8), "text", "'text' (str) is not a list<u8>"),
        (List(S16), "text", "'text' (str) is not a list<s16>"),
        (List(PERSON), [{"name": "Ada", "age": 300}], "[0].age: 300 does not fit u8: it holds 0 to 255"),
        (Tuple((STRING, U8)), ["a"], "['a'] has 1 values; tuple<string, u8> has 2"),
        (PERSON, {"age": 3}, "name: this field is missing"),
        (PERSON, {"name": "", "age": 3, "agee": 3}, "no field agee; the record has name, age, title"),
        (SHAPE, "square", "no case 'square'; there are dot, circle"),
        (SHAPE, "circle", 'case circle needs a payload: {"circle": ...}'),
        (SHAPE, {"dot": 1}, "case dot has no payload, but 1 was given"),
        (SHAPE, {"circle": "wide"}, "circle: 'wide' (str) is not a f32"),
        (Enum(("red",)), "blue", "'blue' is not one of red"),
        (Flags(("r",)), ["x"], "no flag 'x'; there are r"),
        (Option(Option(U8)), 1, "1 is not a option<option<u8>>: give None or [inner]"),
        (Result(None, STRING), {"ok": 1}, "ok: nothing is wanted here, but 1 was given"),
        (Result(None, STRING), "ok", """'ok' is not a result: give {"ok": value} or {"err": value}"""),
        (Handle(ResourceId("a:b/c", "bucket"), True), 1, "bucket is a resource, which cannot cross the lattice"),
    ],
)
def test_a_value_that_does_not_fit_says_where_and_why(kind: Type, value: Any, said: str):
    with pytest.raises(Misfit, match=f"^{re.escape(said)}$"):
        fitter(kind)(value)
