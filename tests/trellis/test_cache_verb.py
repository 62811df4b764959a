"""`trellis cache`: what is kept, and what goes."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from verbs import started, trellis

import actors.cache
from actors.cache import CompiledCache
from trellis.cli import cli

Written = Callable[[str], Path]


def verb(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["cache", *arguments])


def kept() -> list[str]:
    return [entry["digest"] for entry in json.loads(verb("ls", "-o", "json").stdout)["entries"]]


def keep(cache: Path, digest: str, size: int, wasmtime: str | None = None) -> None:
    with pytest.MonkeyPatch.context() as patched:
        if wasmtime is not None:
            patched.setattr(actors.cache, "version", lambda _: wasmtime)
        CompiledCache(cache / "compiled", "engine").keep(digest, bytes(size), "somewhere.wasm")


def test_an_empty_cache_says_where_it_is(cache: Path):
    assert verb("ls").stdout == f"nothing is kept in {cache}/compiled\n"
    assert verb("gc").exit_code == 0


def test_what_was_compiled_is_listed_with_what_it_came_from(cache: Path, written: Written):
    file = written("CALCULATOR")
    trellis("call", file, "half", "1")
    (entry,) = json.loads(verb("ls", "-o", "json").stdout)["entries"]
    assert entry["source"] == str(file) and entry["size"] > 1000 and not entry["stale"]
    shown = verb("ls").stdout
    assert entry["digest"][:12] in shown and str(file) in shown and entry["wasmtime"] in shown


def test_code_of_another_wasmtime_goes_first_then_what_was_unused_for_longest(cache: Path):
    for number, wasmtime in enumerate((None, "1.0.0", None)):
        keep(cache, f"{number}" * 64, 200_000, wasmtime)
    assert "trellis cache gc" in verb("ls").stdout
    done = verb("gc", "-o", "json")
    assert json.loads(done.stdout)["removed"] == ["1" * 64]
    done = verb("gc", "--max-size", "300K")
    assert done.stdout == "1 removed, 0.2 MB freed; 1 left, 0.2 MB\n"
    assert kept() == ["2" * 64]


def test_all_of_it_may_go(cache: Path):
    keep(cache, "1" * 64, 1000)
    verb("gc", "--all")
    assert kept() == []
    assert verb("gc", "--all", "--max-size", "1G").exit_code == 1


def test_a_component_that_runs_is_not_disturbed(cache: Path, written: Written):
    file = written("COPIER")
    process = started("run", file, stdin=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    with process:
        for line in (b"before\n", b"after\n"):
            process.stdin.write(line)
            process.stdin.flush()
            assert process.stdout.readline() == line
            verb("gc", "--all")
            assert kept() == []
        process.send_signal(signal.SIGINT)
        process.wait(20)
    assert trellis("run", file, stdin=b"compiled again").stdout == b"compiled again"
