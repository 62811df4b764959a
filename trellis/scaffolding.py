"""New projects from the templates of the package.

    templates/actor/LANGUAGE/TEMPLATE/      an actor's folder; files beside TEMPLATE are those that all have
    templates/provider/LANGUAGE/TEMPLATE/   a provider's
    templates/app/TEMPLATE.yaml             the manifest of an app with one such actor, whatever its language
    templates/tests/TEMPLATE.py             a test of it; of a provider, tests/provider.py

So an app is an actor with a manifest. In every file `{{name}}` is the name that was given, and `{{folder}}` where the
actor or provider is.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Collection, Iterator, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath

from trellis.failures import failure
from trellis.wit import named_by

ALIASES = {"py": "python", "js": "javascript", "rs": "rust"}
FIRST = {"app": "http", "actor": "http", "provider": "custom"}
"""The template that is taken when none is named."""
LONGEST = 63

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z][a-z0-9]*)*")
_KEYWORD = re.compile(
    "as|async|bool|borrow|char|constructor|enum|export|f32|f64|flags|from|func|future|import|include|interface|list|"
    "option|own|package|record|resource|result|s16|s32|s64|s8|static|stream|string|tuple|type|u16|u32|u64|u8|use|"
    "variant|with|world"
)
"""Words that WIT does not take as the name of a package."""

_TEMPLATES = files("trellis") / "templates"


def scaffold(kind: str, name: str, language: str, template: str | None) -> Mapping[PurePosixPath, str]:
    """The files of a new app, actor or provider, by their path. Raises Failure for what there is no template for."""
    _check_name(name)
    language = ALIASES.get(language, language)
    every = _TEMPLATES / ("provider" if kind == "provider" else "actor")
    _one_of("language", language, _names(every), f"a new {kind}")
    template = template or FIRST[kind]
    _one_of("template", template, _names(every / language), f"a new {kind} in {language}")
    folder = "actor" if kind == "app" else name
    values = {"name": name, "folder": folder}

    made: dict[PurePosixPath, str] = {}
    if kind == "app":
        made[PurePosixPath("app.yaml")] = _filled(_TEMPLATES / "app" / f"{template}.yaml", values)
    shared = {PurePosixPath(one.name): one for one in (every / language).iterdir() if one.is_file()}
    for path, source in sorted({**shared, **dict(_below(every / language / template))}.items()):
        made[folder / path] = text = _filled(source, values)
        if language == "rust" and path.name == "world.wit":  # wit-bindgen looks for all of the WIT beside it
            made |= {folder / path.parent / below: one for below, one in named_by(text).items()}
    test = "provider" if kind == "provider" else template
    made[PurePosixPath("tests") / f"test_{folder.replace('-', '_')}.py"] = _filled(
        _TEMPLATES / "tests" / f"{test}.py", values
    )
    if kind == "app":
        made[PurePosixPath(".gitignore")] = _filled(_TEMPLATES / "app" / "gitignore", values)
        made[PurePosixPath(".trellis/schema.json")] = _schema()
        made = {name / path: text for path, text in made.items()}
    return made


def write(made: Mapping[PurePosixPath, str], base: Path) -> None:
    """Write the files below `base`. What is there is left alone: raises Failure before anything is written."""
    for path in made:
        taken = base / (path if path.parts[0] == "tests" else path.parts[0])
        if taken.exists():
            raise failure("TRL-NEW-001", f"{taken} is there already", fix="choose another name, or another folder")
    try:
        for path, text in made.items():
            (base / path).parent.mkdir(parents=True, exist_ok=True)
            (base / path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise failure("TRL-CLI-002", f"{error.filename} cannot be written: {error.strerror}") from error


def _names(folder: Traversable) -> list[str]:
    return sorted(one.name for one in folder.iterdir() if one.is_dir() and not one.name.startswith("_"))


def _below(folder: Traversable) -> Iterator[tuple[PurePosixPath, Traversable]]:
    for one in folder.iterdir():
        if one.is_file():
            yield PurePosixPath(one.name), one
        elif one.name != "__pycache__":
            for path, source in _below(one):
                yield one.name / path, source


def _filled(source: Traversable, values: Mapping[str, str]) -> str:
    text = source.read_text(encoding="utf-8")
    for key, value in values.items():
        text = text.replace(f"{{{{{key}}}}}", value)
    return text


def _schema() -> str:
    from wadm.schema import manifest_schema

    return json.dumps(manifest_schema(), indent=1) + "\n"


def _check_name(name: str) -> None:
    if _can_be(name):
        return
    likely = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    raise failure(
        "TRL-CLI-001",
        f"`{name}` cannot be a name" + (f"; did you mean `{likely}`?" if _can_be(likely) else ""),
        why=f"it becomes a folder, an app and a WIT package: up to {LONGEST} lower-case letters and digits, in words "
        "that begin with a letter and are joined by `-`; no word of WIT itself, and not `tests`",
    )


def _can_be(name: str) -> bool:
    return bool(_NAME.fullmatch(name)) and len(name) <= LONGEST and not _KEYWORD.fullmatch(name) and name != "tests"


def _one_of(what: str, asked: str, known: Collection[str], of: str) -> None:
    if asked not in known:
        close = difflib.get_close_matches(asked, known, n=1)
        hint = f"; did you mean `{close[0]}`?" if close else ""
        raise failure(
            "TRL-CLI-001", f"there is no {what} `{asked}` for {of}{hint}", fix=f"there is: {', '.join(known)}"
        )
