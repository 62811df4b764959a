"""Where a NATS server is and who we are to it, by options, environment and file."""

from __future__ import annotations

from pathlib import Path

import pytest

from lattice import BadInput
from lattice.login import Login, Server, Settings, data_options, from_file, options, settings


def test_what_was_said_nearest_counts(tmp_path: Path):
    file = tmp_path / "nats.toml"
    file.write_text('lattice = "far"\n[nats]\nurl = "nats://far:1"\nuser = "ann"\nca = "ca.pem"\n')
    environment = {"TRELLIS_NATS_CONFIG": str(file), "TRELLIS_NATS": "nats://near:1", "NATS_USER": "somebody else's"}
    found = settings({"lattice": "here"}, environment)
    assert (found.lattice, found.nats.url) == ("here", "nats://near:1")
    assert (found.nats.login.user, found.nats.login.ca) == ("ann", str(tmp_path / "ca.pem"))
    assert settings({}, {}) == Settings()


def test_parts_of_one_way_to_log_in_may_come_from_different_places():
    found = settings({"nats_user": "ann"}, {"TRELLIS_NATS_PASSWORD": "secret"})
    assert found.nats.login == Login(user="ann", password="secret")


def test_another_way_to_log_in_that_was_said_nearer_leaves_nothing_of_the_farther_one():
    found = settings(
        {"nats_token": "t"}, {"TRELLIS_NATS_USER": "ann", "TRELLIS_NATS_PASSWORD": "p", "TRELLIS_NATS_CA": "/ca.pem"}
    )
    assert found.nats.login == Login(token="t", ca="/ca.pem")


def test_an_empty_variable_says_nothing():
    assert settings({}, {"TRELLIS_NATS": "", "TRELLIS_NATS_CONFIG": "", "TRELLIS_NATS_USER": ""}) == Settings()


def test_calls_have_a_connection_of_their_own_only_where_something_is_said_of_it():
    nats = Server("nats://a:1", Login(user="ann", password="p", ca="/ca.pem"))
    assert data_options(Settings(nats=nats), "x") is None
    other = data_options(Settings(nats=nats, data=Server(login=Login(token="t"))), "x")
    assert other is not None
    assert (other.url, other.user, other.token, other.ca_file) == ("nats://a:1", None, "t", "/ca.pem")


def test_children_are_told_exactly_what_was_said():
    said = Settings("ours", Server("nats://a:1", Login(user="ann", inbox="_MINE")), Server(login=Login(token="t")))
    told = said.environment()
    assert settings({}, told) == said
    assert told["TRELLIS_NATS_CONFIG"] == "", "what the file says is in the other variables"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[nats\n", "is not TOML"),
        ('[nats]\nurll = "x"\n', "nothing is called `nats.urll`; did you mean `nats.url`?"),
        ("[nats]\nuser = 7\n", "nats.user is not text"),
        ('nats = "nats://h:1"\n', "nats is not a table"),
        ("latice = 'x'\n", "did you mean `lattice`?"),
        ("lattice = 1\n", "lattice is not text"),
    ],
)
def test_a_file_that_means_nothing_is_refused_with_the_reason(tmp_path: Path, text: str, words: str):
    file = tmp_path / "nats.toml"
    file.write_text(text)
    with pytest.raises(BadInput) as caught:
        from_file(file)
    assert words in str(caught.value) and str(file) in str(caught.value)


def test_files_that_are_not_there_are_named(tmp_path: Path):
    with pytest.raises(BadInput, match="cannot read /no/such.toml"):
        from_file(Path("/no/such.toml"))
    with pytest.raises(BadInput, match="cannot read /no/such"):
        options(Server(login=Login(nkey="/no/such")), "x")
