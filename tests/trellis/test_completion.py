"""Shell completion: what a shell is told when somebody presses Tab."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from trellis.cli import cli


def completed(*words: str, **environment: str) -> list[str]:
    """What bash is offered for the last of these words."""
    asked = {"_TRELLIS_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    code = "from trellis.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment, **asked},
        capture_output=True,
        text=True,
        check=True,
    )
    return [line.partition(",")[2] for line in done.stdout.splitlines()]


def test_verbs_their_options_and_choices_are_completed():
    assert completed("trellis", "dep") == ["deploy"]
    assert completed("trellis", "new", "pro") == ["provider"]
    assert "--template" in completed("trellis", "new", "--")
    assert "label" in completed("trellis", "host", "l")


@pytest.mark.parametrize(
    ("shell", "at", "answer"),
    [("zsh", "1", "plain\ndeploy\nPut an app"), ("fish", "dep", "plain,deploy\tPut an app")],
)
def test_other_shells_are_told_what_a_verb_does_as_well(shell: str, at: str, answer: str):
    """`at` is how the shell says what is to be completed: zsh by the word's number, fish by the word."""
    asked = {"_TRELLIS_COMPLETE": f"{shell}_complete", "COMP_WORDS": "trellis dep", "COMP_CWORD": at}
    command = [sys.executable, "-c", "from trellis.__main__ import main; main()"]
    done = subprocess.run(command, env={**os.environ, **asked}, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(answer)


def test_contexts_are_completed(tmp_path: Path):
    folder = tmp_path / "trellis" / "contexts"
    folder.mkdir(parents=True)
    (folder / "prod.toml").touch()
    assert completed("trellis", "status", "--context", "p", XDG_CONFIG_HOME=str(tmp_path)) == ["prod"]
    assert completed("trellis", "context", "use", "p", XDG_CONFIG_HOME=str(tmp_path)) == ["prod"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell_asks_trellis(shell: str):
    said = CliRunner().invoke(cli, ["completion", shell])
    assert said.exit_code == 0 and f"_TRELLIS_COMPLETE={shell}_complete" in said.stdout


def test_bash_takes_the_script():
    script = CliRunner().invoke(cli, ["completion", "bash"]).stdout
    done = subprocess.run(["bash"], input=f"{script}\ncomplete -p trellis", capture_output=True, text=True, check=True)
    assert "-F _trellis_completion trellis" in done.stdout
