"""`trellis new`: what it makes builds, runs and passes its test as it is."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from toolchains import Missing, Toolchains

from lattice import Trap
from lattice.streams import read_body
from trellis.cli import cli
from trellis.failures import Failure
from trellis.project import manifest_in
from trellis.scaffolding import scaffold
from trellis.testing import running
from trellis.toolchains import RUST_TARGET, version_command
from trellis.wit import changed, package
from wadm.validate import check

TEMPLATES = Path(__file__).parents[2] / "trellis" / "templates"
ACTORS = sorted(tuple(folder.parts[-2:]) for folder in (TEMPLATES / "actor").glob("*/*") if folder.is_dir())


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def new(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["new", *arguments])


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.slow  # the quickstart's (python, http) is built in every run
@pytest.mark.toolchain
@pytest.mark.parametrize(("language", "template"), ACTORS)
def test_a_new_app_builds_runs_and_passes_its_test(language: str, template: str, pytestconfig: pytest.Config):
    passes(new_app(f"{language}-{template}", language, template, pytestconfig))


def new_app(name: str, language: str, template: str, config: pytest.Config) -> Path:
    """What `trellis new app` writes, with all that its actor is built with, or the test is skipped. What it was built
    to the last time is kept."""
    base = config.cache.mkdir("templates")
    for path, text in scaffold("app", name, language, template).items():
        file = base / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    actor = base / name / "actor"
    if (actor / "package.json").exists():
        with_jco(actor, config)
    try:
        version_command(language, actor)
    except Failure as error:
        pytest.skip(str(error))
    if language == "rust":
        with_crates(actor)
    return base / name


def with_crates(actor: Path) -> None:
    fetch = ["cargo", "fetch", "--quiet", "--target", RUST_TARGET]
    done = subprocess.run(fetch, cwd=actor, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"cargo cannot fetch the crates: {done.stderr.splitlines()[0]}")


def with_jco(actor: Path, config: pytest.Config) -> None:
    """What `npm install` would do, once for all."""
    try:
        modules = Toolchains(config.cache.mkdir("components")).jco().parents[1]
    except Missing as error:
        pytest.skip(str(error))
    if not (actor / "node_modules").exists():
        (actor / "node_modules").symlink_to(modules)


def passes(project: Path) -> None:
    quietly = ["-q", "-p", "no:cacheprovider", "-W", "ignore", "--rootdir", str(project)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *quietly, "tests"], cwd=project, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


PANICS_OR_ECHOES = """package main

import (
	"runtime"
	"time"
)

func handle(request Request) Response {
	if request.Path == "/panic" {
		panic("out of tea")
	}
	echo := make(chan []byte)
	time.AfterFunc(time.Millisecond, func() { echo <- request.Body })
	runtime.GC()
	return Response{Status: 418, Header: map[string]string{"x-method": request.Method}, Body: <-echo}
}

