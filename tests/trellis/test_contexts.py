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


def test_they_are_listed_without_their_passwords():
    said = CliRunner().invoke(cli, ["context", "ls", "-o", "json"]).stdout
    assert json.loads(said) == [{"name": "prod", "lattice": "live", "nats": "tls://nats.example.com"}]
    assert "secret" not in CliRunner().invoke(cli, ["context", "ls"]).stdout


def test_a_child_process_is_not_told_a_context_beside_what_it_says():
    assert Settings().environment()["TRELLIS_CONTEXT"] == ""
