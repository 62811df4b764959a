"""`trellis new`"""

from __future__ import annotations

from pathlib import Path

import click

from trellis.options import output_option
from trellis.output import Output

KINDS = ("app", "actor", "provider")


@click.command
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("name")
@click.option("--lang", "language", default="python", show_default=True, help="python, javascript, rust, go or c.")
@click.option(
    "--template", metavar="NAME", help="http, kv, messaging, cron or custom.  [default: http; of a provider, custom]"
)
@click.option("--dry-run", is_flag=True, help="Show the files, and write none.")
@output_option
def command(kind: str, name: str, language: str, template: str | None, dry_run: bool, output: Output) -> None:
    """Begin an app, an actor of an app, or a provider, in a folder of its own here, with a test that passes.

    \b
    trellis new app shop
    trellis new app shop --template kv --lang javascript
    trellis new actor billing --template messaging
    """
    from trellis.scaffolding import scaffold, write

    made = scaffold(kind, name, language, template)
    if not dry_run:
        write(made, Path())
    files = [str(path) for path in made]
    following = [] if dry_run else [f"next: {_next(kind, name)}"]
    said = [f"{'would create' if dry_run else 'created'} {name}/", *(f"  {file}" for file in files), *following]
    output.answer({"name": name, "files": files, "written": not dry_run}, said)


def _next(kind: str, name: str) -> str:
    match kind:
        case "app":
            return f"cd {name} && trellis up"
        case "actor":
            return f"trellis build {name}"
        case _:
            return f"trellis inspect {name}/provider.py"
