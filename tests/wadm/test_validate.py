"""Findings: each with its code and its very place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lattice import Finding, Place
from wadm import check, resolve_images
from wadm.desired import desired_from
from wadm.validate import Checked

GOLDEN = """\
apiVersion: core.oam.dev/v1beta1
kind: Application
metadata:
  name: hello
  annotations: {version: v0.1.0, description: demo}
spec:
  policies:
    - {name: nats-kv, type: policy.secret.wasmcloud.dev/v1alpha1, properties: {backend: nats-kv}}
  components:
    - name: http
      type: component
      properties:
        image: ghcr.io/acme/hello:0.1.0
        config: [{name: app, properties: {greeting: hi}}]
        secrets: [{name: tok, properties: {policy: nats-kv, key: api-token}}]
      traits:
        - {type: spreadscaler, properties: {instances: 10, spread: [{name: eu, requirements: {zone: eu}, weight: 80}, {name: us, requirements: {zone: us}, weight: 20}]}}
        - {type: link, properties: {target: {name: kv, config: [{name: url, properties: {url: "redis://r:6379"}}]}, namespace: wasi, package: keyvalue, interfaces: [store, atomics]}}
    - name: kv
      type: capability
      properties: {image: "ghcr.io/wasmcloud/keyvalue-redis:0.30.0"}
    - name: server
      type: capability
      properties: {image: "ghcr.io/wasmcloud/http-server:0.28.0"}
      traits:
        - {type: link, properties: {target: http, namespace: wasi, package: http, interfaces: [incoming-handler], source: {config: [{name: addr, properties: {address: "0.0.0.0:8080"}}]}}}
"""  # noqa: E501

BASE = """\
apiVersion: core.oam.dev/v1beta1
kind: Application
metadata:
  name: shop
spec:
  components:
    - name: api
      type: component
      properties:
        image: img:1
      traits:
        - type: spreadscaler
          properties:
            instances: 2
        - type: link
          properties:
            target: kv
            namespace: wasi
            package: keyvalue
            interfaces: [store]
    - name: kv
      type: capability
      properties:
        image: builtin:keyvalue-memory
