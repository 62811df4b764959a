"""`trellis up`"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trellis.failures import NOT_CONVERGED, USER_ERROR, Failure
from trellis.options import DEFAULT_LATTICE, STATE, Where, config_option, data_options, login_options, said
from trellis.running import run, told_to_stop

if TYPE_CHECKING:
    from trellis.child import Child
    from trellis.stack import HostSpec, Stack

RESTARTS, RESTARTS_WITHIN = 3, 60.0
"""How often the manager may end within so many seconds before `up` gives up."""


@click.command
@click.argument("path", metavar="[DIR|FILE]", required=False, type=click.Path(path_type=Path, exists=True))
@click.option("--hosts", type=click.IntRange(min=1), help="How many hosts to start.  [default: 1]")
@click.option(
    "--host", "labelled", multiple=True, metavar="KEY=VALUE,...", help="One host with these labels; give it repeatedly."
)
@click.option("--lattice", metavar="NAME", envvar="TRELLIS_LATTICE", default=DEFAULT_LATTICE, show_default=True)
@click.option("--nats", metavar="URL", help="Use this NATS server instead of starting one.")
@config_option
@login_options()
@data_options
@click.option("--port", type=click.IntRange(1, 65535), help="Where the started NATS server listens.  [default: free]")
@click.option("--timeout", type=float, default=60.0, show_default=True, metavar="SECONDS", help="For the app's start.")
def command(
    path: Path | None,
    hosts: int | None,
    labelled: tuple[str, ...],
    lattice: str,
    nats: str | None,
    port: int | None,
    timeout: float,
) -> int:
    """Start a lattice on this machine: a NATS server, hosts and the deployment manager, each its own process.

    With an app (DIR or FILE, or an app.yaml here), builds and deploys it. Everything ends with Ctrl-C.
    """
    if hosts and labelled:
        raise click.UsageError("give --hosts N or --host LABELS, not both")
    return run(_up(path, host_specs(hosts or 1, labelled), lattice, nats, port, timeout))


def host_specs(number: int, labelled: Sequence[str]) -> list[HostSpec]:
    """`host-a`, `host-b`... with their labels. Raises Failure."""
    from trellis.commands.host import parse_labels
    from trellis.stack import HostSpec

    every = [parse_labels(tuple(labels.split(","))) for labels in labelled] or [{}] * number
    return [HostSpec(f"host-{_letter(index)}", labels) for index, labels in enumerate(every)]


def _letter(index: int) -> str:
    return chr(ord("a") + index) if index < 26 else str(index + 1)


async def _up(
    path: Path | None, specs: list[HostSpec], lattice: str, nats: str | None, port: int | None, timeout: float
) -> int:
    task = asyncio.current_task()
    assert task is not None
    stopped = False

    def stop() -> None:
        nonlocal stopped
        stopped = True
        task.cancel()

    with told_to_stop(stop):
        try:
            return await _stay(path, specs, lattice, nats, port, timeout)
        except asyncio.CancelledError:
            if not stopped:
                raise
            task.uncancel()
            click.echo("stopped: nothing is left running")
            return 0


async def _stay(
    path: Path | None, specs: list[HostSpec], lattice: str, nats: str | None, port: int | None, timeout: float
) -> int:
    from trellis.commands.build import build_all
    from trellis.commands.check import examined_manifest
    from trellis.commands.deploy import deploy, lines
    from trellis.project import manifest_at, manifest_in
    from trellis.show import columns
    from trellis.stack import Stack

    file = manifest_at(path) if path else manifest_in(Path.cwd())
    folder = file.parent if file else Path.cwd()
    if file is not None:
        await build_all(folder, quiet_if_none=True)

        def say(stage: str, *text: str) -> None:
            click.echo("  ".join([f"{stage:<9}", *text]))

        examined = await examined_manifest(file, say, fetch=True)
        if examined.checked.manifest is None:
            raise Failure(USER_ERROR, *examined.checked.findings)
    stack = Stack(specs, lattice=lattice, nats=nats, port=port, settings=said(nats))
    async with stack:
        assert stack.nats is not None
        rows = [["host", str(spec), f"pid {stack.hosts[spec.name].pid}"] for spec in specs]
        if stack.broker is not None and stack.broker.process is not None:
            rows.insert(0, ["broker", stack.nats, f"pid {stack.broker.process.pid}"])
        if stack.manager is not None:
            rows.append(["manager", f"lattice {lattice}", f"pid {stack.manager.pid}"])
        for line in columns([*rows, ["logs", str(stack.folder)]]):
            click.echo(line)
        with _state_file(folder, stack), contextlib.ExitStack() as also:
            if not Path.cwd().resolve().is_relative_to(folder.resolve()):
                also.enter_context(_state_file(Path.cwd(), stack))
            if file is not None:
                try:
                    place = Where(stack.nats, lattice, "trellis up", stack.settings)
                    for line in lines(await deploy(place, file, timeout=timeout)):
                        click.echo(line)
                except Failure as failure:
                    failure.show()
                    if failure.exit_code == USER_ERROR:
                        return USER_ERROR
            click.echo("\nin another terminal, in this folder:")
            for line in ("trellis status -w", "trellis deploy app.yaml") if file is None else _to_try(file):
                click.echo(f"  {line}")
            click.echo("Ctrl-C stops everything")
            return await _watch(stack)


def _to_try(file: Path) -> list[str]:
    from trellis.project import urls
    from wadm.validate import check

    checked = check(file.read_text(encoding="utf-8"), str(file))
    if checked.manifest is None:
        return ["trellis status -w"]
    component = next((c.name for c in checked.manifest.spec.components if not c.capability), None)
    return [
        *(f"curl {url}" for url in urls(checked.manifest)),
        "trellis status -w",
        *([f"trellis scale {component}=6"] if component else []),
    ]


async def _watch(stack: Stack) -> int:
    """Tell of hosts that end; start the manager again; without the broker there is nothing left to stay for."""
    loop = asyncio.get_running_loop()
    restarts: list[float] = []
    while True:
        child = await stack.ended.get()
        child.ended_badly().show()
        if child is stack.manager:
            restarts = [at for at in restarts if loop.time() - at < RESTARTS_WITHIN] + [loop.time()]
            if len(restarts) > RESTARTS:
                return NOT_CONVERGED
            await stack.start_manager()
            assert stack.manager is not None
            click.echo(f"manager  started again  pid {stack.manager.pid}")
            continue
        if not _is_host(child, stack):
            return NOT_CONVERGED
        if not any(host.running for host in stack.hosts.values()):
            click.echo("no host is left", err=True)
            return NOT_CONVERGED


def _is_host(child: Child, stack: Stack) -> bool:
    return child in stack.hosts.values()


@contextlib.contextmanager
def _state_file(folder: Path, stack: Stack) -> Iterator[None]:
    """Lets commands in other terminals find the lattice. Another `up`'s file in the same folder is left alone."""
    file = folder / STATE
    ours = json.dumps({"nats": stack.nats, "lattice": stack.lattice, "pid": os.getpid()})
    try:
        file.parent.mkdir(exist_ok=True)
        file.write_text(ours)
        file.chmod(0o600)
    except OSError:
        yield  # a folder that cannot be written to: commands need --nats
        return
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if file.read_text() == ours:
                file.unlink()
            file.parent.rmdir()  # unless it holds something else
