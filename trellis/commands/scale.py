"""`trellis scale`"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from trellis.failures import failure
from trellis.options import Where, output_option, waiting_options, where
from trellis.output import Output
from trellis.running import run_detachable

TIMEOUT = 60.0


@click.command
@click.argument("wanted", metavar="COMPONENT=N", nargs=-1, required=True)
@click.option("-a", "--app", metavar="APP", help="The app.  [default: the one of the app.yaml here, or the only one]")
@click.option("--no-wait", is_flag=True, help="Return when the manager has recorded it.")
@output_option
@waiting_options(TIMEOUT)
def command(
    wanted: tuple[str, ...],
    app: str | None,
    no_wait: bool,
    timeout: float,
    output: Output,
    nats: str | None,
    lattice: str | None,
) -> None:
    """Change how many instances a component has, and wait until it has them.

    The number is recorded beside the deployed version, until another one is deployed. COMPONENT=manifest goes back to
    what the manifest says.
    """
    counts = parse_counts(wanted)
    place = where(nats, lattice)
    found = run_detachable(_scale(place, app, counts, timeout=timeout, wait=not no_wait, output=output))
    output.answer(found, _lines(found))


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
    place: Where, asked: str | None, counts: dict[str, int | None], *, timeout: float, wait: bool, output: Output
) -> dict[str, Any]:
    from trellis.choosing import app_named
    from trellis.commands.deploy import Progress, unready
    from trellis.planner import managed
    from trellis.session import joined
    from trellis.waiting import until_ready

    progress = Progress(output)
    async with joined(place) as lattice:
        with managed(lattice) as planner:
            apps = await planner.by_name()
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
    if outcome.end != "ready" or outcome.app is None:
        raise unready(app, outcome, timeout)
    components = [one for one in outcome.app["components"] if one["name"] in counts]
    return {"app": app, "state": "ready", "seconds": round(outcome.seconds, 4), "components": components}


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    from trellis.show import placed, seconds

    if found["state"] == "ready":
        said = "; ".join(f"{one['name']} {placed(one)}" for one in found["components"])
        yield f"{said} after {seconds(found['seconds'])}"
        yield "next: trellis status"


def _said(number: int | None) -> str:
    if number is None:
        return "as the manifest says"
    return f"{number} instance{'' if number == 1 else 's'}, until another version is deployed"
