"""`trellis serve`: a component of wasi:http behind a real port, until Ctrl-C."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from verbs import started, trellis

from trellis.building import build, recipe

Written = Callable[[str], Path]
EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def teapot(written: Written, cache: Path) -> Path:
    return written("TEAPOT")


@contextmanager
def serving(file: Path, *options: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """`trellis serve` on a free port: the process, and the URL that it printed. Ended by Ctrl-C."""
    process = started("serve", file, "--addr", "127.0.0.1:0", "-o", "json", *options)
    assert process.stdout is not None
    with process:
        try:
            line = process.stdout.readline()
            assert line, process.stderr and process.stderr.read().decode()
            yield process, json.loads(line)["url"]
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)


def get(url: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=30) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_requests_are_answered_each_with_a_line_until_ctrl_c(teapot: Path):
    with serving(teapot) as (process, url):
        assert get(f"{url}/a?b=c") == (418, b"")
        assert process.stdout is not None
        line = json.loads(process.stdout.readline())
        assert (line["method"], line["path"], line["status"]) == ("GET", "/a?b=c", 418)
    assert process.returncode == 0
    with pytest.raises(urllib.error.URLError):
        get(url)


def test_people_read_the_url_and_short_lines(teapot: Path):
    process = started("serve", teapot, "--addr", "127.0.0.1:0")
    assert process.stdout is not None
    with process:
        first = process.stdout.readline().decode()
        assert first.startswith("teapot.wasm answers at http://127.0.0.1:")
        get(first.split()[3])
        assert process.stdout.readline().startswith(b"GET  /  418  ")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_a_port_in_use_is_an_error_with_a_way_out(teapot: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = trellis("serve", teapot, "--addr", f"127.0.0.1:{port}")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error[TRL-PRV-001]: cannot listen on 127.0.0.1:{port}: port {port} is in".encode())
    assert b"--addr 127.0.0.1:0" in done.stderr


def test_an_address_that_is_none_is_refused(teapot: Path):
    done = trellis("serve", teapot, "--addr", "localhost")
    assert done.returncode == 1
    assert b"--addr localhost: it should be HOST:PORT" in done.stderr


@pytest.mark.parametrize(("name", "verb"), [("COPIER", b"trellis run"), ("CALCULATOR", b"trellis inspect")])
def test_what_serves_no_http_is_refused_with_the_verb_for_it(written: Written, cache: Path, name: str, verb: bytes):
    done = trellis("serve", written(name))
    assert done.returncode == 1
    assert b"it does not export wasi:http/incoming-handler" in done.stderr and verb in done.stderr


@pytest.mark.toolchain
async def test_a_python_actor_counts_in_a_store_in_memory_when_it_is_granted():
    counter = (await build(recipe(EXAMPLES / "counter" / "actor"))).recipe.output
    with serving(counter, "--kv") as (_, url):
        assert [json.loads(get(url)[1])["count"] for _ in range(3)] == [1, 2, 3]


@pytest.mark.toolchain
async def test_a_failed_request_says_why_on_stderr_and_the_next_one_is_answered():
    counter = (await build(recipe(EXAMPLES / "counter" / "actor"))).recipe.output
    with serving(counter, "--kv") as (process, url):
        assert get(f"{url}/crash")[0] == 500
        assert get(url)[0] == 200
        assert process.stdout is not None and process.stderr is not None
        assert [json.loads(process.stdout.readline())["status"] for _ in range(2)] == [500, 200]
        assert any(b"http.failed" in line for line in process.stderr)
