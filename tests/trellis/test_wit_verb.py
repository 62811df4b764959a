"""`trellis wit`: the WIT that comes along, and what is added to a project."""

from __future__ import annotations

import json
import tomllib
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


def test_a_file_that_is_no_text_is_left_alone_and_is_no_package(tmp_path: Path):
    file = tmp_path / "wit" / "deps" / "keyvalue.wit"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"\xff")
    assert "TRL-NEW-001" in wit("add", "wasi:keyvalue", "--to", str(tmp_path / "wit")).stderr
    assert "is not UTF-8 text" in wit("add", str(file), "--to", str(tmp_path / "wit")).stderr


def test_what_was_added_is_locked_and_held_against_the_lock(tmp_path: Path):
    to = tmp_path / "wit"
    wit("add", "wasi:config", "--to", str(to))
    wit("add", "keyvalue", "--to", str(to))
    assert {one["package"] for one in tomllib.loads((to / "deps.lock").read_text()).values()} == {
        "wasi:config",
        "wasi:keyvalue",
    }
    assert wit("check", str(to)).stdout == "all of it is as it was added\n"
    (to / "deps" / "keyvalue.wit").write_text("package wasi:keyvalue@0.2.0-draft;\n")
    (to / "deps" / "config.wit").unlink()
    (to / "deps" / "mine.wit").write_text("package a:b@1.0.0;\n")
    result = wit("check", str(to))
    assert result.exit_code == 1 and result.stderr.count("error[TRL-WIT-001]") == 2
    assert "keyvalue.wit is not the wasi:keyvalue@0.2.0-draft of deps.lock" in result.stderr
    assert "config.wit is missing" in result.stderr and "mine.wit is not in" in result.stderr


def test_a_package_of_somebody_else_is_added_from_a_file_with_what_it_stands_on(tmp_path: Path):
    file = tmp_path / "sms.wit"
    file.write_text("package acme:sms@1.2.0;\ninterface sender {\n  use wasi:io/streams@0.2.0.{output-stream};\n}\n")
    assert wit("add", str(file), "--to", str(tmp_path / "wit")).exit_code == 0
    assert (tmp_path / "wit" / "deps" / "acme-sms.wit").read_text() == file.read_text()
    assert "wasi:io/streams" in read_wit(tmp_path / "wit")
    file.write_text("interface sender {}\n")
    assert "names no package" in wit("add", str(file)).stderr


def test_the_check_of_an_app_looks_at_the_wit_of_its_actors(tmp_path: Path):
    (tmp_path / "app.yaml").write_text(
        "apiVersion: core.oam.dev/v1beta1\nkind: Application\nmetadata: {name: shop}\n"
        "spec: {components: [{name: kv, type: capability, properties: {image: 'builtin:keyvalue-memory'}}]}\n"
    )
    (tmp_path / "actor").mkdir()
    (tmp_path / "actor" / "trellis.toml").touch()
    assert wit("add", "wasi:config", "--to", str(tmp_path / "actor" / "wit")).exit_code == 0
    assert CliRunner().invoke(cli, ["check", str(tmp_path)]).exit_code == 0
    (tmp_path / "actor" / "wit" / "deps" / "config.wit").write_text("")
    result = CliRunner().invoke(cli, ["check", str(tmp_path)])
    assert result.exit_code == 1 and "TRL-WIT-001" in result.stderr
