"""`trellis up`"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import webbrowser
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trellis.failures import NOT_CONVERGED, USER_ERROR, Failure, failure
from trellis.hosting import as_arguments, hosting_fields, hosting_options
from trellis.logs import LEVELS, configure
from trellis.options import (
    DEFAULT_LATTICE,
    SECONDS,
    STATE,
    Where,
    config_option,
    data_options,
    login_options,
    metrics_option,
    said,
    state_in,
)
from trellis.running import told_to_stop

if TYPE_CHECKING:
    from lattice.login import Settings
    from trellis.child import Child
    from trellis.live.project import Project
    from trellis.stack import HostSpec, Stack
    from wadm.manifest import Manifest

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
@hosting_options
@metrics_option(" for the first host, at the next port for each further one, and then for the manager")
@click.option(
    "--timeout", type=SECONDS, default=60.0, show_default=True, metavar="SECONDS", help="For the app's start."
)
@click.option("--no-watch", is_flag=True, help="Do not follow edits, and run what `trellis build` makes.")
@click.option(
    "--log-level", type=click.Choice(LEVELS), default="warning", show_default=True,
    help="The least that is shown of what hosts and the manager log; what actors and providers write is always shown.",
)  # fmt: skip
def command(
    path: Path | None,
    hosts: int | None,
    labelled: tuple[str, ...],
    lattice: str,
    nats: str | None,
    port: int | None,
    metrics: str | None,
    timeout: float,
    no_watch: bool,
    log_level: str,
    **hosting: Any,
) -> int:
    """Start a lattice on this machine, and an app on it that follows every edit.

    The app is that of DIR or FILE, or of an app.yaml here. Host and manager run in this process; of several hosts, each
    in one of its own. Everything ends with Ctrl-C.
    """
    if hosts and labelled:
        raise click.UsageError("give --hosts N or --host LABELS, not both")
    hosting_fields(**hosting)  # a slip is said now, and not by hosts that do not start
    specs = host_specs(hosts or 1, labelled, as_arguments(hosting), metrics)
    stack = stack_of(specs, lattice, nats, port, said(nats, lattice), port_after(metrics, len(specs)))
    configure("merged", log_level, to_lattice=True)
    return asyncio.run(_up(path, stack, timeout, not no_watch, log_level))


def host_specs(
    number: int, labelled: Sequence[str], more: tuple[str, ...] = (), metrics: str | None = None
) -> list[HostSpec]:
    """`host-a`, `host-b`... with their labels, and `more` options that are the same for all. Raises Failure.

    `metrics` is the first one's address.
    """
    from trellis.commands.host import parse_labels
    from trellis.stack import HostSpec

    every = [parse_labels(tuple(labels.split(","))) for labels in labelled] or [{}] * number
    return [
        HostSpec(f"host-{_letter(index)}", labels, more, port_after(metrics, index))
        for index, labels in enumerate(every)
    ]


def port_after(address: str | None, more: int) -> str | None:
    """`address`, HOST:PORT, with a port so much higher; 0 stays. What is none is left to who is to listen there."""
    host, _, port = (address or "").rpartition(":")
    return f"{host}:{int(port) + more}" if port.isdecimal() and int(port) else address


def _letter(index: int) -> str:
    return chr(ord("a") + index) if index < 26 else str(index + 1)


def stack_of(
    specs: list[HostSpec], lattice: str, nats: str | None, port: int | None, settings: Settings, metrics: str | None
) -> Stack:
    from trellis.live.together import Together
    from trellis.stack import Stack

    if len(specs) == 1:
        return Together(specs[0], lattice=lattice, nats=nats, port=port, settings=settings, metrics=metrics)
    return Stack(specs, lattice=lattice, nats=nats, port=port, settings=settings, metrics=metrics)


async def _up(path: Path | None, stack: Stack, timeout: float, watch: bool, log_level: str) -> int:
    task = asyncio.current_task()
    assert task is not None
    stopped = False

    def stop() -> None:
        nonlocal stopped
        stopped = True
        task.cancel()

    with told_to_stop(stop):
        try:
            return await _stay(path, stack, timeout, watch, log_level, stop)
        except asyncio.CancelledError:
            if not stopped:
                raise
            task.uncancel()
            click.echo("stopped: nothing is left running")
            return 0


async def _stay(
    path: Path | None, stack: Stack, timeout: float, watch: bool, log_level: str, stop: Callable[[], None]
) -> int:
    from trellis.live.project import manifest_of
    from trellis.live.terminal import for_people, keys
    from trellis.project import manifest_at, manifest_in, urls
    from trellis.show import columns, relative

    file = manifest_at(path) if path else manifest_in(Path.cwd())
    manifest = manifest_of(file) if file is not None else None
    found = urls(manifest) if manifest is not None else []
    folder = file.parent if file is not None else Path.cwd()
    if (other := state_in(folder)) is not None:
        raise failure(
            "TRL-UP-007",
            f"`trellis up` (pid {other['pid']}) runs in this folder already",
            why="two of them would answer at the same addresses, and verbs here could reach only one",
            fix=f"go on with that one, or stop it; if it is none, remove {relative(folder / STATE)}",
        )
    async with stack, _shown(stack, log_level):
        for line in columns(_members(stack)):
            click.echo(line)
        with _state_files(folder, stack):
            project = _project(file, stack, timeout, watch) if file is not None else None
            if project is not None:
                try:
                    await project.start()
                except Failure as error:
                    if error.exit_code == USER_ERROR:
                        raise
                    error.show()
            click.echo("\nin another terminal, in this folder:")
            for line in ("trellis status -w", "trellis deploy app.yaml") if manifest is None else _to_try(manifest):
                click.echo(f"  {line}")
            if project is not None and watch:
                click.echo("an edit is live when it is saved")
            with keys({"q": stop, **({"o": partial(_open, found[0])} if found else {})}):
                opens = "o opens the app, " if found else ""
                click.echo(f"{opens}q or Ctrl-C stops everything" if for_people() else "Ctrl-C stops everything")
                return await _watch(stack, project if watch else None)


def _members(stack: Stack) -> list[list[str]]:
    """Who there is, for people."""
    rows = [["host", str(spec), _process(stack.hosts.get(spec.name))] for spec in stack.specs]
    if stack.broker is not None:
        rows.insert(0, ["broker", stack.url, _process(stack.broker.process)])
    return [*rows, ["manager", f"lattice {stack.lattice}", _process(stack.manager)], ["logs", str(stack.folder)]]


def _process(child: Child | None) -> str:
    return "in this process" if child is None else f"pid {child.pid}"


def _place(stack: Stack) -> Where:
    return Where(stack.url, stack.lattice, "trellis up", stack.settings)


def _project(file: Path, stack: Stack, timeout: float, watch: bool) -> Project:
    """Sources can only be shared with a host of this process, and no other host may be asked to run them."""
    from trellis.live.project import Project
    from trellis.live.together import Together

    host = stack.host if isinstance(stack, Together) and stack.broker is not None and watch else None
    return Project(file, _place(stack), host, stack.folder / "sources", timeout)


@contextlib.asynccontextmanager
async def _shown(stack: Stack, log_level: str) -> AsyncIterator[None]:
    """Within the block, what hosts and the manager log in processes of their own comes to this terminal."""
    from trellis.live.terminal import show_logs
    from trellis.live.together import Together
    from trellis.session import joined

    if isinstance(stack, Together):
        yield
        return
    async with joined(_place(stack), staying=True) as lattice:
        await show_logs(lattice, getattr(logging, log_level.upper()))
        yield


def _open(url: str) -> None:
    """In a browser, which may take its time."""
    asyncio.get_running_loop().run_in_executor(None, webbrowser.open, url)


def _to_try(manifest: Manifest) -> list[str]:
    from trellis.project import urls

    component = next((c.name for c in manifest.spec.components if not c.capability), None)
    return [
        *(f"curl {url}" for url in urls(manifest)),
        "trellis status -w",
        *([f"trellis scale {component}=6"] if component else []),
    ]


async def _watch(stack: Stack, project: Project | None) -> int:
    """Follow edits, and what becomes of the members, until there is nothing left to stay for."""
    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(project.follow()) if project is not None else None
        try:
            return await _members_end(stack)
        finally:
            if following is not None:
                following.cancel()


async def _members_end(stack: Stack) -> int:
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
def _state_files(folder: Path, stack: Stack) -> Iterator[None]:
    """In the app's folder, and in the present one when it is not in that."""
    with _state_file(folder, stack), contextlib.ExitStack() as also:
        if not Path.cwd().resolve().is_relative_to(folder.resolve()):
            also.enter_context(_state_file(Path.cwd(), stack))
        yield


@contextlib.contextmanager
def _state_file(folder: Path, stack: Stack) -> Iterator[None]:
    """Lets commands in other terminals find the lattice. The file of another `up` that runs is left alone."""
    from lattice.nats_transport import plain
    from trellis.show import relative

    if state_in(folder) is not None:
        yield
        return
    file = folder / STATE
    ours = json.dumps({"nats": stack.nats, "lattice": stack.lattice, "pid": os.getpid()})
    try:
        file.parent.mkdir(exist_ok=True)
        file.write_text(ours)
        file.chmod(0o600)
    except OSError as error:
        need = f"other commands here need  --nats {plain(stack.url)}"
        click.echo(f"{relative(file)} cannot be written ({error.strerror}): {need}", err=True)
        yield
        return
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if file.read_text() == ours:
                file.unlink()
            file.parent.rmdir()  # unless it holds something else
