"""Options that several verbs share, and where a verb finds its lattice."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_NATS = "nats://127.0.0.1:4222"
DEFAULT_LATTICE = "default"
STATE = Path(".trellis") / "up.json"
"""Written by `trellis up` into the project's folder, so that commands in other terminals find the lattice."""


@dataclass(frozen=True, slots=True, repr=False)
class Login:
    """How to log in to a NATS server. Files are absolute paths. It has no readable form, so that no log gets one."""

    user: str | None = None
    password: str | None = None
    token: str | None = None
    nkey: str | None = None
    creds: str | None = None
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    domain: str | None = None

    def environment(self) -> dict[str, str]:
        """The variables that give a child process this login, and no other."""
        return {variable(one.name): getattr(self, one.name) or "" for one in fields(self)}


def variable(name: str) -> str:
    return f"TRELLIS_NATS_{name.upper()}"


LOGIN: Mapping[str, tuple[str, str]] = {
    "user": ("NAME", "Log in to NATS as this user."),
    "password": ("PASSWORD", "The user's password. Better in the environment: everybody here can see a command line."),
    "token": ("TOKEN", "Log in to NATS with a token. Better in the environment, too."),
    "nkey": ("FILE", "Log in to NATS with the nkey whose seed is in this file."),
    "creds": ("FILE", "Log in to NATS with a credentials file (JWT and nkey)."),
    "ca": ("FILE", "Trust NATS servers whose certificates this CA signed (PEM)."),
    "cert": ("FILE", "Show this certificate to the NATS server (PEM)."),
    "key": ("FILE", "The certificate's private key, unless it is in the same file (PEM)."),
    "domain": ("NAME", "The JetStream domain, for a server behind a leaf node."),
}
"""Each way to log in: the flag `--nats-NAME`, the variable `TRELLIS_NATS_NAME`."""


def login_options(*, hidden: bool = False) -> Callable[[F], F]:
    """`--nats-user` and the other credentials; `login` has their values while the command runs."""

    def keep(context: click.Context, option: click.Parameter, value: str | None) -> None:
        context.meta[_meta(option.name or "")] = value

    def add(function: F) -> F:
        for name, (metavar, text) in reversed([*LOGIN.items()]):
            function = click.option(
                f"--nats-{name}",
                metavar=metavar,
                help=text,
                envvar=variable(name),
                show_envvar=True,
                hidden=hidden,
                expose_value=False,
                callback=keep,
                type=click.Path(exists=True, dir_okay=False, resolve_path=True) if metavar == "FILE" else str,
            )(function)
        return function

    return add


def _meta(name: str) -> str:
    return f"trellis.{name}"


def login() -> Login:
    """What the running command was given, by options or environment."""
    context = click.get_current_context(silent=True)
    if context is None:
        return Login()
    return Login(**{name: context.meta.get(_meta(f"nats_{name}")) for name in LOGIN})


def lattice_options(function: F) -> F:
    """`--lattice`, `--nats` and the credentials."""
    function = login_options(hidden=True)(function)
    function = click.option(
        "--nats",
        metavar="URL",
        help="The NATS server.  [default: $TRELLIS_NATS, else the running `trellis up`, else "
        + DEFAULT_NATS
        + "]  Log in with --nats-user, -token, -nkey, -creds, -ca..., or $TRELLIS_NATS_USER...: all are listed by "
        "`trellis up --help`.",
    )(function)
    return click.option(
        "--lattice", metavar="NAME", help="The lattice.  [default: $TRELLIS_LATTICE, else `trellis up`'s, else default]"
    )(function)


def output_option(function: F) -> F:
    return click.option(
        "-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True, help="How to print."
    )(function)


def timeout_option(seconds: float) -> Callable[[F], F]:
    return click.option(
        "--timeout", type=click.FloatRange(min=0), default=seconds, show_default=True, metavar="SECONDS",
        help="How long to wait.",
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Where:
    """A lattice to talk to, and what said so."""

    nats: str = field(repr=False)  # it may hold a password
    lattice: str
    said: str
    """`--nats`, `$TRELLIS_NATS`, the state file of `trellis up`, or "" for the default."""
    login: Login = field(default=Login(), repr=False)


def where(nats: str | None, lattice: str | None, start: Path | None = None) -> Where:
    """The options, else the environment, else the nearest running `trellis up`, else the defaults."""
    running = find_state(start or Path.cwd())
    lattice = lattice or os.environ.get("TRELLIS_LATTICE") or None
    if nats:
        return Where(nats, lattice or DEFAULT_LATTICE, "--nats", login())
    if url := os.environ.get("TRELLIS_NATS"):
        return Where(url, lattice or DEFAULT_LATTICE, "$TRELLIS_NATS", login())
    if running is not None:
        file, state = running
        return Where(state["nats"], lattice or state["lattice"], str(file), login())
    return Where(DEFAULT_NATS, lattice or DEFAULT_LATTICE, "", login())


def find_state(start: Path) -> tuple[Path, dict[str, Any]] | None:
    """The state file of a `trellis up` that still runs: in `start`, or the nearest folder above it that has one."""
    for folder in (start, *start.parents):
        file = folder / STATE
        try:
            state = json.loads(file.read_text())
            alive(int(state["pid"]))
            if isinstance(state["nats"], str) and isinstance(state["lattice"], str):
                return file, state
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def alive(pid: int) -> None:
    """Raises OSError when no process has this id."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        pass  # somebody else's: it is there
