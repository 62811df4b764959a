"""`trellis wit`"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from trellis.failures import USER_ERROR, failure, show
from trellis.options import output_option
from trellis.output import Output


@click.group
def command() -> None:
    """Show the WIT of the standard interfaces, add it to a project, and see that nobody has changed it since."""


@command.command("ls")
@output_option
def ls(output: Output) -> None:
    """List the packages, with their interfaces."""
    from trellis.show import columns
    from trellis.wit import packages

    known = packages().values()
    rows = [[f"{one.name}@{one.version}", ", ".join(one.interfaces)] for one in known]
    output.answer(
        [{"name": one.name, "version": one.version, "interfaces": one.interfaces} for one in known], columns(rows)
    )


@command.command("show")
@click.argument("name", metavar="PACKAGE[/INTERFACE]")
@output_option
def show_package(name: str, output: Output) -> None:
    """Print a package, or one of its interfaces.

    \b
    trellis wit show wasi:keyvalue
    trellis wit show keyvalue/store
    """
    from trellis.wit import package

    asked, _, interface = name.partition("@")[0].partition("/")
    found = package(asked)
    try:
        text = found.interface(interface) if interface else found.text
    except KeyError:
        raise failure(
            "TRL-CLI-001",
            f"{found.name} has no interface `{interface}`",
            fix=f"it has: {', '.join(found.interfaces)}",
        ) from None
    output.answer({"name": found.name, "version": found.version, "wit": text}, text.splitlines())


@command.command("add")
@click.argument("name", metavar="PACKAGE|FILE.wit")
@click.option(
    "--to",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default="wit",
    show_default=True,
    metavar="DIR",
    help="The folder of the WIT; what is added goes into its deps/.",
)
@output_option
def add_to(name: str, folder: Path, output: Output) -> None:
    """Put a package, and all that it stands on, into wit/deps, for tools that look for it there.

    It is a standard one, by name, or somebody else's, from a file. What it was is kept in wit/deps.lock.
    `trellis build` finds the standard packages by itself.
    """
    from trellis.wit import add

    written = add(name, folder)
    said = [f"wrote {file}" for file in written]
    output.answer({"wrote": [str(file) for file in written]}, said or ["unchanged: all of it is there"])


@command.command("check")
@click.argument("folder", metavar="[DIR]", default="wit", type=click.Path(path_type=Path, exists=True, file_okay=False))
@output_option
def check(folder: Path, output: Output) -> int:
    """Hold the files in wit/deps against wit/deps.lock, which `trellis wit add` writes."""
    from trellis.wit import changed

    found = changed(folder)
    errors = [one for one in found if one.level == "error"]
    if output.text:
        show(*found)
    said = [] if found else ["all of it is as it was added"]
    output.answer({"ok": not errors, "findings": [asdict(one) for one in found]}, said)
    return USER_ERROR if errors else 0
