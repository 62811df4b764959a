"""From a reference to a provider: one of ours (`lattice.builtin`), or a class in a Python file or module.

| reference                               | what it is                                            |
|-----------------------------------------|-------------------------------------------------------|
| builtin:http-server                     | one of ours, by name                                  |
| file://./provider/shout.py[:Class]      | the Provider subclass in that file; a bare path too   |
| file://./shouting[:Class]               | the one in that package, a folder with __init__.py    |
| python:package.module[:Class]           | the Provider subclass in that module                  |
| file://./provider/shout.mjs             | a program that speaks docs/provider-protocol.md       |
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
import traceback
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from lattice import BadInput, Finding
from lattice.builtin import ALIASES, name_in
from providers.provider import Provider

Factory = Callable[[], Provider]

BUILTINS = {
    "blobstore-fs": "providers.blobstore.fs:FsBlobStore",
    "blobstore-nats": "providers.blobstore.nats:NatsBlobStore",
    "cron": "providers.cron:Cron",
    "http-client": "providers.http.client:HttpClient",
    "http-server": "providers.http.server:HttpServer",
    "keyvalue-memory": "providers.keyvalue.memory:MemoryKeyValue",
    "keyvalue-nats": "providers.keyvalue.nats:NatsKeyValue",
    "keyvalue-redis": "providers.keyvalue.redis:RedisKeyValue",
    "messaging-nats": "providers.messaging.nats:MessagingNats",
    "sqldb-postgres": "providers.sql.postgres:PostgresSql",
    "sqldb-sqlite": "providers.sql.sqlite:SqliteSql",
}
"""Ours, by name: where the class is. Imported when asked for."""

EXTRAS = {"asyncpg": "postgres", "cronsim": "cron", "redis": "redis"}
"""Client libraries that not everybody has, by module: the extra of ours that brings them."""


def builtin_name(ref: str) -> str | None:
    """Which of ours answers `ref`; None when it is not a reference to a first-party provider at all.

    Raises BadInput when it is one that we do not have.
    """
    name = name_in(ref)
    if name is not None and name not in BUILTINS:
        raise _unknown(ref, name)
    return name


def resolve(ref: str) -> Factory:
    """What makes a new provider of `ref`. Raises BadInput when there is none, naming what is possible."""
    name = builtin_name(ref)
    if name is not None:
        return _attribute(BUILTINS[name])
    if ref.startswith("python:"):
        return in_module(ref.removeprefix("python:"))
    path = _path(ref)
    if ref.startswith("file:") or ("://" not in ref and is_python(path)):
        return in_file(path)
    raise _unknown(ref, ref)


def _path(ref: str) -> str:
    return urllib.parse.unquote(ref.removeprefix("file:").removeprefix("//")) if ref.startswith("file:") else ref


def executable(ref: str) -> tuple[str] | None:
    """The command for a provider that is a program of its own; None for every other reference.

    Raises BadInput when that program is not there or cannot be run.
    """
    if not ref.startswith("file:") or is_python(_path(ref)):
        return None
    path = Path(_path(ref)).expanduser()
    if not path.is_file():
        raise BadInput(Finding("TRL-PRV-004", f"there is no file {path}"))
    if not os.access(path, os.X_OK):
        raise BadInput(Finding("TRL-PRV-004", f"{path} is not executable", fix=f"chmod +x {path}"))
    return (str(path),)


def _unknown(ref: str, name: str) -> BadInput:
    near = difflib.get_close_matches(name, [*BUILTINS, *ALIASES], n=1, cutoff=0.5)
    meant = ALIASES.get(near[0], near[0]) if near else None
    return BadInput(
        Finding(
            "TRL-PRV-003",
            f'no provider is known as "{ref}"',
            hint=f'did you mean "builtin:{meant}"?' if meant else "",
            why="a provider in a registry is an archive of native code, which hosts here do not run"
            if "/" in ref
            else "",
            fix="use one of "
            + ", ".join(f"builtin:{n}" for n in sorted(BUILTINS))
            + ", or file://PATH.py for your own",
        )
    )


def _attribute(place: str) -> Factory:
    module, _, name = place.partition(":")
    try:
        found: Factory = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        extra = EXTRAS.get(error.name or "")
        if extra is None:
            raise
        raise BadInput(
            Finding(
                "TRL-PRV-009",
                f"{name} needs the Python package {error.name}, which is not installed here",
                fix=f"pip install 'trellis-lattice[{extra}]'",
            )
        ) from error
    return found


def in_module(text: str) -> Factory:
    """From `package.module[:Class]`."""
    name, _, wanted = text.partition(":")
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        raise BadInput(Finding("TRL-PRV-004", f"cannot import {name}: {error}")) from error
    return _only_provider(module, wanted, name)


def split_class(text: str) -> tuple[str, str]:
    """`path[:Class]` of Python code taken apart; without a class, that is ""."""
    path, colon, wanted = text.rpartition(":")
    return (path, wanted) if colon and wanted.isidentifier() and _is_python(path) else (text, "")


def is_python(text: str) -> bool:
    """Whether `path[:Class]` means Python code: a file, or a package's folder."""
    return _is_python(split_class(text)[0])


