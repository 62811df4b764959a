"""Which application a command means when nobody said, and what there is when that one is not there."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from trellis.failures import Failure, failure
from trellis.project import manifest_in


def no_such_app(name: str, apps: Iterable[str]) -> Failure:
    known = sorted(apps)
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean `{close[0]}`?" if close else ""
    return failure(
        "TRL-APP-001",
        f"there is no app `{name}` on this lattice{hint}",
        why=f"there are {', '.join(known)}" if known else "nothing is deployed",
        fix=f"use `{close[0]}`" if close else "trellis status  shows what there is",
    )


def app_named(asked: str | None, apps: Mapping[str, Mapping[str, Any]]) -> str:
    """The app asked for, else that of the manifest here, else the only one there is. Raises Failure."""
    if asked is not None:
        if asked not in apps:
            raise no_such_app(asked, apps)
        return asked
    here = _app_of(Path.cwd())
    if here in apps:
        return here
    deployed = [name for name, app in apps.items() if app["version"] is not None] or list(apps)
    if len(deployed) == 1:
        return deployed[0]
    if not deployed:
        raise failure("TRL-APP-001", "nothing is deployed on this lattice", fix="trellis deploy app.yaml")
    raise failure(
        "TRL-APP-002",
        "which app?",
        why=f"there are {', '.join(sorted(deployed))}, and no app.yaml here names one of them",
        fix="name it",
    )


def _app_of(folder: Path) -> str:
    """The name in the manifest of `folder`; "" when there is none that can be read."""
    from wadm.source import read

    file = manifest_in(folder)
    if file is None:
        return ""
    try:
        document, _ = read(file.read_text(encoding="utf-8"), str(file))
        return str(document.data["metadata"]["name"]) if document is not None else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""
