"""`trellis events`"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from trellis.failures import failure
from trellis.options import Where, lattice_options, output_option, where
from trellis.output import Output
from trellis.running import run

if TYPE_CHECKING:
    from lattice.lattice import Lattice

ROUTINE = frozenset({"host_heartbeat", "health_check_status"})
"""Told every half minute without anything having happened."""

COLOURS = {"failed": "red", "stopped": "yellow", "deleted": "yellow"}


USUAL = timedelta(hours=1)
"""How far back it looks where nobody says otherwise."""

_AGO = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@click.command
@click.option("-f", "--follow", is_flag=True, help="Show what happens from now on, until Ctrl-C.")
@click.option(
    "--since", metavar="TIME", help="From then on: 90s, 10m, 2h, 1d ago, or a time. [default: 1h, none with -f]"
)
@click.option("-n", "--number", type=click.IntRange(min=1), metavar="N", help="End after so many events.")
@click.option("--type", "types", multiple=True, metavar="TYPE", help="Only these, such as component_scaled.")
@click.option("-a", "--app", metavar="APP", help="Only of this app: its state, its components, providers and links.")
@click.option("--all", "everything", is_flag=True, help="Heartbeats and routine health reports, too.")
@output_option
@lattice_options
def command(
    follow: bool,
    since: str | None,
    number: int | None,
    types: tuple[str, ...],
    app: str | None,
    everything: bool,
    output: Output,
    nats: str | None,
    lattice: str | None,
) -> None:
    """Show what happened on the lattice, and what happens. As JSON, each CloudEvent is a line.

    Hosts keep their events for a day, or less where others decided so.
    """
    begin = moment(since) if since else None if follow else datetime.now(UTC) - USUAL
    chosen = Chosen(frozenset(types), everything, app)
    run(_events(where(nats, lattice), begin, follow, number, chosen, output))


def moment(text: str) -> datetime:
    """`10m` ago, or a time as ISO 8601 writes it: here's, where it names no zone. Raises Failure."""
    ago = _AGO.fullmatch(text)
    try:
        if ago is not None:
            return datetime.now(UTC) - timedelta(seconds=float(ago[1]) * _SECONDS[ago[2]])
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise failure(
            "TRL-CLI-001", f"--since `{text}` is no time", fix="write 90s, 10m, 2h, 1d, or 2026-01-31T18:00"
        ) from None


class Chosen:
    """Which events are shown, and what their hosts are called."""

    def __init__(self, types: frozenset[str], everything: bool, app: str | None = None) -> None:
        self.types = types
        self.everything = everything
        self.app = app
        self.ids: set[str] = set()
        """Of what the app has now; what it had, its annotations and derived names tell."""
        self.names: dict[str, str] = {}

    def event(self, raw: bytes) -> dict[str, Any] | None:
        """The CloudEvent in `raw`, if it is one, and to be shown."""
        from lattice.events import TYPE_PREFIX

        try:
            event: dict[str, Any] = json.loads(raw)
            kind = str(event["type"]).removeprefix(TYPE_PREFIX)
        except (ValueError, KeyError, TypeError):
            return None
        data = event.get("data")
        if isinstance(data, dict) and "friendly_name" in data:
            self.names[str(event.get("source"))] = str(data["friendly_name"])
        shown = kind in self.types or (not self.types and (self.everything or kind not in ROUTINE))
        return event if shown and (self.app is None or self._of_app(data)) else None

    def _of_app(self, data: Any) -> bool:
        from lattice.control import APPSPEC
        from wadm.manifest import derived

        if not isinstance(data, dict):
            return False
        annotations = data.get("annotations")
        names = {data.get("app"), annotations.get(APPSPEC) if isinstance(annotations, dict) else None}
        about = [data.get(key) for key in ("component_id", "provider_id", "source_id", "target", "config_name")]
        prefix = derived(self.app or "", "")
        return self.app in names or any(id in self.ids or str(id).startswith(prefix) for id in about)


