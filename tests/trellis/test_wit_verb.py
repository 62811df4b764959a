"""`trellis wit`: the WIT that comes along, and what is added to a project."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lattice.wit import read_wit
from trellis.cli import cli


def wit(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["wit", *arguments])


def test_every_package_is_listed_with_its_interfaces():
    found = {one["name"]: one for one in json.loads(wit("ls", "-o", "json").stdout)}
    assert found["wasi:keyvalue"]["version"] == "0.2.0-draft"
    assert "atomics" in found["wasi:keyvalue"]["interfaces"]
    assert "wasi:keyvalue@0.2.0-draft" in wit("ls").stdout


@pytest.mark.parametrize("name", ["wasi:keyvalue/store", "keyvalue/store", "wasi:keyvalue/store@0.2.0-draft"])
def test_an_interface_is_shown_by_any_of_its_names(name: str):
    shown = wit("show", name).stdout
    assert shown.startswith("interface store {\n") and shown.endswith("}\n")
    assert "list-keys" in shown and "atomics" not in shown


def test_a_comment_belongs_to_the_interface_below_it():
    assert wit("show", "sql/query").stdout.startswith("/// A database")


def test_what_there_is_not_is_answered_with_what_there_is():
    assert "there is: trellis:sql, " in wit("show", "wasi:gpu").stderr
    assert "it has: store, atomics, batch, watcher" in wit("show", "wasi:keyvalue/sotre").stderr


def test_a_package_is_added_with_all_that_it_stands_on(tmp_path: Path):
    assert wit("add", "wasi:blobstore", "--to", str(tmp_path / "wit")).exit_code == 0
    found = read_wit(tmp_path / "wit")
    assert "wasi:blobstore/container" in found and "wasi:io/streams" in found
    assert "unchanged" in wit("add", "wasi:blobstore", "--to", str(tmp_path / "wit")).stdout


def test_a_file_that_says_something_else_is_left_alone(tmp_path: Path):
    (tmp_path / "deps").mkdir()
    (tmp_path / "deps" / "http.wit").write_text("mine")
    result = wit("add", "http", "--to", str(tmp_path))
    assert result.exit_code == 1 and "TRL-NEW-001" in result.stderr
    assert [file.name for file in (tmp_path / "deps").iterdir()] == ["http.wit"]
