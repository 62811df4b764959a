"""Bad input: `trellis check` and `trellis inspect` say what is wrong, where, and what to do."""

import json
import textwrap
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from worlds import ADDER, ASKER

from trellis.cli import cli

KEEPER = """(component (import "wasi:blobstore/blobstore@0.2.0-draft" (instance
  (export "container-exists" (func (param "name" string) (result (result bool (error string))))))))"""

SUMS = """
from providers import Provider, export

class Sums(Provider):
    @export("demo:math/ops#add")
    async def add(self, link, a: int, b: int) -> int:
        return a + b
"""

HEAD = """\
apiVersion: core.oam.dev/v1beta1
kind: Application
metadata:
  name: sums
spec:
  components:
"""

ASKS = """\
    - name: asker
      type: component
      properties:
        image: ./asker.wat
"""

LINK = """\
      traits:
        - type: link
          properties:
            target: adder
            namespace: demo
            package: math
            interfaces: [ops]
"""

ADDS = """\
    - name: adder
      type: component
      properties:
        image: ./adder.wat
"""


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two components; its app.yaml is the test's to write."""
    (tmp_path / "asker.wat").write_text(ASKER)
    (tmp_path / "adder.wat").write_text(ADDER)
    monkeypatch.setenv("TRELLIS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check(app: Path, *parts: str) -> Result:
    (app / "app.yaml").write_text(HEAD + "".join(parts))
    return CliRunner().invoke(cli, ["check"])


def test_a_good_manifest_has_no_findings(app: Path):
    result = check(app, ASKS, LINK, ADDS)
    assert (result.exit_code, result.stdout) == (0, "no findings\n"), result.output


def test_a_component_whose_sources_have_changed_since_it_was_built_is_told(app: Path):
    source = app / "asker" / "asker.wat"
    source.parent.mkdir()
    source.write_text(ASKER)
    toml = source.with_name("trellis.toml")
    toml.write_text('[build]\ncommand = "cp asker.wat build/asker.wat"\noutput = "build/asker.wat"\n')
    assert CliRunner().invoke(cli, ["build"]).exit_code == 0
    built = ASKS.replace("./asker.wat", "./asker/build/asker.wat")
    assert check(app, built, LINK, ADDS).stdout == "no findings\n"
    source.write_text(f"{ASKER};; and more")
    result = check(app, built, LINK, ADDS)
    assert (result.exit_code, result.stdout) == (0, "0 errors, 1 warning\n")
    assert "warning[TRL-BLD-004]: the sources of `asker` have changed since it was built" in result.stderr


def test_a_yaml_typo_is_shown_with_its_line(app: Path):
    result = check(app, "    - name: [asker\n", ADDS)
    assert result.exit_code == 1
    assert "app.yaml:" in result.stderr and "^" in result.stderr


def test_an_unknown_field_is_answered_with_the_one_that_was_meant(app: Path):
    result = check(app, ASKS.replace("image:", "imagee:"))
    assert result.exit_code == 1
    assert "unknown field `imagee`" in result.stderr
    assert "app.yaml:10:9" in result.stderr
    assert "did you mean `image`?" in result.stderr


def test_a_link_to_nothing_names_what_there_is(app: Path):
    result = check(app, ASKS, LINK.replace("adder", "addder"), ADDS)
    assert result.exit_code == 1
    assert "did you mean `adder`?" in result.stderr


def test_two_components_of_one_id_are_refused(app: Path):
    same = "        id: same\n"
    result = check(app, ASKS, same, LINK, ADDS, same)
    assert result.exit_code == 1
    assert "TRL-MAN-012" in result.stderr


def test_everything_wrong_is_told_at_once(app: Path):
    result = check(app, ASKS.replace("image:", "imagee:"), LINK.replace("adder", "nobody"), ADDS)
    assert "imagee" in result.stderr and "nobody" in result.stderr


def test_a_component_that_is_not_there_is_to_be_built(app: Path):
    (app / "asker.wat").unlink()
    result = check(app, ASKS, LINK, ADDS)
    assert result.exit_code == 1
    assert "no such file" in result.stderr and "trellis build" in result.stderr
    assert "app.yaml:10:16" in result.stderr


def test_a_file_that_is_not_wasm_is_refused_at_its_place(app: Path):
    (app / "asker.wat").write_bytes(b"\x7fELF and so on")
    result = check(app, ASKS, LINK, ADDS)
    assert result.exit_code == 1
    assert "is not WebAssembly" in result.stderr
    assert "app.yaml:10:16" in result.stderr


def test_a_core_module_is_told_from_a_component(app: Path):
    (app / "asker.wat").write_text("(module)")
    result = check(app, ASKS, LINK, ADDS)
    assert result.exit_code == 1
    assert "is a core Wasm module, not a component" in result.stderr
    result = CliRunner().invoke(cli, ["inspect", "."])
    assert result.exit_code == 1
    assert ". is a folder without Python code" in result.stderr


def test_a_signature_that_does_not_hold_is_found_before_a_host_finds_it(app: Path):
    (app / "adder.wat").write_bytes(b"\0asm\x0d\0\1\0" + bytes([0, 19, 13]) + b"wasmcloud_jwt" + b"a.b.c")
    result = check(app, ADDS)
    assert result.exit_code == 1
    assert f"error[TRL-IMG-015]: the signature of {(app / 'adder.wat').as_uri()} does not hold" in result.stderr


def test_an_import_of_wasi_0_3_is_called_so(app: Path):
    (app / "asker.wat").write_text('(component (import "wasi:clocks/types@0.3.0" (instance (export "f" (func)))))')
    result = check(app, ASKS)
    assert result.exit_code == 1
    assert (
        "error[TRL-LNK-008]: `asker` imports wasi:clocks/types@0.3.0; this host serves version 0.2.x" in result.stderr
    )
    assert "that is WASI 0.3" in result.stderr


def test_an_import_that_nothing_provides_is_named_with_what_would(app: Path):
    result = check(app, ASKS, ADDS)
    assert result.exit_code == 1
    assert "error[TRL-LNK-001]: `asker` imports demo:math/ops@0.1.0, and nothing provides it" in result.stderr
    assert "`adder` exports it" in result.stderr
    assert "target: adder" in result.stderr and "interfaces: [ops]" in result.stderr


def test_the_trait_that_it_tells_to_add_is_the_one_that_mends_it(app: Path):
    told = check(app, ASKS, ADDS).stderr
    lines = told.splitlines()
    begin = next(i for i, line in enumerate(lines) if line.strip() == "- type: link")
    trait = textwrap.indent(textwrap.dedent("\n".join(lines[begin : begin + 6])), "        ")
    result = check(app, ASKS, "      traits:\n", trait, "\n", ADDS)
    assert (result.exit_code, result.stderr) == (0, "")


def test_an_import_that_a_provider_here_answers_names_that_provider(app: Path):
    (app / "sums.py").write_text(SUMS)
    result = check(app, ASKS, "    - {name: sums, type: capability, properties: {image: ./sums.py}}\n")
    assert result.exit_code == 1
    assert "`sums` exports it" in result.stderr and "target: sums" in result.stderr


def test_what_hosts_serve_through_a_link_is_missed_where_a_provider_waits_for_it(app: Path):
    (app / "asker.wat").write_text(KEEPER)
    result = check(app, ASKS)
    assert (result.exit_code, result.stderr) == (0, "")  # it may never call it
    store = '    - {name: files, type: capability, properties: {image: "ghcr.io/wasmcloud/blobstore-fs:0.9.0"}}\n'
    result = check(app, ASKS, store)
    assert result.exit_code == 0
    assert (
        "warning[TRL-LNK-003]: `asker` imports wasi:blobstore (blobstore) and is not linked to `files`" in result.stderr
    )
    assert "target: files" in result.stderr and "interfaces: [blobstore]" in result.stderr


def test_a_link_to_a_component_that_does_not_export_it_is_refused(app: Path):
    result = check(app, ASKS, LINK.replace("[ops]", "[ops, waves]"), ADDS)
    assert result.exit_code == 1
    assert "which `adder` does not export" in result.stderr


def test_a_link_that_the_component_never_uses_is_a_warning(app: Path):
    result = check(app, ADDS, LINK.replace("target: adder", "target: asker").replace("ops", "asks"), ASKS, LINK)
    assert result.exit_code == 0
    assert "which `adder` does not import" in result.stderr
    assert "0 errors, 1 warning" in result.stdout


def test_findings_come_as_json_too(app: Path):
    result = CliRunner().invoke(cli, ["check", "-o", "json"]) if check(app, ASKS, ADDS) else None
    assert result is not None and result.exit_code == 1
    said = json.loads(result.stdout)
    assert said["ok"] is False
    assert [f["code"] for f in said["findings"]] == ["TRL-LNK-001"]


def test_a_manifest_that_is_not_there_is_a_user_error(app: Path):
    result = CliRunner().invoke(cli, ["check", "nowhere.yaml"])
    assert result.exit_code == 1
    assert "there is no file nowhere.yaml" in result.stderr


def test_deploy_finds_the_same_before_it_needs_a_lattice(app: Path):
    check(app, ASKS, ADDS)
    result = CliRunner().invoke(cli, ["deploy", "--nats", "nats://127.0.0.1:1"])
    assert result.exit_code == 1
    assert "TRL-LNK-001" in result.stderr


def test_inspect_shows_types_and_who_answers_each_import(app: Path):
    result = CliRunner().invoke(cli, ["inspect", "asker.wat"])
    assert result.exit_code == 0, result.output
    assert "demo:math/ops@0.1.0   needs a link" in result.stdout
    assert "add: func(a: u32, b: u32) -> u32" in result.stdout
    assert "ask: func(n: u32) -> u32" in result.stdout


def test_inspect_of_what_is_no_component_says_so(app: Path):
    (app / "x.wasm").write_bytes(b"\0asm\x01\0\0\0")
    result = CliRunner().invoke(cli, ["inspect", "x.wasm"])
    assert result.exit_code == 1
    assert "is a core Wasm module, not a component" in result.stderr
