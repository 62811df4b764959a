"""What an actor tells of its exports: whoever reads it on the other side of the lattice has the same types."""

from __future__ import annotations

import pytest
from hypothesis import given
from wit_types import wit_types

from actors.reflection import decode, encode
from actors.types import Handle, InterfaceType, ResourceId, Signature, Type
from lattice.errors import ProtocolError
from lattice.values import pack, unpack


@given(kind=wit_types)
def test_every_type_survives_the_lattice(kind: Type):
    handle = Handle(ResourceId("demo:files/io", "file"), owned=False)
    functions = {"f": Signature((("a", kind), ("b", handle)), kind), "g": Signature((), None)}
    told = [InterfaceType("demo:any/echo@0.1.0", functions, {"named": kind}), InterfaceType("", {}, {})]
    assert decode(unpack(pack(encode(told)))) == told


@pytest.mark.parametrize(
    "data", [None, 7, ["x"], [{"name": "a", "functions": [["f", [["p", None]], "u8"]], "types": []}]]
)
def test_what_is_no_description_is_a_protocol_error(data: object):
    with pytest.raises(ProtocolError, match="not a description of exports"):
        decode(data)
