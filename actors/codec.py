"""Between component values and plain Python, by the table in `lattice.values`.

For each type two closures are built once, never per call: `lift(address, instance)` reads a 32-byte value,
`lower(address, value, instance)` writes one. Lowering leaves a tree that can be freed at every moment, so a value that
turns out not to fit half way is thrown away by whoever owns the tree.

A value that does not fit raises Misfit, which gathers the path to it on the way out: "args.items[3].age: ...".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from actors import _ffi, types
from actors._ffi import (
    ENTRY,
    VAL,
    bool_at,
    box,
    byte_at,
    char_at,
    rep_of,
    text_at,
    vector_at,
    word_at,
    write_resource,
)
from actors.host_api import Resource
from lattice.errors import WitError
from lattice.fit import Misfit as Misfit
from lattice.fit import misfit as _misfit
from lattice.fit import shown as _shown


class Holder(Protocol):
    """The side of an instance that resources need. `kept`: it lives on after a call, as a session's does.

    `lent` is there while arguments are written: the addresses of values whose memory is ours.
    """

    context: int
    kept: bool
    given: list[GuestResource]
    lent: list[int] | None

    def push(self, resource: Resource, *, lent: bool = False) -> int: ...
    def borrowed(self, rep: int) -> Resource: ...
    def taken(self, rep: int) -> Resource: ...


class GuestResource:
    """A resource of the guest's own, held from outside: valid in the session it comes from, until it is given back.

    Pass it where the WIT says `own` and it is the guest's again; where it says `borrow`, it stays with its holder.
    """

    __slots__ = ("address", "holder", "kind")

    def __init__(self, kind: types.ResourceId, holder: Holder, address: int) -> None:
        self.kind = kind
        self.holder = holder
        self.address: int = _ffi.any_clone(address)

    def __repr__(self) -> str:
        return f"<{self.kind.name} of {self.kind.interface or 'the world'}>"

    def leave(self) -> None:
        """It is the guest's again."""
        address, self.address = self.address, 0
        if address:
            _ffi.any_delete(address)

    __del__ = leave


Lift = Callable[[int, Any], Any]
Lower = Callable[[int, Any, Any], None]


class Codec(NamedTuple):
    lift: Lift
    lower: Lower


# -- numbers, bool, char


_NUMBERS = {
    "s8": (_ffi.S8, -(2**7), 2**7 - 1),
    "u8": (_ffi.U8, 0, 2**8 - 1),
    "s16": (_ffi.S16, -(2**15), 2**15 - 1),
    "u16": (_ffi.U16, 0, 2**16 - 1),
    "s32": (_ffi.S32, -(2**31), 2**31 - 1),
    "u32": (_ffi.U32, 0, 2**32 - 1),
    "s64": (_ffi.S64, -(2**63), 2**63 - 1),
    "u64": (_ffi.U64, 0, 2**64 - 1),
}


def _integer(kind: types.Primitive) -> Codec:
    code, least, most = _NUMBERS[kind.name]
    at = _ffi.NUMBER_AT[code]

    def lift(address: int, _: Holder) -> int:
        number: int = at(address + 8).value
        return number

    def lower(address: int, value: Any, _: Holder) -> None:
        if value.__class__ is not int and (isinstance(value, bool) or not isinstance(value, int)):
            raise _misfit(value, kind)
        if not least <= value <= most:
            raise Misfit(f"{_shown(value)} does not fit {kind.name}")
        byte_at(address).value = code
        at(address + 8).value = value

    return Codec(lift, lower)


def _float(kind: types.Primitive) -> Codec:
    code = _ffi.F32 if kind.name == "f32" else _ffi.F64
    at = _ffi.NUMBER_AT[code]

    def lift(address: int, _: Holder) -> float:
        number: float = at(address + 8).value
        return number

    def lower(address: int, value: Any, _: Holder) -> None:
        if isinstance(value, bool) or not isinstance(value, (float, int)):
            raise _misfit(value, kind)
        try:
            at(address + 8).value = value
        except OverflowError:
            raise Misfit(f"{_shown(value)} does not fit {kind.name}") from None
        byte_at(address).value = code

    return Codec(lift, lower)


def _lift_bool(address: int, _: Holder) -> bool:
    flag: bool = bool_at(address + 8).value
    return flag


