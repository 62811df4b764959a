"""What an edit waits for while `trellis up` runs, and what a call costs meanwhile.

    python benchmarks/editing.py [EDITS]

From the moment an actor's module in Python is saved: until `up` says that it is live, and until the first answer of the
new code, asked for again and again on one connection. Beside it, a call of the actor that runs from its sources, and of
the same one as `trellis build` makes it.
"""

from __future__ import annotations

import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from http.client import HTTPConnection
from pathlib import Path
from queue import Queue
from threading import Thread

from newcomer import free_port

TRELLIS = [sys.executable, "-P", "-m", "trellis"]
LIVE = re.compile(r"changed -> live in (\d+) ms")
CALLS = 300


class Up:
    """A running `trellis up`; `lines` has what it says."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.process = subprocess.Popen(
            [*TRELLIS, "up", *options], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.lines: Queue[str] = Queue()
        Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put("")

    def says(self, pattern: str | re.Pattern[str]) -> re.Match[str]:
        while line := self.lines.get(timeout=300):
            if found := re.search(pattern, line):
                return found
        raise SystemExit("trellis up has ended")

    def __enter__(self) -> Up:
        self.says("Ctrl-C stops everything")
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait()


def get(connection: HTTPConnection) -> str:
    connection.request("GET", "/")
    return connection.getresponse().read().decode()


def call(connection: HTTPConnection) -> float:
    """Milliseconds, the median."""
    times = []
    for _ in range(CALLS):
        begun = time.perf_counter()
        get(connection)
        times.append(time.perf_counter() - begun)
    return 1000 * statistics.median(times)


def main(edits: int) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        port = free_port()
        subprocess.run([*TRELLIS, "new", "app", "hello"], cwd=temporary, check=True, stdout=subprocess.DEVNULL)
        folder = Path(temporary, "hello")
        manifest, module = folder / "app.yaml", folder / "actor" / "app.py"
        manifest.write_text(manifest.read_text().replace("8000", str(port)))
        text, connection = module.read_text(), HTTPConnection("127.0.0.1", port)
        told, answered = [], []
        with Up(folder) as up:
            sources = call(connection)
            for number in range(edits):
                module.write_text(text.replace("hello from hello", f"edit {number} "))
                begun = time.perf_counter()
                while f"edit {number} " not in get(connection):
                    pass
                answered.append(1000 * (time.perf_counter() - begun))
                told.append(int(up.says(LIVE)[1]))
        connection.close()
        with Up(folder, "--no-watch"):
            built = call(connection)
    for name, times in (("it is live", told), ("the first new answer", answered)):
        print(f"from saving until {name:<21} median {statistics.median(times):4.0f} ms  most {max(times):4.0f} ms")
    print(f"a request, by HTTP, from sources {sources:.1f} ms, built {built:.1f} ms")


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 30)
