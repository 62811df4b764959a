"""`trellis link`"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from trellis.failures import failure
from trellis.options import lattice_options, output_option, where
from trellis.output import Output
from trellis.running import run

if TYPE_CHECKING:
    from lattice import EntityId

PACKAGE = re.compile(r"([a-z][a-z0-9-]*):([a-z][a-z0-9-]*)(?:/([a-z0-9,-]+))?(?:@[^/]*)?")


@click.group
def command() -> None:
    """Show and change which target answers what an actor imports.

    What a deployed app's manifest says is kept so by the manager: a link of its own that you delete comes back.
    """


@command.command
@click.argument("source", required=False)
@output_option
@lattice_options
def get(source: str | None, output: Output, nats: str | None, lattice: str | None) -> None:
    """List the links, or those of one SOURCE."""
    from trellis.hosts import ask

    every = run(ask(where(nats, lattice), lambda client: client.links()))
    chosen = [link for link in every if source in (None, link.source_id)]
    found = [one.model_dump(mode="json") for one in sorted(chosen, key=lambda k: (k.source_id, k.covers(), k.name))]
    output.answer(found, _lines(found, source))


def _lines(found: Sequence[Mapping[str, Any]], source: str | None) -> Iterator[str]:
    from trellis.show import columns

    rows = [
        [
            one["source_id"],
            f"-> {one['target']}",
            f"{one['wit_namespace']}:{one['wit_package']}/{','.join(one['interfaces'])}",
            one["name"],
            " ".join([*one["source_config"], *one["target_config"]]),
        ]
        for one in found
    ]
    yield from columns(rows)
    if not rows:
        yield f"no links of {source}" if source else "no links"


@command.command
@click.argument("source")
@click.argument("target")
@click.argument("interfaces", metavar="NS:PACKAGE/INTERFACE[,...]")
@click.option("--name", default="default", show_default=True, help="The link's name.")
@click.option("--source-config", multiple=True, metavar="CONFIG", help="A named configuration for the source's side.")
@click.option("--target-config", multiple=True, metavar="CONFIG", help="A named configuration for the target's side.")
@output_option
@lattice_options
def put(
    source: str,
    target: str,
    interfaces: str,
    name: str,
    source_config: tuple[str, ...],
    target_config: tuple[str, ...],
    output: Output,
    nats: str | None,
    lattice: str | None,
) -> None:
    """Link SOURCE's import of an interface to TARGET, which exports it. A second time changes nothing."""
    namespace, package, names = parse_package(interfaces)
    if not names:
        raise failure("TRL-CLI-001", f"`{interfaces}` names no interface", fix="write it as wasi:keyvalue/store")
    from lattice import LinkName
    from lattice.links import LinkDefinition
    from trellis.hosts import ask

    link = LinkDefinition(
        source_id=_id(source),
        target=_id(target),
        name=LinkName(name),
        wit_namespace=namespace,
        wit_package=package,
        interfaces=tuple(names),
        source_config=source_config,
        target_config=target_config,
    )
    run(ask(where(nats, lattice), lambda client: client.put_link(link)))
    output.answer(link.model_dump(mode="json"), [f"linked {source} -> {target} {interfaces} {name}"])


@command.command("del")
@click.argument("source")
@click.argument("package", metavar="NS:PACKAGE")
@click.option("--name", default="default", show_default=True, help="The link's name.")
@click.option("--target", help="Only the link to this target, where there are several.")
@output_option
@lattice_options
def delete(
    source: str, package: str, name: str, target: str | None, output: Output, nats: str | None, lattice: str | None
) -> None:
    """Delete SOURCE's link of that package and name. One that is not there is no error."""
    namespace, short, _ = parse_package(package)
    from lattice import LinkName
    from lattice.links import LinkKey
    from trellis.hosts import ask

    key = LinkKey(
        source_id=_id(source),
        name=LinkName(name),
        wit_namespace=namespace,
        wit_package=short,
        target=_id(target) if target else None,
    )
    there = run(ask(where(nats, lattice), lambda client: client.delete_link(key)))
    said = "deleted" if there else f"there was no link of {source} for {package} named {name}"
    output.answer({**key.model_dump(exclude_none=True), "deleted": there}, [said])


def parse_package(text: str) -> tuple[str, str, list[str]]:
    """`wasi:keyvalue/store,atomics@0.2.0` -> `("wasi", "keyvalue", ["store", "atomics"])`. Raises Failure."""
    match = PACKAGE.fullmatch(text)
    if match is None:
        raise failure(
            "TRL-CLI-001",
            f"`{text}` is not a package and its interfaces",
            fix="write it as wasi:keyvalue/store,atomics",
        )
    return match[1], match[2], [name for name in (match[3] or "").split(",") if name]


def _id(text: str) -> EntityId:
    from lattice.names import entity_id

    try:
        return entity_id(text)
    except ValueError as error:
        raise failure("TRL-CLI-001", str(error)) from error
