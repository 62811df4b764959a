"""What `trellis check` knows of providers: their configuration, their exports, their WIT."""

import json
import textwrap
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from worlds import ASKER

from trellis.cli import cli

PROVIDER = """
from pydantic import BaseModel, Field, SecretStr
from providers import Link, Provider, export

class Volume(BaseModel):
    volume: int = Field(ge=0, le=10)
    token: SecretStr | None = None

class Loud(Provider):
    wit = "package demo:math; interface ops { add: func(a: u32, b: u64) -> u32; }"
    link_config = Volume
    settings_model = Volume

    @export("demo:math/ops#add")
    async def add(self, link: Link[Volume], a: int, b: int) -> int:
        return a + b
"""

MANIFEST = """\
apiVersion: core.oam.dev/v1beta1
kind: Application
metadata:
  name: sums
spec:
  policies:
    - name: vault
      type: policy.secret.wasmcloud.dev/v1alpha1
      properties: {backend: env}
  components:
    - name: loud
      type: capability
      properties:
        image: ./loud.py
        config:
          - name: own
            properties: {OWN}
    - name: asker
      type: component
      properties:
        {ASKER}
      traits:
        - type: link
          properties:
            target:
              name: loud
              config:
                - name: linked
                  properties: {LINKED}
            namespace: demo
            package: math
            interfaces: [{INTERFACE}]
"""


@pytest.fixture
def findings(tmp_path: Path) -> Any:
    """What `check` says of a manifest with these configurations."""

    def of(
        own: str = "{volume: 1}",
        linked: str = "{volume: 1}",
        interface: str = "ops",
        asker: str = "application: {name: elsewhere, component: asker}",
        provider: str = PROVIDER,
    ) -> list[dict[str, Any]]:
        (tmp_path / "loud.py").write_text(textwrap.dedent(provider))
        (tmp_path / "asker.wat").write_text(ASKER)
        filled = {"OWN": own, "LINKED": linked, "INTERFACE": interface, "ASKER": asker}
        text = MANIFEST
        for name, value in filled.items():
            text = text.replace(f"{{{name}}}", value)
        (tmp_path / "app.yaml").write_text(text)
        done = CliRunner().invoke(cli, ["check", str(tmp_path), "-o", "json"])
        found: list[dict[str, Any]] = json.loads(done.stdout)["findings"]
        assert json.loads(done.stdout)["ok"] is not any(finding["level"] == "error" for finding in found)
        return found

    return of


def test_configuration_that_fits_is_no_finding(findings: Any):
    assert findings() == []


def test_a_value_that_the_provider_would_refuse_is_found_at_its_place(findings: Any):
    [own, linked] = findings(own="{volume: many}", linked="{volume: 11}")
    assert own["code"] == linked["code"] == "TRL-CFG-002"
    assert own["message"].startswith('provider `loud`: "volume" input should be a valid integer')
    assert own["place"]["text"].strip() == "properties: {volume: many}"
    assert linked["message"] == (
        "link of `asker` to `loud`: \"volume\" input should be less than or equal to 10 (got '11')"
    )
    assert linked["place"]["text"].strip() == "properties: {volume: 11}"


def test_limits_that_every_link_may_have_are_held_against_theirs(findings: Any):
    assert findings(linked="{volume: 1, link_concurrency: 8}") == []
    [wrong] = findings(linked="{volume: 1, link_concurrency: none}")
    assert wrong["message"].startswith('link of `asker` to `loud`: "link_concurrency" input should be a valid integer')


def test_an_unknown_key_and_a_missing_one_are_found(findings: Any):
    unknown, missing = findings(linked="{volum: 1}")
    assert (unknown["hint"], missing["message"]) == (
        'did you mean "volume"?',
        'link of `asker` to `loud`: "volume" is missing',
    )


def test_what_a_named_configuration_of_the_lattice_may_hold_is_not_missed(findings: Any):
    assert findings(linked="{}\n                - name: from-elsewhere") == []


def test_what_a_secret_brings_is_not_missed_and_everything_else_is(findings: Any):
    needs_both = PROVIDER.replace("SecretStr | None = None", "SecretStr")
    secret = """{}
              secrets:
                - name: token
                  properties: {policy: vault, key: token}"""
    [missing] = findings(own="{volume: 1, token: plain}", linked=secret, provider=needs_both)
    assert missing["message"] == 'link of `asker` to `loud`: "volume" is missing'


def test_a_value_that_is_left_to_the_hosts_is_not_judged(findings: Any):
    assert findings(own='{volume: "${env:volume}"}', linked='{volume: "1${file:volume}"}') == []


def test_a_link_to_a_provider_that_does_not_export_it_is_found(findings: Any):
    [finding] = findings(interface="logic")
    assert finding["code"] == "TRL-LNK-005"
    assert finding["message"].endswith("for demo:math/logic, which Loud does not export")


