"""`trellis rollback`"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from trellis.failures import DETACHED, failure
from trellis.options import Where, lattice_options, output_option, timeout_option, where
from trellis.running import run

TIMEOUT = 60.0


@click.command
@click.argument("version", required=False)
@click.option("-a", "--app", metavar="APP", help="The app.  [default: the one of the app.yaml here, or the only one]")
@click.option("-m", "--message", metavar="WHY", default="", help="Kept with the deployment.")
@click.option("--no-wait", is_flag=True, help="Return when the manager has accepted it.")
@timeout_option(TIMEOUT)
@output_option
@lattice_options
def command(
    version: str | None,
    app: str | None,
    message: str,
    no_wait: bool,
    timeout: float,
    output: str,
    nats: str | None,
    lattice: str | None,
) -> int:
    """Deploy an earlier version of an app again, and wait until it is ready.

    Without VERSION, the one that was deployed before. Its manifest, configuration and links come back; what cannot is
    listed.
    """
    try:
        found = run(
            _rollback(
                where(nats, lattice), app, version, message, timeout=timeout, wait=not no_wait, quiet=output == "json"
            )
        )
    except KeyboardInterrupt:
        click.echo("detached: the manager goes on. next: trellis status -w", err=True)
        return DETACHED
    if output == "json":
        click.echo(json.dumps(found, indent=1))
    return 0


async def _rollback(
    place: Where, asked: str | None, version: str | None, message: str, *, timeout: float, wait: bool, quiet: bool
) -> dict[str, Any]:
    from lattice.errors import DeadlineExceeded, Unreachable
    from trellis.choosing import app_named
    from trellis.commands.deploy import Progress, unready
    from trellis.commands.plan import change_lines
    from trellis.planner import Planner, granted_by_wadm, unmanaged
    from trellis.session import joined
    from trellis.show import seconds
    from trellis.waiting import serves, until_ready

    progress = Progress(quiet)
    async with joined(place) as lattice:
        planner = Planner(lattice)
        try:
            status = await planner.status()
            apps = {one["name"]: one for one in status["apps"]}
            app = app_named(asked, apps)
            history = await planner.history(app)
            to = target(app, history, version)
            plan = await planner.plan(app=app, version=to)
            manifest = granted_by_wadm(await planner.get(app, to))["manifest"]
            lost = list(unrestorable(manifest, apps[app]))
            if not quiet:
                for line in change_lines(plan["changes"]):
                    click.echo(line)
                for said in lost:
                    click.echo(f"  {click.style('!', fg='yellow')} {said}")
            before = apps[app]["version"]
            note = message or (f"rolled back from {before}" if before else "")
            granted_by_wadm(await planner.deploy(app, to, note))
            progress.say("accepted", app, to)
            result = {"app": app, "version": to, "from": before, "not_restored": lost}
            if not wait:
                return {**result, "state": "progressing"}
            images = [
                (c["name"], c["properties"]["image"])
                for c in manifest["spec"]["components"]
                if c["properties"].get("image")
            ]
            outcome = await until_ready(
                planner,
                app,
                lambda found: found.get("version") == to and serves(found, images),
                timeout,
                progress.line,
                apps[app],
            )
        except (Unreachable, DeadlineExceeded) as error:
            raise unmanaged(lattice, error) from error
    if outcome.end != "ready" or outcome.app is None:
        raise unready(app, outcome, timeout)
    if not quiet:
        click.echo(f"{app} {to} is ready after {seconds(outcome.seconds)}")
        click.echo("next: trellis status")
    return {**result, "state": "ready", "seconds": round(outcome.seconds, 4)}


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


def _configs(listed: Sequence[Mapping[str, Any]] | None) -> Sequence[Mapping[str, Any]]:
    return listed or ()
