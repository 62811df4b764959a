"""What a host allows, how much, and whom it asks: the options that `host start` and `up` have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from trellis.failures import failure
from trellis.local import pairs
from trellis.options import FILE, FOLDER, SECONDS, given, registry_options
from trellis.size import size

if TYPE_CHECKING:
    from actors import Limits
    from host.grants import Allowed

F = TypeVar("F", bound=Callable[..., object])

_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--allow-latest",
        is_flag=True,
        envvar="TRELLIS_ALLOW_LATEST",
        help="Take images with the tag `latest`, which may mean something else on every host.",
    ),
    registry_options,
    click.option(
        "--allow-dir",
        "directories",
        multiple=True,
        metavar="FOLDER[:rw]",
        help="Components may be granted this folder, and what is below it, for reading (:rw: for writing too).",
    ),
    click.option(
        "--allow-net", "network", multiple=True, metavar="HOST:PORT", help="Components may be granted sockets to there."
    ),
    click.option(
        "--allow-http",
        "http",
        multiple=True,
        metavar="HOST[:PORT]",
        help="Components may be granted requests to there.",
    ),
    click.option(
        "--config-dir",
        metavar="FOLDER",
        type=FOLDER,
        envvar="TRELLIS_CONFIG_DIR",
        help="Configurations may leave values to the files of this folder: ${file:KEY}.",
    ),
    click.option(
        "--secrets-dir",
        metavar="FOLDER",
        type=FOLDER,
        envvar="TRELLIS_SECRETS_DIR",
        help="Components may be trusted with the secrets in the files of this folder.",
    ),
    click.option(
        "--secrets-key",
        metavar="FILE",
        type=FILE,
        envvar="TRELLIS_SECRETS_KEY",
        help="Components may be trusted with the secrets of the lattice, which this key opens.",
    ),
    click.option(
        "--limit",
        "limits",
        multiple=True,
        metavar="NAME=VALUE",
        help="The most that a component's limits (x-limits in a manifest) may be, such as memory=1Gi or time=5s.",
    ),
    click.option(
        "--stack",
        type=size,
        default="512Ki",
        show_default=True,
        metavar="SIZE",
        help="What Wasm may use of a guest's stack, 64Ki to 64Mi; the same for all components.",
    ),
    click.option(
        "--policy-topic",
        metavar="SUBJECT",
        envvar="TRELLIS_POLICY_TOPIC",
        help="Ask the policy service there before anything starts or is called; without its yes, it does not.",
    ),
    click.option(
        "--policy-timeout",
        type=SECONDS,
        default=1.0,
        show_default=True,
        metavar="SECONDS",
        help="For an answer of the policy service.",
    ),
    click.option(
        "--policy-changes-topic",
        metavar="SUBJECT",
        envvar="TRELLIS_POLICY_CHANGES_TOPIC",
        help="Where the policy service takes decisions back.",
    ),
    click.option(
        "--config-service", is_flag=True, help="Ask wasmCloud's configuration service for logins of registries."
    ),
)


_REGISTRY = ("insecure_registry", "registry_ca")
"""What `registry_options` keeps."""


def hosting_options(function: F) -> F:
    """For commands that take `**hosting`, which `hosting_fields` and `as_arguments` read."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def hosting_fields(
    *,
    allow_latest: bool,
    directories: tuple[str, ...],
    network: tuple[str, ...],
    http: tuple[str, ...],
    config_dir: Path | None,
    secrets_dir: Path | None,
    secrets_key: Path | None,
    limits: tuple[str, ...],
    stack: int,
    policy_topic: str | None,
    policy_timeout: float,
    policy_changes_topic: str | None,
    config_service: bool,
) -> dict[str, Any]:
    """The options as fields of HostConfig. Raises Failure."""
    from host.policy import PolicySettings
    from trellis.registries import image_settings

    if not 64 * 1024 <= stack <= 64 * 1024**2:
        raise failure("TRL-CLI-001", f"a stack of {stack} bytes cannot be", fix="--stack 64Ki, and up to 64Mi")
    return {
        "images": image_settings(allow_latest=allow_latest),
        "allowed": parse_allowed(directories, network, http),
        "config_folder": config_dir,
        "secrets_folder": secrets_dir,
        "secrets_key": secrets_key,
        "limits": parse_limits(limits),
        "stack": stack,
        "policy": PolicySettings(policy_topic, policy_timeout, policy_changes_topic),
        "config_service": config_service,
    }


def as_arguments(hosting: Mapping[str, Any]) -> tuple[str, ...]:
    """The options of the running command as words for `trellis host start`."""
    words: list[str] = []
    values = {**hosting, **{name: value for name, value in given().items() if name in _REGISTRY}}
    for option in click.get_current_context().command.params:
        if isinstance(option, click.Option) and option.name in values:
            value = values[option.name]
            for one in value if option.multiple else (value,):
                if option.is_flag:
                    words += option.opts[:1] if one else ()
                elif one is not None:
                    words += (option.opts[0], str(one))
    return tuple(words)


def parse_limits(texts: tuple[str, ...]) -> Limits:
    """`("memory=1Gi", "time=5s")`: the usual limits, and these in their place. Raises Failure."""
    from pydantic import ValidationError

    from actors import Limits
    from host.limits import with_limits
    from wadm.manifest import Limits as Written

    written = pairs("--limit", texts)
    if unknown := written.keys() - Written.model_fields.keys():
        known = ", ".join(Written.model_fields)
        raise failure("TRL-CLI-001", f"there is no limit `{min(unknown)}`", why=f"there are {known}")
    try:
        numbers = Written.model_validate(written).model_dump(exclude_none=True)
    except ValidationError as error:
        wrong = error.errors()[0]
        raise failure("TRL-CLI-001", f"--limit {wrong['loc'][0]}: {wrong['msg']}") from error
    return with_limits(Limits(), numbers)


def parse_allowed(directories: tuple[str, ...], network: tuple[str, ...], http: tuple[str, ...]) -> Allowed:
    """What components may be granted at most. Raises Failure."""
    from host.grants import Allowed
    from lattice.allow import WEB_PORTS, AllowList

    folders: list[tuple[Path, bool]] = []
    for text in directories:
        path = Path(text.removesuffix(":rw"))
        if not path.is_dir():
            raise failure("TRL-CLI-001", f"`{path}` is not a folder", fix="--allow-dir FOLDER or FOLDER:rw")
        folders.append((path.resolve(), text.endswith(":rw")))
    try:
        AllowList.parse(network)
        AllowList.parse(http, WEB_PORTS)
    except ValueError as error:
        raise failure("TRL-CLI-001", str(error), fix="trellis host start --help") from error
    return Allowed(tuple(folders), network, http)
