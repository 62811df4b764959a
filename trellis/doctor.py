"""What can be wrong on this machine, in this project and on its lattice: one line for each check."""

from __future__ import annotations

import asyncio
import os
import platform
import shlex
import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from lattice import BadInput, DeadlineExceeded, LatticeError, Unreachable
from lattice.jetstream import JetStream
from lattice.login import from_file
from lattice.nats_transport import plain
from trellis import contexts, toolchains
from trellis.broker import port_is_free, server_binary
from trellis.building import recipe
from trellis.failures import Failure
from trellis.hosts import every
from trellis.options import Where
from trellis.planner import Planner, unmanaged
from trellis.project import actor_folders, manifest_in, text_of, urls
from trellis.session import joined
from trellis.show import megabytes
from wadm.validate import check

State = Literal["ok", "absent", "problem"]
"""`absent`: not there, and nothing here needs it."""

SKEW = 5.0
"""Seconds that this machine's clock may differ from the NATS server's: certificates, logins and histories go by it."""
ROOM = 2_000_000_000
"""Bytes that should be free where compiled code and images are kept."""
PATIENCE = 3.0
"""Seconds for one command of a toolchain."""


MENDS = (f"{sys.executable} -m pip install ", "npm install ", "rustup target add ", "trellis cache gc", "chmod 600 ")
"""How those fixes begin that mend by themselves, and touch nothing but this Python, the project, Rust, or our files."""


@dataclass(frozen=True, slots=True)
class Line:
    check: str
    state: State
    text: str
    fix: str = ""

    @property
    def mend(self) -> list[str]:
        """A command that mends it, and may be run without asking; nothing where there is none."""
        if self.state != "problem" or not self.fix.startswith(MENDS):
            return []
        command, *arguments = shlex.split(self.fix.partition(", or ")[0])
        return [sys.executable, "-m", "trellis", *arguments] if command == "trellis" else [command, *arguments]


