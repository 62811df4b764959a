"""`trellis add`"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trellis.failures import failure
from trellis.options import output_option
from trellis.output import Output
from trellis.project import manifest_at, text_of

if TYPE_CHECKING:
    from trellis.adding import Added


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
@output_option
def command(name: str, actor: str | None, path: Path, dry_run: bool, output: Output) -> None:
    """Give a component a capability: the provider, where the manifest has none, and a link.

    CAPABILITY is http, http-client, kv, blobstore, messaging (to publish and to ask), subscription (to be sent
    messages) or cron. The manifest keeps its comments and its form.

    \b
    trellis add kv
    trellis add http --to api
    """
    from trellis.adding import CAPABILITIES, add

    if name not in CAPABILITIES:
        close = difflib.get_close_matches(name, CAPABILITIES, n=1)
        hint = f"; did you mean `{close[0]}`?" if close else ""
        raise failure(
            "TRL-CLI-001", f"there is no capability `{name}`{hint}", fix=f"there is: {', '.join(CAPABILITIES)}"
        )
    file = manifest_at(path)
    added = add(text_of(file), str(file), CAPABILITIES[name], actor)
    if added.said and not dry_run:
        try:
            file.write_text(added.text, encoding="utf-8")
        except OSError as error:
            raise failure("TRL-CLI-002", f"{file} cannot be written: {error.strerror}") from error
    found = {"file": str(file), "component": added.actor, "added": added.said, "wit": added.wit, "manifest": added.text}
    output.answer(found, added.text.splitlines() if added.said and dry_run else _lines(added, file))


def _lines(added: Added, file: Path) -> Iterator[str]:
    from trellis.show import relative

    if not added.said:
        yield f"unchanged: `{added.actor}` has it already"
        return
    for line in added.said:
        yield f"{relative(file)}  + {line}"
    yield f"the world of `{added.actor}`, in its wit/world.wit, needs:"
    for line in added.wit:
        yield f"  {line}"
    if added.capability.needs:
        yield f"and hosts need:  {added.capability.needs}"
    yield f"next: trellis wit show {added.capability.package}"
