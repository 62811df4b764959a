"""The schema for editors accepts what the validator accepts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from test_validate import BASE, GOLDEN

from wadm import check
from wadm.schema import manifest_schema

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(ROOT.glob("examples/*/app*.yaml"))

OLD = """\
apiVersion: core.oam.dev/v1beta1
kind: Application
metadata:
  name: shop
  annotations: {version: 0.1, x: true}
spec:
  components:
    - name: api
      type: actor
      properties: {image: img:1, x-note: anything, x-limits: {memory: 64Mi, time: 5s, handles: 50, fuel: "1000"}}
      traits:
        - {type: spreadscaler, properties: {replicas: 2}}
        - type: link
          properties:
            target: kv
            namespace: wasi
            package: keyvalue
            interfaces: [store]
            target_config: [{name: c, properties: {pool: 8}}]
        - {type: something-new, properties: {a: b}}
    - {name: kv, type: capability, properties: {image: "builtin:keyvalue-memory"}, traits: null}
"""


def problems(text: str, schema: dict[str, Any] | None = None) -> list[str]:
    document = check(text).document
    assert document is not None
    validator = Draft202012Validator(schema or manifest_schema())
    return [error.message for error in validator.iter_errors(document.data)]


def test_the_schema_is_one():
    Draft202012Validator.check_schema(manifest_schema())


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_every_example_fits_it(path: Path):
    assert problems(path.read_text()) == []


@pytest.mark.parametrize("text", [GOLDEN, OLD], ids=["golden", "deprecated spellings"])
def test_what_the_validator_accepts_fits_it(text: str):
    assert not check(text).errors
    assert problems(text) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("image: img:1", "imagee: img:1"),
        ("type: component", "type: komponent"),
        ("instances: 2", "instances: two"),
        ("instances: 2", "instance: 2"),
        ("namespace: wasi", "namespaze: wasi"),
        ("image: img:1", "image: img:1\n        x-limits: {memory: 64MB}"),
        ("image: img:1", "image: img:1\n        x-limits: {handles: 0}"),
        ("name: shop", "name: shop\n  annotations: {rollout.trellis.dev/max-surge: lots}"),
    ],
)
def test_what_the_validator_refuses_by_its_form_does_not_fit(old: str, new: str):
    text = BASE.replace(old, new, 1)
    assert text != BASE and check(text).errors
    assert problems(text)


def test_a_projects_schema_knows_its_components_and_interfaces():
    schema = manifest_schema(["api", "kv"], {("demo", "text"): ["transform"]})
    assert problems(OLD, schema) == []
    assert problems(OLD.replace("target: kv", "target: vk"), schema)
    offered = [
        c["then"] for c in schema["$defs"]["Link"]["allOf"] if c["if"]["properties"]["package"]["const"] == "text"
    ]
    assert offered[0]["properties"]["interfaces"]["items"]["anyOf"][0] == {"enum": ["transform"]}


def test_every_field_is_described():
    definitions = manifest_schema()["$defs"]
    parts = {name: dict(one["properties"]) for name, one in definitions.items()}
    parts["Metadata"] |= definitions["Metadata"]["properties"]["annotations"]["properties"]
    silent = [f"{name}.{field}" for name, its in parts.items() for field in its if not its[field].get("description")]
    assert silent == []
