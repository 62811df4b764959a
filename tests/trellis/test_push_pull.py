"""`trellis push` and `trellis pull`, with a real registry."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from registries import ADDER, PASSWORD, USER, DockerRegistry, digest

from trellis.cli import cli


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, a cache, and no Docker configuration."""
    monkeypatch.setenv("TRELLIS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "no-docker"))
    for name in ("TRELLIS_REGISTRY_USER", "TRELLIS_REGISTRY_PASSWORD", "TRELLIS_REGISTRY_CA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hello.wat").write_text("(component)")
    return tmp_path


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[DockerRegistry]:
    (tmp_path / "registry").mkdir()
    started = DockerRegistry(tmp_path / "registry", login=True)
    yield started
    started.stop()


def trellis(*arguments: str, text: str | None = None) -> Result:
    return CliRunner().invoke(cli, list(arguments), input=text)


def test_a_component_goes_to_a_registry_and_comes_back(registry: DockerRegistry, own_folder: Path):
    reference, login = f"{registry.name}/acme/hello:0.1.0", ("--insecure", "--user", f"{USER}:{PASSWORD}")
    pushed = trellis("push", "hello.wat", reference, *login, "-o", "json")
    assert pushed.exit_code == 0, pushed.output
    said = json.loads(pushed.stdout)
    assert said["layer"] == f"sha256:{digest(ADDER)}" and said["image"] == reference
    again = trellis("push", "hello.wat", reference, *login)
    assert "there already" in again.stdout and said["digest"] in again.stdout
    pulled = trellis("pull", f"{registry.name}/acme/hello@{said['digest']}", *login)
    assert pulled.exit_code == 0, pulled.output
    assert (own_folder / "hello.wasm").read_bytes() == ADDER
    refused = trellis("pull", reference, *login)
    assert refused.exit_code == 1 and "--force" in refused.stderr
    other = trellis("pull", f"oci://{reference}", *login, "--to", "other.wasm", "-o", "json")
    assert json.loads(other.stdout)["digest"] == digest(ADDER)


def test_the_password_comes_from_the_environment_or_is_asked_for(
    registry: DockerRegistry, monkeypatch: pytest.MonkeyPatch
):
    reference = f"{registry.name}/hello:1"
    asked = trellis("push", "hello.wat", reference, "--insecure", "--user", USER, text=f"{PASSWORD}\n")
    assert asked.exit_code == 0 and PASSWORD not in asked.output
    monkeypatch.setenv("TRELLIS_REGISTRY_PASSWORD", "guess")
    wrong = trellis("push", "hello.wat", reference, "--insecure", "--user", USER)
    assert wrong.exit_code == 1 and "TRL-IMG-006" in wrong.stderr
    anonymous = trellis("pull", reference, "--insecure")
    assert anonymous.exit_code == 1 and "docker login" in anonymous.stderr


def test_only_components_are_pushed(own_folder: Path):
    (own_folder / "module.wasm").write_bytes(b"\0asm\x01\0\0\0")
    result = trellis("push", "module.wasm", "127.0.0.1:1/x:1", "--insecure")
    assert result.exit_code == 1 and "TRL-IMG-002" in result.stderr


def test_a_registry_that_is_not_there_is_an_exit_code_of_its_own():
    result = trellis("push", "hello.wat", "127.0.0.1:1/x:1", "--insecure")
    assert result.exit_code == 3 and "TRL-IMG-008" in result.stderr


@pytest.mark.parametrize("reference", ["hello", "ghcr.io/acme/hello", "https://x.test/a.wasm"])
def test_a_push_needs_a_registry_and_a_tag(reference: str):
    result = trellis("push", "hello.wat", reference)
    assert result.exit_code == 1 and "TRL-IMG-009" in result.stderr
