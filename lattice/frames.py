"""RPC frames: what one invocation and its answer look like on the wire.

Everything is one msgpack array, so that a call costs one message each way and no header parsing:

    call     [1, function, source, link, milliseconds left | nil, trace | nil, [arg, ...], call id]
    ok       [0, value]
    err      [2, payload]                     the err side of a WIT result
    failure  [3, code, message, details]      a LatticeError
    large    [4, subject, bytes]              any of the above, too big for one message: pull it as a stream

A caller that gives up tells the call's id to all who serve the target (`subjects.cancel`); whoever has it in hand
stops.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from lattice.errors import LatticeError, ProtocolError, WitError, from_wire
from lattice.invocation import EMPTY, Invocation
from lattice.names import EntityId, Function, LinkName
from lattice.tracing import received
from lattice.values import Value, pack, unpack

OK: Final = 0
CALL: Final = 1
ERR: Final = 2
FAILURE: Final = 3
LARGE: Final = 4

LONGEST_NAME = 1024
"""Characters of a function, a source or a link in a call: hosts remember them for a while."""


def encode_call(call: Invocation, stream: Callable[[Any], Any], id: str = "") -> bytes:
    left = call.deadline - time.monotonic()
    return pack(
        [
            CALL,
            str(call.function),
            call.source,
            call.link,
            None if math.isinf(left) else max(0, math.ceil(left * 1000)),
            dict(call.trace) if call.trace else None,
            list(call.args),
            id,
        ],
        stream=stream,
    )


def decode_call(frame: list[Any], target: EntityId) -> tuple[Invocation, str]:
    """The call and its id ("": it cannot be cancelled). Raises ProtocolError for a frame that is not a call."""
    try:
        kind, function, source, link, left, trace, args, id = frame
        if kind != CALL:
            raise ValueError(f"frame kind {kind} is not a call")
        if max(len(function), len(source), len(link)) > LONGEST_NAME:
            raise ValueError(f"a name of more than {LONGEST_NAME} characters")
        call = Invocation(
            target=target,
            function=Function.parse(function),
            args=tuple(args),
            source=EntityId(source),
            link=LinkName(link),
            deadline=math.inf if left is None else time.monotonic() + left / 1000,
            trace=_trace(trace),
        )
        return call, str(id)
    except (ValueError, TypeError) as error:
        raise ProtocolError(f"not an invocation: {error}") from error


def _trace(context: Any) -> Mapping[str, str]:
    match context:
        case {"traceparent": str(parent), "tracestate": str(state)}:
            return received(parent, state)
        case {"traceparent": str(parent)}:
            return received(parent)
    return EMPTY


def encode_ok(value: Value, stream: Callable[[Any], Any]) -> bytes:
    return pack([OK, value], stream=stream)


def encode_error(error: WitError | LatticeError) -> bytes:
    if isinstance(error, WitError):
        return pack([ERR, error.payload])
    details = {k: v for k, v in error.details.items() if isinstance(v, (str, int, float, bool, bytes))}
    return pack([FAILURE, error.code, error.message, details])


def decode_answer(frame: list[Any]) -> Value:
    """The value, or raises what the other side raised."""
    match frame:
        case [0, value]:
            return value
        case [2, payload]:
            raise WitError(payload)
        case [3, str(code), str(message), dict(details)]:
            raise from_wire(code, message, details)
    raise ProtocolError("not an answer to an invocation")


def open_frame(data: bytes, stream: Callable[[str], Any]) -> list[Any]:
    """The array in `data`, streams in it opened. Raises ProtocolError."""
    frame = unpack(data, stream=stream)
    if not isinstance(frame, list) or not frame:
        raise ProtocolError("a frame must be a msgpack array")
    return frame
