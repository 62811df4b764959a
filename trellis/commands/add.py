"""`trellis add`"""

from __future__ import annotations

import difflib
from pathlib import Path

import click

from trellis.failures import failure
from trellis.project import manifest_at


@click.command
@click.argument("name", metavar="CAPABILITY")
@click.option("--to", "actor", metavar="COMPONENT", help="Which component gets it, where the app has several.")
@click.option(
    "--app",
    "path",
    metavar="DIR|FILE",
    type=click.Path(path_type=Path, exists=True),
    default=".",
    show_default=True,
    help="The manifest.",
)
@click.option("--dry-run", is_flag=True, help="Show the manifest, and do not write it.")
def command(name: str, actor: str | None, path: Path, dry_run: bool) -> None:
    """Give a component a capability: the provider, where the manifest has none, and a link.

    CAPABILITY is http, http-client, kv, blobstore, messaging (to publish and to ask), subscription (to be sent
    messages) or cron. The manifest keeps its comments and its form.

    \b
    trellis add kv
    trellis add http --to api
    """
    from trellis.adding import CAPABILITIES, add
    from trellis.show import relative

    if name not in CAPABILITIES:
        close = difflib.get_close_matches(name, CAPABILITIES, n=1)
        hint = f"; did you mean `{close[0]}`?" if close else ""
        raise failure(
            "TRL-CLI-001", f"there is no capability `{name}`{hint}", fix=f"there is: {', '.join(CAPABILITIES)}"
        )
    file = manifest_at(path)
    added = add(file.read_text(encoding="utf-8"), str(file), CAPABILITIES[name], actor)
    if not added.said:
        click.echo(f"unchanged: `{added.actor}` has it already")
        return
    if dry_run:
        click.echo(added.text, nl=False)
        return
    try:
        file.write_text(added.text, encoding="utf-8")
    except OSError as error:
        raise failure("TRL-CLI-002", f"{file} cannot be written: {error.strerror}") from error
    for line in added.said:
        click.echo(f"{relative(file)}  + {line}")
    click.echo(f"the world of `{added.actor}`, in its wit/world.wit, needs:")
    for line in added.wit:
        click.echo(f"  {line}")
    if added.capability.needs:
        click.echo(f"and hosts need:  {added.capability.needs}")
    click.echo(f"next: trellis wit show {added.capability.package}")
