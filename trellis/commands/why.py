"""`trellis why`"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from trellis.failures import NOT_CONVERGED, failure
from trellis.options import Where, lattice_options, output_option, where
from trellis.output import Output
from trellis.running import run


@click.command
@click.argument("thing", required=False)
@click.option("-a", "--app", metavar="APP", help="The app.  [default: the one of the app.yaml here, or the only one]")
@output_option
@lattice_options
def command(thing: str | None, app: str | None, output: Output, nats: str | None, lattice: str | None) -> int:
    """Say why a part of an app is as it is, and the smallest changes that would make it ready.

    THING is a component, a provider or a link ("a -> b"); without it, everything that is not ready is explained. Lines
    of the app.yaml here are named where it says what is deployed. Exits with 2 when something is not ready.
    """
    found = run(_why(where(nats, lattice), app, thing))
    output.answer(found, lines(found))
    return NOT_CONVERGED if any(one["state"] != "ready" for one in found["things"]) else 0


async def _why(place: Where, asked: str | None, thing: str | None) -> dict[str, Any]:
    from trellis.choosing import app_named
    from trellis.locating import locator
    from trellis.planner import granted_by_wadm, managed
    from trellis.session import joined
    from wadm.places import Part

    async with joined(place) as lattice:
        with managed(lattice) as planner:
            apps = await planner.by_name()
            if asked is None and thing is not None:
                asked = _only_app_with(thing, apps)
            app = app_named(asked, apps)
            if apps[app]["version"] is None:
                raise failure(
                    "TRL-APP-008", f"`{app}` is not deployed, so nothing of it runs", fix="deploy it:  trellis deploy"
                )
            if thing is not None and thing not in _things(apps[app]):
                known = ", ".join(sorted(_things(apps[app])))
                raise failure("TRL-APP-003", f"`{app}` has no `{thing}`", why=f"it has {known}", fix="name one of them")
            found = await planner.explain(app, thing)
            manifest = granted_by_wadm(await planner.get(app, apps[app]["version"]))["manifest"]
    here = locator(app, manifest, Path.cwd())
    for one in found["things"]:
        for said in (*_tree(one["cause"]), *one["remedies"]):
            about = said.get("about")
            said["place"] = here.place(Part(**about)) if here is not None and about is not None else ""
    return found


def _tree(cause: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield cause
    for below in cause["below"]:
        yield from _tree(below)


def _things(app: Mapping[str, Any]) -> set[str]:
    from trellis.show import ends

    return {component["name"] for component in app["components"]} | set(map(ends, app["links"]))


def _only_app_with(thing: str, apps: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The one app that has such a part; None when several have, or none."""
    having = [name for name, app in apps.items() if app["version"] is not None and thing in _things(app)]
    return having[0] if len(having) == 1 else None


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """The trees, each with its remedies; the last line says what to do next."""
    things = found["things"]
    for index, one in enumerate(things):
        if index:
            yield ""
        yield one["cause"]["text"] + (f"  [{one['code']}]" if one["code"] else "") + _place(one["cause"])
        yield from _branches(one["cause"]["below"], " ")
        if one["remedies"]:
            yield "smallest changes that would help:"
            for number, remedy in enumerate(one["remedies"], 1):
                command = f":  {remedy['command']}" if remedy["command"] else ""
                yield f"  {number}. {remedy['text']}{command}{_place(remedy)}"
    if not things:
        yield f"everything of {found['app']} is ready"
    yield f"next: {_next(found)}"


def _branches(causes: Sequence[Mapping[str, Any]], indent: str) -> Iterator[str]:
    for index, cause in enumerate(causes):
        last = index == len(causes) - 1
        yield f"{indent}{'└' if last else '├'} {cause['text']}{_place(cause)}"
        yield from _branches(cause["below"], indent + ("   " if last else "│  "))


def _place(said: Mapping[str, Any]) -> str:
    return f"  {said['place']}" if said["place"] else ""


def _next(found: Mapping[str, Any]) -> str:
    for one in found["things"]:
        command = next((r["command"] for r in one["remedies"] if r["command"]), "")
        if command:
            return str(command)
    return f"trellis status {found['app']}"
