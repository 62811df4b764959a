"""The shared language of Trellis: names, values, messages, one transport."""

from lattice.errors import (
    BadInput,
    BadValue,
    Busy,
    DeadlineExceeded,
    Denied,
    Finding,
    LatticeError,
    LimitExceeded,
    NotLinked,
    Place,
    ProtocolError,
    Trap,
    UnknownFunction,
    Unreachable,
    WitError,
)
from lattice.invocation import EMPTY, Handler, Invocation, Middleware
from lattice.names import UNRESOLVED, EntityId, Function, HostId, Interface, LinkName
from lattice.streams import Body, ByteStream
from lattice.values import Value, read_json

__all__ = [
    "EMPTY",
    "UNRESOLVED",
    "BadInput",
    "BadValue",
    "Body",
    "Busy",
    "ByteStream",
    "DeadlineExceeded",
    "Denied",
    "EntityId",
    "Finding",
    "Function",
    "Handler",
    "HostId",
    "Interface",
    "Invocation",
    "LatticeError",
    "LimitExceeded",
    "LinkName",
    "Middleware",
    "NotLinked",
    "Place",
    "ProtocolError",
    "Trap",
    "UnknownFunction",
    "Unreachable",
    "Value",
    "WitError",
    "read_json",
]
