"""`trellis undeploy`"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import click

from trellis.failures import NOT_CONVERGED, failure
from trellis.options import Where, output_option, waiting_options, where
from trellis.output import Output
from trellis.running import run_detachable

TIMEOUT = 60.0
PAUSE = 0.05


@click.command
@click.argument("app", required=False)
@click.option("--delete", is_flag=True, help="Forget its stored versions, too.")
@output_option
@waiting_options(TIMEOUT)
def command(
    app: str | None, delete: bool, timeout: float, output: Output, nats: str | None, lattice: str | None
) -> None:
    """Take an app off the lattice, and wait until nothing of it is left.

    Its stored versions stay (to deploy again), and so does the data its providers keep.
    """
    found = run_detachable(_undeploy(where(nats, lattice), app, delete, timeout))
    output.answer(found, _lines(found, delete))


async def _undeploy(place: Where, asked: str | None, delete: bool, timeout: float) -> dict[str, Any]:
    from trellis.choosing import app_named
    from trellis.planner import granted_by_wadm, managed
    from trellis.session import joined

    begun = time.monotonic()
    async with joined(place) as lattice:
        with managed(lattice) as planner:
            apps = await planner.by_name()
            app = app_named(asked, apps)
            before = apps[app]
            versions = await planner.versions(app)
            answer = granted_by_wadm(await (planner.delete(app) if delete else planner.undeploy(app)))
            await _gone(planner, app, timeout)
    used = {str(one["name"]): one["used_by"] for one in answer.get("kept", ())}
    removed = [one for one in _removed(before) if one[1] not in used] + no_longer_used(app, apps.values())
    kept = [f"{name} (used by {', '.join(by)})" for name, by in used.items()] + of_others(before, apps.values())
    if not delete:
        kept += [f"version {one['version']}" for one in versions.get("versions", ())]
    elapsed = time.monotonic() - begun
    return {
        "app": app,
        "state": "stopped",
        "seconds": round(elapsed, 4),
        "removed": [{"kind": kind, "name": name, "text": text} for kind, name, text in removed],
        "kept": kept,
    }


def _lines(found: Mapping[str, Any], delete: bool) -> Iterator[str]:
    from trellis.show import seconds

    app = found["app"]
    for one in found["removed"]:
        yield f"{one['kind']:<10} {one['name']:<28} {one['text']}"
    if not found["removed"]:
        yield f"{app} was not deployed"
    yield f"{app} is gone after {seconds(found['seconds'])}"
    yield f"kept: {', '.join([*found['kept'], 'what its providers stored'])}"
    yield f"next: trellis {'status' if delete else f'undeploy {app} --delete  forgets it altogether'}"


def _removed(app: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    from trellis.show import ends, placed
    from trellis.waiting import interfaces

    found = [(str(c["kind"]), str(c["name"]), f"was {placed(c)}") for c in app["components"]]
    found += [("link", ends(link), interfaces(link)) for link in app["links"]]
    found += [("config", str(config["name"]), "") for config in app["configs"] if config["managed"]]
    return found


def no_longer_used(app: str, apps: Iterable[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """What went on of undeployed applications for the sake of this one alone."""
    return [
        ("shared", f"{one['name']} of {other['name']}", "nobody else uses it")
        for other in apps
        for one in other.get("kept", ())
        if one["used_by"] == [app]
    ]


def of_others(app: Mapping[str, Any], apps: Iterable[Mapping[str, Any]]) -> list[str]:
    """Components of other, deployed applications that this one is linked to."""
    owners = {c["id"]: other["name"] for other in apps if other["name"] != app["name"] for c in other["components"]}
    ends = {link[end]: link[f"{end}_id"] for link in app["links"] for end in ("source", "target")}
    return [f"{name} ({owners[id]} runs it)" for name, id in sorted(ends.items()) if id in owners]


async def _gone(planner: Any, app: str, timeout: float) -> None:
    """Until the manager sees nothing of it any more. Raises Failure after `timeout` seconds."""
    until = time.monotonic() + timeout
    times = 0
    while True:
        found = await planner.app(app)
        left = found is not None and (found["version"] is not None or found["leaving"] or found["state"] != "stopped")
        times = 0 if left else times + 1
        if times > 1:  # once may be how things stood before the manager's next plan
            return
        if time.monotonic() >= until:
            raise failure(
                "TRL-APP-007",
                f"parts of `{app}` are still there after {timeout:g} s",
                why="the manager goes on taking them away",
                fix=f"trellis status {app} -w",
                exit_code=NOT_CONVERGED,
            )
        await asyncio.sleep(PAUSE)
