"""Where a part of an application stands in its manifest."""

from __future__ import annotations

import pytest
from simulated_lattice import component, manifest_text

from wadm.places import Part, path_of
from wadm.source import read

TEXT = manifest_text(
    "shop",
    [
        component("api", link="kv", config="cfg", spread="{name: eu, requirements: {zone: eu, net: fast}}"),
        component("kv", kind="capability"),
    ],
)


@pytest.mark.parametrize(
    ("part", "line"),
    [
        (Part("kv"), "    - name: kv"),
        (Part("api", spread="eu"), "{name: eu"),
        (Part("api", spread="eu", requirement="net"), "net: fast"),
        (Part("api", spread="gone"), "          properties: {instances: 1"),
        (Part("api", target="kv"), "target: {name: kv"),
        (Part("", config="cfg"), "config: [{name: cfg"),
        (Part("", config="c-kv"), "config: [{name: c-kv"),
    ],
)
def test_a_part_is_found_where_it_is_written(part: Part, line: str):
    document, _ = read(TEXT, "app.yaml")
    assert document is not None
    path = path_of(document.data, part)
    assert path is not None
    assert line in document.place(path).text


@pytest.mark.parametrize("part", [Part("nobody"), Part("", config="none")])
def test_a_part_that_is_not_there_has_no_place(part: Part):
    document, _ = read(TEXT, "app.yaml")
    assert document is not None
    assert path_of(document.data, part) is None


@pytest.mark.parametrize("data", [None, [], {"spec": 1}, {"spec": {"components": {"name": "api"}}}])
def test_what_is_no_manifest_has_no_parts(data: object):
    assert path_of(data, Part("api")) is None
