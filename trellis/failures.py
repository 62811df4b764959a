"""How a command ends when it does not succeed.

    0    done, or converged
    1    what was given cannot be used
    2    not converged: blocked, failed, or out of time
    3    the lattice cannot be reached
    130  the user let go of a command that was waiting (Ctrl-C)

| code        | what                                  | code        | what                                  |
|-------------|---------------------------------------|-------------|---------------------------------------|
| TRL-CLI-001 | the command line is not understood    | TRL-BLD-001 | a trellis.toml that cannot be used    |
| TRL-CLI-002 | a file that cannot be read            | TRL-BLD-002 | componentize-py is not installed      |
| TRL-NET-001 | no NATS server answers                | TRL-BLD-003 | a build failed                        |
| TRL-NET-002 | no deployment manager answers         | TRL-IMG-001 | a component's file is not there       |
| TRL-NET-004 | a call over the lattice failed        | TRL-IMG-002 | a file that is not a Wasm component   |
| TRL-APP-001 | no such app                           | TRL-LNK-001 | an import that nothing provides       |
| TRL-APP-002 | several apps, none was named          | TRL-LNK-003 | an import without a link              |
| TRL-APP-003 | no such component                     | TRL-LNK-004 | a link that the component never uses  |
| TRL-APP-004 | that version has other content        | TRL-UP-001  | no nats-server binary                 |
| TRL-APP-005 | the manager refused                   | TRL-UP-002  | a port in use                         |
| TRL-APP-006 | the app cannot become ready as it is  | TRL-UP-003  | a process did not start, or ended     |
| TRL-APP-007 | not ready in time                     |             |                                       |

`TRL-MAN-*` come from `wadm.validate`, and the reasons in a status from `wadm.reasons`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from lattice import Finding

USER_ERROR = 1
NOT_CONVERGED = 2
UNREACHABLE = 3
DETACHED = 130


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
    """Print findings on stderr as people read them, the severity in colour."""
    for finding in findings:
        head, _, rest = finding.render().partition("\n")
        level, bracket, sentence = head.partition("[")
        colour = "red" if finding.level == "error" else "yellow"
        click.echo(f"{click.style(level, fg=colour, bold=True)}{bracket}{sentence}", err=True)
        if rest:
            click.echo(rest, err=True)


def explain(error: Exception) -> Failure | None:
    """`error` as people should read it; None for what only a developer can read."""
    from lattice import BadInput, LatticeError, Unreachable

    match error:
        case Failure():
            return error
        case click.UsageError():
            asked = error.ctx.command_path if error.ctx else "trellis"
            return failure("TRL-CLI-001", error.format_message().rstrip("."), fix=f"{asked} --help")
        case click.ClickException():
            return failure("TRL-CLI-002", error.format_message().rstrip("."))
        case BadInput():
            return Failure(USER_ERROR, *error.findings)
        case Unreachable():
            return failure("TRL-NET-004", error.message, exit_code=UNREACHABLE)
        case LatticeError():
            return failure("TRL-NET-004", error.message, exit_code=NOT_CONVERGED)
        case _:
            return None