def _lower_bool(address: int, value: Any, _: Holder) -> None:
    if value is not True and value is not False:
        raise _misfit(value, types.Primitive("bool"))
    bool_at(address + 8).value = value
    byte_at(address).value = _ffi.BOOL


def _lift_char(address: int, _: Holder) -> str:
    return chr(char_at(address + 8).value)


def _lower_char(address: int, value: Any, _: Holder) -> None:
    if not isinstance(value, str) or len(value) != 1 or 0xD800 <= ord(value) <= 0xDFFF:
        raise _misfit(value, types.Primitive("char"))
    char_at(address + 8).value = ord(value)
    byte_at(address).value = _ffi.CHAR


# -- strings and names


def _read_text(address: int) -> str:
    vector = vector_at(address)
    size = vector.size
    return text_at(vector.data, size) if size else ""


def _write_text(address: int, raw: bytes) -> None:
    _ffi.bytes_new(address, len(raw), raw)


def _lift_string(address: int, _: Holder) -> str:
    vector = vector_at(address + 8)
    size = vector.size
    return text_at(vector.data, size) if size else ""


def _lower_string(address: int, value: Any, _: Holder) -> None:
    if not isinstance(value, str):
        raise _misfit(value, types.Primitive("string"))
    try:
        raw = value.encode()
    except UnicodeEncodeError:
        raise Misfit(f"{_shown(value)} holds half a surrogate pair, which no string may") from None
    _ffi.bytes_new(address + 8, len(raw), raw)
    byte_at(address).value = _ffi.STRING


_SIMPLE = {
    "bool": Codec(_lift_bool, _lower_bool),
    "char": Codec(_lift_char, _lower_char),
    "string": Codec(_lift_string, _lower_string),
}


# -- lists and tuples


_MANY = 256
"""Bytes from which on it pays that wasmtime handles them together."""


def _lift_bytes(address: int, _: Holder) -> bytes:
    vector = vector_at(address + 8)
    size = vector.size
    data = _ffi.read_bytes(vector.data, size)
    if size >= _MANY:
        _ffi.bytes_list_read(address)
    return data


def _lower_bytes(address: int, value: Any, holder: Holder) -> None:
    if isinstance(value, bytes):
        data = value
    elif isinstance(value, (bytearray, memoryview)):
        data = bytes(value)
    elif isinstance(value, (list, tuple)):
        try:
            data = bytes(value)
        except (TypeError, ValueError):
            index = next(i for i, byte in enumerate(value) if not isinstance(byte, int) or not 0 <= byte <= 255)
            raise Misfit(f"{_shown(value[index])} does not fit u8").under(f"[{index}]") from None
    else:
        raise Misfit(f"{_shown(value)} ({type(value).__name__}) is not a list<u8>: give bytes")
    size = len(data)
    if size < _MANY:
        _ffi.list_new(address + 8, size)
        memory = word_at(address + 16).value
        byte_at(address).value = _ffi.LIST
    elif holder.lent is None:
        memory = _ffi.bytes_list_new(address, size)
    else:
        memory = _ffi.bytes_list_lend(address, size)
        holder.lent.append(address)
    if data:
        _ffi.write_bytes(memory, data)


def _sequence(value: Any, kind: types.Type) -> Sequence[Any]:
    if isinstance(value, (list, tuple)):
        return value
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray, memoryview)):
        return value
    raise _misfit(value, kind)


def _list(kind: types.List, build: Callable[[types.Type], Codec]) -> Codec:
    if kind.element == types.Primitive("u8"):
        return Codec(_lift_bytes, _lower_bytes)
    lift_one, lower_one = build(kind.element)

    def lift(address: int, holder: Holder) -> list[Any]:
        vector = vector_at(address + 8)
        size = vector.size
        if not size:
            return []
        data = vector.data
        return [lift_one(at, holder) for at in range(data, data + size * VAL, VAL)]

    def lower(address: int, value: Any, holder: Holder) -> None:
        items = _sequence(value, kind)
        size = len(items)
        _ffi.list_new(address + 8, size)
        if size:
            at = word_at(address + 16).value
            _ffi.memset(at, 0, size * VAL)
        byte_at(address).value = _ffi.LIST
        index = 0
        try:
            for index in range(size):
                lower_one(at, items[index], holder)
                at += VAL
        except Misfit as misfit:
            raise misfit.under(f"[{index}]") from None

    return Codec(lift, lower)