"""


def found(checked: Checked) -> list[tuple[str, str, str]]:
    """(code, line:column, level) of each finding."""
    places = []
    for f in checked.findings:
        assert f.place is not None
        places.append((f.code.removeprefix("TRL-MAN-"), f"{f.place.line}:{f.place.column}", f.level))
    return places


def test_wadms_own_example_passes_unchanged() -> None:
    checked = check(GOLDEN)
    assert checked.findings == ()
    assert checked.manifest is not None
    desired = desired_from(checked.manifest)
    assert {w.name: w.id for w in desired.wanted} == {"http": "hello-http", "kv": "hello-kv", "server": "hello-server"}
    http = desired.wanted[0]
    assert http.config == ("hello-app", "SECRET_hello-tok")
    assert http.counts() == {"eu": 8, "us": 2}
    assert desired.configs["hello-url"] == {"url": "redis://r:6379"}
    assert desired.configs["SECRET_hello-tok"]["backend"] == "nats-kv"
    kv, web = (link.link for link in sorted(desired.links, key=lambda link: link.target, reverse=True))
    assert (kv.source_id, kv.target, kv.interfaces, kv.target_config) == (
        "hello-http",
        "hello-kv",
        ("store", "atomics"),
        ("hello-url",),
    )
    assert (web.source_id, web.target, web.source_config) == ("hello-server", "hello-http", ("hello-addr",))


def test_the_base_of_these_tests_is_fine() -> None:
    assert check(BASE).findings == ()


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("image: img:1", "imagee: img:1", [("005", "10:9", "error")]),
        ("image: img:1", "image: 5", [("007", "10:16", "error")]),
        ("image: img:1", 'image: ""', [("029", "10:16", "error")]),
        ("image: img:1", "image: builtin:http-server", [("029", "10:16", "error")]),
        ("builtin:keyvalue-memory", "builtin:keyvalue-memori", [("029", "24:16", "warning")]),
        ("instances: 2", "instances: -2", [("023", "14:24", "error")]),
        ("instances: 2", "instances: two", [("007", "14:24", "error")]),
        ("instances: 2", "instances: 2.5", [("007", "14:24", "error")]),
        ("instances: 2", "instance: 2", [("006", "13:11", "error"), ("005", "14:13", "error")]),
        ("type: spreadscaler", "type: spredscaler", [("014", "12:17", "warning")]),
        ("type: spreadscaler", "type: x-mine", []),
        ("type: component", "type: componet", [("013", "8:13", "error")]),
        ("type: component", "type: actor", []),
        ("name: shop", "name: my shop", [("009", "4:9", "error")]),
        ("name: shop", "label: shop", [("006", "3:1", "error"), ("005", "4:3", "error")]),
        ("name: kv\n", "name: api\n", [("017", "17:21", "error"), ("011", "21:13", "error")]),
        ("name: kv\n", "name: kw\n", [("017", "17:21", "error")]),
        ("interfaces: [store]", "interfaces: []", [("018", "20:13", "error")]),
        ("interfaces: [store]", "interfaces: [stor]", [("019", "20:26", "warning")]),
        ("interfaces: [store]", "interfaces: [store@0.2.0]", [("030", "20:26", "error")]),
        ("package: keyvalue", "package: keyvalu", [("019", "19:22", "warning")]),
        ("package: keyvalue", "pakage: keyvalue", [("006", "16:11", "error"), ("005", "19:13", "error")]),
        ("kind: Application", "kind: Deployment", [("008", "2:7", "warning")]),
        ("      type: capability", "      type: capability\n      image: x", [("005", "23:7", "error")]),
        (
            "  name: shop",
            "  name: shop\n  annotations: {version: latest}",
            [("010", "5:26", "error")],
        ),
        ("  name: shop", "  name: shop\n  annotations: {'a b': c}", [("027", "5:17", "error")]),
        ("  name: shop", "  name: shop\n  name: shop", [("003", "5:3", "error")]),
        (
            "            instances: 2",
            "            instances: 2\n            spread: [{name: a, weight: 0}]",
            [("023", "15:13", "error")],
        ),
        (
            "            instances: 2",
            "            instances: 2\n            spread: [{name: a}, {name: a}]",
            [("024", "15:40", "error")],
        ),
        (
            "            instances: 2",
            "            instances: 2\n        - type: daemonscaler\n          properties: {instances: 1}",
            [("025", "15:11", "error")],
        ),
        (
            "            target: kv",
            "            target: {name: kv}\n            target_config: []",
            [("028", "18:13", "warning")],
        ),
        ("        image: img:1", "        image: img:1\n        id: a.b", [("009", "11:13", "error")]),
        ("        image: img:1", "        image: img:1\n        id: shop-kv", [("012", "22:13", "error")]),
        ("        image: img:1", "        application: {name: a, component: b}", [("016", "12:11", "error")]),
        (
            "        image: img:1",
            "        image: img:1\n        application: {name: a, component: b}",
            [("015", "11:9", "error")],
        ),
        (
            "        image: img:1",
            "        image: img:1\n        config: [{name: a, properties: {x: y}}, {name: a}]",
            [("022", "11:56", "error")],
        ),
        (
            "        image: img:1",
            "        image: img:1\n        secrets: [{name: a, properties: {policy: p, key: k}}]",
            [("026", "11:50", "error")],
        ),
    ],
)  # fmt: skip
def test_a_mistake_is_found_at_its_place(old: str, new: str, expected: list[tuple[str, str, str]]) -> None:
    assert BASE.count(old) >= 1
    assert found(check(BASE.replace(old, new, 1))) == expected


ROLLOUTS = {
    "max-surge: 0\n    rollout.trellis.dev/max-unavailable: 0%": [("023", "6:5", "error")],
    "max-surge: -1": [("007", "6:36", "error")],
    "max-surge: 1.5": [("007", "6:36", "error")],
    "max-unavailable: 25 %": [("007", "6:42", "error")],
    "pause: soon": [("007", "6:32", "error")],
    "pause: false": [("007", "6:32", "error")],
    "max-surg: 1": [("005", "6:5", "error")],
}


@pytest.mark.parametrize("annotation", ROLLOUTS)
def test_a_rollout_that_cannot_be_is_found_at_its_place(annotation: str) -> None:
    text = BASE.replace("name: shop", f"name: shop\n  annotations:\n    rollout.trellis.dev/{annotation}", 1)
    assert found(check(text)) == ROLLOUTS[annotation]


def test_a_rollout_says_how_many_and_how_long() -> None:
    said = "\n    ".join(
        f"rollout.trellis.dev/{each}" for each in ("max-surge: 50%", "max-unavailable: 2", "pause: 90s")
    )
    manifest = check(BASE.replace("name: shop", f"name: shop\n  annotations:\n    {said}", 1)).manifest
    assert manifest is not None
    rollout = manifest.rollout
    assert (rollout.max_surge.of(5, up=True), rollout.max_unavailable.of(5, up=False), rollout.pause) == (3, 2, 90)


@pytest.mark.parametrize(
    ("text", "code", "place", "word"),
    [
        ("a:\n\tb: 1\n", "001", "2:1", "tab"),
        ("a: 1\n  b: 2\n", "001", "2:4", "indented deeper"),
        ("a:\n    b: 1\n  c: 2\n", "001", "3:3", "fits none"),
        ("a: [1, 2\nb: 3\n", "001", "1:4", "`[` is never closed"),
        ("a: {b: 1\n", "001", "1:4", "`{` is never closed"),
        ('a: "x\nb: 1\n', "001", "1:4", "quote is never closed"),
        ("a: b: c\n", "001", "1:5", "second `:`"),
        ("a: @x\n", "001", "1:4", "cannot begin with `@`"),
        ("a: 1\n---\nb: 1\n", "002", "2:1", "second document"),
        ("a: 1\x00\n", "001", "1:5", "U+0000"),
        ("a: *nope\n", "001", "1:4", "no `&` anchor"),
        ("", "004", "1:1", "empty"),
        ("- a\n", "004", "1:1", "not an application"),
    ],
)
def test_what_cannot_be_read_is_explained_in_plain_words(text: str, code: str, place: str, word: str) -> None:
    first = check(text).findings[0]
    assert first.code == f"TRL-MAN-{code}"
    assert first.place is not None and f"{first.place.line}:{first.place.column}" == place
    assert word in first.message


def test_every_mistake_is_found_at_once() -> None:
    text = (
        BASE.replace("image: img:1", "imagee: x")
        .replace("instances: 2", "instances: -1")
        .replace("target: kv", "target: kw")
    )
    assert [code for code, _, level in found(check(text)) if level == "error"] == ["005", "023", "017"]


def test_a_finding_shows_the_line_a_caret_and_a_way_out() -> None:
    rendered = check(BASE.replace("image: img:1", "imagee: img:1"), "app.yaml").errors[0].render()
    assert rendered == (
        "error[TRL-MAN-005]: unknown field `imagee`\n"
        "  --> app.yaml:10:9\n"
        "    10 |         imagee: img:1\n"
        "       |         ^^^^^^ did you mean `image`?\n"
        "  why: `properties` accepts image, application, id, config, secrets, x-limits\n"
        "  fix: rename it"
    )


def test_of_a_long_line_the_part_around_the_spot_is_shown() -> None:
    long = Place("app.yaml", 3, 5001, "a" * 5000 + "bad" + "c" * 5000, 3)
    _, place, quoted, caret = Finding("TRL-MAN-005", "unknown field", long).render().splitlines()
    assert len(quoted) < 250 and place.endswith("app.yaml:3:5001")
    assert quoted[caret.index("^") : caret.rindex("^") + 1] == "bad"


def test_what_is_larger_than_a_message_is_no_manifest() -> None:
    checked = check(BASE + f"# {'y' * 2**20}", "app.yaml")
    assert [f.message for f in checked.errors] == ["this is too large to be a manifest"]


def test_one_interface_to_two_targets_shows_both_lines() -> None:
    second = """\
        - type: link
          properties: {target: other, namespace: wasi, package: keyvalue, interfaces: [store]}
    - name: kv