async def mend(line: Line) -> str:
    """Run the line's command; what it said where it failed, else nothing."""
    try:
        process = await asyncio.create_subprocess_exec(
            *line.mend,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
    except OSError as error:
        return f"{line.mend[0]} cannot be run: {error.strerror or error}"
    output, _ = await process.communicate()
    return output.decode(errors="replace").strip() if process.returncode != 0 else ""


def _failed(name: str, error: Failure | BadInput, state: State = "problem") -> Line:
    found = error.findings[0]
    return Line(name, state, f"{found.message} [{found.code}]", found.fix)


async def examined(folder: Path, place: Where) -> AsyncIterator[Line]:
    """Every line, as it becomes known: of the machine, of the project in `folder`, of the lattice at `place`."""
    for line in (*_versions(), *_caches(), *_contexts()):
        yield line
    needed = _languages(folder)
    async for line in _toolchains(needed):
        yield line
    running = False
    async for line in _lattice(place):
        running = running or (line.check, line.state) == ("nats", "ok")
        yield line
    for line in _project(folder, running):
        yield line


# -- this machine


def _versions() -> Iterator[Line]:
    yield Line("python", "ok", f"{platform.python_version()} at {sys.executable}")
    for package in ("trellis-lattice", "wasmtime", "nats-py"):
        yield Line(package, "ok", version(package))
    try:
        yield Line("nats-server", "ok", server_binary())
    except Failure as error:
        yield _failed("nats-server", error)


def _caches() -> Iterator[Line]:
    from actors.cache import default_directory as compiled
    from host.images.cache import default_directory as images

    for name, folder in (("compiled code", compiled()), ("images", images())):
        there = next(each for each in (folder, *folder.parents) if each.exists())
        if not os.access(there, os.W_OK | os.X_OK):
            yield Line(name, "problem", f"{there} cannot be written to", "give it to this user, or set TRELLIS_CACHE")
            continue
        free = shutil.disk_usage(there).free
        text = f"{folder}, {megabytes(free)} free"
        if free < ROOM:
            yield Line(name, "problem", text, "trellis cache gc, or set TRELLIS_CACHE to a larger disk")
        else:
            yield Line(name, "ok", text)


def _contexts() -> Iterator[Line]:
    """Those that cannot be used, and those that tell others a secret."""
    for name in contexts.names():
        file = contexts.file_of(name)
        try:
            said = from_file(file)
        except BadInput as error:
            yield _failed(f"context {name}", error)
            continue
        secret = any(server.login.password or server.login.token for server in (said.nats, said.data))
        if secret and file.stat().st_mode & 0o077:
            yield Line(f"context {name}", "problem", f"others may read the secret in {file}", f"chmod 600 {file}")


def _languages(folder: Path) -> dict[str, Path]:
    """The languages that actors below `folder` are written in, each with one of their folders."""
    found: dict[str, Path] = {}
    for actor in actor_folders(folder):
        try:
            one = recipe(actor)
        except BadInput:
            continue  # `trellis build` says what is wrong with it
        if one.language is not None:
            found.setdefault(one.language, actor)
    return found


async def _toolchains(needed: dict[str, Path]) -> AsyncIterator[Line]:
    """Those of the languages that `trellis build` knows. What no actor here needs may be absent."""
    for language in toolchains.LANGUAGES:
        try:
            command = toolchains.version_command(language, needed.get(language, Path()))
        except Failure as error:
            yield _failed(f"{language} actors", error, "problem" if language in needed else "absent")
            continue
        yield await _runs(f"{language} actors", command)


async def _runs(name: str, command: list[str]) -> Line:
    shown = Path(command[0]).name
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(PATIENCE):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return Line(
            name, "problem", f"{shown} says nothing for {PATIENCE:g} s", f"run it by hand:  {' '.join(command)}"
        )
    text = " ".join(output.decode(errors="replace").split())
    if process.returncode != 0:
        return Line(name, "problem", f"{shown} ends with {process.returncode}: {text[-200:]}", "install it again")
    return Line(name, "ok", f"{shown} {text}" if shown not in text else text)


# -- the lattice


async def _lattice(place: Where) -> AsyncIterator[Line]:
    try:
        async with joined(place) as lattice:
            yield Line("nats", "ok", f"lattice {place.lattice} at {plain(place.nats)}")
            try:
                yield await _clock(JetStream(lattice.transport))
            except LatticeError as error:
                yield Line("jetstream", "problem", error.message, "start nats-server with  -js")
            hosts = await every(lattice)
            others = sorted({host.version or "unknown" for host in hosts} - {version("trellis-lattice")})
            names = ", ".join(host.friendly_name for host in hosts)
            if not hosts:
                yield Line("hosts", "problem", "no host runs on the lattice [TRL-NET-003]", "trellis host start")
            elif others:
                text = f"{names}: other versions than here, {', '.join(others)}"
                yield Line("hosts", "problem", text, "give all of them one version")
            else:
                yield Line("hosts", "ok", names)
            try:
                apps = await Planner(lattice).apps()
                yield Line("manager", "ok", f"{len(apps)} app{'' if len(apps) == 1 else 's'}")
            except (Unreachable, DeadlineExceeded) as error:
                yield _failed("manager", unmanaged(lattice, error))
    except Failure as error:
        yield _failed("nats", error, "problem" if place.said else "absent")


async def _clock(jetstream: JetStream) -> Line:
    """This machine's clock beside the server's. Raises LatticeError without JetStream."""
    names = (await jetstream.ask("STREAM.NAMES")).get("streams") or []
    if not names:
        return Line("clock", "absent", "the NATS server tells its time with a stream, and has none yet")
    before = datetime.now(UTC)
    told = (await jetstream.ask(f"STREAM.INFO.{names[0]}")).get("ts")
    after = datetime.now(UTC)
    if not isinstance(told, str):
        return Line("clock", "absent", "this NATS server does not tell its time")
    server = datetime.fromisoformat(told[:26].rstrip("Z") + "+00:00")
    skew = (server - (before + (after - before) / 2)).total_seconds()
    if abs(skew) > SKEW:
        text = f"the NATS server's is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}"
        return Line("clock", "problem", text, "set both by NTP:  timedatectl set-ntp true")
    return Line("clock", "ok", f"within {max(0.001, abs(skew)):.3f} s of the NATS server's")


# -- the project


def _project(folder: Path, running: bool) -> Iterator[Line]:
    file = manifest_in(folder)
    if file is None:
        return
    try:
        checked = check(text_of(file), str(file))
    except Failure as error:
        yield Line("manifest", "problem", error.findings[0].message, error.findings[0].fix)
        return
    if checked.manifest is None:
        yield Line("manifest", "problem", f"{file.name} has errors", f"trellis check {file.name}")
        return
    yield Line("manifest", "ok", file.name)
    if not os.access(folder, os.W_OK):
        fix = f"give it to this user:  chown {os.getuid()} {folder.resolve()}"
        yield Line("folder", "problem", f"{folder.resolve()} cannot be written to", fix)
    for url in urls(checked.manifest):
        host, _, port = url.removeprefix("http://").partition("/")[0].rpartition(":")
        if not running and host in ("127.0.0.1", "localhost") and port.isdecimal() and not port_is_free(int(port)):
            yield Line(
                "port", "problem", f"{port} is in use", f"another `address` in {file.name}, or stop what listens"
            )
        else:
            yield Line("port", "ok", url)