async def _events(
    place: Where, since: datetime | None, follow: bool, number: int | None, chosen: Chosen, output: Output
) -> None:
    from lattice import subjects
    from trellis.hosts import every
    from trellis.session import joined

    arrived: asyncio.Queue[bytes] = asyncio.Queue()
    shown: set[str] = set()

    def enough(raw: bytes) -> bool:
        """Show it, unless it was shown already."""
        event = chosen.event(raw)
        if event is not None and str(event.get("id")) not in shown:
            shown.add(str(event.get("id")))
            output.next(event, line(event, chosen.names))
        return number is not None and len(shown) >= number

    async with joined(place, staying=follow) as lattice:
        if follow:
            await lattice.transport.subscribe(subjects.event(lattice.name, ">"), lambda m: arrived.put_nowait(m.data))
            await lattice.transport.flush()
        if chosen.app is not None:
            chosen.ids = await _ids(lattice, chosen.app)
        if output.text:
            chosen.names.update((host.id, host.friendly_name) for host in await every(lattice, 0.3))
        if since is not None:
            async for raw in _past(lattice, since):
                if enough(raw):
                    return
        if output.text and (follow or not shown):
            here = f"lattice {lattice.name} at {lattice.transport.url}"
            click.echo(f"listening to {here}" if follow else f"nothing that was asked for happened on {here}", err=True)
        while follow and not enough(await arrived.get()):
            pass


async def _ids(lattice: Lattice, app: str) -> set[str]:
    from lattice.errors import DeadlineExceeded, Unreachable
    from trellis.planner import Planner

    try:
        found = await Planner(lattice).app(app)
    except (Unreachable, DeadlineExceeded):
        return set()  # nobody manages this lattice now; its events may be there all the same
    return {component["id"] for component in found["components"]} if found is not None else set()


async def _past(lattice: Lattice, since: datetime) -> AsyncIterator[bytes]:
    from lattice.history import events_of
    from lattice.jetstream import JetStream, NotFound

    try:
        async for raw in events_of(lattice.name).past(JetStream(lattice.transport), since):
            yield raw
    except NotFound as error:
        raise failure(
            "TRL-EVT-001",
            f"nothing keeps the events of lattice `{lattice.name}`",
            why="the first host on a NATS server makes the stream that does",
            fix="trellis events -f  shows what happens from now on",
        ) from error


def line(event: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """`10:12:01  component_scaled      host-a   counter 2 file:///app/counter.wasm`"""
    kind = str(event.get("type", "")).rpartition(".")[2]
    source = str(event.get("source", ""))
    data = event.get("data")
    moment = str(event.get("time", "")).partition("T")[2][:8] or "--:--:--"
    colour = next((shade for word, shade in COLOURS.items() if word in kind), None)
    said = _said(kind, data if isinstance(data, dict) else {})
    return f"{moment}  {click.style(f'{kind:<22}', fg=colour)}  {names.get(source, source):<20}  {said}".rstrip()


def _said(kind: str, data: Mapping[str, Any]) -> str:
    from trellis.show import state

    def get(key: str) -> str:
        value = data.get(key)
        return "" if value is None else str(value)

    if kind.startswith("component_"):
        words = [get("component_id"), get("max_instances"), get("image_ref")]
    elif kind.startswith("provider_"):
        words = [get("provider_id"), get("image_ref") or get("provider_ref"), get("reason")]
    elif kind.startswith("health_check_"):
        words = [get("provider_id")]
    elif kind.startswith("linkdef_"):
        interfaces = data.get("interfaces")
        what = f"{get('wit_namespace')}:{get('wit_package')}"
        if isinstance(interfaces, list):
            what += "/" + ",".join(str(i) for i in interfaces)
        words = [get("source_id"), "->", get("target") or "(nothing)", what, get("name")]
    elif kind == "app_changed":
        words = [get("app"), get("version"), state(get("state")), get("code"), get("message")]
    elif kind.startswith("config_"):
        words = [get("config_name")]
    elif kind == "host_heartbeat":
        words = [f"{len(data.get(what) or ())} {what}" for what in ("components", "providers")]
    else:
        labels = data.get("labels")
        pairs = labels.items() if isinstance(labels, dict) else ()
        words = [f"{key}={value}" for key, value in pairs if not str(key).startswith("hostcore.")]
    if data.get("error"):
        words.append(f"({get('error')})")
    return " ".join(word for word in words if word)
