"""`trellis scale`"""

from __future__ import annotations

import json
from typing import Any

import click

from trellis.failures import DETACHED, failure
from trellis.options import Where, lattice_options, output_option, timeout_option, where
from trellis.running import run

TIMEOUT = 60.0


@click.command
@click.argument("wanted", metavar="COMPONENT=N", nargs=-1, required=True)
@click.option("-a", "--app", metavar="APP", help="The app.  [default: the one of the app.yaml here, or the only one]")
@click.option("--no-wait", is_flag=True, help="Return when the manager has recorded it.")
@timeout_option(TIMEOUT)
@output_option
@lattice_options
def command(
    wanted: tuple[str, ...],
    app: str | None,
    no_wait: bool,
    timeout: float,
    output: str,
    nats: str | None,
    lattice: str | None,
) -> int:
    """Change how many instances a component has, and wait until it has them.

    The number is recorded beside the deployed version, until another one is deployed. COMPONENT=manifest goes back to
    what the manifest says.
    """
    counts = parse_counts(wanted)
    try:
        found = run(
            _scale(where(nats, lattice), app, counts, timeout=timeout, wait=not no_wait, quiet=output == "json")
        )
    except KeyboardInterrupt:
        click.echo("detached: the manager goes on. next: trellis status -w", err=True)
        return DETACHED
    if output == "json":
        click.echo(json.dumps(found, indent=1))
    return 0


def parse_counts(wanted: tuple[str, ...]) -> dict[str, int | None]:
    """`("counter=6",)` -> `{"counter": 6}`; None for the manifest's own number. Raises Failure."""
    found: dict[str, int | None] = {}
    for word in wanted:
        name, equals, number = word.partition("=")
        if equals and name and number == "manifest":
            found[name] = None
        elif equals and name and number.isascii() and number.isdigit():
            found[name] = int(number)
        else:
            raise failure(
                "TRL-CLI-001", f"`{word}` does not say how many", fix="write COMPONENT=NUMBER, such as counter=6"
            )
    return found


async def _scale(
    place: Where, asked: str | None, counts: dict[str, int | None], *, timeout: float, wait: bool, quiet: bool
) -> dict[str, Any]:
    from lattice.errors import DeadlineExceeded, Unreachable
    from trellis.choosing import app_named
    from trellis.commands.deploy import Progress, unready
    from trellis.planner import Planner, unmanaged
    from trellis.session import joined
    from trellis.show import placed, seconds
    from trellis.waiting import until_ready

    progress = Progress(quiet)
    async with joined(place) as lattice:
        planner = Planner(lattice)
        try:
            apps = {one["name"]: one for one in (await planner.status())["apps"]}
            app = app_named(asked, apps)
            for component, number in counts.items():
                answer = await planner.scale(app, component, number)
                if not answer.get("success"):
                    raise failure("TRL-APP-003", str(answer.get("message")), fix=f"trellis status {app}")
                progress.say("recorded", component, _said(number))
            if not wait:
                return {"app": app, "state": "progressing"}

            def current(found: Any) -> bool:
                numbers = {one["name"]: one["wanted"] for one in found["components"]}
                return all(number is None or numbers.get(name) == number for name, number in counts.items())

            outcome = await until_ready(planner, app, current, timeout, progress.line, apps[app])
        except (Unreachable, DeadlineExceeded) as error:
            raise unmanaged(lattice, error) from error
    if outcome.end != "ready" or outcome.app is None:
        raise unready(app, outcome, timeout)
    components = [one for one in outcome.app["components"] if one["name"] in counts]
    if not quiet:
        said = "; ".join(f"{one['name']} {placed(one)}" for one in components)
        click.echo(f"{said} after {seconds(outcome.seconds)}")
        click.echo("next: trellis status")
    return {"app": app, "state": "ready", "seconds": round(outcome.seconds, 4), "components": components}


def _said(number: int | None) -> str:
    if number is None:
        return "as the manifest says"
    return f"{number} instance{'' if number == 1 else 's'}, until another version is deployed"
