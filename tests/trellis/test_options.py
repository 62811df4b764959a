"""What all verbs have in common: `-o`, where their lattice is, how long they wait, how errors look to programs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from trellis import output
from trellis.cli import VERBS, cli
from trellis.output import Output

PRINTS_SOMETHING_ELSE = {
    "completion": "a script for a shell",
    "host start": "log lines, as --log-format says",
    "run": "what the guest prints",
    "schema": "JSON in any case",
    "up": "what its parts say, until it is stopped",
    "wadm start": "log lines, as --log-format says",
}
"""Verbs without -o, and what they print."""

NEEDS_NO_LATTICE = {
    *("new", "add", "build", "schema", "serve", "run", "push", "pull", "explain", "completion"),
    *("version", "cache ls", "cache gc", "wit ls", "wit show", "wit add", "wit check", "secret keygen"),
    *("context ls", "context add", "context use", "context rm"),
}


def leaves(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from leaves(command, f"{before}{name} ")
        else:
            yield before + name, command


COMMANDS = dict(leaves(cli))


def options(name: str) -> set[str]:
    return {option for parameter in COMMANDS[name].params for option in parameter.opts}


def trellis(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(cli, list(arguments), env=environment)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("TRELLIS_NATS", "TRELLIS_LATTICE", "TRELLIS_CONTEXT", "NO_COLOR", "CI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", COMMANDS)
def test_every_verb_answers_programs_or_is_known_not_to(name: str):
    (asked,) = [one for one in COMMANDS[name].params if one.name == "output"] or [None]
    if name in PRINTS_SOMETHING_ELSE:
        assert asked is None
    else:
        assert asked is not None and asked.opts == ["-o", "--output"]
        assert isinstance(asked.type, click.Choice) and tuple(asked.type.choices) == ("text", "json", "ndjson")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_verb_that_reaches_a_lattice_can_be_told_which_and_for_how_long(name: str):
    common = {"--lattice", "--context", "--nats", "--timeout"}
    if name in NEEDS_NO_LATTICE:
        assert not common <= options(name)
    else:
        assert common <= options(name)


def test_what_is_excepted_exists():
    assert PRINTS_SOMETHING_ELSE.keys() | NEEDS_NO_LATTICE <= COMMANDS.keys()
    assert {name.partition(" ")[0] for name in COMMANDS} == set(VERBS)


def test_no_option_means_two_things():
    for name, command in COMMANDS.items():
        every = [option for parameter in command.params for option in parameter.opts if option.startswith("-")]
        assert len(every) == len(set(every)), name
        assert all(p.name == "output" for p in command.params if "-o" in p.opts), name


def test_a_list_is_one_document_or_one_object_a_line():
    whole, lines = trellis("explain", "-o", "json"), trellis("explain", "-o", "ndjson")
    assert [json.loads(line) for line in lines.stdout.splitlines()] == json.loads(whole.stdout)
    assert len(trellis("explain", "TRL-CLI-001", "-o", "ndjson").stdout.splitlines()) == 1


@pytest.mark.parametrize("asked", [("-o", "json"), ("--output=ndjson",), ("-ojson",)])
@pytest.mark.parametrize(
    ("arguments", "code", "exit_code"),
    [
        (("explain", "TRL-XYZ-999"), "TRL-CLI-001", 1),
        (("status", "--latice", "x"), "TRL-CLI-001", 1),
        (("depoly",), "TRL-CLI-001", 1),
        (("status", "--nats", "nats://127.0.0.1:1"), "TRL-NET-001", 3),
        (("check", "nowhere.yaml"), "TRL-CLI-002", 1),
    ],
)
def test_an_error_is_json_as_well_where_that_is_asked_for(
    asked: tuple[str, ...], arguments: tuple[str, ...], code: str, exit_code: int
):
    result = trellis(*arguments, *asked)
    assert (result.exit_code, result.stdout) == (exit_code, "")
    (error,) = [json.loads(line) for line in result.stderr.splitlines()]
    assert error["code"] == code and error["level"] == "error" and error["message"]
    assert {"place", "why", "fix", "hint"} <= error.keys()


def test_an_error_with_a_place_has_it_in_json(elsewhere: Path):
    (elsewhere / "app.yaml").write_text("kind: Application\nspecs: {}\n")
    result = trellis("check", "-o", "json")
    (first, *_) = json.loads(result.stdout)["findings"]
    assert result.exit_code == 1 and first["place"]["line"] >= 1 and first["place"]["file"].endswith("app.yaml")


def test_what_is_behind_two_dashes_is_not_ours():
    context = click.Context(cli)
    output.remember(context, ["run", "a.wasm", "--", "-o", "json"])
    with context:
        assert output.asked() == "text"


@pytest.mark.parametrize(("variable", "coloured"), [("NO_COLOR", False), ("CI", False), ("OTHER", True)])
def test_colours_can_be_turned_off(variable: str, coloured: bool):
    result = CliRunner().invoke(cli, ["explain", "TRL-CLI-001"], env={variable: "1"}, color=True)
    assert result.exit_code == 0 and ("\x1b[" in result.stdout) is coloured
    result = CliRunner().invoke(cli, ["nosuch"], env={variable: "1"}, color=True)
    assert result.exit_code == 1 and ("\x1b[" in result.stderr) is coloured


def test_one_thing_of_many_is_one_line_in_any_json(capsys: pytest.CaptureFixture[str]):
    for form in ("json", "ndjson"):
        Output(form).next({"a": [1, 2]}, "text")
        assert capsys.readouterr().out == '{"a":[1,2]}\n'


MANIFEST = """\
apiVersion: core.oam.dev/v1beta1
kind: Application
metadata: {name: shop}
spec:
  components:
    - name: kv
      type: capability
      properties: {image: "builtin:keyvalue-memory"}
      traits: [{type: odd, properties: {}}]
"""


def test_a_warning_is_json_on_stderr_beside_the_answer(elsewhere: Path):
    (elsewhere / "app.yaml").write_text(MANIFEST)
    result = trellis("plan", "-o", "json", "--nats", "nats://127.0.0.1:1")
    warning, error = [json.loads(line) for line in result.stderr.splitlines()]
    assert (warning["level"], warning["code"]) == ("warning", "TRL-MAN-014") and warning["place"]["line"] == 9
    assert (error["level"], error["code"]) == ("error", "TRL-NET-001") and result.stdout == ""
