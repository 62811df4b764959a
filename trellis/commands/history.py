"""`trellis history`"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from trellis.options import Where, lattice_options, output_option, where
from trellis.output import Output
from trellis.running import run


@click.command
@click.argument("app", required=False)
@output_option
@lattice_options
def command(app: str | None, output: Output, nats: str | None, lattice: str | None) -> None:
    """List an app's versions, newest first: which is deployed, when each last was, and why."""
    found = run(_history(where(nats, lattice), app))
    output.answer(found, _lines(found))


async def _history(place: Where, asked: str | None) -> dict[str, Any]:
    from trellis.choosing import app_named
    from trellis.planner import managed
    from trellis.session import joined

    async with joined(place) as lattice:
        with managed(lattice) as planner:
            apps = await planner.by_name()
            found = await planner.history(app_named(asked, apps))
    return {key: found[key] for key in ("app", "versions", "deployments")}


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    from trellis.show import columns

    yield click.style(found["app"], bold=True)
    rows = []
    for one in reversed(found["versions"]):
        when = f"deployed {one['deployed_at']}" if one["deployed_at"] else "no deployment remembered"
        now = click.style("deployed now", fg="green") if one["deployed"] else ""
        rows.append([one["version"], when, now, one["note"] or one["description"] or ""])
    yield from columns(rows, indent="  ")
    yield f"next: trellis rollback -a {found['app']}" if len(rows) > 1 else "next: trellis status"
