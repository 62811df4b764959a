"""A manifest's text as data, with the place of every key and value.

YAML and JSON go through the same reader, so that every finding can point at a line and a column. What cannot be read
at all becomes a finding too, in words that do not assume knowledge of YAML's grammar.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, StringMark, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from lattice import Finding, Place

Path: TypeAlias = tuple[str | int, ...]
"""Where in the data: `("spec", "components", 0, "name")`."""

UNREADABLE = "TRL-MAN-001"
SEVERAL = "TRL-MAN-002"
DUPLICATE_KEY = "TRL-MAN-003"

_MOST_TEXT = 2**20
_MOST_NODES = 200_000
_MOST_BRACKETS = 200
"""Open at a time: the reader's work grows with the square of it."""
_TAG = "tag:yaml.org,2002:"


class WrittenInt(int):
    """A number that remembers how it was written, for fields that want text (`version: 010`)."""

    raw: str

    def __new__(cls, value: int | str, raw: str | None = None) -> WrittenInt:
        number = super().__new__(cls, value)
        number.raw = raw if raw is not None else str(value)
        return number


class WrittenFloat(float):
    """As WrittenInt: `version: 0.30` is the text "0.30", not "0.3"."""

    raw: str

    def __new__(cls, value: float | str, raw: str | None = None) -> WrittenFloat:
        number = super().__new__(cls, value)
        number.raw = raw if raw is not None else str(value)
        return number


@dataclass(frozen=True, slots=True)
class Span:
    """Lines and columns count from 1; the end is exclusive."""

    line: int
    column: int
    end_line: int
    end_column: int


@dataclass(slots=True)
class Document:
    """What a text says, and where it says it."""

    file: str
    lines: list[str]
    data: Any = None
    values: dict[Path, Span] = field(default_factory=dict)
    keys: dict[Path, Span] = field(default_factory=dict)

    def place(self, path: Path, *, key: bool = False) -> Place:
        """Of the value at `path` (or of its key); of the nearest thing around it when it is not in the text."""
        span = self.keys.get(path) if key else self.values.get(path)
        if span is None and key:
            span = self.values.get(path)
        while span is None and path:
            path = path[:-1]
            span = self.keys.get(path) or self.values.get(path)
        if span is None:
            span = Span(1, 1, 1, 1)
        return self.at(span)

    def at(self, span: Span) -> Place:
        text = self.lines[span.line - 1] if span.line <= len(self.lines) else ""
        end = span.end_column if span.end_line == span.line else len(text.rstrip()) + 1
        return Place(self.file, span.line, span.column, text, max(1, end - span.column))


def read(text: str, file: str) -> tuple[Document | None, list[Finding]]:
    """The document, and what is wrong with its form. No document when it cannot be read at all."""
    if len(text) > _MOST_TEXT:
        why = f"it has {len(text)} characters, and a message of the lattice holds {_MOST_TEXT}"
        return None, [Finding(UNREADABLE, "this is too large to be a manifest", Place(file, 1, 1), why=why)]
    if _brackets(text) > _MOST_BRACKETS:
        return None, [_too_deep(file)]
    document = Document(file, text.splitlines())
    exact: Any = None
    is_json = False
    if text.lstrip("\ufeff \t\r\n").startswith("{"):
        try:
            exact = json.loads(text.lstrip("\ufeff"), parse_int=WrittenInt, parse_float=WrittenFloat)
        except (ValueError, RecursionError):
            pass
        else:
            is_json = True
            text = text.replace("\t", " ")  # JSON may be indented with tabs, YAML may not; columns stay as they were
    try:
        root = YAML(typ="rt", pure=True).compose(text)
        if root is None:
            return document, []
        findings = _Reader(document).read(root)
    except MarkedYAMLError as error:
        return None, [_explain(error, document)]
    except ReaderError as error:
        return None, [_unprintable(error, text, document)]
    except (YAMLError, ValueError) as error:
        return None, [Finding(UNREADABLE, f"this is not YAML: {error}", Place(file, 1, 1))]
    except RecursionError:
        return None, [_too_deep(file)]
    if is_json:
        document.data = exact
    return document, findings


