"""The hosts of a lattice, as commands talk to them: the control interface, with its refusals as failures."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from lattice.client import ControlClient, Refused
from lattice.control import HostInfo, Inventory
from lattice.errors import Unreachable
from lattice.lattice import Lattice
from lattice.names import HostId
from trellis.failures import NOT_CONVERGED, UNREACHABLE, failure
from trellis.options import Where
from trellis.session import joined

T = TypeVar("T")

LISTENING = 0.6
"""Seconds that a broadcast waits for answers: hosts take milliseconds, busy ones up to half a second."""


async def every(lattice: Lattice, seconds: float = LISTENING) -> list[HostInfo]:
    """Every host that answers within `seconds`, by name."""
    found = await ControlClient(lattice).hosts(seconds)
    return sorted(found, key=lambda host: (host.friendly_name, host.id))


async def inventories(lattice: Lattice, hosts: Iterable[HostInfo]) -> dict[HostId, Inventory]:
    """What each of `hosts` runs; one that left in between is not there."""
    return await ControlClient(lattice).inventories(host.id for host in hosts)


async def named(lattice: Lattice, text: str) -> HostInfo:
    """The host of that name or id, or the only one whose id begins so. Raises Failure."""
    hosts = await every(lattice)
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


@contextmanager
def asked(lattice: Lattice) -> Iterator[ControlClient]:
    """For requests that some host answers. Raises Failure when there is none, or when it refuses."""
    try:
        yield ControlClient(lattice)
    except Unreachable as error:
        raise none_there(lattice) from error
    except Refused as error:
        raise failure("TRL-HST-002", error.message, exit_code=NOT_CONVERGED) from error


async def ask(place: Where, request: Callable[[ControlClient], Awaitable[T]]) -> T:
    """One request that some host answers. Raises Failure."""
    async with joined(place) as lattice:
        with asked(lattice) as client:
            return await request(client)


def none_there(lattice: Lattice) -> Exception:
    return failure(
        "TRL-NET-003",
        f"no host runs on lattice `{lattice.name}` at {lattice.transport.url}",
        why="this is a request to a host",
        fix="start one:  trellis host start",
        exit_code=UNREACHABLE,
    )
