"""Calling an actor of the lattice: which one a name means, what it exports, and why it did not answer."""

from __future__ import annotations

import difflib

from actors.reflection import EXPORTS, decode
from actors.types import InterfaceType
from lattice import DeadlineExceeded, EntityId, Invocation, LatticeError, UnknownFunction, Unreachable
from lattice.control import APPSPEC
from lattice.lattice import Lattice
from lattice.names import entity_id
from lattice.routes import Routes
from trellis.failures import NOT_CONVERGED, Failure, failure
from trellis.hosts import LISTENING, every, inventories, none_there
from wadm.manifest import derived

NO_SUCH_ACTOR = "TRL-CAL-004"
LISTED = 20
"""Actors of a lattice that an error lists, at most."""

LINES = 15
"""Lines of what a guest printed that an error shows."""


async def exports_of(
    lattice: Lattice, routed: Routes, text: str, seconds: float
) -> tuple[EntityId, list[InterfaceType]]:
    """The actor of that id, or the component of that name in an app, and what it exports. Raises Failure."""
    try:
        id = entity_id(text)
    except ValueError as error:
        raise failure("TRL-CLI-001", f"`{text}` is neither a file nor an id", why=str(error)) from error
    try:
        return id, await _exports(lattice, routed, id, seconds)
    except Unreachable:
        id = await _component_named(lattice, text)
    try:
        return id, await _exports(lattice, routed, id, seconds)
    except LatticeError as error:
        raise not_answered(error, id) from error


async def _exports(lattice: Lattice, routed: Routes, id: EntityId, seconds: float) -> list[InterfaceType]:
    """Raises Unreachable when nothing serves `id`, and Failure for everything else."""
    asked = Invocation(id, EXPORTS).within(seconds)
    try:
        try:
            answer = await lattice.invoke(asked.within(LISTENING))
        except DeadlineExceeded:
            answer = await routed.route(asked)  # who took it may hang: now ask one who is known to live
        await routed.known(id, LISTENING)
        return decode(answer)
    except Unreachable:
        raise
    except UnknownFunction as error:
        raise failure(
            NO_SUCH_ACTOR,
            f"`{id}` is a provider, whose functions have no types to read JSON by",
            fix="call an actor that is linked to it",
        ) from error
    except LatticeError as error:
        raise not_answered(error, id) from error


async def _component_named(lattice: Lattice, text: str) -> EntityId:
    """The id of the running component that `text` names in its app. Raises Failure."""
    hosts = await every(lattice)
    if not hosts:
        raise none_there(lattice)
    held = await inventories(lattice, hosts)
    running = {c.id: c.annotations.get(APPSPEC) for i in held.values() for c in i.components}
    found = sorted(id for id, app in running.items() if app is not None and id == derived(app, text))
    if len(found) == 1:
        return found[0]
    if found:
        raise failure(
            NO_SUCH_ACTOR, f"`{text}` is more than one actor", why=f"there are {', '.join(found)}", fix="give its id"
        )
    known = sorted(running)
    close = difflib.get_close_matches(text, known, n=1)
    more = f" and {len(known) - LISTED} more" if len(known) > LISTED else ""
    raise failure(
        NO_SUCH_ACTOR,
        f"no host runs an actor `{text}`" + (f"; did you mean `{close[0]}`?" if close else ""),
        why=f"there are {', '.join(known[:LISTED])}{more}" if known else "no host runs any",
        fix="trellis status" if known else "trellis deploy",
    )


def not_answered(error: LatticeError, id: EntityId) -> Failure:
    """A call without an answer, as people read it."""
    code, fix = "TRL-CAL-003", "the log of the host that runs it has more"
    match error:
        case DeadlineExceeded():
            code, fix = "TRL-CAL-005", "--timeout SECONDS  waits longer, as far as the actor's own limit of time allows"
        case Unreachable():
            code, fix = "TRL-CAL-006", "trellis host ls"
        case LatticeError() if error.details.get("cause") == "not-linked":
            fix = f"trellis link get {id}"
    printed = str(error.details.get("output", "")).splitlines()[-LINES:]
    why = "\n       ".join(["it printed last:", *printed]) if printed else ""
    return failure(code, error.message, why=why, fix=fix, exit_code=NOT_CONVERGED)
