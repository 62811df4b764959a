"""WIT values as plain Python, the same in a guest call, a provider method and on the wire.

| WIT                      | Python                                     | msgpack        |
|--------------------------|--------------------------------------------|----------------|
| bool, s8..s64, u8..u64   | bool, int (range checked)                  | bool, int      |
| f32, f64                 | float                                      | float 64       |
| char, string             | str                                        | str            |
| list<u8>                 | bytes                                      | bin            |
| list<T>                  | list                                       | array          |
| tuple<..>                | tuple (any sequence is accepted)           | array          |
| record                   | dict with the names as in the WIT          | map            |
| enum                     | the case's name                            | str            |
| variant                  | the case's name, or {case: payload}        | str or map     |
| flags                    | list of names, in declared order           | array          |
| option<T>                | the value, or None                         | value or nil   |
| option<option<T>>        | [inner] or None                            | array or nil   |
| result<T, E>, as result  | the value returned, or WitError raised     | reply kind     |
| result<T, E>, elsewhere  | {"ok": value} or {"err": value}            | map            |
| a body (HTTP)            | bytes, or ByteStream when it comes in time | bin, or ext 1  |

A tuple that crossed the lattice arrives as a list: there are no types on the wire. `@export` methods whose
annotation says `tuple[...]` get a tuple either way.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeAlias

import msgpack

from lattice.errors import BadValue, ProtocolError

Value: TypeAlias = Any
"""One WIT value in the Python form above. Recursive and open, so `Any` to the type checker."""

STREAM_EXT = 1
"""msgpack extension type of a ByteStream: its data is the subject to pull the stream from."""


def pack(value: Value, *, stream: Callable[[Any], Any] | None = None) -> bytes:
    """msgpack bytes of `value`. `stream` says what stands for a ByteStream: bytes, or `stream_mark(subject)`.

    Raises BadValue for anything that is not a WIT value (a set, an object, an int beyond 64 bits).
    """

    def other(thing: Any) -> Any:
        if stream is not None and hasattr(thing, "read_now"):
            return stream(thing)
        if isinstance(thing, (bytearray, memoryview)):
            return bytes(thing)
        raise TypeError(f"a {type(thing).__name__} is not a WIT value")

    try:
        packed: bytes = msgpack.packb(value, default=other, use_bin_type=True)
        return packed
    except (TypeError, ValueError, OverflowError) as error:
        raise BadValue(f"cannot send this value: {error}") from error


def stream_mark(subject: str) -> Any:
    """What stands on the wire for a stream that is pulled from `subject`."""
    return msgpack.ExtType(STREAM_EXT, subject.encode())


def unpack(data: bytes | memoryview, *, stream: Callable[[str], Any] | None = None) -> Value:
    """The value that `pack` wrote. Raises ProtocolError for bytes that are not msgpack."""

    def extension(kind: int, payload: bytes) -> Any:
        if kind == STREAM_EXT and stream is not None:
            return stream(bytes(payload).decode())
        raise ProtocolError(f"unexpected msgpack extension {kind}")

    try:
        return msgpack.unpackb(data, raw=False, use_list=True, strict_map_key=False, ext_hook=extension)
    except ProtocolError:
        raise
    except Exception as error:  # msgpack raises several unrelated classes, ValueError and UnicodeDecodeError too
        raise ProtocolError(f"not a msgpack value: {error}") from error


def read_json(raw: bytes | str) -> Any:
    """The JSON value in `raw`. Raises ValueError for whatever is not one, also when it is nested too deeply to read."""
    try:
        return json.loads(raw)
    except RecursionError:
        raise ValueError("nested too deeply") from None
