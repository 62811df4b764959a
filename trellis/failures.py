"""How a command ends when it does not succeed.

    0    done, or converged
    1    what was given cannot be used
    2    not converged: blocked, failed, or out of time
    3    the lattice cannot be reached
    4    `plan --exit-code` found changes
    5    a change waits for somebody, or a policy said no
    130  the user let go of a command that was waiting (Ctrl-C)

Every error has a code; `docs/errors.md` lists them.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from trellis import output

if TYPE_CHECKING:
    from lattice import Finding

USER_ERROR = 1
NOT_CONVERGED = 2
UNREACHABLE = 3
CHANGES = 4
GATED = 5
DETACHED = 130

_QUOTED = re.compile(r" *(?:\d* \||-->)")
"""How a line begins that says or shows a place."""


class Failure(Exception):
    """Ends a command. `findings` are what is printed on stderr, warnings and errors alike."""

    def __init__(self, exit_code: int, *findings: Finding) -> None:
        super().__init__("\n".join(f.render() for f in findings))
        self.exit_code = exit_code
        self.findings = findings

    def show(self) -> None:
        show(*self.findings)


def failure(code: str, message: str, *, why: str = "", fix: str = "", exit_code: int = USER_ERROR) -> Failure:
    """A Failure of one sentence."""
    from lattice import Finding

    return Failure(exit_code, Finding(code, message, why=why, fix=fix))


def show(*findings: Finding) -> None:
    """Print findings on stderr: as people read them, or, where `-o` asks for JSON, as one object a line."""
    from trellis.show import folded

    for finding in findings:
        if output.asked() != "text":
            click.echo(json.dumps(asdict(finding), separators=(",", ":")), err=True)
            continue
        head, _, rest = finding.render().partition("\n")
        level, bracket, sentence = head.partition("[")
        colour = "red" if finding.level == "error" else "yellow"
        first, *more = folded(f"{level}{bracket}{sentence}", " " * 7, sys.stderr)
        click.echo("\n".join([click.style(level, fg=colour, bold=True) + first.removeprefix(level), *more]), err=True)
        for line in rest.splitlines():
            folds = not _QUOTED.match(line)
            for part in folded(line, " " * 7, sys.stderr) if folds else [line]:
                click.echo(part, err=True)


def explain(error: Exception) -> Failure | None:
    """`error` as people should read it; None for what only a developer can read."""
    from lattice import BadInput, Denied, LatticeError, Unreachable

    match error:
        case Failure():
            return error
        case click.UsageError():
            asked = error.ctx.command_path if error.ctx else "trellis"
            said = " ".join(error.format_message().split()).rstrip(".")  # what can be chosen comes in several lines
            return failure("TRL-CLI-001", said, fix=f"{asked} --help")
        case click.ClickException():
            return failure("TRL-CLI-002", error.format_message().rstrip("."))
        case BadInput():
            return Failure(USER_ERROR, *error.findings)
        case Unreachable():
            return failure("TRL-NET-004", error.message, exit_code=UNREACHABLE)
        case Denied() if error.details.get("because") == "login":
            why = "the NATS server's permissions for it say so"
            return failure("TRL-NET-008", error.message, why=why, fix="use another login", exit_code=GATED)
        case LatticeError():
            return failure("TRL-NET-004", error.message, exit_code=NOT_CONVERGED)
        case OSError():
            what = f"{error.filename}: " if error.filename else ""
            return failure("TRL-CLI-002", f"{what}{error.strerror or error}")
        case _:
            return None
