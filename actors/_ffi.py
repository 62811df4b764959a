"""The only file that touches wasmtime's C API: async calls, stores, linkers and component values, by address.

wasmtime-py's component classes are synchronous and convert values one element at a time. The library inside the same
wheel exports the asynchronous C API; it is bound here with plain addresses (int) in place of typed pointers, which is
what a hot path through ctypes can afford. Nothing above this file imports ctypes.

Ownership, as everywhere in the C API: a value tree is owned by whoever allocated it until a function says it takes it;
`val_delete` frees what a 32-byte value owns, not the 32 bytes.

Two handles to one library: `_waiting` releases the GIL during the call (guest code, big frees), `_quick` does not
(tiny calls, where the release would cost more than the work).
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Callable
from ctypes import (
    CFUNCTYPE,
    c_bool,
    c_char,
    c_char_p,
    c_double,
    c_float,
    c_int8,
    c_int16,
    c_int32,
    c_int64,
    c_size_t,
    c_uint8,
    c_uint16,
    c_uint32,
    c_uint64,
    c_void_p,
    sizeof,
)
from typing import Any, Final

from wasmtime import Config, WasmtimeError
from wasmtime import _ffi as capi
from wasmtime import component as components

if sys.version_info[:3] == (3, 14, 0):
    raise ImportError(
        "CPython 3.14.0 crashes when host functions run on a guest's stack (fixed in 3.14.1): use another version"
    )

_waiting: Any = capi.dll
_quick: Any = ctypes.PyDLL(str(capi.filename))

SYMBOLS: Final[list[str]] = []
"""Every C function bound here, so that a test can name what an upgrade took away."""


def _bind(library: Any, name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
    SYMBOLS.append(name)
    # a prototype makes a function object of its own: wasmtime-py's declarations of the same symbol stay as they are
    factory = CFUNCTYPE if library is _waiting else ctypes.PYFUNCTYPE
    function: Callable[..., Any] = factory(result, *arguments)((name, library))
    return function


_P = c_void_p
"""For addresses, and for sizes and numbers as well: no type is converted faster, and all go in whole registers."""

# -- stores

store_new = _bind(_quick, "wasmtime_store_new", _P, _P, _P, _P)
store_context = _bind(_quick, "wasmtime_store_context", _P, _P)
store_delete = _bind(_waiting, "wasmtime_store_delete", None, _P)
store_limiter = _bind(_quick, "wasmtime_store_limiter", None, _P, _P, _P, _P, _P, _P)
set_epoch_deadline = _bind(_quick, "wasmtime_context_set_epoch_deadline", None, _P, _P)
# its return value is garbage: the C header says error, the function leaves the register alone
yield_at_epoch = _bind(_quick, "wasmtime_context_epoch_deadline_async_yield_and_update", None, _P, _P)
set_fuel = _bind(_quick, "wasmtime_context_set_fuel", _P, _P, _P)
increment_epoch = _bind(_quick, "wasmtime_engine_increment_epoch", None, _P)

# -- calls: one live future per store; arguments, results and the error slot stay alive until it is deleted

instantiate_async = _bind(_quick, "wasmtime_component_linker_instantiate_async", _P, _P, _P, _P, _P, _P)
call_async = _bind(_quick, "wasmtime_component_func_call_async", _P, _P, _P, _P, _P, _P, _P, _P)
future_poll = _bind(_waiting, "wasmtime_call_future_poll", c_bool, _P)
future_delete = _bind(_quick, "wasmtime_call_future_delete", None, _P)
get_func = _bind(_quick, "wasmtime_component_instance_get_func", c_bool, _P, _P, _P, _P)

# -- values

val_new = _bind(_quick, "wasmtime_component_val_new", _P, _P)
val_delete = _bind(_waiting, "wasmtime_component_val_delete", None, _P)
list_new = _bind(_quick, "wasmtime_component_vallist_new_uninit", None, _P, _P)
tuple_new = _bind(_quick, "wasmtime_component_valtuple_new_uninit", None, _P, _P)
record_new = _bind(_quick, "wasmtime_component_valrecord_new_uninit", None, _P, _P)
flags_new = _bind(_quick, "wasmtime_component_valflags_new_uninit", None, _P, _P)
bytes_new = _bind(_quick, "wasm_byte_vec_new", None, _P, _P, c_char_p)
bytes_delete = _bind(_quick, "wasm_byte_vec_delete", None, _P)
_bytes_uninitialized = _bind(_quick, "wasm_byte_vec_new_uninitialized", None, _P, _P)

# -- resources of the host

resource_new = _bind(_quick, "wasmtime_component_resource_host_new", _P, _P, _P, _P)
resource_delete = _bind(_quick, "wasmtime_component_resource_host_delete", None, _P)
resource_rep = _bind(_quick, "wasmtime_component_resource_host_rep", c_uint32, _P)
resource_owned = _bind(_quick, "wasmtime_component_resource_host_owned", c_bool, _P)
resource_to_any = _bind(_quick, "wasmtime_component_resource_host_to_any", _P, _P, _P, _P)
resource_from_any = _bind(_quick, "wasmtime_component_resource_any_to_host", _P, _P, _P, _P)
any_clone = _bind(_quick, "wasmtime_component_resource_any_clone", _P, _P)
any_delete = _bind(_quick, "wasmtime_component_resource_any_delete", None, _P)
resource_type_new = _bind(_quick, "wasmtime_component_resource_type_new_host", _P, _P)
resource_type_delete = _bind(_quick, "wasmtime_component_resource_type_delete", None, _P)

# -- linkers

linker_new = _bind(_quick, "wasmtime_component_linker_new", _P, _P)
linker_delete = _bind(_quick, "wasmtime_component_linker_delete", None, _P)
linker_root = _bind(_quick, "wasmtime_component_linker_root", _P, _P)
scope_delete = _bind(_quick, "wasmtime_component_linker_instance_delete", None, _P)
_add_instance = _bind(_quick, "wasmtime_component_linker_instance_add_instance", _P, _P, c_char_p, _P, _P)
_add_func = _bind(_quick, "wasmtime_component_linker_instance_add_func", _P, _P, c_char_p, _P, _P, _P, _P)
_add_func_async = _bind(_quick, "wasmtime_component_linker_instance_add_func_async", _P, _P, c_char_p, _P, _P, _P, _P)
_add_resource = _bind(_quick, "wasmtime_component_linker_instance_add_resource", _P, _P, c_char_p, _P, _P, _P, _P, _P)

# -- errors

error_new = _bind(_quick, "wasmtime_error_new", _P, c_char_p)
_error_message = _bind(_quick, "wasmtime_error_message", None, _P, _P)
_error_delete = _bind(_quick, "wasmtime_error_delete", None, _P)

# -- types

_func_is_async = _bind(_quick, "wasmtime_component_func_type_async", c_bool, _P)

# -- configuration

_async_stack_size = _bind(_quick, "wasmtime_config_async_stack_size_set", None, _P, c_size_t)
_concurrency_support = _bind(_quick, "wasmtime_config_concurrency_support_set", None, _P, c_bool)
_POOL = "wasmtime_pooling_allocation_config_"
_pool_new = _bind(_quick, _POOL + "new", _P)
_pool_delete = _bind(_quick, _POOL + "delete", None, _P)
_pool_use = _bind(_quick, "wasmtime_pooling_allocation_strategy_set", None, _P, _P)
_POOL_SETTINGS: dict[str, Callable[..., Any]] = {
    name: _bind(_quick, f"{_POOL}{name}_set", None, _P, kind)
    for name, kind in {
        "total_component_instances": c_uint32,
        "total_core_instances": c_uint32,
        "total_memories": c_uint32,
        "total_tables": c_uint32,
        "total_stacks": c_uint32,
        "max_component_instance_size": c_size_t,
        "max_core_instance_size": c_size_t,
        "max_core_instances_per_component": c_uint32,
        "max_memories_per_component": c_uint32,
        "max_memories_per_module": c_uint32,
        "max_tables_per_component": c_uint32,
        "max_tables_per_module": c_uint32,
        "max_memory_size": c_size_t,
        "table_elements": c_size_t,
        "max_unused_warm_slots": c_uint32,
        "linear_memory_keep_resident": c_size_t,
        "table_keep_resident": c_size_t,
    }.items()
}

# -- the layout of a component value: kind at 0, payload at 8, 32 bytes

VAL: Final = 32
ENTRY: Final = 48
"""Bytes of one field of a record value: its name (16), then its value."""
INSTANCE: Final = 16
FUNC: Final = 32

(BOOL, S8, U8, S16, U16, S32, U32, S64, U64, F32, F64, CHAR, STRING) = range(13)
(LIST, RECORD, TUPLE, VARIANT, ENUM, OPTION, RESULT, FLAGS, RESOURCE) = range(13, 22)

_KINDS = (
    "BOOL S8 U8 S16 U16 S32 U32 S64 U64 F32 F64 CHAR STRING LIST RECORD TUPLE VARIANT ENUM OPTION RESULT FLAGS RESOURCE"
)


def _check_layout() -> None:
    value: Any = capi.wasmtime_component_val_t
    entry: Any = capi.wasmtime_component_valrecord_entry_t
    variant: Any = capi.wasmtime_component_valvariant_t
    result: Any = capi.wasmtime_component_valresult_t
    union: Any = capi.wasmtime_component_valunion_t
    facts = {
        "a component value is 32 bytes": sizeof(value) == VAL,
        "its payload begins at 8": value.of.offset == 8,
        "a record field is a name and a value": sizeof(entry) == ENTRY,
        "a record field's value begins at 16": entry.val.offset == 16,
        "a variant's payload is at 16": variant.val.offset == 16,
        "a result's payload is at 8": result.val.offset == 8,
        "payloads share one place": union.list.offset == union.resource.offset == 0,
        "an instance is 16 bytes": sizeof(capi.wasmtime_component_instance_t) == INSTANCE,
        "a function fits 32 bytes": sizeof(capi.wasmtime_component_func_t) <= FUNC,
        "a continuation is three words": sizeof(capi.wasmtime_async_continuation_t) == 24,
        "the kinds count as here": all(
            getattr(capi, f"WASMTIME_COMPONENT_{name}").value == number for number, name in enumerate(_KINDS.split())
        ),
    }
    wrong = [fact for fact, holds in facts.items() if not holds]
    if wrong:
        raise ImportError(f"this wasmtime's C API is laid out in another way; not true: {', '.join(wrong)}")


_check_layout()


# -- memory, by address

byte_at = c_uint8.from_address
word_at = c_uint64.from_address
"""`word_at(address).value` reads and writes 64 bits: sizes, pointers."""
bool_at = c_bool.from_address
char_at = c_uint32.from_address

NUMBER_AT: Final[dict[int, Callable[[int], Any]]] = {
    S8: c_int8.from_address,
    U8: c_uint8.from_address,
    S16: c_int16.from_address,
    U16: c_uint16.from_address,
    S32: c_int32.from_address,
    U32: c_uint32.from_address,
    S64: c_int64.from_address,
    U64: c_uint64.from_address,
    F32: c_float.from_address,
    F64: c_double.from_address,
}

_decode: Any = ctypes.PYFUNCTYPE(ctypes.py_object, c_void_p, ctypes.c_ssize_t, c_char_p)(
    ("PyUnicode_DecodeUTF8", ctypes.pythonapi)
)
memset = ctypes.memset
memmove = ctypes.memmove

_bytes: Any = ctypes.PYFUNCTYPE(ctypes.py_object, c_void_p, ctypes.c_ssize_t)(
    ("PyBytes_FromStringAndSize", ctypes.pythonapi)
)
_memory_new: Any = ctypes.PYFUNCTYPE(c_void_p, c_size_t)(("PyMem_RawMalloc", ctypes.pythonapi))
_memory_delete: Any = ctypes.PYFUNCTYPE(None, c_void_p)(("PyMem_RawFree", ctypes.pythonapi))


def text_at(address: int, size: int, errors: bytes | None = None) -> str:
    """The UTF-8 text of `size` bytes there. What a guest hands over is valid: wasmtime has looked."""
    text: str = _decode(address, size, errors)
    return text


class Words(ctypes.Structure):
    """Two words side by side: the size and address of a vector."""

    _fields_ = (("size", c_uint64), ("data", c_uint64))


vector_at = Words.from_address


def buffer(size: int) -> type[Any]:
    """The type of zeroed memory of `size` bytes: call it for one; `address_of` says where it is."""
    return c_char * size


address_of = ctypes.addressof

_EMPTY_VALUE: Final = (c_char * VAL)()
_EMPTY: Final = ctypes.addressof(_EMPTY_VALUE)


def box() -> int:
    """A heap value (`false` for now), to be owned by an option, variant or result."""
    pointer: int = val_new(_EMPTY)
    return pointer


def read_bytes(address: int, count: int) -> bytes:
    """The payloads of `count` u8 values that lie side by side.

    Done in pieces that fit a cache: slicing a copy is three times as fast as a strided view, unless the copy is large.
    """
    size = count * VAL
    if count <= _PIECE:
        data: bytes = _bytes(address, size)[8::VAL]
        return data
    _note_size(count)
    end = address + size
    return b"".join([_bytes(at, min(_STEP, end - at))[8::VAL] for at in range(address, end, _STEP)])


def _note_size(count: int) -> None:
    global _large_buffers
    if count >= _LARGE:
        _large_buffers = True


_PIECE: Final = 8192
_STEP: Final = _PIECE * VAL
_U8_VALUES: Final = bytes((U8, *(0,) * (VAL - 1))) * _PIECE


def write_bytes(address: int, data: bytes) -> None:
    """`data` as u8 values side by side. Done in pieces: the image is 32 times as large as the data."""
    _note_size(len(data))
    image = bytearray(_U8_VALUES[: len(data) * VAL])
    image_at = address_of(c_char.from_buffer(image))
    for start in range(0, len(data), _PIECE):
        piece = data[start : start + _PIECE]
        size = len(piece) * VAL
        image[8:size:VAL] = piece
        memmove(address + start * VAL, image_at, size)


# wasmtime fills a new list value by value, and looks at each again before it frees them: a quarter of what the way of a
# large `list<u8>` costs. It is spared that. The memory of arguments is lent, that of results is taken from it as a
# string's, and what was read is given back to it as one: to its allocator, values and as many bytes are the same.


def bytes_list_new(address: int, count: int) -> int:
    """Make this value a list of `count` values that are still to be written, and say where."""
    _bytes_uninitialized(address + 8, count * VAL)
    vector = vector_at(address + 8)
    vector.size = count
    byte_at(address).value = LIST
    memory: int = vector.data
    return memory


def bytes_list_read(address: int) -> None:
    """Nobody needs the values of this list any more."""
    word_at(address + 8).value *= VAL
    byte_at(address).value = STRING


def bytes_list_lend(address: int, count: int) -> int:
    """The same in memory of ours, for an argument, which wasmtime only reads. `bytes_list_take_back` it."""
    memory: int | None = _memory_new(count * VAL)
    if memory is None:
        raise MemoryError
    vector = vector_at(address + 8)
    vector.size = count
    vector.data = memory
    byte_at(address).value = LIST
    return memory


def bytes_list_take_back(address: int) -> None:
    """Free the memory that was lent to this value, before the value itself is deleted."""
    byte_at(address).value = BOOL
    _memory_delete(word_at(address + 16).value)


# -- callbacks. They run on the guest's stack: they must not raise, and keep what they do there short

SyncCallback = CFUNCTYPE(_P, _P, _P, _P, _P, c_size_t, _P, c_size_t)
"""(data, context, type, arguments, count, results, count) -> error or None."""
AsyncCallback = CFUNCTYPE(None, _P, _P, _P, _P, c_size_t, _P, c_size_t, _P, _P)
"""(data, context, type, arguments, count, results, count, error slot, continuation) -> None.

