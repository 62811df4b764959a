"""wasi:http as values: what travels between an HTTP server provider and an actor.

`wasi:http/incoming-handler#handle` is called with one argument, a Request, and returns a Response or raises WitError
with a wasi:http `error-code`. Resources (`incoming-request`, `response-outparam`) exist only inside the actor's host.

`wasi:http/outgoing-handler#handle`, an actor's own request, is called with a Request and RequestOptions or None, and
answers the same way.
"""

from __future__ import annotations

from typing import TypedDict

from lattice.names import Function
from lattice.streams import Body

HANDLE = Function("wasi:http/incoming-handler", "handle")
OUTGOING = Function("wasi:http/outgoing-handler", "handle")

Headers = list[tuple[str, bytes]]

Request = TypedDict(
    "Request",
    {
        "method": str,  # upper case: "GET"
        "path-with-query": str | None,
        "scheme": str | None,  # "http" | "https"
        "authority": str | None,  # host[:port]
        "headers": Headers,
        "body": Body,
    },
)


class Response(TypedDict):
    status: int
    headers: Headers
    body: Body


RequestOptions = TypedDict(
    "RequestOptions",
    {
        "connect-timeout": int | None,  # nanoseconds, all three
        "first-byte-timeout": int | None,
        "between-bytes-timeout": int | None,
    },
)