def _is_python(path: str) -> bool:
    return path.endswith(".py") or (Path(path).expanduser() / "__init__.py").is_file()


def default_id(kind: type[Provider]) -> str:
    """What a provider is called on the lattice when nobody says: `KeyValue` is `key-value`."""
    return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in kind.__name__).strip("-")


def in_file(text: str) -> Factory:
    """From `path[:Class]`. What is there may import its neighbours; nothing of ours or of the library is shadowed."""
    path_text, wanted = split_class(text)
    path = Path(path_text).expanduser().resolve()
    if path.is_dir():
        return _only_provider(_package(path), wanted, str(path))
    if not path.is_file():
        raise BadInput(Finding("TRL-PRV-004", f"there is no file {path}"))
    name = f"trellis_provider_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise BadInput(Finding("TRL-PRV-004", f"{path} is not a Python file"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise _unloadable(path, error) from error
    return _only_provider(module, wanted, str(path))


def _package(folder: Path) -> ModuleType:
    """Imported as it is now, whatever was imported from it before."""
    name = folder.name
    for known, module in tuple(sys.modules.items()):
        if known.partition(".")[0] == name and _within(module, folder):
            del sys.modules[known]
    if str(folder.parent) not in sys.path:
        sys.path.append(str(folder.parent))
    importlib.invalidate_caches()
    try:
        found = importlib.import_module(name)
    except Exception as error:
        raise _unloadable(folder, error) from error
    if not _within(found, folder):
        raise BadInput(
            Finding(
                "TRL-PRV-004",
                f"{folder} cannot be loaded: another package is called {name} ({found.__file__})",
                fix="give the folder another name",
            )
        )
    return found


def _unloadable(place: Path, error: Exception) -> BadInput:
    """What importing it raised, with the last of its own lines that was come to."""
    folder = place if place.is_dir() else place.parent
    lines = [(at.filename, at.lineno) for at in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError):
        lines.append((error.filename or "", error.lineno))
    own = [f"{file}:{line}" for file, line in lines if Path(file).is_relative_to(folder)]
    where = own[-1] if own else place
    return BadInput(Finding("TRL-PRV-004", f"{where} cannot be loaded: {type(error).__name__}: {error}"))


def _within(module: ModuleType, folder: Path) -> bool:
    return module.__file__ is not None and Path(module.__file__).is_relative_to(folder)


def _only_provider(module: ModuleType, wanted: str, place: str) -> Factory:
    own = f"{module.__name__}."
    found: dict[str, type[Provider]] = {
        name: value
        for name, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, Provider) and f"{value.__module__}.".startswith(own)
    }
    if wanted:
        if wanted not in found:
            has = ", ".join(found) or "none"
            raise BadInput(Finding("TRL-PRV-004", f"{place} has no Provider class {wanted} (it has: {has})"))
        return found[wanted]
    # a class that others in the file extend is a base, not the one to run
    leaves = {n: c for n, c in found.items() if not any(c in other.__bases__ for other in found.values())}
    if len(leaves) == 1:
        return next(iter(leaves.values()))
    if not leaves:
        raise BadInput(
            Finding("TRL-PRV-004", f"{place} has no class that extends Provider", fix="write `class Name(Provider):`")
        )
    raise BadInput(
        Finding(
            "TRL-PRV-004",
            f"{place} has several Provider classes: {', '.join(sorted(leaves))}",
            fix=f"say which one: {place}:{min(leaves)}",
        )
    )
