"""`trellis add`: lines are put into a manifest, and those that were there stay."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from trellis.adding import CAPABILITIES
from trellis.cli import cli
from wadm.manifest import Manifest
from wadm.validate import check

PLAIN = """\
apiVersion: core.oam.dev/v1beta1
kind: Application
metadata: {name: shop}  # the shop
spec:
  components:
    # what sells
    - name: api
      type: component
      properties:
        image: ghcr.io/acme/api:1.0.0
      traits:
        - type: spreadscaler
          properties: {instances: 4}   # enough

  # the end
"""
WITHOUT_TRAITS = PLAIN.partition("      traits:")[0]
DASHES_AT_THE_KEY = """\
apiVersion: core.oam.dev/v1beta1
kind: Application
metadata:
  name: shop
spec:
  components:
  - name: api
    type: component
    properties:
      image: ghcr.io/acme/api:1.0.0
    traits:
    - type: spreadscaler
      properties:
        instances: 4
"""
PROVIDED = PLAIN.replace(
    "  # the end\n",
    """\
    - name: cache   # ours
      type: capability
      properties:
        image: ghcr.io/wasmcloud/keyvalue-nats:0.3.1
""",
)
SEVERAL = (
    PLAIN
    + """\
    - name: billing
      type: component
      properties: {image: "ghcr.io/acme/billing:1.0.0"}
"""
)

JSON = json.dumps(
    {
        "apiVersion": "core.oam.dev/v1beta1",
        "kind": "Application",
        "metadata": {"name": "shop"},
        "spec": {
            "components": [
                {"name": "api", "type": "component", "properties": {"image": "ghcr.io/acme/api:1.0.0"}},
            ]
        },
    }
)


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "app.yaml"


def add(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["add", *arguments])


def checked(file: Path) -> Manifest:
    found = check(file.read_text(), str(file))
    assert found.findings == () and found.manifest is not None
    return found.manifest


def links(manifest: Manifest) -> set[tuple[str, str, str]]:
    return {
        (component.name, link.target.name, f"{link.namespace}:{link.package}/{','.join(link.interfaces)}")
        for component in manifest.spec.components
        for link in component.links()
    }


@pytest.mark.parametrize("name", CAPABILITIES)
@pytest.mark.parametrize("text", [PLAIN, WITHOUT_TRAITS, DASHES_AT_THE_KEY], ids=["plain", "traitless", "dashes"])
def test_a_provider_and_a_link_are_put_in_and_nothing_else_changes(manifest: Path, name: str, text: str):
    manifest.write_text(text)
    capability = CAPABILITIES[name]
    result = add(name)
    assert result.exit_code == 0, result.output
    left = iter(manifest.read_text().splitlines())
    assert all(line in left for line in text.splitlines()), "a line that was there is gone, or elsewhere"
    made = checked(manifest)
    interfaces = f"{capability.package}/{','.join(capability.imports or capability.exports)}"
    ends = ("api", capability.provider) if capability.imports else (capability.provider, "api")
    assert links(made) == {(*ends, interfaces)}
    assert made.spec.components[-1].properties.image == capability.image


@pytest.mark.parametrize("name", CAPABILITIES)
def test_what_is_there_already_is_not_added_again(manifest: Path, name: str):
    manifest.write_text(PLAIN)
    add(name)
    before = manifest.read_text()
    assert add(name).stdout == "unchanged: `api` has it already\n"
    assert manifest.read_text() == before


def test_all_of_them_fit_into_one_manifest(manifest: Path):
    manifest.write_text(PLAIN)
    for name in CAPABILITIES:
        assert add(name).exit_code == 0
    assert len(links(checked(manifest))) == len(CAPABILITIES)
    assert manifest.read_text().count("builtin:messaging-nats") == 1


def test_a_provider_that_the_manifest_has_is_used_by_whatever_name_its_image_goes(manifest: Path):
    manifest.write_text(PROVIDED)
    assert "provider" not in add("kv").stdout
    assert links(checked(manifest)) == {("api", "cache", "wasi:keyvalue/store,atomics")}


def test_the_actors_world_is_told_what_it_needs(manifest: Path):
    manifest.write_text(PLAIN)
    said = add("kv").stdout
    assert "  import wasi:keyvalue/store@0.2.0-draft;\n  import wasi:keyvalue/atomics@0.2.0-draft;\n" in said


def test_a_dry_run_prints_the_manifest_and_writes_nothing(manifest: Path):
    manifest.write_text(PLAIN)
    assert "builtin:keyvalue-nats" in add("kv", "--dry-run").stdout
    assert manifest.read_text() == PLAIN


def test_of_several_components_one_has_to_be_named(manifest: Path):
    manifest.write_text(SEVERAL)
    refused = add("kv")
    assert refused.exit_code == 1 and "--to NAME: api, billing" in refused.stderr
    assert "no component `bill`" in add("kv", "--to", "bill").stderr
    assert add("http", "--to", "billing").exit_code == 0
    assert {target for _, target, _ in links(checked(manifest))} == {"billing"}


@pytest.mark.parametrize("text", [WITHOUT_TRAITS + "      traits: []\n", JSON], ids=["brackets", "json"])
def test_lists_in_brackets_are_left_alone_with_a_word_about_it(manifest: Path, text: str):
    manifest.write_text(text)
    result = add("kv")
    assert result.exit_code == 1 and "TRL-NEW-002" in result.stderr
    assert manifest.read_text() == text


def test_an_unknown_capability_is_answered_with_the_one_that_was_meant(manifest: Path):
    manifest.write_text(PLAIN)
    assert "did you mean `blobstore`?" in add("blobstor").stderr
