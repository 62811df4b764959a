"""X-Forwarded-For, -Proto and -Host: what an actor hears of the client that a request came from.

| forwarded_headers | what the actor gets                                                                        |
|-------------------|--------------------------------------------------------------------------------------------|
| pass              | what the client sent, true or not                                                          |
| set               | what this server saw; whatever the client sent under these names, or as Forwarded, is gone |
| append            | what the proxy in front sent, and behind its X-Forwarded-For the proxy's own address       |
"""

from __future__ import annotations

from lattice.http import Headers, Request

FOR, PROTO, HOST = NAMES = ("x-forwarded-for", "x-forwarded-proto", "x-forwarded-host")


def forward(request: Request, peer: str, *, keep: bool) -> None:
    """Change the request's headers in place. `peer` is the address at the other end; `keep`: it is to be believed."""
    given = {name: value for name, value in request["headers"] if name in NAMES} if keep else {}
    came_by = b", ".join(value for name, value in request["headers"] if keep and name == FOR)
    seen: Headers = [
        (FOR, came_by + b", " + peer.encode() if came_by else peer.encode()),
        (PROTO, given.get(PROTO, (request["scheme"] or "http").encode())),
        (HOST, given.get(HOST, (request["authority"] or "").encode("latin-1"))),
    ]
    dropped = NAMES if keep else (*NAMES, "forwarded")
    request["headers"][:] = [header for header in request["headers"] if header[0] not in dropped] + seen
