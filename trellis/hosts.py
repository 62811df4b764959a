"""The hosts of a lattice, as commands talk to them: the control interface, with its refusals as failures."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ValidationError

from lattice.control import HostInfo, Inventory, Reply
from lattice.errors import Unreachable
from lattice.lattice import Lattice
from trellis.failures import NOT_CONVERGED, UNREACHABLE, failure

LISTENING = 0.6
"""Seconds that a broadcast waits for answers: hosts take milliseconds, busy ones up to half a second."""


async def every(lattice: Lattice, seconds: float = LISTENING) -> list[HostInfo]:
    """Every host that answers within `seconds`, by name."""
    found = []
    for reply in await lattice.control_all("host", "ping", seconds=seconds):
        try:
            found.append(HostInfo.model_validate(reply.response))
        except ValidationError:
            continue  # another kind of host, whose answer we cannot read
    return sorted(found, key=lambda host: (host.friendly_name, host.id))


async def inventories(lattice: Lattice, hosts: Iterable[HostInfo]) -> dict[str, Inventory]:
    """What each of `hosts` runs, by host id; one that left in between is not there."""

    async def one(host: HostInfo) -> Inventory | None:
        try:
            reply = await lattice.control("host", "get", host.id)
            return Inventory.model_validate(reply.response)
        except (Unreachable, ValidationError):
            return None

    found = await asyncio.gather(*(one(host) for host in hosts))
    return {inventory.host_id: inventory for inventory in found if inventory is not None}


async def named(lattice: Lattice, text: str, seconds: float = LISTENING) -> HostInfo:
    """The host of that name or id, or the only one whose id begins so. Raises Failure."""
    hosts = await every(lattice, seconds)
    if not hosts:
        raise none_there(lattice)
    exact = [host for host in hosts if text in (host.id, host.friendly_name)]
    found = exact or [host for host in hosts if len(text) >= 3 and host.id.startswith(text)]
    if len(found) == 1:
        return found[0]
    names = ", ".join(f"{host.friendly_name} ({host.id})" for host in found or hosts)
    if found:
        raise failure("TRL-HST-001", f"`{text}` is more than one host", why=names, fix="give the host's id")
    raise failure("TRL-HST-001", f"there is no host `{text}`", why=f"the lattice has {names}", fix="trellis host ls")


async def asked(lattice: Lattice, *tokens: str, body: BaseModel | dict[str, Any] | None = None) -> Reply:
    """One request that some host answers. Raises Failure when there is none, or when it refuses."""
    try:
        reply = await lattice.control(*tokens, body=body)
    except Unreachable as error:
        raise none_there(lattice) from error
    if not reply.success:
        raise failure("TRL-HST-002", reply.message or "the host refused, and gave no reason", exit_code=NOT_CONVERGED)
    return reply


def none_there(lattice: Lattice) -> Exception:
    return failure(
        "TRL-NET-003",
        f"no host runs on lattice `{lattice.name}` at {lattice.transport.url}",
        why="this is a request to a host",
        fix="start one:  trellis host start",
        exit_code=UNREACHABLE,
    )
