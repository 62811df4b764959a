"""What the documents say about the tree is true of the tree."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def name(requirement: str) -> str:
    return re.split(r"[\[><=!~; ]", requirement, maxsplit=1)[0]


def test_every_dependency_says_why_it_is_there():
    known = (ROOT / "docs" / "dependencies.md").read_text()
    extras = PROJECT["project"]["optional-dependencies"].values()
    wanted = {name(r) for group in (PROJECT["project"]["dependencies"], *extras) for r in group}
    missing = {w for w in wanted - {"trellis-lattice"} if not re.search(rf"\|[^|]*\b{re.escape(w)}\b", known)}
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: d.name)
def test_every_link_between_documents_leads_somewhere(document: Path):
    targets = re.findall(r"\]\((?!https?://)([^)#]+)", document.read_text())
    missing = [t for t in targets if not (document.parent / t).exists()]
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: d.name)
def test_every_file_that_a_document_names_is_there(document: Path):
    packages = "|".join((*PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"], "benchmarks", "examples"))
    named = re.findall(rf"(?<![\w/.])((?:{packages})/[\w./]*\w/?)", document.read_text())
    missing = sorted({n for n in named if not (ROOT / n).exists()})
    assert not missing


def test_every_package_is_in_the_plan_of_the_house():
    plan = (ROOT / "docs" / "architecture.md").read_text()
    for package in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
        assert re.search(rf"^\| {package} +\|", plan, re.MULTILINE)
