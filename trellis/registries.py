"""How registries are reached, and who we are to them: what verbs that fetch or push images have in common."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from trellis.failures import UNREACHABLE, USER_ERROR, Failure
from trellis.options import FILE, given

if TYPE_CHECKING:
    from host.images import Images, ImageSettings

F = TypeVar("F", bound=Callable[..., Any])

PASSWORD = "TRELLIS_REGISTRY_PASSWORD"


@dataclass(frozen=True, slots=True)
class Access:
    """The options of one command."""

    insecure: bool = False
    ca: Path | None = None
    user: str | None = None
    password: str = field(default="", repr=False)


def access_options(function: F) -> F:
    """`--insecure`, `--registry-ca` and `--user`; the command gets them with `access`."""
    function = click.option(
        "--user",
        metavar="NAME[:PASSWORD]",
        envvar="TRELLIS_REGISTRY_USER",
        help="Log in as this user, instead of as Docker's configuration says. The password is asked for, or taken from "
        f"${PASSWORD}.",
    )(function)
    function = click.option(
        "--registry-ca",
        metavar="FILE",
        type=FILE,
        envvar="TRELLIS_REGISTRY_CA",
        help="Trust a registry whose certificate this CA signed (PEM).",
    )(function)
    return click.option("--insecure", is_flag=True, help="Speak plain HTTP with the registry.")(function)


def access(insecure: bool, registry_ca: Path | None, user: str | None) -> Access:
    """Asks for the password when nothing says it."""
    if user is None:
        return Access(insecure, registry_ca)
    name, colon, password = user.partition(":")
    if not colon:
        known = os.environ.get(PASSWORD)
        password = click.prompt(f"password of {name}", hide_input=True, err=True) if known is None else known
    return Access(insecure, registry_ca, name, password)


def image_settings(*, allow_latest: bool = False) -> ImageSettings:
    """How the running command fetches images: by its options, else by the environment."""
    from host.images import ImageSettings

    insecure = given().get("insecure_registry") or os.environ.get("TRELLIS_INSECURE_REGISTRIES", "").split()
    ca = given().get("registry_ca") or os.environ.get("TRELLIS_REGISTRY_CA")
    return ImageSettings(allow_latest=allow_latest, insecure=tuple(insecure), ca_file=Path(ca) if ca else None)


@asynccontextmanager
async def images_of(server: str, how: Access) -> AsyncIterator[Images]:
    """Fetches from (and pushes to) `server`. What goes wrong becomes a Failure with its exit code."""
    from host.images import Images, ImageSettings
    from lattice import BadInput

    told: dict[str, object] = {} if how.user is None else {server: {"username": how.user, "password": how.password}}
    chosen = ImageSettings(allow_latest=True, insecure=(server,) if how.insecure else (), ca_file=how.ca)
    images = Images(chosen, given=lambda: told)
    try:
        yield images
    except BadInput as error:
        unreachable = any(finding.code == "TRL-IMG-008" for finding in error.findings)
        raise Failure(UNREACHABLE if unreachable else USER_ERROR, *error.findings) from error
    finally:
        await images.close()
