"""wasi:http/outgoing-handler: a guest's own requests, as calls over the actor's link.

`handle` becomes the Invocation `wasi:http/outgoing-handler#handle(request, options)` in the forms of `lattice.http`.
"""

from __future__ import annotations

import asyncio

from actors.denials import denied, link_grant
from actors.guest import Guest
from actors.host_api import serves
from actors.wasi.http import FutureIncomingResponse, OutgoingRequest, RequestOptions
from lattice import DeadlineExceeded, Denied, LatticeError, NotLinked, Unreachable, Value, WitError
from lattice.http import OUTGOING, Request, Response
from lattice.http import RequestOptions as Timeouts

NANOSECONDS = 10**9


@serves("wasi:http/outgoing-handler")
class OutgoingHandler:
    @staticmethod
    def handle(guest: Guest, request: OutgoingRequest, options: RequestOptions | None) -> FutureIncomingResponse:
        value = request.value()
        if value["scheme"] in (None, "http", "https") and not value["authority"]:
            raise WitError("HTTP-request-URI-invalid")
        timeouts = None if options is None else options.timeouts
        task = asyncio.get_running_loop().create_task(_ask(guest, value, timeouts))
        guest.on_end.append(task.cancel)
        return FutureIncomingResponse(task)


async def _ask(guest: Guest, request: Request, timeouts: Timeouts | None) -> Response:
    """Raises WitError with an error-code, whatever goes wrong."""
    try:
        async with asyncio.timeout(_until_first_byte(timeouts)):
            response: Response = await guest.call(OUTGOING, request, timeouts)
            return response
    except (TimeoutError, DeadlineExceeded) as error:
        raise WitError("HTTP-response-timeout") from error
    except LatticeError as error:
        raise WitError(_error_code(guest, error, request)) from error


def _until_first_byte(timeouts: Timeouts | None) -> float | None:
    if timeouts is None or timeouts["first-byte-timeout"] is None:
        return None
    return (timeouts["first-byte-timeout"] + (timeouts["connect-timeout"] or 0)) / NANOSECONDS


def _error_code(guest: Guest, error: LatticeError, request: Request) -> Value:
    match error:
        case NotLinked():
            grant = f'{link_grant(OUTGOING.interface)}, or the http grant "{request["authority"]}"'
            denied(guest, OUTGOING.interface, OUTGOING.name, grant)
            return "HTTP-request-denied"
        case Denied():
            denied(guest, OUTGOING.interface, OUTGOING.name, error.details.get("grant", error.message))
            return "HTTP-request-denied"
        case Unreachable():
            return "destination-unavailable"
        case _:
            return {"internal-error": error.message}
