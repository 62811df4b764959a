"""Options that several verbs share, and where a verb finds its lattice."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from trellis import contexts
from trellis.output import FORMS, Output

if TYPE_CHECKING:
    from lattice.login import Settings

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_NATS = "nats://127.0.0.1:4222"
DEFAULT_LATTICE = "default"


class Seconds(click.FloatRange):
    """A number; `nan` and `inf`, which Python takes for some, are none that can be waited for."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        seconds = super().convert(value, param, ctx)
        if not math.isfinite(seconds):
            self.fail(f"{value!r} is not a number of seconds", param, ctx)
        return seconds


SECONDS = Seconds(min=0)
FILE = click.Path(exists=True, dir_okay=False, resolve_path=True, path_type=Path)
FOLDER = click.Path(exists=True, file_okay=False, resolve_path=True, path_type=Path)
FILE_NAME = click.Path(exists=True, dir_okay=False, resolve_path=True)
"""As text, which is what the same setting is in the environment and in a file."""
KEPT = "trellis."
"""Before the names of options that a command does not get as arguments."""
STATE = Path(".trellis") / "up.json"
"""Written by `trellis up` into the project's folder, so that commands in other terminals find the lattice."""


LOGIN: Mapping[str, tuple[str, str]] = {
    "user": ("NAME", "Log in to NATS as this user."),
    "password": ("PASSWORD", "The user's password. Better in the environment: everybody here can see a command line."),
    "token": ("TOKEN", "Log in to NATS with a token. Better in the environment, too."),
    "creds": ("FILE", "Log in to NATS with a credentials file (JWT and nkey)."),
    "nkey": ("FILE", "Log in to NATS with the nkey whose seed is in this file."),
    "jwt": ("FILE", "The JWT that belongs to the nkey, where they are in two files."),
    "ca": ("FILE", "Trust NATS servers whose certificates this CA signed (PEM)."),
    "cert": ("FILE", "Show this certificate to the NATS server (PEM)."),
    "key": ("FILE", "The certificate's private key, unless it is in the same file (PEM)."),
    "inbox": ("PREFIX", "Begin reply subjects so, for a login that may not listen to _INBOX.>."),
    "domain": ("NAME", "The JetStream domain, for a server behind a leaf node."),
}
"""Each way to log in: the flag `--nats-NAME`, the variable `TRELLIS_NATS_NAME` (`lattice.login`)."""


def login_options(*, hidden: bool = False, prefix: str = "nats") -> Callable[[F], F]:
    """`--nats-user` and the other credentials; `said` has their values while the command runs."""

    def add(function: F) -> F:
        for name, (metavar, text) in reversed([*LOGIN.items()]):
            variable = f"TRELLIS_{prefix}_{name}".upper().replace("-", "_")
            function = _kept(
                f"--{prefix}-{name}",
                metavar=metavar,
                help=f"{text}  [env var: {variable}]",
                hidden=hidden,
                type=FILE_NAME if metavar == "FILE" else str,
            )(function)
        return function

    return add


def config_option(function: F) -> F:
    """`--nats-config`, and `--context`, which is such a file by its name."""
    function = _kept(
        "--nats-config",
        metavar="FILE",
        help="A file (TOML) that says how to reach and log in to NATS.  [env var: TRELLIS_NATS_CONFIG]",
        type=FILE_NAME,
    )(function)
    return _kept(
        "--context",
        metavar="NAME",
        help="The same, of the file NAME.toml that `trellis context ls` lists.  [env var: TRELLIS_CONTEXT]",
        envvar="TRELLIS_CONTEXT",
        type=_file_of_context,
        shell_complete=contexts.complete,
    )(function)


def _file_of_context(name: str) -> str:
    return str(contexts.file_of(name))


def data_options(function: F) -> F:
    """`--data-nats` and its credentials, for what calls actors or is called."""
    function = login_options(hidden=True, prefix="data-nats")(function)
    return _kept(
        "--data-nats",
        metavar="URL",
        help="Another NATS server for calls. Its login is that of --nats, or --data-nats-user, -token...  "
        "[env var: TRELLIS_DATA_NATS, TRELLIS_DATA_NATS_USER...]",
    )(function)


def _kept(name: str, **settings: Any) -> Callable[[F], F]:
    """An option that the command does not get as an argument: `said` reads it."""

    def keep(context: click.Context, option: click.Parameter, value: Any) -> None:
        context.meta[f"{KEPT}{option.name}"] = value

    return click.option(name, expose_value=False, callback=keep, **settings)


def registry_options(function: F) -> F:
    """`--insecure-registry` and `--registry-ca`, which `trellis.registries.image_settings` reads."""
    function = _kept(
        "--registry-ca",
        metavar="FILE",
        type=FILE_NAME,
        help="Trust registries whose certificates this CA signed (PEM).  [env var: TRELLIS_REGISTRY_CA]",
    )(function)
    return _kept(
        "--insecure-registry",
        multiple=True,
        metavar="HOST[:PORT]",
        help="Fetch images from this server without TLS; give it repeatedly.  [env var: TRELLIS_INSECURE_REGISTRIES]",
    )(function)


def said(nats: str | None = None, lattice: str | None = None) -> Settings:
    """What the running command's options say, completed by the environment and a file. Raises BadInput."""
    from lattice.login import settings

    return settings({**given(), "nats": nats, "lattice": lattice})


