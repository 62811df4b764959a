"""The list of error codes in the docs is the list in the code."""

import re
from pathlib import Path

from trellis.errors import explanations

ROOT = Path(__file__).parents[1]
CODE = re.compile(r"\bTRL-[A-Z]+-\d{3}\b")


def codes_in_source() -> set[str]:
    found: set[str] = set()
    for package in ("lattice", "actors", "providers", "host", "wadm", "trellis"):
        for path in (ROOT / package).rglob("*.py"):
            found |= set(CODE.findall(path.read_text()))
    return found


def test_every_code_is_explained_and_every_explained_code_exists():
    explained = re.findall(r"^\| (TRL-[A-Z]+-\d{3}) \| ", (ROOT / "docs/errors.md").read_text(), re.MULTILINE)
    assert len(explained) == len(set(explained)), "a code is explained twice"
    assert set(explained) == codes_in_source()


def test_every_code_says_what_is_wrong_and_what_helps():
    known = explanations()
    assert set(known) == codes_in_source()
    assert [one.code for one in known.values() if not (one.meaning and one.fix and one.where)] == []


def test_every_finding_in_the_source_has_a_code_of_the_family():
    wrong = []
    for package in ("lattice", "actors", "providers", "host", "wadm", "trellis"):
        for path in (ROOT / package).rglob("*.py"):
            literals = re.findall(r'Finding\(\s*"([^"]+)"', path.read_text())
            wrong += [f"{path.relative_to(ROOT)}: {each}" for each in literals if not CODE.fullmatch(each)]
    assert not wrong