def _brackets(text: str) -> int:
    """The most that are open at a time, wherever they stand."""
    depth = most = 0
    for bracket in re.findall(r"[\[\]{}]", text):
        depth += 1 if bracket in "[{" else -1
        most = max(most, depth)
    return most


def _too_deep(file: str) -> Finding:
    return Finding(UNREADABLE, "this is nested too deeply to be a manifest", Place(file, 1, 1))


def read_json(text: str, file: str) -> Document | None:
    """The document without its places, in a fraction of the time; None for what is not JSON, or has a key twice."""
    try:
        data = json.loads(text, parse_int=WrittenInt, parse_float=WrittenFloat, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        return None
    return Document(file, text.splitlines(), data)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError("a key is there twice")
    return result


class _Reader:
    """Walks the composed nodes once: data, places, duplicate keys."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.findings: list[Finding] = []
        self.inside: set[int] = set()
        self.seen = 0

    def read(self, root: Node) -> list[Finding]:
        self.document.data = self.value(root, ())
        return self.findings

    def value(self, node: Node, path: Path) -> Any:
        self.document.values[path] = _span(node)
        self.seen += 1
        if self.seen > _MOST_NODES:
            raise ValueError("it has more values than a manifest can have (do its aliases refer to each other?)")
        if id(node) in self.inside:
            self.wrong(_span(node), "this alias contains itself", "write the values out")
            return None
        self.inside.add(id(node))
        try:
            if isinstance(node, MappingNode):
                return self.mapping(node, path)
            if isinstance(node, SequenceNode):
                return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
            return self.scalar(node) if isinstance(node, ScalarNode) else None
        finally:
            self.inside.discard(id(node))

    def mapping(self, node: MappingNode, path: Path) -> dict[str, Any]:
        result: dict[str, Any] = {}
        merged: list[Node] = []
        first: dict[str, Span] = {}
        for key_node, value_node in node.value:
            if str(key_node.tag) == _TAG + "merge":
                merged += value_node.value if isinstance(value_node, SequenceNode) else [value_node]
                continue
            if not isinstance(key_node, ScalarNode):
                self.wrong(_span(key_node), "a key must be a word, not a list or a map", "put quotes around it")
                continue
            key, span = str(key_node.value), _span(key_node)
            if key in first:
                self.findings.append(
                    Finding(
                        DUPLICATE_KEY,
                        f"`{key}` is written twice here",
                        self.document.at(span),
                        hint=f"first at line {first[key].line}",
                        why="only one of the two could count, and a reader cannot tell which",
                        fix="remove one of them",
                    )
                )
                continue
            first[key] = span
            self.document.keys[(*path, key)] = span
            result[key] = self.value(value_node, (*path, key))
        for other in merged:
            if not isinstance(other, MappingNode):
                self.wrong(_span(other), "`<<` can only merge a map", "")
                continue
            for key_node, value_node in other.value:
                key = str(key_node.value)
                if isinstance(key_node, ScalarNode) and key not in result:
                    self.document.keys[(*path, key)] = _span(key_node)
                    result[key] = self.value(value_node, (*path, key))
        return result

    def scalar(self, node: ScalarNode) -> Any:
        raw = str(node.value)
        match str(node.tag).removeprefix(_TAG):
            case "str" | "timestamp":
                return raw
            case "null":
                return None
            case "bool":
                return raw.lower() == "true"
            case "int":
                digits = raw.replace("_", "")
                base = 16 if "0x" in digits.lower() else 8 if "0o" in digits.lower() else 10
                try:
                    return WrittenInt(int(digits, base), raw)
                except ValueError:
                    return raw
            case "float":
                return _float(raw)
            case tag:
                self.wrong(_span(node), f"the tag `{tag}` means nothing in a manifest", "remove it")
                return raw

    def wrong(self, span: Span, message: str, fix: str) -> None:
        self.findings.append(Finding(UNREADABLE, message, self.document.at(span), fix=fix))


def _float(raw: str) -> Any:
    text = raw.replace("_", "").lower()
    match text.lstrip("+-"):
        case ".inf":
            return WrittenFloat(-math.inf if text.startswith("-") else math.inf, raw)
        case ".nan":
            return WrittenFloat(math.nan, raw)
    try:
        return WrittenFloat(float(text), raw)
    except ValueError:
        return raw


def _span(node: Node) -> Span:
    start, end = node.start_mark, node.end_mark
    return Span(start.line + 1, start.column + 1, end.line + 1, end.column + 1)


def _point(mark: StringMark) -> Span:
    return Span(mark.line + 1, mark.column + 1, mark.line + 1, mark.column + 2)


def _explain(error: MarkedYAMLError, document: Document) -> Finding:
    """The parser's complaint as a person would say it, at the spot that should be changed."""
    problem, context = str(error.problem or ""), str(error.context or "")
    here = error.problem_mark or error.context_mark
    began = error.context_mark or error.problem_mark
    if here is None or began is None:
        return Finding(UNREADABLE, f"this is not YAML: {problem}", Place(document.file, 1, 1))
    line = document.lines[here.line] if here.line < len(document.lines) else ""

    def finding(message: str, mark: StringMark, *, why: str = "", fix: str = "", code: str = UNREADABLE) -> Finding:
        span = _point(mark)
        if span.line > len(document.lines):  # the end of the text: show its last line instead of nothing
            last = max(1, len(document.lines))
            span = Span(last, len(document.lines[-1]) + 1 if document.lines else 1, last, 1)
        return Finding(code, message, document.at(span), why=why, fix=fix)

    if "expected a single document" in context or "another document" in problem:
        return finding(
            "a second document begins here; a manifest file holds one application",
            here,
            fix="put each application in a file of its own",
            code=SEVERAL,
        )
    tab = line.find("\t")
    if tab >= 0 and ("'\\t'" in problem or "\t" in problem or not line[: tab + 1].strip()):
        spot = StringMark(here.name, here.index, here.line, tab, None, 0)
        return finding(
            "a tab is used to indent this line",
            spot,
            why="YAML indents with spaces only, because a tab has no fixed width",
            fix="replace the tab with spaces",
        )
    if "expected ',' or ']'" in problem:
        return finding("this `[` is never closed", began, why="the list goes on into the lines below", fix="add a `]`")
    if "expected ',' or '}'" in problem:
        return finding("this `{` is never closed", began, why="the map goes on into the lines below", fix="add a `}`")
    if "quoted scalar" in context:
        if "end of stream" in problem:
            return finding("this quote is never closed", began, fix="add the closing quote")
        return finding(f"this quoted text is not valid: {problem}", here, fix="use single quotes, or escape it")
    if "mapping values are not allowed" in problem:
        if line[: here.column].count(":") >= 1:
            return finding(
                "a second `:` on one line",
                here,
                why="`key: value` allows one; a value that contains `: ` needs quotes",
                fix="put the value in quotes, or move the inner key to its own line",
            )
        return finding(
            "this line is indented deeper than the line above allows",
            here,
            why="the line above already has a value, so nothing can be nested under it",
            fix="line it up with its siblings",
        )
    if "expected <block end>" in problem:
        return finding(
            "this line's indentation fits none of the lines above",
            here,
            why=f"it should line up with the block that begins at line {began.line + 1}",
            fix="indent it like its siblings",
        )
    if "could not find expected ':'" in problem:
        return finding("expected `key: value` here", began, fix="add the `:` (and a space after it)")
    if "undefined alias" in problem:
        return finding(
            f"{problem.removeprefix('found ')}: no `&` anchor of that name comes before it",
            here,
            fix="define the anchor, or put the value in quotes if it merely begins with `*`",
        )
    if "cannot start any token" in problem:
        character = line[here.column : here.column + 1]
        return finding(f"a value cannot begin with `{character}`", here, fix="put the value in quotes")
    return finding(f"this is not YAML: {problem or context}", here)


def _unprintable(error: ReaderError, text: str, document: Document) -> Finding:
    position = int(error.position) if isinstance(error.position, int) else 0
    before = text[:position]
    line = before.count("\n") + 1
    column = position - (before.rfind("\n") + 1) + 1
    number = error.character if isinstance(error.character, int) else ord(str(error.character)[:1] or "\0")
    return Finding(
        UNREADABLE,
        f"the character U+{number:04X} cannot be part of a manifest",
        Place(document.file, line, column),
        why="this may not be a text file",
    )
