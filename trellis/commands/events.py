"""`trellis events`"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import click

from trellis.options import Where, lattice_options, where
from trellis.running import run

ROUTINE = frozenset({"host_heartbeat", "health_check_status"})
"""Told every half minute without anything having happened."""

COLOURS = {"failed": "red", "stopped": "yellow", "deleted": "yellow"}


@click.command
@click.option("-f", "--follow", is_flag=True, help="Go on until Ctrl-C. It always does, as nothing keeps old events.")
@click.option("-n", "--number", type=click.IntRange(min=1), metavar="N", help="End after so many events.")
@click.option("--type", "types", multiple=True, metavar="TYPE", help="Only these, such as component_scaled.")
@click.option("--all", "everything", is_flag=True, help="Heartbeats and routine health reports, too.")
@click.option(
    "-o", "--output", type=click.Choice(["text", "ndjson"]), default="text", show_default=True,
    help="How to print: a line for people, or each CloudEvent as one line of JSON.",
)  # fmt: skip
@lattice_options
def command(
    follow: bool,
    number: int | None,
    types: tuple[str, ...],
    everything: bool,
    output: str,
    nats: str | None,
    lattice: str | None,
) -> None:
    """Show what happens on the lattice, as it happens."""
    run(_events(where(nats, lattice), number, frozenset(types), everything, output == "ndjson"))


async def _events(place: Where, number: int | None, types: frozenset[str], everything: bool, ndjson: bool) -> None:
    from lattice import subjects
    from lattice.events import TYPE_PREFIX
    from lattice.transport import Message
    from trellis.session import joined

    arrived: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    names: dict[str, str] = {}

    def note(message: Message) -> None:
        try:
            event = json.loads(message.data)
            kind = str(event["type"]).removeprefix(TYPE_PREFIX)
        except (ValueError, KeyError, TypeError):
            return  # not an event, whoever sent it
        data = event.get("data")
        if isinstance(data, dict) and "friendly_name" in data:
            names[str(event.get("source"))] = str(data["friendly_name"])
        if kind in types or (not types and (everything or kind not in ROUTINE)):
            arrived.put_nowait(event)

    async with joined(place) as lattice:
        from trellis.hosts import every

        await lattice.transport.subscribe(subjects.event(lattice.name, ">"), note)
        await lattice.transport.flush()
        if not ndjson:
            names.update((host.id, host.friendly_name) for host in await every(lattice, 0.3))
            click.echo(f"listening to lattice {lattice.name} at {lattice.transport.url}", err=True)
        shown = 0
        while number is None or shown < number:
            event = await arrived.get()
            click.echo(json.dumps(event, separators=(",", ":")) if ndjson else line(event, names))
            shown += 1


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
