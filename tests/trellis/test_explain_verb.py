"""`trellis explain`"""

import json

import pytest
from click.testing import CliRunner, Result

from trellis.cli import cli


def explain(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["explain", *arguments])


@pytest.mark.parametrize("code", ["TRL-LNK-003", "trl-lnk-003", "lnk-3"])
def test_a_code_is_explained_however_it_is_written(code: str):
    said = explain(code).stdout
    assert said.startswith("TRL-LNK-003: an import without a link")
    assert "when: Images and links" in said and "fix:  add the link trait" in said


def test_programs_get_it_as_json():
    found = json.loads(explain("TRL-CLI-003", "-o", "json").stdout)
    assert found["code"] == "TRL-CLI-003" and "commands.md" in found["fix"] and "](" not in found["fix"]


def test_an_unknown_code_is_answered_with_those_that_are_near():
    result = explain("TRL-LKN-003")
    assert result.exit_code == 1
    assert "there is no error code `TRL-LKN-003`; did you mean TRL-LNK-003" in result.stderr


def test_without_a_code_all_are_listed():
    lines = explain().stdout.splitlines()
    assert len(lines) > 100 and all(line.startswith("TRL-") for line in lines)