def _tuple(kind: types.Tuple, build: Callable[[types.Type], Codec]) -> Codec:
    codecs = [build(element) for element in kind.elements]
    size = len(codecs)
    lifts = [(index * VAL, codec.lift) for index, codec in enumerate(codecs)]
    lowers = [(index, index * VAL, codec.lower) for index, codec in enumerate(codecs)]

    def lift(address: int, holder: Holder) -> tuple[Any, ...]:
        data = word_at(address + 16).value
        return tuple([lift_one(data + offset, holder) for offset, lift_one in lifts])

    def lower(address: int, value: Any, holder: Holder) -> None:
        items = _sequence(value, kind)
        if len(items) != size:
            raise Misfit(f"{_shown(value)} has {len(items)} values; {types.text(kind)} has {size}")
        _ffi.tuple_new(address + 8, size)
        data = word_at(address + 16).value
        if size:
            _ffi.memset(data, 0, size * VAL)
        byte_at(address).value = _ffi.TUPLE
        index = 0
        try:
            for index, offset, lower_one in lowers:
                lower_one(data + offset, items[index], holder)
        except Misfit as misfit:
            raise misfit.under(f"[{index}]") from None

    return Codec(lift, lower)


# -- records and flags


def _record(kind: types.Record, build: Callable[[types.Type], Codec]) -> Codec:
    codecs = [(name, build(inner)) for name, inner in kind.fields]
    lifts = [(name, index * ENTRY + 16, codec.lift) for index, (name, codec) in enumerate(codecs)]
    lowers = [
        (name, name.encode(), index * ENTRY, codec.lower, isinstance(kind.fields[index][1], types.Option))
        for index, (name, codec) in enumerate(codecs)
    ]
    known = frozenset(name for name, _ in codecs)
    size = len(codecs)

    def lift(address: int, holder: Holder) -> dict[str, Any]:
        data = word_at(address + 16).value
        return {name: lift_one(data + offset, holder) for name, offset, lift_one in lifts}

    def lower(address: int, value: Any, holder: Holder) -> None:
        if not isinstance(value, Mapping):
            raise _misfit(value, kind)
        if not known.issuperset(value):
            extra = sorted(str(name) for name in value if name not in known)
            raise Misfit(f"no field {', '.join(extra)}; the record has {', '.join(name for name, _ in codecs)}")
        _ffi.record_new(address + 8, size)
        data = word_at(address + 16).value
        if size:
            _ffi.memset(data, 0, size * ENTRY)
        byte_at(address).value = _ffi.RECORD
        name = ""
        try:
            for name, raw, offset, lower_one, optional in lowers:
                _ffi.bytes_new(data + offset, len(raw), raw)
                if name in value:
                    lower_one(data + offset + 16, value[name], holder)
                elif optional:
                    lower_one(data + offset + 16, None, holder)
                else:
                    raise Misfit("this field is missing")
        except Misfit as misfit:
            raise misfit.under(f".{name}") from None

    return Codec(lift, lower)


def _flags(kind: types.Flags) -> Codec:
    raw = {name: name.encode() for name in kind.names}

    def lift(address: int, _: Holder) -> list[str]:
        vector = vector_at(address + 8)
        size = vector.size
        if not size:
            return []
        data = vector.data
        given = {_read_text(at) for at in range(data, data + size * 16, 16)}
        return [name for name in raw if name in given]

    def lower(address: int, value: Any, _: Holder) -> None:
        if not isinstance(value, (list, tuple, set, frozenset)):
            raise _misfit(value, kind)
        for name in value:
            if not isinstance(name, str) or name not in raw:
                raise Misfit(f"no flag {_shown(name)}; there are {', '.join(raw)}")
        names = [name for name in raw if name in value]
        _ffi.flags_new(address + 8, len(names))
        if names:
            at = word_at(address + 16).value
            for name in names:
                _write_text(at, raw[name])
                at += 16
        byte_at(address).value = _ffi.FLAGS

    return Codec(lift, lower)


# -- enums, variants, options, results


def _enum(kind: types.Enum) -> Codec:
    raw = {name: name.encode() for name in kind.cases}

    def lift(address: int, _: Holder) -> str:
        return _read_text(address + 8)

    def lower(address: int, value: Any, _: Holder) -> None:
        name = raw.get(value) if isinstance(value, str) else None
        if name is None:
            raise Misfit(f"{_shown(value)} is not one of {', '.join(raw)}")
        _write_text(address + 8, name)
        byte_at(address).value = _ffi.ENUM

    return Codec(lift, lower)


