"""What makes a component of a source, by language: the commands, and what to install where one of them is missing.

| language   | compiler                                                              |
|------------|-----------------------------------------------------------------------|
| python     | componentize-py                                                       |
| javascript | jco, from the actor's own node_modules or PATH                        |
| c          | zig cc (the ziglang wheel, or zig on PATH), and jco for the component |

Any other language is built by a command that its trellis.toml names.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from trellis.failures import Failure, failure

LANGUAGES = ("python", "javascript", "c")

INSTALL = {
    "cargo": "curl https://sh.rustup.rs -sSf | sh  and then  rustup target add wasm32-wasip2",
    "rustup": "curl https://sh.rustup.rs -sSf | sh",
    "go": "https://go.dev/dl",
    "tinygo": "https://tinygo.org/getting-started/install",
    "node": "https://nodejs.org",
    "npm": "https://nodejs.org",
    "npx": "https://nodejs.org",
    "jco": "npm install --global @bytecodealliance/jco@1.18.1",
    "zig": f"{sys.executable} -m pip install 'trellis-lattice[guests]'",
    "componentize-py": f"{sys.executable} -m pip install 'trellis-lattice[build]'",
    "wasm-tools": "cargo install wasm-tools",
}
"""How each tool that a build may name is installed."""


def missing(tool: str, why: str, fix: str = "") -> Failure:
    return failure("TRL-BLD-002", f"{tool} is not installed", why=why, fix=fix or INSTALL.get(tool, ""))


def componentize() -> str:
    """componentize-py of this Python, else the one on PATH. Raises Failure."""
    beside = Path(sys.executable).parent / "componentize-py"
    found = str(beside) if beside.is_file() else shutil.which("componentize-py")
    if found is None:
        raise missing("componentize-py", "it compiles Python to a Wasm component")
    return found


def jco(folder: Path) -> str:
    """jco of the actor in `folder`, else the one on PATH. Raises Failure."""
    own = folder / "node_modules" / ".bin" / "jco"
    found = str(own) if own.is_file() else shutil.which("jco")
    if shutil.which("node") is None:
        raise missing("node", "jco, which makes the component, runs on it")
    if found is None:
        here = f"npm install --prefix {folder}" if (folder / "package.json").is_file() else ""
        raise missing("jco", "it makes the component", here)
    return found


def zig() -> list[str]:
    """The zig of this Python, else the one on PATH. Raises Failure."""
    if importlib.util.find_spec("ziglang") is not None:
        return [sys.executable, "-m", "ziglang"]
    if (found := shutil.which("zig")) is None:
        raise missing("zig", "it compiles C to Wasm")
    return [found]


def compiler_version(language: str | None) -> str:
    """Of the compilers that are Python packages; npm's are named by the lock file beside the source."""
    package = {"python": "componentize-py", "c": "ziglang"}.get(language or "", "")
    try:
        return version(package) if package else ""
    except PackageNotFoundError:
        return ""
