"""What an HTTP client is told when there is no response: a status, one line, and the id to look for in the log."""

from __future__ import annotations

from typing import Any

from lattice import (
    BadValue,
    Busy,
    DeadlineExceeded,
    Denied,
    LatticeError,
    NotLinked,
    ProtocolError,
    Trap,
    UnknownFunction,
    Unreachable,
    WitError,
)
from lattice.http import Headers, Response

_TEXTS: dict[int, str] = {
    400: "the request is not one that can be handled",
    403: "not allowed",
    404: "not found",
    405: "method not allowed",
    408: "the request took too long to arrive",
    411: "the request needs a content-length",
    413: "the request is too large",
    414: "the address is too long",
    431: "the request's headers are too large",
    500: "the application failed",
    502: "the application did not give a response that can be sent",
    503: "the application is not available now",
    504: "the application did not answer in time",
    508: "the request goes in circles",
}

_LATTICE: tuple[tuple[type[LatticeError], int], ...] = (
    (DeadlineExceeded, 504),
    (Busy, 503),
    (Unreachable, 503),
    (NotLinked, 503),
    (Denied, 403),
    (UnknownFunction, 502),
    (ProtocolError, 502),
    (BadValue, 502),
    (Trap, 500),
)

_CODES: dict[str, int] = {
    "http-request-denied": 403,
    "http-request-length-required": 411,
    "http-request-body-size": 413,
    "http-request-method-invalid": 405,
    "http-request-uri-invalid": 400,
    "http-request-uri-too-long": 414,
    "http-request-header-section-size": 431,
    "http-request-header-size": 431,
    "http-request-trailer-section-size": 431,
    "http-request-trailer-size": 431,
    "http-protocol-error": 400,
    "connection-timeout": 504,
    "connection-read-timeout": 504,
    "connection-write-timeout": 504,
    "http-response-timeout": 504,
    "dns-timeout": 504,
    "connection-limit-reached": 503,
    "loop-detected": 508,
    "configuration-error": 500,
    "internal-error": 500,
}
"""wasi:http error-code, in lower case, where the status is not 502 (something behind the actor failed)."""


def status_of(error: BaseException) -> int:
    """The HTTP status that says `error` to a client."""
    if isinstance(error, WitError):
        return _CODES.get(case_of(error.payload).lower(), 502)
    for kind, status in _LATTICE:
        if isinstance(error, kind):
            return status
    return 500


def case_of(payload: Any) -> str:
    """The case of an `error-code`: a name, or {name: payload}."""
    if isinstance(payload, dict) and payload:
        return str(next(iter(payload)))
    return str(payload)


def plain(status: int, *, trace: str = "", text: str | None = None, headers: Headers | None = None) -> Response:
    """A short text response; with `trace`, it names the id under which `trellis trace` and the log have more."""
    line = text or _TEXTS.get(status, "error")
    body = f"{line} (trace {trace})\n" if trace else f"{line}\n"
    all_headers: Headers = [("content-type", b"text/plain; charset=utf-8"), *(headers or [])]
    if status == 503:
        all_headers.append(("retry-after", b"1"))
    return {"status": status, "headers": all_headers, "body": body.encode()}