def _variant(kind: types.Variant, build: Callable[[types.Type], Codec]) -> Codec:
    cases = {name: None if inner is None else build(inner) for name, inner in kind.cases}
    raw = {name: name.encode() for name in cases}

    def lift(address: int, holder: Holder) -> Any:
        name = _read_text(address + 8)
        codec = cases[name]
        return name if codec is None else {name: codec.lift(word_at(address + 24).value, holder)}

    def lower(address: int, value: Any, holder: Holder) -> None:
        if isinstance(value, str):
            name, payload, given = value, None, False
        elif isinstance(value, Mapping) and len(value) == 1:
            ((name, payload),) = value.items()
            given = payload is not None
        else:
            raise Misfit(f"{_shown(value)} is not a variant: give a case's name, or {{case: payload}}")
        if name not in cases:
            raise Misfit(f"no case {_shown(name)}; there are {', '.join(cases)}")
        codec = cases[name]
        if codec is None and given:
            raise Misfit(f"case {name} has no payload, but {_shown(payload)} was given")
        if codec is not None and isinstance(value, str):
            raise Misfit(f'case {name} needs a payload: {{"{name}": ...}}')
        _write_text(address + 8, raw[name])
        word_at(address + 24).value = 0
        byte_at(address).value = _ffi.VARIANT
        if codec is not None:
            inner = word_at(address + 24).value = box()
            try:
                codec.lower(inner, payload, holder)
            except Misfit as misfit:
                raise misfit.under(f".{name}") from None

    return Codec(lift, lower)


def _option(kind: types.Option, build: Callable[[types.Type], Codec]) -> Codec:
    lift_some, lower_some = build(kind.payload)
    nested = isinstance(kind.payload, types.Option)

    def lift(address: int, holder: Holder) -> Any:
        inner = word_at(address + 8).value
        return lift_some(inner, holder) if inner else None

    def lift_nested(address: int, holder: Holder) -> Any:
        inner = word_at(address + 8).value
        return [lift_some(inner, holder)] if inner else None

    def lower(address: int, value: Any, holder: Holder) -> None:
        word_at(address + 8).value = 0
        byte_at(address).value = _ffi.OPTION
        if value is None:
            return
        if nested:
            if not isinstance(value, (list, tuple)) or len(value) != 1:
                raise Misfit(f"{_shown(value)} is not a {types.text(kind)}: give None or [inner]")
            value = value[0]
        inner = word_at(address + 8).value = box()
        lower_some(inner, value, holder)

    return Codec(lift_nested if nested else lift, lower)


def _sides(kind: types.Result, build: Callable[[types.Type], Codec]) -> tuple[Codec | None, Codec | None]:
    return (
        None if kind.ok is None else build(kind.ok),
        None if kind.err is None else build(kind.err),
    )


def _lower_side(address: int, codec: Codec | None, ok: bool, payload: Any, holder: Holder) -> None:
    inner = 0 if codec is None else box()
    bool_at(address + 8).value = ok
    word_at(address + 16).value = inner
    byte_at(address).value = _ffi.RESULT
    if codec is not None:
        codec.lower(inner, payload, holder)
    elif payload is not None:
        raise Misfit(f"this side of the result has no payload, but {_shown(payload)} was given")


def _result(kind: types.Result, build: Callable[[types.Type], Codec]) -> Codec:
    ok, err = _sides(kind, build)

    def lift(address: int, holder: Holder) -> dict[str, Any]:
        inner = word_at(address + 16).value
        if bool_at(address + 8).value:
            return {"ok": None if ok is None else ok.lift(inner, holder)}
        return {"err": None if err is None else err.lift(inner, holder)}

    def lower(address: int, value: Any, holder: Holder) -> None:
        if value == "ok" or value == "err":
            value = {value: None}
        if not isinstance(value, Mapping) or len(value) != 1 or not value.keys() <= {"ok", "err"}:
            raise Misfit(f'{_shown(value)} is not a result: give {{"ok": value}} or {{"err": value}}')
        ((side, payload),) = value.items()
        try:
            _lower_side(address, ok if side == "ok" else err, side == "ok", payload, holder)
        except Misfit as misfit:
            raise misfit.under(f".{side}") from None

    return Codec(lift, lower)


# -- resources