The arguments are freed when it returns; the results live until the continuation says done.
"""
Destructor = CFUNCTYPE(_P, _P, _P, c_uint32)
"""(data, context, rep) -> error or None."""
_Continuation = CFUNCTYPE(c_bool, _P)


class Continuation(ctypes.Structure):
    _fields_ = (("callback", c_uint64), ("env", c_uint64), ("finalizer", c_uint64))


continuation_at = Continuation.from_address

waiting: Final[set[int]] = set()
"""Contexts whose guest waits for a host function that has not finished."""


def _not_waiting(context: int) -> bool:
    return context not in waiting


_finished: Final = _Continuation(_not_waiting)
FINISHED: Final[int] = ctypes.cast(_finished, c_void_p).value or 0
"""A continuation callback: done once its env (a context) is no longer in `waiting`."""

# For a host function that did not wait, a continuation that is done without entering Python: "is this handle owned?",
# asked of a handle that always is.
DONE: Final[int] = ctypes.cast(_quick.wasmtime_component_resource_host_owned, c_void_p).value or 0
DONE_ENV: Final[int] = resource_new(True, 0, 0)


def pointer(managed: Any) -> int:
    """The address behind one of wasmtime-py's objects; it stays valid as long as that object does."""
    address = ctypes.cast(managed.ptr(), c_void_p).value
    if address is None:
        raise ValueError(f"{managed!r} is closed")
    return address


