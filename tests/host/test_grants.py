"""A component gets what its configuration asks for, and never more than its host allows."""

from pathlib import Path

import pytest

from actors.grants import Preopen
from host.grants import Allowed, covers, granted, without_grants
from lattice import BadInput
from lattice.allow import Pattern


def test_nothing_is_granted_where_nothing_is_asked():
    grants = granted({"greeting": "hi"}, Allowed(directories=((Path("/srv"), True),), network=("*:*",)))
    assert (grants.directories, grants.network, grants.http) == ((), (), ())


def test_what_the_host_allows_is_granted(tmp_path):
    (tmp_path / "data").mkdir()
    asked = {
        "trellis.directories": f"{tmp_path}/data::/data:rw, {tmp_path}/data::/ro",
        "trellis.network": "db.example.com:5432",
        "trellis.http": "api.example.com",
    }
    allowed = Allowed(((tmp_path, True),), ("*.example.com:5432",), ("*.example.com",))
    grants = granted(asked, allowed)
    assert grants.directories == (
        Preopen(tmp_path / "data", "/data", writable=True),
        Preopen(tmp_path / "data", "/ro", writable=False),
    )
    assert grants.network == ("db.example.com:5432",)
    assert grants.http == ("api.example.com",)
    assert without_grants({**asked, "greeting": "hi"}) == {"greeting": "hi"}


def test_everything_that_is_not_allowed_is_named_at_once_with_the_flag_that_would(tmp_path):
    asked = {
        "trellis.directories": "/etc::/etc, nonsense",
        "trellis.network": "*:*",
        "trellis.http": "evil.example.net:8443",
    }
    with pytest.raises(BadInput) as refused:
        granted(asked, Allowed(((tmp_path, True),), ("*.example.com:5432",)))
    text = "\n".join(f.render() for f in refused.value.findings)
    assert [f.code for f in refused.value.findings] == ["TRL-GRT-001", "TRL-GRT-002", "TRL-GRT-001", "TRL-GRT-001"]
    assert "--allow-dir /etc" in text and "HOST::GUEST" in text
    assert "--allow-net *:*" in text and "--allow-http evil.example.net:8443" in text


def test_a_folder_allowed_for_reading_is_not_granted_for_writing(tmp_path):
    allowed = Allowed(((tmp_path, False),))
    assert granted({"trellis.directories": f"{tmp_path}::/d"}, allowed).directories
    with pytest.raises(BadInput, match="for writing"):
        granted({"trellis.directories": f"{tmp_path}::/d:rw"}, allowed)


def test_a_link_out_of_an_allowed_folder_is_not_inside_it(tmp_path):
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "out").symlink_to("/etc")
    with pytest.raises(BadInput):
        granted({"trellis.directories": f"{tmp_path}/inside/out::/d"}, Allowed(((tmp_path / "inside", True),)))


@pytest.mark.parametrize(
    ("most", "asked", "covered"),
    [
        ("*:*", "*:*", True),
        ("*:443", "*:*", False),
        ("*:443", "example.com:443", True),
        ("*.example.com:443", "a.example.com:443", True),
        ("*.example.com:443", "*.b.example.com:443", True),
        ("*.example.com:443", "example.com:443", False),
        ("example.com:443", "*.example.com:443", False),
        ("10.0.0.0/8:*", "10.1.0.0/16:5432", True),
        ("10.0.0.0/8:*", "11.0.0.1:5432", False),
        ("10.0.0.0/8:*", "ten.example.com:5432", False),
        ("[2001:db8::]/32:80", "10.0.0.1:80", False),
        ("example.com:443", "*:443", False),
    ],
)
def test_a_pattern_covers_what_it_allows_in_full(most, asked, covered):
    assert covers(Pattern.parse(most), Pattern.parse(asked)) is covered
