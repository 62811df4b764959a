"""What a component is granted beyond its links: asked for in its configuration, bounded by what the host allows.

| configuration key     | holds, separated by commas                                            |
|-----------------------|-----------------------------------------------------------------------|
| `trellis.directories` | folders, `HOST::GUEST[:ro|:rw]`                                       |
| `trellis.network`     | what sockets may reach, `HOST:PORT` (see lattice/allow.py)            |
| `trellis.http`        | what requests may reach without a link, `HOST[:PORT]`                 |

A host allows nothing of it unless it was started so: who writes a manifest does not decide what the host's disk and
network are open to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from actors.grants import Grants, Preopen
from lattice import BadInput, Finding
from lattice.allow import ANY, WEB_PORTS, Pattern

DIRECTORIES = "trellis.directories"
NETWORK = "trellis.network"
HTTP = "trellis.http"
KEYS = (DIRECTORIES, NETWORK, HTTP)


@dataclass(frozen=True, slots=True)
class Allowed:
    """The most that this host grants to any component."""

    directories: tuple[tuple[Path, bool], ...] = ()
    """Folders that may be granted, with everything below them; and whether for writing."""
    network: tuple[str, ...] = ()
    http: tuple[str, ...] = ()


def granted(config: Mapping[str, str], allowed: Allowed) -> Grants:
    """What `config` asks for. Raises BadInput, with a finding for everything that is wrong or not allowed."""
    findings: list[Finding] = []
    directories: list[Preopen] = []
    for text in _items(config, DIRECTORIES):
        try:
            preopen = Preopen.parse(text)
        except ValueError as error:
            findings.append(Finding("TRL-GRT-002", str(error)))
            continue
        if _folder_allowed(preopen, allowed):
            directories.append(preopen)
        else:
            mode = " for writing" if preopen.writable else ""
            flag = f"--allow-dir {preopen.host}{':rw' if preopen.writable else ''}"
            findings.append(_denied(f"the folder {preopen.host}{mode}", flag))
    network = _patterns(config, NETWORK, allowed.network, (), "--allow-net", findings)
    http = _patterns(config, HTTP, allowed.http, WEB_PORTS, "--allow-http", findings)
    if findings:
        raise BadInput(*findings)
    return Grants(tuple(directories), network, http)


def without_grants(config: Mapping[str, str]) -> dict[str, str]:
    """The configuration as the guest reads it."""
    return {key: value for key, value in config.items() if key not in KEYS}


def _items(config: Mapping[str, str], key: str) -> list[str]:
    return [item.strip() for item in config.get(key, "").split(",") if item.strip()]


def _folder_allowed(preopen: Preopen, allowed: Allowed) -> bool:
    asked = preopen.host.resolve()
    return any(
        asked.is_relative_to(folder.resolve()) and (writable or not preopen.writable)
        for folder, writable in allowed.directories
    )


def _patterns(
    config: Mapping[str, str],
    key: str,
    ceiling: Iterable[str],
    ports: tuple[int, ...],
    flag: str,
    findings: list[Finding],
) -> tuple[str, ...]:
    most = [Pattern.parse(text, ports) for text in ceiling]
    taken: list[str] = []
    for text in _items(config, key):
        try:
            asked = Pattern.parse(text, ports)
        except ValueError as error:
            findings.append(Finding("TRL-GRT-002", f"{key}: {error}"))
            continue
        if any(covers(one, asked) for one in most):
            taken.append(text)
        else:
            findings.append(_denied(f"{text} ({key})", f"{flag} {text}"))
    return tuple(taken)


def covers(most: Pattern, asked: Pattern) -> bool:
    """Everything that `asked` allows, `most` allows too."""
    if most.ports is not None and (asked.ports is None or not asked.ports <= most.ports):
        return False
    if most.host == ANY:
        return True
    if isinstance(most.host, str):
        if not isinstance(asked.host, str):
            return False
        return asked.host.endswith(most.host) if most.host.startswith(".") else asked.host == most.host
    if isinstance(asked.host, str) or asked.host.version != most.host.version:
        return False
    return asked.host.subnet_of(most.host)  # type: ignore[arg-type]  # the versions are the same


def _denied(what: str, flag: str) -> Finding:
    return Finding(
        "TRL-GRT-001",
        f"this host does not grant {what}",
        why="a component gets no more than its host allows",
        fix=f"start the host with  {flag}  or leave it out of the component's configuration",
    )