def take_message(error: int) -> str:
    """The text of a C error, which is freed."""
    vector = Words()
    _error_message(error, ctypes.addressof(vector))
    text = text_at(vector.data, vector.size, b"replace") if vector.size else ""
    bytes_delete(ctypes.addressof(vector))
    _error_delete(error)
    return text


def new_error(text: str) -> int:
    """A C error to return from a callback, which hands it over."""
    error: int = error_new(text.replace("\0", " ").encode(errors="replace"))
    return error


def _check(error: int | None) -> None:
    if error:
        raise WasmtimeError(take_message(error))


def add_instance(scope: int, name: str) -> int:
    """A scope for the functions of the import `name`; `scope_delete` it before `scope` is used again."""
    raw = name.encode()
    out = c_void_p()
    _check(_add_instance(scope, raw, len(raw), ctypes.addressof(out)))
    return out.value or 0


def add_func(scope: int, name: str, callback: Any) -> None:
    """`callback` (a SyncCallback) must live as long as the linker."""
    raw = name.encode()
    _check(_add_func(scope, raw, len(raw), ctypes.cast(callback, c_void_p), None, None))


def add_func_async(scope: int, name: str, callback: Any) -> None:
    """`callback` (an AsyncCallback) must live as long as the linker."""
    raw = name.encode()
    _check(_add_func_async(scope, raw, len(raw), ctypes.cast(callback, c_void_p), None, None))


