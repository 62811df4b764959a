"""wasi:logging: a guest's log lines become events of the host, bound to the actor and its trace."""

from __future__ import annotations

import structlog

from actors.guest import Guest
from actors.host_api import serves
from lattice.tracing import trace_id

log = structlog.get_logger("actors")

_METHODS = {"trace": "debug", "debug": "debug", "info": "info", "warn": "warning", "error": "error"}


@serves("wasi:logging/logging")
class Logging:
    @staticmethod
    def log(guest: Guest, level: str, context: str, message: str) -> None:
        write = getattr(log, _METHODS.get(level, "critical"))
        trace = "" if guest.invocation is None else trace_id(guest.invocation.trace)
        write("guest.logged", actor=guest.actor, level=level, context=context, message=message, trace=trace)
