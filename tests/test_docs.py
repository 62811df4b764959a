"""What the documents say about the tree is true of the tree."""

import re
import runpy
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from ruamel.yaml import YAML

from trellis.building import recipe
from trellis.errors import explanations
from trellis.project import BUILD_FILE
from wadm import check, manifest
from wadm.images import answered_by

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.fixture(scope="module")
def generator() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "docs" / "generate.py"))


def name(requirement: str) -> str:
    return re.split(r"[\[><=!~; ]", requirement, maxsplit=1)[0]


def test_every_dependency_says_why_it_is_there():
    known = (ROOT / "docs" / "dependencies.md").read_text()
    extras = PROJECT["project"]["optional-dependencies"].values()
    wanted = {name(r) for group in (PROJECT["project"]["dependencies"], *extras) for r in group}
    missing = {w for w in wanted - {"trellis-lattice"} if not re.search(rf"\|[^|]*\b{re.escape(w)}\b", known)}
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: d.name)
def test_every_link_between_documents_leads_somewhere(document: Path, generator: dict[str, Any]):
    missing = []
    for file, anchor in re.findall(r"\]\((?!https?://)([^)#]*)#?([^)]*)\)", document.read_text()):
        target = document.parent / file if file else document
        headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE) if anchor and target.exists() else []
        if not target.exists() or (anchor and anchor not in map(generator["slug"], headings)):
            missing.append(f"{file}#{anchor}")
    assert not missing


def test_generated_pages_are_what_the_generator_writes(generator: dict[str, Any]):
    behind = [file.name for file, text in generator["pages"]().items() if file.read_text() != text]
    assert not behind, "make docs"


def test_the_manifest_page_has_every_part_and_an_example_of_every_field(generator: dict[str, Any]):
    models = {m for m in vars(manifest).values() if isinstance(m, type) and issubclass(m, BaseModel)}
    assert set(generator["SECTIONS"]) == models - {BaseModel, manifest.Part, manifest.Strict}
    text = generator["EXAMPLE"].read_text()
    assert not check(text).findings
    shown = {place for place, _ in generator["examples"](manifest.Manifest, YAML(typ="safe").load(text))}
    plain = {
        (model, name)
        for model in generator["SECTIONS"]
        for name, field in model.model_fields.items()
        if not any(leaf in models for leaf in generator["_leaves"](field.annotation))
    }
    assert plain - shown == {(manifest.Trait, "properties")}, "which is a scaler's or a link's"


def is_built(file: Path) -> bool:
    """`trellis build` makes it of an actor that is there."""
    folder = file.parent.parent
    return (folder / BUILD_FILE).exists() and recipe(folder).output == file


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: d.name)
def test_every_file_that_a_document_names_is_there(document: Path):
    packages = "|".join((*PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"], "benchmarks", "examples"))
    named = re.findall(rf"(?<![\w/.])((?:{packages})/[\w./-]*\w/?)", document.read_text())
    missing = sorted({n for n in named if not ((ROOT / n).exists() or is_built(ROOT / n))})
    assert not missing


def test_every_package_is_in_the_plan_of_the_house():
    plan = (ROOT / "docs" / "architecture.md").read_text()
    for package in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
        assert re.search(rf"^\| {package} +\|", plan, re.MULTILINE)


def test_images_of_wasmcloud_are_answered_as_the_page_says():
    page = (ROOT / "docs" / "from-wasmcloud-v1.md").read_text()
    rows = page.partition("| is answered by |")[2].partition("\n\n")[0].splitlines()[2:]
    for images, answer in (row.strip("| ").split(" | ") for row in rows):
        for image in re.findall(r"`([^`]+)`", images):
            by = answered_by(f"ghcr.io/wasmcloud/{image}:1.0.0")
            assert answer == f"`{by}`" if by else answer.startswith("nobody")


def test_troubleshooting_leads_to_codes_that_there_are_and_to_every_kind_of_them():
    named = set(re.findall(r"TRL-[A-Z]+-\d{3}", (ROOT / "docs" / "troubleshooting.md").read_text()))
    assert named <= set(explanations())
    rare = {
        "CLI",
        "EVT",
        "HST",
        "LIM",
        "LOG",
        "NEW",
        "POL",
        "TRC",
        "UP",
        "WIT",
    }  # what they say is all there is to know
    assert {code.split("-")[1] for code in explanations()} - {code.split("-")[1] for code in named} <= rare


def test_the_index_leads_to_every_page():
    index = (ROOT / "docs" / "README.md").read_text()
    assert {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"} == set(
        re.findall(r"\]\(([\w-]+\.md)\)", index)
    )
