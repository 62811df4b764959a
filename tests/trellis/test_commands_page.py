"""docs/commands.md lists the verbs that there are."""

import re
from pathlib import Path

import click
import pytest

from trellis.cli import VERBS, cli

PAGE = (Path(__file__).parents[2] / "docs" / "commands.md").read_text()
EXAMPLES = dict(re.findall(r"^\| (\w+) \| `trellis ([^`]+)` \|", PAGE, re.MULTILINE))


def test_every_verb_has_its_line_and_its_example():
    assert set(EXAMPLES) == set(VERBS)
    assert all(example.split()[0] == verb for verb, example in EXAMPLES.items())


@pytest.mark.parametrize("verb", VERBS)
def test_every_example_uses_options_that_exist(verb: str):
    before_dashes = EXAMPLES[verb].partition(" -- ")[0].split()
    command = cli.get_command(click.Context(cli), verb)
    assert command is not None
    known = {option for parameter in command.params for option in parameter.opts}
    if isinstance(command, click.Group) and len(before_dashes) > 1:
        known |= {o for parameter in command.commands[before_dashes[1]].params for o in parameter.opts}
    assert {word for word in before_dashes if word.startswith("-")} <= known
