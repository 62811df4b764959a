"""`trellis run`: a command in this terminal, with its streams, its grants and its exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from verbs import COMMAND, started, trellis

Written = Callable[[str], Path]


@pytest.fixture
def copier(written: Written, cache: Path) -> Path:
    return written("COPIER")


@pytest.fixture
def upstream() -> Iterator[str]:
    """HOST:PORT of a server that says hello."""

    class Hello(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", "19")
            self.end_headers()
            self.wfile.write(b"hello from upstream")

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Hello) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_bytes_pass_through_as_they_are_and_the_exit_code_is_the_guests(copier: Path):
    data = bytes(set(range(256)) - {ord("!")}) * 1000
    done = trellis("run", copier, stdin=data)
    assert (done.returncode, done.stdout, done.stderr) == (7, data, b"")


def test_output_is_there_before_the_input_ends(copier: Path):
    process = started("run", copier, stdin=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    with process:
        for line in (b"first\n", b"second\n"):
            process.stdin.write(line)
            process.stdin.flush()
            assert process.stdout.readline() == line
        process.stdin.close()
        assert process.wait(20) == 7


def test_a_file_and_nothing_can_be_the_input(copier: Path, tmp_path: Path):
    file = tmp_path / "input"
    file.write_bytes(b"from a file")
    with file.open("rb") as opened:
        process = started("run", copier, stdin=opened)
        assert process.communicate(timeout=20)[0] == b"from a file"
    process = started("run", copier, stdin=subprocess.DEVNULL)
    assert process.communicate(timeout=20) == (b"", b"")
    assert process.returncode == 7


def test_a_reader_that_has_enough_ends_it_quietly(copier: Path):
    process = started("run", copier, stdin=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    with process:
        process.stdin.write(b"one\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"one\n"
        process.stdout.close()
        process.stdin.write(b"two\n")
        process.stdin.close()
        assert process.wait(20) == 0
        assert process.stderr.read() == b""


def test_ctrl_c_ends_a_command_that_waits_for_input(copier: Path):
    process = started("run", copier, stdin=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    with process:
        process.stdin.write(b"ready\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130


def test_a_trap_is_told_on_stderr_and_ends_with_2(copier: Path):
    done = trellis("run", copier, stdin=b"!")
    assert (done.returncode, done.stdout) == (2, b"")
    assert b'"copier" trapped in wasi:cli/run#run' in done.stderr


def test_time_is_limited_only_when_asked(copier: Path):
    process = started("run", copier, "--timeout", "0.3", stdin=subprocess.PIPE)
    with process:
        assert process.wait(20) == 2
        assert process.stderr is not None
        assert b"did not finish wasi:cli/run#run within its limit" in process.stderr.read()


@pytest.mark.parametrize(("name", "verb"), [("TEAPOT", b"trellis serve"), ("CALCULATOR", b"trellis inspect")])
def test_what_is_no_command_is_refused_with_the_verb_for_it(written: Written, cache: Path, name: str, verb: bytes):
    done = trellis("run", written(name))
    assert done.returncode == 1
    assert b"it does not export wasi:cli/run" in done.stderr and verb in done.stderr


@pytest.mark.toolchain
def test_arguments_behind_the_dashes_are_the_guests(python_guest: Path):
    done = trellis("run", python_guest, "--", "arguments", "a b", "--dir", "-x")
    assert done.stdout == b"['a b', '--dir', '-x']\n"


@pytest.mark.toolchain
def test_environment_and_configuration_are_what_was_given_and_no_more(python_guest: Path):
    assert trellis("run", python_guest, "--", "environment").stdout == b"[]\n"
    assert (
        trellis("run", python_guest, "--env", "A=b=c", "--env", "D=", "environment").stdout
        == b"[('A', 'b=c'), ('D', '')]\n"
    )
    assert trellis("run", python_guest, "--config", "greeting=hi", "config", "greeting").stdout == b"hi\n"
    assert trellis("run", python_guest, "config", "greeting").stdout == b"None\n"


@pytest.mark.toolchain
def test_a_folder_is_there_when_it_is_granted_and_written_to_only_with_rw(python_guest: Path, tmp_path: Path):
    (tmp_path / "note.txt").write_text("hello")
    folder = f"{tmp_path}::/data"
    assert b"FileNotFoundError" in trellis("run", python_guest, "read", "/data/note.txt").stderr
    assert trellis("run", python_guest, "--dir", folder, "read", "/data/note.txt").stdout == b"hello\n"
    denied = trellis("run", python_guest, "--dir", folder, "write", "/data/new.txt", "x")
    assert denied.returncode == 2 and b"option='--dir HOST::GUEST:rw'" in denied.stderr
    assert not (tmp_path / "new.txt").exists()
    assert trellis("run", python_guest, "--dir", f"{folder}:rw", "write", "/data/new.txt", "x").returncode == 0
    assert (tmp_path / "new.txt").read_text() == "x"


@pytest.mark.toolchain
def test_requests_go_only_where_they_are_allowed_to(python_guest: Path, upstream: str):
    assert (
        trellis("run", python_guest, "--allow-http", upstream, "fetch", upstream).stdout == b"200 hello from upstream\n"
    )
    denied = trellis("run", python_guest, "--allow-http", "example.com", "fetch", upstream)
    assert denied.stdout == b"ErrorCode_HttpRequestDenied\n"
    assert b"option='--allow-http HOST'" in denied.stderr


@pytest.mark.toolchain
def test_a_guest_may_ask_and_be_answered_and_sees_a_terminal_only_where_there_is_one(python_guest: Path):
    assert trellis("run", python_guest, "ask", stdin=b"Ada\n").stdout == b"name? hello Ada\n"
    assert trellis("run", python_guest, "terminals").stdout == b"[False, False, False]\n"
    assert b"[True, True, True]" in in_a_terminal("run", str(python_guest), "terminals")


@pytest.mark.toolchain
@pytest.mark.parametrize(
    ("arguments", "code"), [(("exit", "0"), 0), (("exit", "1"), 1), (("refuse",), 1), (("fail",), 2)]
)
def test_every_way_to_end_has_its_exit_code(python_guest: Path, arguments: tuple[str, ...], code: int):
    assert trellis("run", python_guest, *arguments).returncode == code


def in_a_terminal(*arguments: str) -> bytes:
    """What a verb prints when its three streams are a terminal."""
    controller, terminal = os.openpty()
    process = subprocess.Popen([*COMMAND, *arguments], stdin=terminal, stdout=terminal, stderr=terminal)
    os.close(terminal)
    output = b""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            data = os.read(controller, 4096)
        except OSError:  # how Linux says that the other side is closed
            break
        if not data:
            break
        output += data
    os.close(controller)
    process.wait(20)
    return output
