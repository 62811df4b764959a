"""wasi:http/incoming-handler: a Request becomes resources, the guest's export is called, a Response comes back.

The response leaves as soon as the guest has set it. What the guest writes afterwards follows as a ByteStream; a body
that is complete by then is bytes. A guest that fails after its answer breaks that stream off, and is logged here,
because no caller is left to be told.
"""

from __future__ import annotations

import asyncio

import structlog

from actors.adapters import ADAPTERS, Callee
from actors.guest import Guest
from actors.wasi.http import IncomingRequest, OutgoingResponse, ResponseOutparam
from lattice import BadValue, Invocation, LatticeError, Value, WitError
from lattice.http import HANDLE, Request, Response

log = structlog.get_logger("actors")

_PARTS = Request.__required_keys__


async def handle(callee: Callee, invocation: Invocation) -> Response:
    """Raises WitError with the error-code that the guest set instead of a response."""
    request = _request(invocation.args)
    answer: asyncio.Future[Value] = asyncio.get_running_loop().create_future()
    guest = callee.guest
    guest.on_end.append(lambda: _report(guest, answer))
    outcome = await callee.call_until(answer, IncomingRequest(request), ResponseOutparam(answer, guest.actor))
    if "err" in outcome:
        raise WitError(outcome["err"])
    answered: OutgoingResponse = outcome["ok"]
    if callee.pending is None and not answered.complete():
        await asyncio.sleep(0)  # preempted in the middle of a body: its next turn most often ends it
    return answered.value()


def _request(args: tuple[Value, ...]) -> Request:
    if len(args) != 1 or not isinstance(args[0], dict) or not args[0].keys() >= _PARTS:
        raise BadValue(f"{HANDLE} takes one request: a record of {', '.join(sorted(_PARTS))}")
    request: Request = args[0]  # type: ignore[assignment]
    return request


def _report(guest: Guest, answer: asyncio.Future[Value]) -> None:
    failure = guest.failure
    if failure is None or not answer.done() or answer.cancelled() or answer.exception() is not None:
        return
    told = {}
    if guest.on_line is None and isinstance(failure, LatticeError):  # else what it printed has been passed on
        told["output"] = failure.details.get("output", "")
    log.error("guest.failed_after_answer", actor=guest.actor, reason=str(failure), **told)


ADAPTERS[HANDLE.key] = handle