def add_resource(scope: int, name: str, number: int, destructor: Any) -> None:
    """`number` tells this host type from others; `destructor` (a Destructor) must live as long as the linker."""
    raw = name.encode()
    resource = resource_type_new(number)
    try:
        _check(_add_resource(scope, raw, len(raw), resource, ctypes.cast(destructor, c_void_p), None, None))
    finally:
        resource_type_delete(resource)


def rep_of(context: int, address: int) -> int:
    """The number the host gave the resource in this value. Raises ValueError for a resource that is the guest's own."""
    slot = word_at(address + 16)  # no resource's value needs that much room
    error = resource_from_any(context, word_at(address + 8).value, address + 16)
    if error:
        raise ValueError(take_message(error))
    resource = slot.value
    rep: int = resource_rep(resource)
    resource_delete(resource)
    return rep


def write_resource(context: int, address: int, owned: bool, rep: int, number: int) -> None:
    """Make this value a handle to the host's resource `rep` of host type `number`."""
    key = owned, rep, number
    resource = _resources.get(key)
    if resource is None:
        resource = resource_new(owned, rep, number)
        if rep <= _RESOURCES_KEPT:
            _resources[key] = resource
    error = resource_to_any(context, resource, address + 8)  # which takes a copy
    if rep > _RESOURCES_KEPT:
        resource_delete(resource)
    if error:
        raise ValueError(take_message(error))
    byte_at(address).value = RESOURCE


