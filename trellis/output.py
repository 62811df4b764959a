"""How a verb prints its answer on stdout, as its option `-o` asks: for people, or for programs.

| -o     | prints                                                                                |
|--------|---------------------------------------------------------------------------------------|
| text   | lines for people                                                                      |
| json   | one document; of what goes on (events, a watched status) one object a line            |
| ndjson | one object a line: of a list each of its things, else the document                    |

Everything else is on stderr, errors among it (`trellis.failures.show`).
"""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import click

Form = Literal["text", "json", "ndjson"]
FORMS: tuple[Form, ...] = get_args(Form)

_ASKED = "trellis.output"
"""Where a command line's context has the form that is asked for."""


@dataclass(frozen=True, slots=True)
class Output:
    form: Form = "text"

    @property
    def text(self) -> bool:
        return self.form == "text"

    def answer(self, found: Any, lines: Iterable[str] = ()) -> None:
        """`found` is what JSON can say; `lines` are the same for people."""
        if self.form == "json":
            click.echo(json.dumps(found, indent=1))
        elif self.form == "ndjson":
            for one in found if isinstance(found, list) else (found,):
                click.echo(_in_one_line(one))
        else:
            for line in lines:
                click.echo(line)

    def next(self, found: Any, line: str) -> None:
        """One thing of many, as soon as it is known."""
        click.echo(line if self.text else _in_one_line(found))


TEXT = Output()


def colourless() -> bool:
    """Whether the environment wants no colours, wherever they would go. A build server (`CI`) wants none."""
    return bool(os.environ.get("NO_COLOR") or os.environ.get("CI"))


def redrawn() -> bool:
    """Whether what was printed on stdout may be drawn over: at a person's terminal."""
    return sys.stdout.isatty() and not os.environ.get("CI")


def _in_one_line(found: Any) -> str:
    return json.dumps(found, separators=(",", ":"))


def asked() -> Form:
    """The form that the running command line asks for, even where it is wrong otherwise."""
    context = click.get_current_context(silent=True)
    return "text" if context is None else context.meta.get(_ASKED, "text")


def remember(context: click.Context, arguments: Sequence[str]) -> None:
    """Look for `-o` in a command line that is not parsed yet."""
    ours = itertools.takewhile(lambda word: word != "--", arguments)
    for word, after in itertools.pairwise([*ours, ""]):
        said = after if word in ("-o", "--output") else word.removeprefix("--output=").removeprefix("-o")
        if said != word and said in FORMS:
            context.meta[_ASKED] = said
