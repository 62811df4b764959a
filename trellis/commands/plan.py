"""`trellis plan`"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from trellis.commands.deploy import PIN
from trellis.failures import CHANGES, NOT_CONVERGED, USER_ERROR, Failure, show
from trellis.options import Where, lattice_options, output_option, registry_options, where
from trellis.output import Output
from trellis.running import run

_MARKS = {"add": ("+", "green"), "remove": ("-", "red"), "change": ("~", "yellow")}


@click.command
@click.argument("path", metavar="[FILE]", default=".", type=click.Path(path_type=Path))
@click.option("--exit-code", is_flag=True, help=f"Exit with {CHANGES} when a deploy would change something.")
@registry_options
@output_option
@lattice_options
def command(path: Path, exit_code: bool, output: Output, nats: str | None, lattice: str | None) -> int:
    """Show what `trellis deploy` would change, where everything would run, and how calls would travel.

    FILE is a manifest, or a folder with an app.yaml. Nothing is changed. Exits with 2 when something is in the way that
    waiting does not mend.
    """
    found = run(_plan(where(nats, lattice), path))
    output.answer(found, lines(found))
    if found["problems"]:
        return NOT_CONVERGED
    return CHANGES if exit_code and found["changed"] else 0


async def _plan(place: Where, path: Path) -> dict[str, Any]:
    from trellis.commands.check import examined_manifest
    from trellis.commands.deploy import pinned
    from trellis.planner import managed
    from trellis.published import verified
    from trellis.session import joined

    examined = await examined_manifest(path, fetch=True)
    checked = examined.checked
    show(*checked.findings)
    if checked.manifest is None or checked.data is None:
        raise Failure(USER_ERROR)
    async with joined(place) as lattice:
        await verified(lattice, examined)
        with managed(lattice) as planner:
            return await planner.plan(manifest=pinned(checked.data, examined))


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """The plan for people; the last line says what to do next."""
    from trellis.show import columns, ends, way

    yield click.style(found["app"], bold=True) + f": {_versions(found)}"
    if not found["changed"]:
        yield "  nothing would change"
    elif not found["changes"]:
        yield "  only what it says of itself would change: what runs stays as it is"
    yield from change_lines(found["changes"])
    if found["placement"]:
        yield "placement"
        rows = []
        for one in found["placement"]:
            answered = f"(answered by {one['answered_by']})" if one["answered_by"] else ""
            rows.append([one["kind"], one["name"], _hosts(one), answered])
        yield from columns(rows, indent="  ")
    if found["links"]:
        yield "links"
        rows = [[ends(k), ", ".join(k["interfaces"]), way(k) or "nowhere yet"] for k in found["links"]]
        yield from columns(rows, indent="  ")
    for problem in found["problems"]:
        yield f"{click.style('problem', fg='red')}  {problem['code']}  {problem['message']}"
        if problem["fix"]:
            yield f"  fix: {problem['fix']}"
    if found["problems"]:
        yield "a deploy would not become ready. next: mend the above, or deploy and see  trellis why"
    elif found["changed"]:
        yield "no problems. next: trellis deploy"
    else:
        yield "next: trellis status"


def _versions(found: Mapping[str, Any]) -> str:
    to = found["to"] or "a new version"
    if found["from"] is None:
        return f"{to}, not deployed yet"
    return f"{found['from']} is deployed" if found["from"] == found["to"] else f"{found['from']} -> {to}"


def change_lines(changes: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """`~ api` and what changes of it below; whole components and configurations on lines of their own."""
    from trellis.show import folded, short

    for line in _change_lines(changes):
        yield from folded(short(line), " " * 10)


def _change_lines(changes: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    under = ""
    for change in changes:
        mark, colour = _MARKS[change["op"]]
        sign = click.style(mark, fg=colour)
        owner = change["component"]
        if change["kind"] in ("component", "provider"):
            yield f"  {sign} {change['kind']} {owner}  {change['after'] or change['before']}"
            under = owner
            continue
        if owner and owner != under:
            yield f"  {click.style('~', fg='yellow')} {owner}"
            under = owner
        yield f"  {'    ' if owner else ''}{sign} {_said(change)}"


def _said(change: Mapping[str, Any]) -> str:
    kind, name, before, after = change["kind"], change["name"], change["before"], change["after"]
    match kind, change["op"]:
        case "uses", "add":
            return f"uses {name} of {after}  " + click.style("NEW CAPABILITY", fg="yellow", bold=True)
        case "uses", _:
            return f"no longer uses {name} of {before}"
        case "link", "change":
            return f"link to {name}  {before} -> {after}"
        case "link", _:
            return f"link to {name}  {before or after}"
        case "image", "change":
            place = PIN.sub("", before)
            rebuilt = PIN.sub("", after) == place != after
            return f"image  {before} -> {after.removeprefix(place) if rebuilt else after}"
        case _, "change":
            return f"{f'{kind} {name}'.rstrip()}  {before} -> {after}"
    return f"{kind} {name}  {before or after}".rstrip()


def _hosts(one: Mapping[str, Any]) -> str:
    if not one["hosts"]:
        return "nowhere"
    hosts = [h["name"] if one["kind"] == "provider" else f"{h['name']} {h['instances']}" for h in one["hosts"]]
    return ", ".join(sorted(hosts))
