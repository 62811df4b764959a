"""`trellis schema`"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from trellis.failures import failure
from trellis.running import run


@click.command
@click.option("--project", is_flag=True, help="With the names of the components and interfaces of the app.yaml here.")
@click.option("--write", "file", metavar="FILE", type=click.Path(path_type=Path), help="Write it there.")
def command(project: bool, file: Path | None) -> None:
    """Print the JSON Schema of the manifest, which editors check and complete it by.

    With the YAML language server, write it to .trellis/schema.json, and begin the manifest with the line
    "# yaml-language-server: $schema=.trellis/schema.json".
    """
    from wadm.schema import manifest_schema

    schema = run(_of_project()) if project else manifest_schema()
    text = json.dumps(schema, indent=1)
    if file is None:
        click.echo(text)
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise failure("TRL-CLI-002", f"{file} cannot be written: {error.strerror}") from error
    click.echo(f"wrote {file}")
    click.echo(f"next: begin the manifest with  # yaml-language-server: $schema={file}")


async def _of_project() -> dict[str, Any]:
    """With what the manifest here and its components have. Raises Failure without a manifest."""
    from lattice.names import Interface
    from trellis.commands.check import examined_manifest
    from trellis.known import known_providers
    from wadm.schema import manifest_schema

    examined = await examined_manifest(Path())
    document = examined.checked.document
    names: list[str] | None = None
    if document is not None and isinstance(document.data, dict):
        spec = document.data.get("spec")
        listed = spec.get("components") if isinstance(spec, dict) else None
        names = [
            str(one["name"])
            for one in (listed if isinstance(listed, list) else ())
            if isinstance(one, dict) and "name" in one
        ]
    used = {one.name for its in examined.components.values() for one in (*its.imports, *its.exports)}
    if document is not None and examined.checked.manifest is not None:
        kinds, _ = known_providers(examined.checked.manifest, document)
        used |= {name for kind in kinds.values() for name in kind.exports}
    interfaces: dict[tuple[str, str], set[str]] = {}
    for name in used:
        try:
            interface = Interface.parse(name)
        except ValueError:
            continue  # a function of the world itself has no interface
        interfaces.setdefault((interface.namespace, interface.package), set()).add(interface.name)
    return manifest_schema(names, interfaces)