def given() -> dict[str, Any]:
    """The values of options that the running command did not get as arguments, by name."""
    context = click.get_current_context(silent=True)
    kept = {} if context is None else context.meta
    said = {key.removeprefix(KEPT): value for key, value in kept.items() if key.startswith(KEPT)}
    named = said.pop("context", None)
    return {**said, "nats_config": said.get("nats_config") or named}


def place_options(function: F) -> F:
    """`--lattice`, `--nats`, `--context` and the credentials: where a lattice is, for `where`."""
    function = config_option(login_options(hidden=True)(function))
    function = click.option(
        "--nats",
        metavar="URL",
        help="The NATS server.  [default: $TRELLIS_NATS, else the running `trellis up`, else the context in use, else "
        + DEFAULT_NATS
        + "]  Log in with --nats-user, -token, -nkey, -creds, -ca..., or $TRELLIS_NATS_USER...: all are listed by "
        "`trellis up --help`.",
    )(function)
    return click.option(
        "--lattice",
        metavar="NAME",
        help="The lattice.  [default: $TRELLIS_LATTICE, else that of `trellis up` or of the context in use]",
    )(function)


def lattice_options(function: F) -> F:
    """For a verb that asks the lattice: where it is, and how long it has for all its answers (`Where.patience`)."""
    timeout = _kept(
        "--timeout",
        type=SECONDS,
        metavar="SECONDS",
        help="For all of the lattice's answers; of a verb that stays, to reach it.  [default: some seconds for each]",
    )
    return place_options(timeout(function))


def waiting_options(seconds: float) -> Callable[[F], F]:
    """For a verb that waits until something has come about: where the lattice is, and `timeout`, usually `seconds`."""

    def add(function: F) -> F:
        return place_options(timeout_option(seconds)(function))

    return add


def output_option(function: F) -> F:
    """`-o`; the command gets it as `output: Output`."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(FORMS),
        default="text",
        show_default=True,
        callback=lambda _, __, form: Output(form),
        help="How to print: for people, as one JSON document, or as one JSON object a line.",
    )(function)


def liveness_option(function: F) -> F:
    return click.option(
        "--dead-after", type=Seconds(min=0.5), default=4.0, show_default=True, metavar="SECONDS",
        envvar="TRELLIS_DEAD_AFTER", show_envvar=True,
        help="A host that is silent for so long is taken for dead, and its work is started elsewhere; for all alike.",
    )(function)  # fmt: skip


def metrics_option(of: str = "") -> Callable[[F], F]:
    """`of` is whose metrics they are, where that is not the command alone."""
    return click.option(
        "--metrics", metavar="HOST:PORT", envvar="TRELLIS_METRICS", show_envvar=True,
        help=f"Answer /metrics (for Prometheus), /livez and /readyz there{of}. "
        "Port 0 is a free one, which the log names.",
    )  # fmt: skip


def sign_every(dead_after: float) -> float:
    """Seconds between two signs of life, where that much silence is death."""
    return min(1.0, dead_after / 4)


def timeout_option(seconds: float) -> Callable[[F], F]:
    return click.option(
        "--timeout", type=SECONDS, default=seconds, show_default=True, metavar="SECONDS", help="How long to wait.",
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Where:
    """A lattice to talk to, and what named it: `--nats`, `$TRELLIS_NATS`, a file, or "" for the default."""

    nats: str = field(repr=False)  # it may hold a password
    lattice: str
    said: str
    settings: Settings | None = field(default=None, repr=False)
    """How to log in there, and over which connection calls go."""
    patience: float | None = None
    """Seconds that all the lattice's answers to a verb may take together, where somebody said so."""


def where(nats: str | None, lattice: str | None, start: Path | None = None) -> Where:
    """What was said, else the nearest running `trellis up`, else the context in use, else the defaults.

    Raises BadInput.
    """
    found = said(nats, lattice)
    url, name, patience = found.nats.url, found.lattice, given().get("timeout")
    if url is not None:
        config = given().get("nats_config") or os.environ.get("TRELLIS_NATS_CONFIG", "")
        origin = "--nats" if nats else "$TRELLIS_NATS" if os.environ.get("TRELLIS_NATS") else config
        return Where(url, name or DEFAULT_LATTICE, origin, found, patience)
    running = find_state(start or Path.cwd())
    if running is not None:
        file, state = running
        return Where(state["nats"], name or state["lattice"], str(file), found, patience)
    used = contexts.in_use()
    if used is not None:
        from lattice.login import from_file

        found = found.over(from_file(contexts.file_of(used)))
    origin = "" if used is None else f"context {used}"
    return Where(found.nats.url or DEFAULT_NATS, found.lattice or DEFAULT_LATTICE, origin, found, patience)


def find_state(start: Path) -> tuple[Path, dict[str, Any]] | None:
    """The state file of a `trellis up` that still runs: in `start`, or the nearest folder above it that has one."""
    for folder in (start, *start.parents):
        if (state := state_in(folder)) is not None:
            return folder / STATE, state
    return None


def state_in(folder: Path) -> dict[str, Any] | None:
    """What the `trellis up` of that folder has written of itself, if it still runs."""
    try:
        state: dict[str, Any] = json.loads((folder / STATE).read_text())
        alive(int(state["pid"]))
        return state if isinstance(state["nats"], str) and isinstance(state["lattice"], str) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def alive(pid: int) -> None:
    """Raises OSError when no process has this id."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        pass  # somebody else's: it is there
