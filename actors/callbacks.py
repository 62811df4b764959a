"""How a guest calls the host: what wasmtime calls back, on the guest's stack, when the guest calls an import.

A function that is done at once is called there and then. One that waits is left to whoever drives the guest, as its
`pending` HostCall. While a worker thread polls the guest, everything here hops to the event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, Protocol

from actors import _ffi
from actors._ffi import DONE, DONE_ENV, FINISHED, continuation_at, new_error, waiting, word_at
from actors.codec import Answer, Holder, Lift
from actors.guest import Guest
from lattice.errors import Trap, WitError


class HostCall(NamedTuple):
    """A host coroutine that waits: `awaited` is what it yielded, or it was not started at all (`fresh`)."""

    title: str
    coroutine: Coroutine[Any, Any, Any]
    fresh: bool
    awaited: Any
    answer: Answer
    results: int


class Caller(Holder, Protocol):
    """The instance that calls, as far as its callbacks need it."""

    guest: Guest
    deadline: float
    off_loop: bool
    pending: HostCall | None
    failure: tuple[str, BaseException] | None

    def on_loop(self, work: Callable[[], None]) -> None: ...
    def dropped(self, rep: int) -> None: ...


CALLERS: dict[int, Caller] = {}
"""Every instance whose store exists, by its context: how callbacks find theirs."""

HostFunction = Callable[..., Any]
"""Called with the Caller and the lifted arguments."""


def sync_callback(title: str, function: HostFunction, lifts: list[tuple[int, Lift]], answer: Answer) -> Any:
    lower, lower_error = answer.lower, answer.error

    def refuse(error: WitError, results: int, caller: Caller) -> None:
        if lower_error is None:
            raise Trap(f"{title} raised WitError, but its WIT type has no `result`") from error
        lower_error(results, error.payload, caller)

    def run(caller: Caller, values: list[Any], results: int) -> None:
        try:
            lower(results, function(caller, *values), caller)
        except WitError as error:
            refuse(error, results, caller)

    def call(_data: int, context: int, _type: int, arguments: int, _count: int, results: int, _one: int) -> int | None:
        caller = CALLERS[context]
        try:
            values = [lift(arguments + offset, caller) for offset, lift in lifts]
            if caller.off_loop:
                caller.on_loop(lambda: run(caller, values, results))
                return None
            try:
                lower(results, function(caller, *values), caller)
            except WitError as error:
                refuse(error, results, caller)
        except BaseException as error:
            caller.failure = (title, error)
            return new_error(title)
        return None

    return _ffi.SyncCallback(call)


def async_callback(title: str, function: HostFunction, lifts: list[tuple[int, Lift]], answer: Answer) -> Any:
    lower, lower_error = answer.lower, answer.error

    def call(
        _data: int,
        context: int,
        _type: int,
        arguments: int,
        _count: int,
        results: int,
        _one: int,
        error_slot: int,
        continuation: int,
    ) -> None:
        caller = CALLERS[context]
        then = continuation_at(continuation)
        then.callback = DONE
        then.env = DONE_ENV
        try:
            values = [lift(arguments + offset, caller) for offset, lift in lifts]
            coroutine = function(caller, *values)
            if caller.off_loop:
                awaited = None
            else:
                try:
                    awaited = coroutine.send(None)
                except StopIteration as stop:
                    lower(results, stop.value, caller)
                    return
                except WitError as error:
                    if lower_error is None:
                        raise Trap(f"{title} raised WitError, but its WIT type has no `result`") from error
                    lower_error(results, error.payload, caller)
                    return
            caller.pending = HostCall(title, coroutine, caller.off_loop, awaited, answer, results)
            waiting.add(context)
            then.callback = FINISHED
            then.env = context
        except BaseException as error:
            caller.failure = (title, error)
            word_at(error_slot).value = new_error(title)

    return _ffi.AsyncCallback(call)


def _dropped(_data: int, context: int, rep: int) -> int | None:
    caller = CALLERS.get(context)
    if caller is None:
        return None
    try:
        if caller.off_loop:
            caller.on_loop(lambda: caller.dropped(rep))
        else:
            caller.dropped(rep)
    except BaseException as error:
        caller.failure = ("dropping a resource", error)
        return new_error("dropping a resource")
    return None


drop = _ffi.Destructor(_dropped)