"""
    text = (
        BASE.replace("    - name: kv\n", second)
        + "    - name: other\n      type: capability\n      properties: {image: x}\n"
    )
    (finding,) = check(text).errors
    assert finding.code == "TRL-MAN-020"
    assert finding.place is not None and finding.place.line == 22
    assert finding.hint == "also linked at line 20"


def test_disjoint_interfaces_may_have_different_targets() -> None:
    second = """\
        - type: link
          properties: {target: other, namespace: wasi, package: keyvalue, interfaces: [atomics]}
    - name: kv
"""
    text = (
        BASE.replace("    - name: kv\n", second)
        + "    - name: other\n      type: capability\n      properties: {image: x}\n"
    )
    assert check(text).findings == ()


def test_two_halves_of_one_link_become_one() -> None:
    second = """\
        - type: link
          properties: {target: kv, namespace: wasi, package: keyvalue, interfaces: [atomics]}
    - name: kv
"""
    manifest = check(BASE.replace("    - name: kv\n", second)).manifest
    assert manifest is not None
    (link,) = desired_from(manifest).links
    assert link.link.interfaces == ("store", "atomics")


def test_a_link_between_providers_is_refused() -> None:
    trait = (
        "      traits:\n        - {type: link, properties: {target: kv, namespace: a, package: b, interfaces: [c]}}\n"
    )
    text = BASE + "    - name: other\n      type: capability\n      properties: {image: x}\n" + trait
    (finding,) = check(text).errors
    assert finding.code == "TRL-MAN-021"


def test_a_config_with_two_meanings_shows_both_lines() -> None:
    text = BASE.replace(
        "        image: img:1", "        image: img:1\n        config:\n          - {name: c, properties: {a: b}}"
    )
    text = text.replace(
        "            target: kv",
        "            target: {name: kv, config: [{name: c, properties: {a: z}}]}",
    )
    (finding,) = check(text).errors
    assert finding.code == "TRL-MAN-022" and finding.hint == "the other is at line 12"


def test_numbers_in_text_maps_stay_as_written() -> None:
    text = BASE.replace("  name: shop", "  name: shop\n  annotations: {version: 0.30}")
    checked = check(text)
    assert checked.manifest is not None and checked.manifest.version == "0.30"
    assert checked.data is not None and checked.data["metadata"]["annotations"] == {"version": "0.30"}


def test_vendor_extensions_are_kept_and_ignored() -> None:
    checked = check(BASE.replace("        image: img:1", "        image: img:1\n        x-owner: me"))
    assert checked.findings == ()
    assert checked.data is not None
    assert checked.data["spec"]["components"][0]["properties"]["x-owner"] == "me"


def test_json_is_read_with_places_too() -> None:
    text = (
        '{"apiVersion": "core.oam.dev/v1beta1",\n\t"kind": "Application",\n'
        '\t"metadata": {"nam": "x"}, "spec": {"components": []}}'
    )
    assert found(check(text)) == [("006", "3:2", "error"), ("005", "3:15", "error")]


def test_ids_that_escape_to_the_same_are_found() -> None:
    text = (
        BASE.replace("name: api", "name: k-v")
        .replace("    - name: kv", "    - name: K.V")
        .replace("target: kv", "target: K.V")
    )
    codes = [code for code, _, _ in found(check(text))]
    assert "012" in codes


def test_relative_files_are_resolved_beside_the_manifest(tmp_path: Path) -> None:
    (tmp_path / "api.wasm").write_bytes(b"")
    for image in ("./api.wasm", "file://./api.wasm", "api.wasm", f"{tmp_path}/api.wasm"):
        resolved = resolve_images(check(BASE.replace("img:1", image)), tmp_path)
        assert resolved.manifest is not None
        assert resolved.manifest.spec.components[0].properties.image == (tmp_path / "api.wasm").as_uri()
        assert resolved.data is not None
        assert resolved.data["spec"]["components"][1]["properties"]["image"] == "builtin:keyvalue-memory"


def test_other_references_are_left_alone(tmp_path: Path) -> None:
    for image in ("ghcr.io/a/b:1", "oci://ghcr.io/a/b:1", "wasmcloud+builtin://http-server", "builtin:http-server"):
        resolved = resolve_images(check(BASE.replace("builtin:keyvalue-memory", image)), tmp_path)
        assert resolved.manifest is not None
        assert resolved.manifest.spec.components[1].properties.image == image


def test_a_missing_file_is_found_at_its_line(tmp_path: Path) -> None:
    checked = resolve_images(check(BASE.replace("img:1", "./api.wasm")), tmp_path)
    assert checked.manifest is None
    (finding,) = checked.errors
    assert finding.code == "TRL-MAN-029" and finding.message == f"no such file: {tmp_path / 'api.wasm'}"
    assert finding.place is not None and (finding.place.line, finding.place.column) == (10, 16)
    assert "trellis build" in finding.fix


def with_limits(limits: str) -> Checked:
    return check(BASE.replace("image: img:1\n", f"image: img:1\n        x-limits: {limits}\n", 1))


def test_limits_reach_the_host_as_the_control_interface_has_them() -> None:
    checked = with_limits("{memory: 64Mi, time: 1.5s}")
    assert checked.manifest is not None, checked.findings
    api = desired_from(checked.manifest).wanted[0]
    assert dict(api.limits) == {"max_memory_limit": str(64 * 2**20), "max_execution_time": "1500"}
    plain = check(BASE).manifest
    assert plain is not None and desired_from(plain).wanted[0].settings != api.settings


@pytest.mark.parametrize(
    ("limits", "code", "said"),
    [
        ("{memory: 64MB}", "TRL-MAN-007", "64MB` is not a size"),
        ("{memory: 0}", "TRL-MAN-007", "is not a size"),
        ("{time: 5}", "TRL-MAN-007", "`5` is not a time"),
        ("{time: 0s}", "TRL-MAN-007", "is not a time"),
        ("{memroy: 1Mi}", "TRL-MAN-005", "unknown field `memroy`"),
        ("{handles: 0}", "TRL-MAN-007", "`0` is not a whole number above zero"),
        ("{fuel: 1e6}", "TRL-MAN-007", "is not a whole number above zero"),
    ],
)
def test_limits_that_cannot_be_are_found_at_their_place(limits: str, code: str, said: str) -> None:
    (finding,) = with_limits(limits).errors
    assert finding.code == code and said in finding.message
    assert finding.place is not None and "x-limits" in finding.place.text


@pytest.mark.parametrize(
    ("image", "levels"),
    [
        ("ghcr.io/wasmcloud/http-server:0.28.0", []),
        ("builtin:keyvalue-nats", []),
        ("file:///opt/provider.py", []),
        ("python:shop.providers:Sms", []),
        ("file:///opt/http-server.par.gz", ["error"]),
        ("ghcr.io/wasmcloud/unheard-of:1.0", ["error"]),
        ("ghcr.io/acme/sms:1.0", ["warning"]),
        ("localhost:5000/sms:1.0", ["warning"]),
    ],
)
def test_a_provider_of_native_code_is_refused_where_that_is_certain(image: str, levels: list[str]) -> None:
    text = f"""\
apiVersion: core.oam.dev/v1beta1
kind: Application
metadata: {{name: shop}}
spec:
  components:
    - name: p
      type: capability
      properties: {{image: "{image}"}}
"""
    assert [f.level for f in check(text).findings if f.code == "TRL-MAN-031"] == levels


def test_json_that_is_right_is_read_without_places_and_means_the_same() -> None:
    text = json.dumps(check(GOLDEN).data)
    quick, slow = check(text, places=False), check(text)
    assert quick.manifest == slow.manifest is not None and quick.data == slow.data
    assert quick.document is not None and not quick.document.values


def test_json_in_which_something_is_wrong_is_read_for_its_place_all_the_same() -> None:
    text = json.dumps(check(GOLDEN).data, indent=1)
    for wrong in (text.replace('"wasi"', "7", 1), text.replace('"kind"', '"kind": "Application",\n "kind"', 1)):
        quick, slow = check(wrong, places=False), check(wrong)
        assert quick.findings == slow.findings != ()
        assert slow.findings[0].place is not None and slow.findings[0].place.line > 1