func main() {}
"""


@pytest.mark.slow
@pytest.mark.toolchain
async def test_an_actor_in_go_takes_bodies_and_collects_garbage_and_a_panic_is_told(pytestconfig: pytest.Config):
    actor = new_app("go-echo", "go", "http", pytestconfig) / "actor"
    (actor / "main.go").write_text(PANICS_OR_ECHOES)
    body = random.Random(1).randbytes(3_000_000)
    asked = {"method": "PURGE", "scheme": "http", "authority": "localhost", "headers": [], "body": body}
    async with running(actor) as echo:
        with pytest.raises(Trap) as panicked:
            await echo.get("/panic")
        assert "panic: out of tea" in panicked.value.details["output"]
        assert "main.go:10" in panicked.value.details["output"]
        answer = await echo.call("wasi:http/incoming-handler#handle", {**asked, "path-with-query": "/"})
        assert await read_body(answer["body"]) == body
        assert answer["status"] == 418 and ("x-method", b"PURGE") in answer["headers"]


def test_a_new_provider_passes_its_test(here: Path):
    assert new("provider", "greet").exit_code == 0
    assert files_in(here) == ["greet/provider.py", "greet/wit/greeter.wit", "tests/test_greet.py"]
    passes(here)


@pytest.mark.parametrize("template", sorted(file.stem for file in (TEMPLATES / "app").glob("*.yaml")))
def test_the_manifest_of_a_new_app_has_nothing_wrong(here: Path, template: str):
    assert new("app", "shop", "--template", template).exit_code == 0
    manifest = manifest_in(here / "shop")
    assert manifest is not None
    assert check(manifest.read_text(), str(manifest)).findings == ()


def test_a_new_app_has_all_that_it_needs_in_one_folder(here: Path):
    result = new("app", "shop")
    assert result.stdout.splitlines()[-1] == "next: cd shop && trellis up"
    assert files_in(here / "shop") == [
        ".gitignore",
        ".trellis/schema.json",
        "actor/app.py",
        "actor/trellis.toml",
        "actor/wit/world.wit",
        "app.yaml",
        "tests/test_actor.py",
    ]
    assert not [path for path in here.rglob("*") if path.is_file() and "{{" in path.read_text()]


def test_a_rust_actor_has_the_wit_that_its_world_names(here: Path):
    assert new("app", "shop", "--lang", "rs", "--template", "kv").exit_code == 0
    assert files_in(here / "shop" / "actor") == [
        "Cargo.toml",
        "src/lib.rs",
        "trellis.toml",
        "wit/deps.lock",
        "wit/deps/keyvalue.wit",
        "wit/world.wit",
    ]
    wit = here / "shop" / "actor" / "wit"
    assert (wit / "deps" / "keyvalue.wit").read_text() == package("keyvalue").text
    assert changed(wit) == []


@pytest.mark.skipif(shutil.which("cargo") is None, reason="no Rust here")
@pytest.mark.parametrize("template", [template for language, template in ACTORS if language == "rust"])
def test_cargo_takes_a_rust_actor_for_a_library_to_load(here: Path, template: str):
    assert new("actor", "shop", "--lang", "rust", "--template", template).exit_code == 0
    told = subprocess.run(
        ["cargo", "metadata", "--no-deps", "--format-version", "1"], cwd=here / "shop", capture_output=True, check=True
    )
    (made,) = json.loads(told.stdout)["packages"]
    assert [target["crate_types"] for target in made["targets"]] == [["cdylib"]]


def test_an_actor_in_go_is_a_module_without_dependencies(here: Path):
    assert new("actor", "shop", "--lang", "go").exit_code == 0
    parts = ["go.mod", "http.go", "main.go", "package.json", "trellis.toml", "wasi.go", "wit/world.wit"]
    assert files_in(here / "shop") == parts
    assert (here / "shop" / "go.mod").read_text() == "module local/shop\n\ngo 1.24\n"


def test_a_dry_run_shows_the_files_and_writes_none(here: Path):
    shown = new("app", "shop", "--dry-run").stdout.splitlines()
    assert shown[0] == "would create shop/" and "  shop/actor/app.py" in shown
    assert files_in(here) == []


def test_the_page_of_commands_lists_the_templates_that_there_are():
    page = (TEMPLATES.parents[1] / "docs" / "commands.md").read_text()
    rows = re.findall(r"^\| (?:app, actor)? ?\| (\w+) \| ([a-z, ]+) \|$", page, re.MULTILINE)
    listed = {(language, template) for language, templates in rows for template in templates.split(", ")}
    assert listed == set(ACTORS)


@pytest.mark.parametrize("kind", ["app", "actor", "provider"])
def test_a_folder_that_is_there_is_left_as_it_is(here: Path, kind: str):
    (here / "shop").mkdir()
    result = new(kind, "shop")
    assert result.exit_code == 1 and "TRL-NEW-001" in result.stderr
    assert files_in(here) == []


def test_a_test_that_is_there_is_left_as_it_is(here: Path):
    new("actor", "shop")
    shutil.rmtree(here / "shop")
    result = new("actor", "shop")
    assert result.exit_code == 1 and "tests/test_shop.py is there already" in result.stderr
    assert not (here / "shop").exists()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("My_Shop", "did you mean `my-shop`?"),
        ("../shop", "did you mean `shop`?"),
        ("record", "no word of WIT itself"),
        ("tests", "cannot be a name"),
        ("7up", "cannot be a name"),
        ("x" * 64, "up to 63"),
    ],
)
def test_a_name_that_cannot_be_is_refused(here: Path, name: str, told: str):
    result = new("app", name)
    assert result.exit_code == 1 and told in result.stderr
    assert files_in(here) == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["app", "x", "--lang", "cobol"], "there is: c, go, javascript, python, rust"),
        (["app", "x", "--lang", "rs", "--template", "kvs"], "there is: cron, http, kv, messaging"),
        (["app", "x", "--lang", "pyton"], "did you mean `python`?"),
        (["app", "x", "--lang", "c", "--template", "cron"], "no template `cron` for a new app in c"),
        (["app", "x", "--template", "htp"], "did you mean `http`?"),
        (["provider", "x", "--lang", "c"], "there is: python"),
    ],
)
def test_what_there_is_no_template_for_is_refused_with_what_there_is(here: Path, arguments: list[str], told: str):
    result = new(*arguments)
    assert result.exit_code == 1 and told in result.stderr
    assert files_in(here) == []
