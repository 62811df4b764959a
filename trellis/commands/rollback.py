"""`trellis rollback`"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from trellis.failures import USER_ERROR, failure
from trellis.options import Where, output_option, waiting_options, where
from trellis.output import Output
from trellis.running import run, run_detachable

if TYPE_CHECKING:
    from lattice.lattice import Lattice

TIMEOUT = 60.0


@click.command
@click.argument("version", required=False)
@click.option("-a", "--app", metavar="APP", help="The app.  [default: the one of the app.yaml here, or the only one]")
@click.option("-m", "--message", metavar="WHY", default="", help="Kept with the deployment.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask. It only asks at a terminal.")
@click.option("--no-wait", is_flag=True, help="Return when the manager has accepted it.")
@output_option
@waiting_options(TIMEOUT)
def command(
    version: str | None,
    app: str | None,
    message: str,
    yes: bool,
    no_wait: bool,
    timeout: float,
    output: Output,
    nats: str | None,
    lattice: str | None,
) -> int:
    """Deploy an earlier version of an app again, and wait until it is ready.

    Without VERSION, the one that was deployed before. Its manifest, configuration and links come back; what cannot is
    listed, and at a terminal you are asked whether to go on.
    """
    place = where(nats, lattice)
    back = run(_look(place, app, version))
    if output.text:
        for line in back.lines():
            click.echo(line)
        if not yes and sys.stdin.isatty() and not click.confirm("continue?"):
            click.echo("nothing was changed")
            return USER_ERROR
    found = run_detachable(_roll_back(place, back, message, timeout=timeout, wait=not no_wait, output=output))
    output.answer(found, _lines(found))
    return 0


@dataclass(frozen=True, slots=True)
class Back:
    """What going back would do. `status` is how the app stands now."""

    app: str
    version: str
    manifest: Mapping[str, Any]
    status: Mapping[str, Any]
    changes: Sequence[Mapping[str, Any]]
    lost: Sequence[str]

    def lines(self) -> Iterator[str]:
        from trellis.commands.plan import change_lines

        yield f"{click.style(self.app, bold=True)}: {self.status['version'] or 'not deployed'} -> {self.version}"
        yield from change_lines(self.changes)
        for said in self.lost:
            yield f"  {click.style('!', fg='yellow')} {said}"


async def _look(place: Where, asked: str | None, version: str | None) -> Back:
    from trellis.choosing import app_named
    from trellis.planner import granted_by_wadm, managed
    from trellis.session import joined

    async with joined(place) as lattice:
        with managed(lattice) as planner:
            apps = await planner.by_name()
            app = app_named(asked, apps)
            to = target(app, await planner.history(app), version)
            plan = await planner.plan(app=app, version=to)
            manifest = granted_by_wadm(await planner.get(app, to))["manifest"]
            lost = [*unrestorable(manifest, apps[app]), *await rebuilt(lattice, manifest)]
    return Back(app, to, manifest, apps[app], plan["changes"], lost)


async def _roll_back(
    place: Where, back: Back, message: str, *, timeout: float, wait: bool, output: Output
) -> dict[str, Any]:
    from trellis.commands.deploy import Progress, unready
    from trellis.planner import granted_by_wadm, managed
    from trellis.session import joined
    from trellis.waiting import until_deployed

    progress = Progress(output)
    app, to, before = back.app, back.version, back.status["version"]
    async with joined(place) as lattice:
        with managed(lattice) as planner:
            note = message or (f"rolled back from {before}" if before else "")
            granted_by_wadm(await planner.deploy(app, to, note))
            progress.say("accepted", app, to)
            result = {"app": app, "version": to, "from": before, "not_restored": list(back.lost)}
            if not wait:
                return {**result, "state": "progressing"}
            outcome = await until_deployed(planner, app, to, back.manifest, timeout, progress.line, back.status)
    if outcome.end != "ready" or outcome.app is None:
        raise unready(app, outcome, timeout)
    return {**result, "state": "ready", "seconds": round(outcome.seconds, 4)}


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    from trellis.show import seconds

    if found["state"] == "ready":
        yield f"{found['app']} {found['version']} is ready after {seconds(found['seconds'])}"
        yield "next: trellis status"


async def rebuilt(lattice: Lattice, manifest: Mapping[str, Any]) -> list[str]:
    """Which images are not the files here any more, and whether the lattice still has what they were."""
    from host.images import component_digest
    from lattice import BadInput
    from lattice.images import ImageStore
    from wadm.images import local_file

    store = ImageStore(lattice.transport, lattice.name)
    found = []
    for component in manifest["spec"]["components"]:
        image, _, digest = str(component["properties"].get("image") or "").partition("#sha256:")
        file = local_file(image)
        if file is None or not digest:
            continue
        try:
            now = await asyncio.to_thread(component_digest, file)
        except (OSError, BadInput):
            now = ""
        if now == digest:
            continue
        since = f"has been rebuilt since (sha256:{now[:12]})" if now else "is not on this machine"
        kept = await store.find(digest) is not None
        there = "its image is the one that the lattice keeps" if kept else "the lattice does not keep its image either"
        found.append(f"{file}, for {component['name']}, {since}; {there} (sha256:{digest[:12]})")
    return found


def target(app: str, history: Mapping[str, Any], asked: str | None) -> str:
    """The version to go back to: the one asked for, else the one deployed before this one. Raises Failure."""
    stored = [str(one["version"]) for one in history["versions"]]
    now = next((str(one["version"]) for one in history["versions"] if one["deployed"]), None)
    if asked is not None:
        if asked not in stored:
            raise failure(
                "TRL-APP-009",
                f"`{app}` has no version {asked}",
                why=f"there are {', '.join(stored)}",
                fix=f"trellis history {app}",
            )
        return asked
    earlier = [d["version"] for d in history["deployments"] if d["version"] != now and d["version"] in stored]
    if not earlier and now in stored:  # deployed before deployments were remembered: the one that was put before
        earlier = stored[: stored.index(now)]
    if not earlier:
        raise failure(
            "TRL-APP-009",
            f"`{app}` has no earlier version to go back to",
            why=f"only {', '.join(stored)} is stored",
            fix="deploy a mended manifest:  trellis deploy",
        )
    return str(earlier[-1])


def unrestorable(manifest: Mapping[str, Any], status: Mapping[str, Any]) -> Iterator[str]:
    """What an earlier manifest does not bring back."""
    for name, count in sorted(status["overrides"].items()):
        yield f"the recorded scale {name}={count} ends: the version's own number counts"
    external: set[str] = set()
    for component in manifest["spec"]["components"]:
        properties = component["properties"]
        secrets = list(properties.get("secrets") or ())
        external |= {c["name"] for c in _configs(properties.get("config")) if "properties" not in c}
        image = str(properties.get("image") or "")
        if image.startswith("file:") and "#sha256:" not in image:
            yield f"the image of {component['name']} is the file as it is now: {image}"
        elif image and "sha256:" not in image and "://" not in image and not image.startswith("builtin:"):
            yield f"the image of {component['name']} is what its tag means now: {image}"
        for trait in component.get("traits") or ():
            ends = trait.get("properties") or {}
            for end in ("source", "target"):
                inside = ends.get(end)
                if isinstance(inside, dict):
                    secrets += inside.get("secrets") or ()
                    external |= {c["name"] for c in _configs(inside.get("config")) if "properties" not in c}
        for secret in secrets:
            if not (secret.get("properties") or {}).get("version"):
                yield f"secret {secret['name']} of {component['name']} has its present value: no version is named"
    for name in sorted(external):
        yield f"configuration {name} is not the manifest's: it stays as it is"
    if any(component["type"] == "capability" for component in manifest["spec"]["components"]):
        yield "what its providers have stored stays as it is"


def _configs(listed: Sequence[Mapping[str, Any]] | None) -> Sequence[Mapping[str, Any]]:
    return listed or ()
