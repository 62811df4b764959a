"""`trellis host start`"""

from __future__ import annotations

import click

from trellis.failures import failure
from trellis.logs import Format, configure, log_options
from trellis.options import Where, lattice_options, where
from trellis.running import run_for_long, told_to_stop


@click.group
def command() -> None:
    """Run a host: a process that components and providers run in."""


@command.command
@lattice_options
@click.option("--name", metavar="NAME", help="What people call this host.  [default: one is made up]")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="A label that manifests can ask for.")
@log_options
def start(
    nats: str | None,
    lattice: str | None,
    name: str | None,
    labels: tuple[str, ...],
    log_format: Format,
    log_level: str,
) -> None:
    """Join a lattice, until SIGTERM or Ctrl-C."""
    labelled = parse_labels(labels)
    configure(log_format, log_level)
    run_for_long(_host(where(nats, lattice), name, labelled))


def parse_labels(labels: tuple[str, ...]) -> dict[str, str]:
    """`("zone=a",)` -> `{"zone": "a"}`. Raises Failure."""
    found: dict[str, str] = {}
    for label in labels:
        key, equals, value = label.partition("=")
        if not equals or not key.strip():
            raise failure("TRL-CLI-001", f"`{label}` is not a label", fix="write it as KEY=VALUE, such as zone=a")
        if key in found:
            raise failure("TRL-CLI-001", f"label `{key}` is given twice", fix="give each label once")
        found[key.strip()] = value
    return found


async def _host(place: Where, name: str | None, labels: dict[str, str]) -> None:
    from host import Host, HostConfig
    from lattice.nats_transport import NatsOptions
    from trellis.session import reaching

    config = HostConfig(lattice=place.lattice, nats=NatsOptions(place.nats, name="host"), labels=labels, name=name)
    host = Host(config)
    with told_to_stop(host.stop_soon):
        with reaching(place):
            await host.start()
        try:
            await host.run()
        finally:
            await host.stop()