_RESOURCES_KEPT: Final = 32
_resources: Final[dict[tuple[bool, int, int], int]] = {}
"""The host's resources as wasmtime writes them, for the small numbers that every instance begins with."""


def is_async(function: components.FuncType) -> bool:
    """The component model's own `async` functions (WASI 0.3), which the C API cannot call as plain ones."""
    return bool(_func_is_async(pointer(function)))


def set_stack(config: Config, async_stack: int) -> None:
    """Bytes of each guest's stack, on which host functions run too."""
    _async_stack_size(pointer(config), async_stack)


def without_concurrency(config: Config) -> None:
    """Leave out wasmtime's own tasks (WASI 0.3), which the C API cannot reach.

    In wasmtime 50 they make a host function that is given two borrowed handles trap: "deferred host scope has no call
    context". Code compiled with them does not load without, and the other way round.
    """
    _concurrency_support(pointer(config), False)


def use_pool(config: Config, settings: dict[str, int]) -> None:
    """Make the engine allocate instances from a pool with these limits; the address space is reserved with it."""
    pool = _pool_new()
    try:
        for name, value in settings.items():
            _POOL_SETTINGS[name](pool, value)
        _pool_use(pointer(config), pool)
    finally:
        _pool_delete(pool)


def keep_large_buffers() -> None:
    """Let glibc reuse large buffers in place of mapping each anew, until `give_back_buffers`.

    A `list<u8>` is 32 times its size on its way through the C API, four times over; mapping and faulting in those
    megabytes costs more than filling them (1 MiB in and out: 139 ms without this, 57 ms with it). Other
    allocators are left alone.
    """
    mallopt = getattr(_libc, "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 256 * 1024**2)


def give_back_buffers() -> None:
    """Let the kernel have the memory of large buffers again, if there were any since the last time."""
    global _large_buffers
    if _large_buffers and (trim := getattr(_libc, "malloc_trim", None)) is not None:
        _large_buffers = False
        trim(0)


_libc = ctypes.CDLL(None) if sys.platform == "linux" else None
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_LARGE: Final = 128 * 1024
"""Bytes of a `list<u8>` from which on its buffers are large."""
_large_buffers = False


def can_reserve(size: int) -> bool:
    """Whether `size` bytes of address space are to be had.

    Asked before an engine with a pool is made: wasmtime aborts the process when its reservation fails.
    """
    try:
        mmap.mmap(-1, size, flags=_RESERVE, prot=0).close()
    except (OSError, OverflowError, ValueError):
        return False
    return True


_RESERVE: Final[int] = (
    getattr(mmap, "MAP_PRIVATE", 2) | getattr(mmap, "MAP_ANONYMOUS", 32) | getattr(mmap, "MAP_NORESERVE", 0)
)
