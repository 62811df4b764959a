"""`trellis status`"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import click

from trellis.failures import NOT_CONVERGED
from trellis.options import Where, lattice_options, output_option, where
from trellis.output import Output, redrawn
from trellis.running import run
from trellis.show import indented, state

if TYPE_CHECKING:
    from lattice.lattice import Lattice

PAUSE = 1.0
"""Seconds between two looks of `-w`."""


@click.command
@click.argument("app", required=False)
@click.option("-w", "--watch", is_flag=True, help="Look again every second, until Ctrl-C.")
@click.option("--exit-code", is_flag=True, help=f"Exit with {NOT_CONVERGED} unless all that is deployed is ready.")
@output_option
@lattice_options
def command(
    app: str | None, watch: bool, exit_code: bool, output: Output, nats: str | None, lattice: str | None
) -> int:
    """Show how apps stand: what is wanted, what runs where, how calls travel, and why something is not ready."""
    if watch and exit_code:
        raise click.UsageError("-w never ends by itself, so it has no --exit-code; `trellis deploy` waits")
    place = where(nats, lattice)
    if watch:
        run(_watch(place, app, output))
    found = run(_status(place, app))
    output.answer(found, _lines(found))
    unready = [one for one in found["apps"] if one["state"] not in ("ready", "stopped")]
    return NOT_CONVERGED if exit_code and unready else 0


async def _status(place: Where, app: str | None) -> dict[str, Any]:
    from trellis.session import joined

    async with joined(place) as lattice:
        return await _look(lattice, app)


async def _watch(place: Where, app: str | None, output: Output) -> NoReturn:
    """Print what there is whenever it has changed, at a terminal in place of what was."""
    from trellis.session import joined

    async with joined(place, staying=True) as lattice:
        shown = None
        while True:
            found = await _look(lattice, app)
            now = found if not output.text else "\n".join(_lines(found))
            if now != shown:
                if output.text and redrawn():
                    click.clear()
                output.next(found, str(now))
                shown = now
            await asyncio.sleep(PAUSE)


async def _look(lattice: Lattice, app: str | None) -> dict[str, Any]:
    from trellis.choosing import no_such_app
    from trellis.planner import managed

    with managed(lattice) as planner:
        found = await planner.status()
    apps = [one for one in found["apps"] if app in (None, one["name"])]
    if app is not None and not apps:
        raise no_such_app(app, [one["name"] for one in found["apps"]])
    return {"lattice": found["lattice"], "hosts": found["hosts"], "apps": apps}


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Of the whole lattice, for people; the last line says what to do next."""
    from trellis.show import columns

    hosts, apps = found["hosts"], found["apps"]
    yield click.style(f"lattice {found['lattice']}", bold=True)
    yield from columns([_host(host) for host in sorted(hosts, key=lambda h: (h["name"], h["id"]))], indent="  ") or [
        "  no hosts"
    ]
    for app in apps:
        yield ""
        yield from _app(app)
    if not apps:
        yield "\nno apps"
    yield f"\nnext: {_next(hosts, apps)}"


def _host(host: Mapping[str, Any]) -> list[str]:
    labels = " ".join(f"{k}={v}" for k, v in sorted(host["labels"].items()) if not k.startswith("hostcore."))
    seen = "" if host["alive"] else click.style(f"gone, last seen {host['seconds_since_seen']:.0f} s ago", fg="red")
    return [f"host {host['name']}", host["id"][:8], labels, seen]


def _app(app: Mapping[str, Any]) -> Iterator[str]:
    from trellis.show import columns, ends, placed, short, way
    from trellis.waiting import interfaces, reasons

    version = app["version"] or f"{app['latest_version']} (not deployed)"
    yield f"{click.style(app['name'], bold=True)} {version}  {state(app['state'])}" + (
        "  being removed" if app["leaving"] else ""
    )
    rows = []
    for one in sorted(app["components"], key=lambda c: (c["kind"] != "component", c["name"])):
        override = "  (override)" if one["name"] in app["overrides"] else ""
        ours = f"  (answered by {one['answered_by']})" if one["answered_by"] else ""
        from_registry = f"  {short(one['image'])}" if "@sha256:" in one["image"] else ""
        rows.append([one["kind"], one["name"], state(one["state"]), placed(one) + override + ours + from_registry])
        rows += (_spread(spread) for spread in one.get("spreads", ()) if spread["requirements"])
    for link in app["links"]:
        travel = way(link)
        rows.append(["link", ends(link), state(link["state"]), interfaces(link) + (f"  ({travel})" if travel else "")])
    yield from columns(rows, indent="  ")
    for one in app.get("kept", ()):
        yield f"  {one['name']} goes on: {', '.join(one['used_by'])} {'use' if len(one['used_by']) > 1 else 'uses'} it"
    for reason in reasons(app):
        yield f"  {reason['code']}  {indented(reason['message'], '      ')}"
        if reason["fix"]:
            yield f"    fix: {reason['fix']}"


def _spread(spread: Mapping[str, Any]) -> list[str]:
    on = ", ".join(f"{key}={value}" for key, value in spread["requirements"].items())
    return [
        "  spread",
        f"  {spread['name']}",
        state(spread["state"]),
        f"{spread['running']}/{spread['wanted']}  on {on}",
    ]


def _next(hosts: Sequence[Mapping[str, Any]], apps: Sequence[Mapping[str, Any]]) -> str:
    """The one thing to do now."""
    from trellis.waiting import reasons

    if not any(host["alive"] for host in hosts):
        return "trellis host start"
    for app in apps:
        if app["state"] in ("blocked", "failed", "degraded"):
            fix = next((reason["fix"] for reason in reasons(app) if reason["fix"]), "")
            return fix or f"trellis why -a {app['name']}"
    for app in apps:
        if app["state"] == "progressing":
            return f"trellis status {app['name']} -w"
    for app in apps:
        component = next((c for c in app["components"] if c["kind"] == "component"), None)
        if component is not None:
            return f"trellis scale {component['name']}={component['wanted'] + 1} -a {app['name']}"
    return "trellis deploy app.yaml"
