"""Where a redirect leads (RFC 9110, section 15.4), for links that have them followed."""

from __future__ import annotations

from urllib.parse import urldefrag, urljoin, urlsplit

from lattice import ByteStream
from lattice.http import Request, Response

REDIRECTS = frozenset((301, 302, 303, 307, 308))
ABOUT_BODY = ("content-encoding", "content-language", "content-length", "content-location", "content-type")
FOR_THE_FIRST = ("authorization", "cookie", "host")
"""Headers that another site must not see, or has no use for."""


def redirected(request: Request, response: Response) -> Request | None:
    """The request to send next; None when there is none, or when its body cannot be sent a second time."""
    location = next((value for name, value in response["headers"] if name == "location"), None)
    if response["status"] not in REDIRECTS or location is None:
        return None
    here = f"{request['scheme'] or 'https'}://{request['authority']}{request['path-with-query'] or '/'}"
    there = urlsplit(urldefrag(urljoin(here, location.decode("latin-1"))).url)
    if there.scheme not in ("http", "https") or not there.netloc or "@" in there.netloc:
        return None
    method, body = request["method"], request["body"]
    dropped: tuple[str, ...] = ()
    if response["status"] == 303 or (response["status"] < 303 and method == "POST"):
        method, body, dropped = "HEAD" if method == "HEAD" else "GET", b"", ABOUT_BODY
    if isinstance(body, ByteStream):
        return None
    if (there.scheme, there.netloc) != (urlsplit(here).scheme, request["authority"]):
        dropped += FOR_THE_FIRST
    return {
        "method": method,
        "scheme": there.scheme,
        "authority": there.netloc,
        "path-with-query": (there.path or "/") + (f"?{there.query}" if there.query else ""),
        "headers": [(name, value) for name, value in request["headers"] if name.lower() not in dropped],
        "body": body,
    }
