"""What a newcomer waits for: from nothing to the first answer, with no compiled code and no build kept on this machine.

    python benchmarks/newcomer.py [--install] [--again]

It does what docs/quickstart.md says: `trellis new app`, `trellis up`, and a request; the stages are cut where `up` says
that one has ended. Beside the time on the wall is the processor time of all processes, which a busy machine changes
less (Linux only). `--install` begins with an empty venv and pip, from this checkout; else it is the Trellis of this
Python. `--again` does it a second time, when all is kept.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIMIT = 600.0
"""Seconds after which it gives up."""

STAGES = (
    ("broker, host and manager start", re.compile(r"^logs\b")),
    ("the runner is built and compiled", re.compile(r"its runner was built|from its sources")),
    ("the app is deployed", re.compile(r"is ready after")),
)
"""What `trellis up` does, and the line that ends it."""

TICKS = os.sysconf("SC_CLK_TCK")


def processor_time(pid: int) -> float:
    """Seconds of a process, of its descendants, and of those of them that have ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / TICKS + sum(processor_time(int(child)) for child in children)


class Clock:
    """Prints a row for each stage: its seconds on the wall and of processors."""

    def __init__(self) -> None:
        self.begun = self.last = time.monotonic()
        self.cpu = self.first = processor_time(os.getpid())

    def row(self, stage: str) -> None:
        now, cpu = time.monotonic(), processor_time(os.getpid())
        print(f"  {stage:<42} {now - self.last:6.1f} s   {cpu - self.cpu:6.1f} s")
        self.last, self.cpu = now, cpu

    def total(self, what: str) -> None:
        cpu = processor_time(os.getpid())
        print(f"  {what:<42} {self.last - self.begun:6.1f} s   {cpu - self.first:6.1f} s")


def install(folder: Path) -> Path:
    """A venv with what the quickstart installs; its `trellis`."""
    clock = Clock()
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    clock.row("python -m venv")
    command = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*command, f"{ROOT}[build]"], check=True)
    clock.row("pip install")
    return folder / "bin" / "trellis"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def first_answer(url: str) -> str:
    """Ask until somebody answers."""
    until = time.monotonic() + LIMIT
    while True:
        try:
            with urllib.request.urlopen(url) as response:
                return str(response.read().decode())
        except (urllib.error.URLError, ConnectionError):
            if time.monotonic() > until:
                raise
            time.sleep(0.005)


def lines(process: subprocess.Popen[str]) -> Iterator[str]:
    assert process.stdout is not None
    for line in process.stdout:
        yield re.sub(r"\x1b\[[0-9;]*m", "", line)


def run(trellis: Path, folder: Path, cache: Path) -> None:
    clock = Clock()
    project = folder / "hello"
    if not project.exists():
        subprocess.run([trellis, "new", "app", "hello"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        clock.row("trellis new app hello")
    manifest, port = project / "app.yaml", free_port()
    manifest.write_text(re.sub(r"127\.0\.0\.1:\d+", f"127.0.0.1:{port}", manifest.read_text()))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TRELLIS_")}
    up = subprocess.Popen(
        [trellis, "up"],
        cwd=project,
        env={**environment, "TRELLIS_CACHE": str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    guard = threading.Timer(LIMIT, up.kill)
    guard.start()
    said: list[str] = []
    try:
        told = lines(up)
        for stage, end in STAGES:
            for line in told:
                said.append(line)
                if end.search(line):
                    break
            else:
                raise SystemExit(f"trellis up ended before this: {stage}\n{''.join(said)}")
            clock.row(stage)
        assert first_answer(f"http://127.0.0.1:{port}/") == "hello from hello\n"
        clock.row("the first request is answered")
        clock.total("from trellis new to the first answer")
    finally:
        guard.cancel()
        up.send_signal(signal.SIGINT)
        up.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--install", action="store_true")
    parser.add_argument("--again", action="store_true")
    options = parser.parse_args()
    print(f"  {'':<42} {'wall':>8}   {'processor':>8}")
    with tempfile.TemporaryDirectory(prefix="trellis-newcomer-") as made:
        folder = Path(made)
        trellis = install(folder / "venv") if options.install else Path(sys.executable).parent / "trellis"
        for _ in range(2 if options.again else 1):
            run(trellis, folder, folder / "cache")


if __name__ == "__main__":
    main()