def _handle(kind: types.Handle, number: int) -> Codec:
    """A resource that lives in the host."""
    name = kind.resource.name
    owned = kind.owned

    def lift_own(address: int, holder: Holder) -> Resource:
        return holder.taken(rep_of(holder.context, address))

    def lift_borrow(address: int, holder: Holder) -> Resource:
        return holder.borrowed(rep_of(holder.context, address))

    def lower(address: int, value: Any, holder: Holder) -> None:
        if not isinstance(value, Resource) or value.wit_type != number:
            raise Misfit(f"{_shown(value)} is not a {name} of {kind.resource.interface}")
        write_resource(holder.context, address, owned, holder.push(value, lent=not owned), number)

    return Codec(lift_own if owned else lift_borrow, lower)


def _own_handle(kind: types.Handle) -> Codec:
    """A resource that lives in the guest."""
    name = f"{kind.resource.name} of {kind.resource.interface or 'the component'}"

    def lift(address: int, holder: Holder) -> GuestResource:
        if not holder.kept:
            raise Misfit(f"a {name} lives no longer than its instance: call this in a session")
        return GuestResource(kind.resource, holder, word_at(address + 8).value)

    def lower(address: int, value: Any, holder: Holder) -> None:
        if not isinstance(value, GuestResource) or value.kind != kind.resource:
            raise Misfit(f"{_shown(value)} is not a {name}")
        if value.holder is not holder:
            raise Misfit(f"{value!r} is of another session")
        if not value.address:
            raise Misfit(f"{value!r} was given back to its guest")
        word_at(address + 8).value = _ffi.any_clone(value.address)
        byte_at(address).value = _ffi.RESOURCE
        if kind.owned:
            holder.given.append(value)

    return Codec(lift, lower)


# -- the door


class Codecs:
    """Codecs of one component's types. `host` numbers the resources that live in the host (Resource.wit_type)."""

    def __init__(self, host: Mapping[types.ResourceId, int]) -> None:
        self._host = host
        self._built: dict[types.Type, Codec] = {}

    def guests(self, kind: types.Handle) -> bool:
        """Whether the resource lives in the guest."""
        return kind.resource not in self._host

    def of(self, kind: types.Type) -> Codec:
        codec = self._built.get(kind)
        if codec is None:
            codec = self._built[kind] = self._build(kind)
        return codec

    def _build(self, kind: types.Type) -> Codec:
        match kind:
            case types.Primitive(name=name):
                if name in _NUMBERS:
                    return _integer(kind)
                return _float(kind) if name in ("f32", "f64") else _SIMPLE[name]
            case types.List():
                return _list(kind, self.of)
            case types.Tuple():
                return _tuple(kind, self.of)
            case types.Record():
                return _record(kind, self.of)
            case types.Flags():
                return _flags(kind)
            case types.Enum():
                return _enum(kind)
            case types.Variant():
                return _variant(kind, self.of)
            case types.Option():
                return _option(kind, self.of)
            case types.Result():
                return _result(kind, self.of)
            case types.Handle():
                number = self._host.get(kind.resource)
                return _own_handle(kind) if number is None else _handle(kind, number)
            case types.Unsupported(name=name):
                raise ValueError(f"{name} values cannot cross between a component and the host")

    def answer(self, kind: types.Type | None) -> Answer:
        """How a function's result travels: a `result` type is return or WitError, not a value."""
        if kind is None:
            return Answer(None, _lower_nothing, None)
        if not isinstance(kind, types.Result):
            codec = self.of(kind)
            return Answer(codec.lift, codec.lower, None)
        ok, err = _sides(kind, self.of)

        def lift(address: int, holder: Holder) -> Any:
            inner = word_at(address + 16).value
            if bool_at(address + 8).value:
                return None if ok is None else ok.lift(inner, holder)
            raise WitError(None if err is None else err.lift(inner, holder))

        def lower_ok(address: int, value: Any, holder: Holder) -> None:
            _lower_side(address, ok, True, value, holder)

        def lower_err(address: int, value: Any, holder: Holder) -> None:
            _lower_side(address, err, False, value, holder)

        return Answer(lift, lower_ok, lower_err)


class Answer(NamedTuple):
    """`lift` is None when there is no result, `error` when its type is not a `result`."""

    lift: Lift | None
    lower: Lower
    error: Lower | None


def _lower_nothing(_address: int, value: Any, _holder: Any) -> None:
    if value is not None:
        raise Misfit(f"the function returns nothing, but {_shown(value)} was given")
