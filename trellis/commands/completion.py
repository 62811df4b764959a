"""`trellis completion`"""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

STARTED_BY = {
    "bash": 'eval "$(trellis completion bash)"      in ~/.bashrc',
    "zsh": 'eval "$(trellis completion zsh)"       in ~/.zshrc',
    "fish": "trellis completion fish | source       in ~/.config/fish/config.fish",
}


@click.command(epilog="\b\n" + "\n".join(STARTED_BY.values()))
@click.argument("shell", type=click.Choice(list(STARTED_BY)))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print what makes SHELL complete verbs, options and files."""
    of = get_completion_class(shell)
    assert of is not None
    click.echo(of(context.find_root().command, {}, "trellis", "_TRELLIS_COMPLETE").source())