def test_a_provider_written_against_another_wit_is_found(findings: Any):
    [finding] = findings(asker="image: ./asker.wat")
    assert finding["code"] == "TRL-LNK-009"
    assert finding["message"] == (
        "`asker` imports add: func(a: u32, b: u32) -> u32 of demo:math/ops, "
        "and `loud` has add: func(a: u32, b: u64) -> u32"
    )


def test_a_provider_that_cannot_be_loaded_here_is_a_warning(findings: Any):
    [finding] = findings(provider="import a_package_of_another_machine")
    assert (finding["code"], finding["level"]) == ("TRL-PRV-004", "warning")
    assert "No module named 'a_package_of_another_machine'" in finding["message"]


def test_two_routes_that_clash_are_found(tmp_path: Path):
    def linked(target: str, path: str) -> str:
        return f"""
        - type: link
          properties:
            name: {target}
            target: {target}
            namespace: wasi
            package: http
            interfaces: [incoming-handler]
            source: {{config: [{{name: "{target}-path", properties: {{path: "{path}"}}}}]}}"""

    def said(*paths: str) -> list[str]:
        shops = "".join(
            f"""
    - name: {name}
      type: component
      properties: {{application: {{name: elsewhere, component: {name}}}}}"""
            for name in ("shop", "blog")
        )
        (tmp_path / "app.yaml").write_text(
            MANIFEST.partition("  components:")[0]
            + f"""  components:{shops}
    - name: http
      type: capability
      properties:
        image: builtin:http-server
        config: [{{name: by-path, properties: {{routing_mode: path}}}}]
      traits:{linked("shop", paths[0])}{linked("blog", paths[1])}
"""
        )
        done = CliRunner().invoke(cli, ["check", str(tmp_path), "-o", "json"])
        return [f"{one['code']} {one['message']}" for one in json.loads(done.stdout)["findings"]]

    assert said("/shop", "/blog") == []
    assert said("/", "/") == ["TRL-PRV-006 link of `http` to `blog`: path / belongs to `shop` already"]


def test_inspect_shows_what_a_provider_answers_and_the_schema_of_its_configuration(tmp_path: Path):
    file = tmp_path / "loud.py"
    file.write_text(PROVIDER)
    shown = CliRunner().invoke(cli, ["inspect", str(file)]).stdout
    assert "    add: func(a: u32, b: u64) -> u32\n" in shown
    assert "  volume  integer  needed\n" in shown
    found = json.loads(CliRunner().invoke(cli, ["inspect", f"{file}:Loud", "-o", "json"]).stdout)
    assert found["functions"] == {"demo:math/ops": ["add: func(a: u32, b: u64) -> u32"]}
    assert found["link_config"]["properties"]["volume"]["maximum"] == 10
    assert found["link_config"]["properties"]["token"]["anyOf"][0]["writeOnly"] is True


def test_a_function_that_a_provider_never_answers_is_a_warning(findings: Any):
    renamed = PROVIDER.replace("interface ops { add: func(a: u32, b: u64) -> u32; }", "interface ops { sum: func(); }")
    other = renamed.replace(
        'ops#add")\n    async def add(self, link: Link[Volume], a: int, b: int)',
        'ops#sum")\n    async def sum(self, link: Link[Volume])',
    )
    [finding] = findings(asker="image: ./asker.wat", provider=other)
    assert (finding["code"], finding["level"]) == ("TRL-LNK-009", "warning")
    assert finding["message"].endswith("of demo:math/ops, and `loud` does not answer it")


HEARER = """(component
  (core module $m (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 0))
    (func (export "hear") (param i32)))
  (core instance $i (instantiate $m))
  (func $hear (param "msg" u32) (canon lift (core func $i "hear")))
  (instance $handler (export "handle-message" (func $hear)))
  (export "wasmcloud:messaging/handler@0.2.0" (instance $handler)))"""


def test_a_component_that_a_provider_calls_by_another_wit_is_found(tmp_path: Path):
    def said(interface: str) -> list[str]:
        (tmp_path / "hearer.wat").write_text(HEARER)
        (tmp_path / "app.yaml").write_text(
            MANIFEST.partition("  components:")[0]
            + f"""  components:
    - name: hearer
      type: component
      properties: {{image: ./hearer.wat}}
    - name: messages
      type: capability
      properties: {{image: builtin:messaging-nats}}
      traits:
        - type: link
          properties:
            target: hearer
            namespace: wasmcloud
            package: messaging
            interfaces: [{interface}]
            source: {{config: [{{name: all, properties: {{subscriptions: "a.>"}}}}]}}
"""
        )
        done = CliRunner().invoke(cli, ["check", str(tmp_path), "-o", "json"])
        return [f"{one['code']} {one['message']}" for one in json.loads(done.stdout)["findings"]]

    [differs] = said("handler")
    assert differs.startswith(
        "TRL-LNK-009 `hearer` exports handle-message: func(msg: u32) of wasmcloud:messaging/handler"
    )
    assert differs.endswith(
        "`messages` calls handle-message: func(msg: record { subject: string, body: list<u8>, "
        "reply-to: option<string> }) -> result<_, string>"
    )
    assert any("which MessagingNats does not call" in one for one in said("consumer"))
