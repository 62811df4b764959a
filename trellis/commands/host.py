"""`trellis host`"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from trellis.failures import NOT_CONVERGED, failure
from trellis.hosting import hosting_fields, hosting_options
from trellis.logs import Format, configure, log_options
from trellis.options import (
    Where,
    data_options,
    lattice_options,
    liveness_option,
    metrics_option,
    output_option,
    sign_every,
    waiting_options,
    where,
)
from trellis.output import Output
from trellis.running import run, run_for_long, told_to_stop

if TYPE_CHECKING:
    from host import HostConfig
    from lattice.control import HostInfo
    from lattice.lattice import Lattice

STOPPING = 30.0
DRAINING = 120.0
PAUSE = 0.2
"""Seconds between two looks at a host that is being emptied."""


@click.group
def command() -> None:
    """Run a host, a process that components and providers run in; list, label, empty and stop those of the lattice."""


@command.command
@lattice_options
@data_options
@click.option("--name", metavar="NAME", help="What people call this host.  [default: one is made up]")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="A label that manifests can ask for.")
@hosting_options
@liveness_option
@metrics_option()
@log_options
def start(nats: str | None, lattice: str | None, log_format: Format, log_level: str, **settings: Any) -> None:
    """Join a lattice, until SIGTERM or Ctrl-C."""
    place = where(nats, lattice)
    config = host_config(place, **settings)
    configure(log_format, log_level, to_lattice=True)
    run_for_long(_host(place, config))


def host_settings(*arguments: str) -> dict[str, Any]:
    """What `host_config` needs, as `trellis host start` takes it from its arguments and the environment."""
    with start.make_context("trellis host start", [*arguments]) as context:
        elsewhere = ("nats", "lattice", "log_format", "log_level")
        return {name: value for name, value in context.params.items() if name not in elsewhere}


def host_config(
    place: Where,
    *,
    name: str | None,
    labels: tuple[str, ...],
    dead_after: float,
    metrics: str | None,
    **hosting: Any,
) -> HostConfig:
    """What the options of `trellis host start` come to. Raises Failure."""
    from host import HostConfig
    from trellis import session

    return HostConfig(
        lattice=place.lattice,
        nats=session.nats_options(place, "host"),
        data=session.data_options(place, "host"),
        name=name,
        labels=parse_labels(labels),
        dead_after=dead_after,
        alive=sign_every(dead_after),
        metrics=metrics,
        **hosting_fields(**hosting),
    )


def parse_labels(labels: tuple[str, ...]) -> dict[str, str]:
    """`("zone=a",)` -> `{"zone": "a"}`. Raises Failure."""
    found: dict[str, str] = {}
    for label in labels:
        key, equals, value = label.partition("=")
        if not equals or not key.strip():
            raise failure("TRL-CLI-001", f"`{label}` is not a label", fix="write it as KEY=VALUE, such as zone=a")
        if key.lower().startswith("hostcore."):
            raise failure("TRL-CLI-001", f"`{label}` cannot be set", why="hostcore.* labels are the host's own")
        if key in found:
            raise failure("TRL-CLI-001", f"label `{key}` is given twice", fix="give each label once")
        found[key.strip()] = value
    return found


async def _host(place: Where, config: HostConfig) -> None:
    import gc

    from host import Host
    from trellis import session

    host = Host(config)
    with told_to_stop(host.stop_soon):
        with session.reaching(place):
            await host.start()
        gc.freeze()  # what start-up made lives as long as the process: no collection need look at it again
        try:
            await host.run()
        finally:
            await host.stop()


@command.command
@output_option
@lattice_options
def ls(output: Output, nats: str | None, lattice: str | None) -> None:
    """List the hosts that answer, and what they run."""
    found = run(_ls(where(nats, lattice)))
    output.answer(found, _lines(found))


def _lines(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    from trellis.show import columns

    rows = [["NAME", "ID", "UP", "COMPONENTS", "PROVIDERS", "LABELS"]] if found else []
    for host in found:
        labels = " ".join(f"{k}={v}" for k, v in host["labels"].items() if not k.startswith("hostcore."))
        rows.append(
            [
                host["friendly_name"],
                host["id"],
                host["uptime_human"] or "",
                " ".join(f"{c['id']}({c['max_instances']})" for c in host["components"]) or "-",
                " ".join(p["id"] for p in host["providers"]) or "-",
                labels or "-",
            ]
        )
    yield from columns(rows)
    if not found:
        yield "no host answers. next: trellis host start"


@command.command
@click.argument("host", metavar="HOST")
@click.option("--no-wait", is_flag=True, help="Return when the host has agreed to stop.")
@output_option
@waiting_options(STOPPING)
def stop(host: str, no_wait: bool, timeout: float, output: Output, nats: str | None, lattice: str | None) -> None:
    """Stop a host (its name or id): it finishes the work in hand, stops its providers, says so, and leaves."""
    found = run(_stop(where(nats, lattice), host, None if no_wait else timeout))
    output.answer(found, [f"{found['name']} {'is stopping' if no_wait else 'has stopped'}"])


@command.command
@click.argument("host", metavar="HOST")
@click.option("--why", metavar="TEXT", default="yes", help="Kept in the host's label, for others to read.")
@click.option("--undo", is_flag=True, help="Let it take work again.")
@click.option("--no-wait", is_flag=True, help="Return when the host knows.")
@output_option
@waiting_options(DRAINING)
def drain(
    host: str,
    why: str,
    undo: bool,
    no_wait: bool,
    timeout: float,
    output: Output,
    nats: str | None,
    lattice: str | None,
) -> None:
    """Empty a host (its name or id) without stopping it: apps' parts are started elsewhere, and then stopped there.

    It is the label trellis.dev/drained. What no manager started stays, and so does what fits on no other host.
    """
    found = run(_drain(where(nats, lattice), host, None if undo else why or "yes", None if no_wait else timeout))
    said = "takes work again" if undo else "is being emptied" if no_wait else "is empty"
    but = f", but for {', '.join(found['left'])}" if found["left"] else ""
    following = [] if undo or no_wait else [f"next: trellis host stop {found['name']}"]
    output.answer(found, [f"{found['name']} {said}{but}", *following])


@command.command
@click.argument("host", metavar="HOST")
@click.argument("changes", metavar="KEY=VALUE|KEY-", nargs=-1, required=True)
@output_option
@lattice_options
def label(host: str, changes: tuple[str, ...], output: Output, nats: str | None, lattice: str | None) -> None:
    """Set labels of a host (its name or id); KEY- takes one away. They last as long as the host runs."""
    labels = run(_label(where(nats, lattice), host, parse_changes(changes)))
    said = " ".join(f"{k}={v}" for k, v in labels.items() if not k.startswith("hostcore."))
    output.answer(labels, [said or "no labels"])


def parse_changes(changes: tuple[str, ...]) -> dict[str, str | None]:
    """`("zone=a", "old-")` -> `{"zone": "a", "old": None}`. Raises Failure."""
    gone = [change for change in changes if "=" not in change and change.endswith("-")]
    put = parse_labels(tuple(change for change in changes if change not in gone))
    return {**put, **{change[:-1]: None for change in gone}}


async def _ls(place: Where) -> list[dict[str, Any]]:
    from trellis.hosts import every, inventories
    from trellis.session import joined

    async with joined(place) as lattice:
        hosts = await every(lattice)
        held = await inventories(lattice, hosts)
    found = []
    for host in hosts:
        inventory = held.get(host.id)
        plain = inventory.encode() if inventory else {}
        kinds = {kind: plain.get(kind, []) for kind in ("components", "providers")}
        found.append({**host.model_dump(mode="json"), **kinds})
    return found


async def _stop(place: Where, asked_for: str, timeout: float | None) -> dict[str, str]:
    from lattice.events import HostStopped
    from trellis.hosts import asked, named
    from trellis.session import joined

    async with joined(place) as lattice:
        host = await named(lattice, asked_for)
        gone = asyncio.Event()

        def heard(source: str, event: object) -> None:
            if source == host.id and isinstance(event, HostStopped):
                gone.set()

        await lattice.on_events(heard)
        await lattice.transport.flush()
        with asked(lattice) as client:
            await client.stop_host(host.id)
        if timeout is not None:
            try:
                async with asyncio.timeout(timeout):
                    await gone.wait()
            except TimeoutError:
                raise failure(
                    "TRL-HST-003",
                    f"{host.friendly_name} has not stopped within {timeout:g} s",
                    why="it agreed to, and may be finishing work in hand",
                    fix="trellis host ls",
                    exit_code=NOT_CONVERGED,
                ) from None
    return {"id": host.id, "name": host.friendly_name}


async def _drain(place: Where, asked_for: str, why: str | None, timeout: float | None) -> dict[str, Any]:
    """`left`: what stays, since no manager started it."""
    from lattice.control import DRAINED
    from trellis.hosts import asked, named
    from trellis.session import joined

    async with joined(place) as lattice:
        host = await named(lattice, asked_for)
        with asked(lattice) as client:
            if why is None:
                await client.delete_label(host.id, DRAINED)
                return {"id": host.id, "name": host.friendly_name, "left": []}
            await client.put_label(host.id, DRAINED, why)
        left = await _emptied(lattice, host, timeout)
    return {"id": host.id, "name": host.friendly_name, "left": left}


async def _emptied(lattice: Lattice, host: HostInfo, timeout: float | None) -> list[str]:
    """Wait until managers have taken away what they started there; what stays. Raises Failure."""
    from lattice.control import APPSPEC
    from trellis.hosts import inventories

    until = time.monotonic() + (timeout or 0)
    while True:
        inventory = (await inventories(lattice, [host])).get(host.id)
        parts = () if inventory is None else (inventory.components, inventory.providers)
        things = {one.id: APPSPEC in one.annotations for kind in parts for one in kind}
        managed = [id for id, by_a_manager in things.items() if by_a_manager]
        if not managed or timeout is None:
            return [id for id in things if id not in managed]
        if time.monotonic() >= until:
            raise failure(
                "TRL-HST-004",
                f"{host.friendly_name} is not empty within {timeout:g} s",
                why=f"it still runs {', '.join(managed)}: no other host may have room, or no manager runs",
                fix="trellis status",
                exit_code=NOT_CONVERGED,
            )
        await asyncio.sleep(PAUSE)


async def _label(place: Where, asked_for: str, changes: dict[str, str | None]) -> dict[str, str]:
    from trellis.hosts import asked, inventories, named
    from trellis.session import joined

    async with joined(place) as lattice:
        host = await named(lattice, asked_for)
        with asked(lattice) as client:
            for key, value in changes.items():
                if value is None:
                    await client.delete_label(host.id, key)
                else:
                    await client.put_label(host.id, key, value)
        held = await inventories(lattice, [host])
    return dict(held[host.id].labels) if host.id in held else {}
