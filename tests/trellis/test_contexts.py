"""`--context NAME`: a lattice by its name."""

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from lattice.login import Settings
from trellis import contexts
from trellis.cli import cli
from trellis.options import Where, lattice_options, where


@pytest.fixture(autouse=True)
def prod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A context `prod`, the only one."""
    for name in ("TRELLIS_NATS", "TRELLIS_LATTICE", "TRELLIS_NATS_CONFIG", "TRELLIS_CONTEXT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(contexts, "folder", lambda: tmp_path / "contexts")
    file = tmp_path / "contexts" / "prod.toml"
    file.parent.mkdir()
    file.write_text('lattice = "live"\n[nats]\nurl = "tls://me:secret@nats.example.com"\ncreds = "prod.creds"\n')
    return file


def reached(*arguments: str) -> Where:
    """Where a verb would find its lattice."""
    found: list[Where] = []

    @click.command
    @lattice_options
    def verb(nats: str | None, lattice: str | None) -> None:
        found.append(where(nats, lattice))

    verb(list(arguments), standalone_mode=False)
    return found[0]


def of_prod(place: Where, file: Path) -> bool:
    assert place.settings is not None
    creds = place.settings.nats.login.creds
    return (place.lattice, creds) == ("live", str(file.parent / "prod.creds")) and "nats.example.com" in place.nats


def test_a_context_says_which_lattice_where_and_how(prod: Path):
    place = reached("--context", "prod")
    assert of_prod(place, prod) and place.said == str(prod)


def test_the_environment_may_name_it_and_what_is_said_nearer_counts(prod: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TRELLIS_CONTEXT", "prod")
    assert of_prod(reached(), prod)
    assert reached("--lattice", "other", "--nats", "nats://127.0.0.1:1").nats == "nats://127.0.0.1:1"


def test_a_file_that_is_named_itself_counts_more(prod: Path, tmp_path: Path):
    (tmp_path / "mine.toml").write_text('lattice = "mine"\n')
    assert reached("--context", "prod", "--nats-config", str(tmp_path / "mine.toml")).lattice == "mine"
    assert reached("--nats-config", str(tmp_path / "mine.toml"), "--context", "prod").lattice == "mine"


def test_an_unknown_context_is_answered_with_the_one_that_was_meant():
    result: Result = CliRunner().invoke(cli, ["status", "--context", "prd"])
    assert result.exit_code == 1 and "there is no context `prd`; did you mean `prod`?" in result.stderr
    assert "fix: trellis context ls" in result.stderr


def test_they_are_listed_without_their_passwords(prod: Path):
    said = CliRunner().invoke(cli, ["context", "ls", "-o", "json"]).stdout
    (listed,) = json.loads(said)
    assert listed.pop("login") == f"creds {prod.parent / 'prod.creds'}"
    assert listed == {"name": "prod", "in_use": False, "lattice": "live", "nats": "tls://nats.example.com"}
    assert "secret" not in CliRunner().invoke(cli, ["context", "ls"]).stdout


def test_a_child_process_is_not_told_a_context_beside_what_it_says():
    assert Settings().environment()["TRELLIS_CONTEXT"] == ""


def context(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["context", *arguments])


def test_one_is_added_used_left_and_removed(prod: Path, tmp_path: Path):
    (tmp_path / "dev.creds").touch()
    added = context("add", "dev", "--nats", "nats://dev:4222", "--nats-creds", "dev.creds", "--lattice", "play")
    assert added.exit_code == 0, added.stderr
    (file,) = prod.parent.glob("dev.toml")
    assert file.stat().st_mode & 0o77 == 0, "it may hold a password"
    assert context("use", "dev").stdout.startswith("dev is in use")
    place = reached()
    assert (place.nats, place.lattice, place.said) == ("nats://dev:4222", "play", "context dev")
    assert place.settings is not None and place.settings.nats.login.creds == str(tmp_path / "dev.creds")
    assert context("use", "prod").exit_code == 0 and of_prod(reached(), prod)
    assert context("use", "-").stdout.startswith("dev is in use")
    assert context("ls").stdout.splitlines()[0].split()[:2] == ["*", "dev"]
    assert context("rm", "dev").exit_code == 0 and not file.exists()
    assert reached().said == ""


def test_what_is_said_counts_more_than_the_one_in_use(prod: Path, monkeypatch: pytest.MonkeyPatch):
    context("use", "prod")
    assert reached("--nats", "nats://127.0.0.1:1").nats == "nats://127.0.0.1:1"
    assert reached("--lattice", "other").lattice == "other"
    monkeypatch.setenv("TRELLIS_NATS", "nats://env:1")
    assert reached().nats == "nats://env:1"


def test_going_back_from_the_first_leaves_none_in_use(prod: Path):
    context("use", "prod")
    assert context("use", "-").stdout.startswith("none is in use") and reached().said == ""


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("add", "prod", "--nats", "nats://x"), "TRL-NEW-001", "is there already"),
        (("add", "a/b", "--nats", "nats://x"), "TRL-CLI-001", "cannot name a context"),
        (("add", "new"), "TRL-CLI-001", "--nats URL is missing"),
        (("use", "prd"), "TRL-CLI-001", "did you mean `prod`?"),
        (("rm", "prd"), "TRL-CLI-001", "did you mean `prod`?"),
    ],
)
def test_what_cannot_be_done_with_a_context_is_told(arguments: tuple[str, ...], code: str, words: str):
    result = context(*arguments)
    assert result.exit_code == 1 and code in result.stderr and words in result.stderr
