"""Draws docs/terminal.svg, the picture of the README, from a real session:  python docs/terminal.py

It takes half a minute and port 8000, so no test does it; run it when what commands print has changed.
"""

from __future__ import annotations

import io
import os
import pty
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

HERE = Path(__file__).parent
PLAIN = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg" xml:space="preserve">
    <style>
    .{unique_id}-matrix {{ font-family: Consolas, Menlo, "DejaVu Sans Mono", monospace;
        font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width; }}
    .{unique_id}-title {{ font-size: 18px; font-family: arial; }}
    {styles}
    </style>
    <defs>
    <clipPath id="{unique_id}-clip-terminal">
      <rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
    </clipPath>
    {lines}
    </defs>
    {chrome}
    <g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
    {backgrounds}
    <g class="{unique_id}-matrix">
    {matrix}
    </g>
    </g>
</svg>
"""
"""rich's own form, without the fonts that it fetches from elsewhere."""


class Terminal:
    """Runs commands as a terminal does, and keeps what they show."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.console = Console(record=True, width=100, file=io.StringIO(), force_terminal=True)
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.environment = {**os.environ, "PATH": path, "COLUMNS": "100"}

    def enter(self, command: str, until: str | None = None) -> subprocess.Popen[bytes]:
        """Show a command and what it prints: to its end, or `until` it has printed that."""
        self.console.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            command, shell=True, cwd=self.folder, env=self.environment, stdin=theirs, stdout=theirs, stderr=theirs,
            start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        said = b""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and (until is None or until.encode() not in said):
            if not select.select([ours], [], [], 0.2)[0]:
                if process.poll() is not None:
                    break
                continue
            try:
                part = os.read(ours, 65536)
            except OSError:  # it has ended
                break
            if not part:
                break
            said += part
        if said:
            self.console.print(Text.from_ansi(shown(said.decode())))
        return process


def shown(said: str) -> str:
    """What is left on the screen: of a line that was written anew, the last."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-HJKSTfhln]", "", said.replace("\r\n", "\n"))
    return "\n".join(line.rpartition("\r")[2] for line in text.rstrip("\n").split("\n"))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        terminal = Terminal(Path(folder))
        subprocess.run(["trellis", "new", "app", "hello"], cwd=folder, env=terminal.environment, check=True)
        terminal.folder = Path(folder) / "hello"
        up = terminal.enter("trellis up", until="Ctrl-C")
        try:
            terminal.enter("curl -s 127.0.0.1:8000")
            terminal.enter("sed -i 's/hello from/good day from/' actor/app.py")
            while b"good day" not in subprocess.run(["curl", "-s", "127.0.0.1:8000"], capture_output=True).stdout:
                time.sleep(0.02)  # faster than anybody types
            terminal.enter("curl -s 127.0.0.1:8000")
            terminal.enter("trellis status")
        finally:
            os.killpg(up.pid, signal.SIGINT)
            up.wait(30)
        picture = terminal.console.export_svg(title="trellis", theme=MONOKAI, code_format=PLAIN, unique_id="terminal")
        (HERE / "terminal.svg").write_text(picture.replace("&#160;", " "), encoding="utf-8")


if __name__ == "__main__":
    main()
