"""What cargo tells of a build as JSON, one message a line (`--message-format json`)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def artefact(said: str, folder: Path) -> Path | None:
    """The Wasm that the package in `folder` was made into; None when it makes none."""
    manifest = folder / "Cargo.toml"
    made = [
        Path(file)
        for message, _ in _messages(said)
        if message.get("reason") == "compiler-artifact" and Path(message["manifest_path"]) == manifest
        for file in message["filenames"]
        if file.endswith(".wasm")
    ]
    return made[-1] if made else None


def readable(said: str) -> str:
    """What cargo would have printed for people."""
    return "\n".join(
        str(message["message"]["rendered"] or "") if message.get("reason") == "compiler-message" else line
        for message, line in _messages(said)
        if message.get("reason", "compiler-message") == "compiler-message"
    )


def _messages(said: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Each line, with what it says as JSON: nothing, where it is not JSON."""
    for line in said.splitlines():
        try:
            message = json.loads(line)
        except ValueError:
            message = {}
        yield message if isinstance(message, dict) else {}, line
