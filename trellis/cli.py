"""The command line: which verbs there are, and how their outcomes become exit codes.

A verb's module is imported when the verb is used, so that `trellis --help` costs next to nothing.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

import click

from trellis.failures import DETACHED, Failure, explain
from trellis.output import colourless, remember

VERBS: Mapping[str, str] = {
    "new": "Begin an app, an actor or a provider from a template.",
    "add": "Give a component a capability: a provider, and a link.",
    "up": "Start a lattice on this machine, with an app in it.",
    "build": "Compile the components below a folder.",
    "check": "Say everything that is wrong with a manifest.",
    "plan": "Show what a deploy would change.",
    "deploy": "Put an app on the lattice and wait until it is ready.",
    "status": "Show what is wanted, what runs where, and why.",
    "why": "Say why a part is not ready, and what would help.",
    "scale": "Change how many instances a component has.",
    "rollback": "Go back to an earlier version of an app.",
    "history": "List an app's versions, and when they were deployed.",
    "undeploy": "Take an app off the lattice.",
    "schema": "Print the JSON Schema of the manifest, for editors.",
    "inspect": "Show what a component or provider imports and exports.",
    "call": "Call a function of a component.",
    "serve": "Serve a component over HTTP.",
    "run": "Run a component as a command.",
    "cache": "Show and clean up compiled code.",
    "wit": "Show the WIT of the standard interfaces; add it to a project.",
    "push": "Put a component into a registry.",
    "pull": "Get a component from a registry.",
    "events": "Show what happened on the lattice, and what happens.",
    "logs": "Show what was logged on all hosts.",
    "top": "Show what goes on: calls, failures, times and load.",
    "tap": "Show calls as they end, on all hosts.",
    "trace": "Show where the time of a request went, across hosts.",
    "link": "Show and change who answers what an actor imports.",
    "config": "Show and change named configurations.",
    "secret": "Keep secrets on the lattice, sealed.",
    "provider": "Work on a capability provider.",
    "host": "Run a host; list, label, empty and stop those of the lattice.",
    "context": "Show the lattices that --context reaches.",
    "wadm": "Run the deployment manager.",
    "doctor": "Look for what can be wrong here, and say what helps.",
    "explain": "Say what an error code means, and what helps.",
    "completion": "Print what makes a shell complete commands.",
    "version": "Show the version.",
}


class Verbs(click.Group):
    """The root command."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command = importlib.import_module(f"trellis.commands.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            close = difflib.get_close_matches(args[0], VERBS, n=1)
            hint = f"; did you mean `{close[0]}`?" if close else ""
            raise click.UsageError(f"there is no command `{args[0]}`{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        remember(ctx, args)
        if colourless():
            ctx.color = False
        with _told(ctx):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        with _told(ctx):
            return super().invoke(ctx)

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Run, and end the process with an exit code of `trellis.failures`."""
        kwargs["standalone_mode"] = False
        try:
            outcome = super().main(*args, **kwargs)
        except (click.Abort, KeyboardInterrupt):
            sys.exit(DETACHED)
        except BrokenPipeError:
            sys.stdout = None  # whoever read our output has left: nothing more can be said
            sys.exit(0)
        _written_out()
        sys.exit(outcome if isinstance(outcome, int) else 0)


def _written_out() -> None:
    """Of what cannot be written, the command has told: Python need not say it again at the end of the process."""
    if sys.stdout is not None:
        try:
            sys.stdout.flush()
        except OSError:
            sys.stdout = None


@contextmanager
def _told(ctx: click.Context) -> Iterator[None]:
    """What goes wrong within is printed, and ends the command with its exit code."""
    try:
        yield
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        ctx.exit(0)
    except (click.Abort, click.exceptions.Exit, BrokenPipeError):
        raise
    except Exception as error:
        failure = explain(error)
        if failure is None:
            raise
        failure.show()
        ctx.exit(failure.exit_code)


@click.command(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="trellis-lattice", message="trellis %(version)s")
def cli() -> None:
    """Trellis: WebAssembly actors on a NATS lattice.

    Begin with `trellis new app NAME`, or with `trellis up DIR`, where DIR has an app.yaml.
    """


__all__ = ["VERBS", "Failure", "cli"]
