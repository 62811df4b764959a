"""`trellis inspect`"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trellis.failures import failure
from trellis.options import Where, lattice_options, output_option, where
from trellis.output import Output
from trellis.running import run

if TYPE_CHECKING:
    from actors import ComponentDescription, InterfaceDescription
    from providers.description import Description

HOW = {
    "served": click.style("served by the host", fg="green"),
    "stubbed": click.style("traps when called", fg="yellow"),
    "linked": click.style("needs a link", fg="cyan"),
    "refused": click.style("no link can carry it", fg="red"),
    "other version": click.style("of a WASI that is not served", fg="red"),
    "differs": click.style("served with other types", fg="red"),
}
STANDARD = tuple(
    f"wasi:{name}" for name in ("cli/", "clocks/", "filesystem/", "http/types", "io/", "random/", "sockets/")
)
"""What every toolchain imports, by prefix: of little interest."""


@click.command
@click.argument("reference", metavar="FILE.wasm|PROVIDER")
@click.option("--all", "everything", is_flag=True, help="Show the functions of the standard interfaces, too.")
@click.option("--running", is_flag=True, help="PROVIDER is the id of one that runs: ask it, over the lattice.")
@output_option
@lattice_options
def command(
    reference: str, everything: bool, running: bool, output: Output, nats: str | None, lattice: str | None
) -> None:
    """Show what a component imports and exports, with types, and who answers each import.

    Of a PROVIDER (a file FILE.py, a package's folder, python:MODULE or builtin:NAME) it shows the functions that it
    answers and the configuration that it takes; `-o json` has that as JSON Schema.
    """
    if running:
        said = run(_asked(where(nats, lattice), reference))
        output.answer(asdict(said), _of_provider(said.reference or reference, said))
        return
    from providers.load import is_python

    if re.match(r"(wasmcloud\+)?builtin:|python:", reference) or is_python(reference):
        _provider(reference, output)
        return
    file = Path(reference)
    if file.is_dir():
        raise click.BadParameter(f"{file} is a folder without Python code: name the file of a component")
    if not file.is_file():
        raise click.BadParameter(f"there is no file {file}")
    found = run(_describe(file))
    output.answer(asdict(found), _of_component(file, found, everything))


async def _asked(place: Where, id: str) -> Description:
    from lattice import EntityId
    from providers.description import published
    from trellis.session import joined

    async with joined(place) as lattice:
        said = await published(lattice, EntityId(id))
    if said is None:
        raise failure(
            "TRL-PRV-003",
            f"no provider that runs as `{id}` says what it is",
            fix="trellis status  shows what runs",
        )
    return said


def _provider(reference: str, output: Output) -> None:
    from providers import Provider
    from providers.description import describe
    from providers.load import resolve

    kind = resolve(reference)
    assert isinstance(kind, type) and issubclass(kind, Provider)
    found = describe(kind)
    output.answer(asdict(found), _of_provider(reference, found))


def _of_provider(reference: str, found: Description) -> Iterator[str]:
    yield f"{reference}  {found.summary}"
    for title, functions in (("exports", found.functions), ("calls", found.calls)):
        if functions:
            yield click.style(f"\n{title}", bold=True)
        for interface, texts in (functions or {}).items():
            yield f"  {interface}"
            yield from (f"    {text}" for text in texts)
    for title, schema in (("configuration", found.config), ("configuration of a link", found.link_config)):
        yield click.style(f"\n{title}", bold=True)
        yield from ["  any keys"] if schema is None else _keys(schema)


def _keys(schema: dict[str, Any]) -> Iterable[str]:
    from trellis.show import columns

    needed = schema.get("required", ())
    rows = []
    for key, value in schema.get("properties", {}).items():
        kinds = [part.get("type", "") for part in value.get("anyOf", [value])]
        default = "needed" if key in needed else f"default {json.dumps(value.get('default'))}"
        rows.append([key, " or ".join(kind for kind in kinds if kind not in ("", "null")), default])
    return columns(rows, indent="  ")


async def _describe(file: Path) -> ComponentDescription:
    import actors.wasi  # noqa: F401  what the host serves
    from actors import Engine

    engine = Engine()
    closed: Any = None
    try:
        component = await engine.load(file)
        return component.describe()
    finally:
        component = closed
        engine.close()


def _of_component(file: Path, found: ComponentDescription, everything: bool) -> Iterator[str]:
    from trellis.show import megabytes

    yield f"{file}  {megabytes(found.size)}  sha256:{found.digest}"
    for title, interfaces in (("exports", found.exports), ("imports", found.imports)):
        yield click.style(f"\n{title}", bold=True)
        yield from _lines(interfaces, everything)
    if not everything:
        yield f"\nnext: trellis inspect {file} --all  shows the functions of the standard interfaces, too"


def _lines(interfaces: Iterable[InterfaceDescription], everything: bool) -> Iterator[str]:
    for interface in interfaces:
        how = f"   {_how(interface)}" if interface.how else ""
        yield f"  {interface.name or '(the world itself)'}{how}"
        if not everything and interface.how is not None and interface.name.startswith(STANDARD):
            continue
        for function in interface.functions:
            own = f"   {HOW[function.how]}" if function.how and function.how != interface.how else ""
            yield f"    {function.text}{own}"


def _how(interface: InterfaceDescription) -> str:
    from trellis.preflight import THROUGH_LINKS

    how = HOW[interface.how or "served"]
    return f"{how}, through a link" if interface.name.startswith(THROUGH_LINKS) else how
