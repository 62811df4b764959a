"""Who we are to a registry: what the lattice was told (`registry.put`), else what Docker's configuration says."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from host.images.reference import DOCKER_HUB

log = structlog.get_logger("host")

HELPER_SECONDS = 10.0
HELPER_BYTES = 64 * 1024

_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_HUB_KEY = "index.docker.io"
"""What Docker calls its own registry in its configuration."""


@dataclass(frozen=True, slots=True)
class Credential:
    """A user and password, a token that is changed for others (`identity`), or one that is shown as it is."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity: str = field(default="", repr=False)
    bearer: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        """The header of HTTP basic authentication, or ""."""
        if not self.username:
            return ""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


class Credentials:
    """`given` are those of the control interface: registry -> `{"username", "password", "token"}`."""

    def __init__(self, given: Callable[[], Mapping[str, object]] = dict, docker_config: Path | None = None) -> None:
        self._given = given
        self._config = docker_config

    async def of(self, registry: str) -> Credential | None:
        """None when nothing is known. A configuration or helper that fails is logged, and counts as nothing."""
        given = _plain({_host(key): value for key, value in self._given().items()}.get(registry))
        if given is not None:
            return given
        config = await asyncio.to_thread(self._read)
        names = (registry, _HUB_KEY) if registry == DOCKER_HUB else (registry,)
        helpers = config.get("credHelpers")
        auths = config.get("auths")
        for name in names:
            helper = helpers.get(name) if isinstance(helpers, dict) else None
            found = await self._ask(helper, name) if isinstance(helper, str) else None
            if found is None and isinstance(auths, dict):
                found = _docker({_host(key): value for key, value in auths.items()}.get(name))
            store = config.get("credsStore")
            if found is None and isinstance(store, str) and store:
                found = await self._ask(store, name)
            if found is not None:
                return found
        return None

    def _read(self) -> dict[str, Any]:
        folder = os.environ.get("DOCKER_CONFIG")
        path = self._config or (Path(folder) if folder else Path.home() / ".docker") / "config.json"
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            log.warning("registry.credentials_unreadable", path=str(path), reason=type(error).__name__)
            return {}
        return data if isinstance(data, dict) else {}

    async def _ask(self, helper: str, registry: str) -> Credential | None:
        """What `docker-credential-HELPER get` says of this registry."""
        if _HELPER.fullmatch(helper) is None:
            log.warning("registry.helper_refused", helper=helper)
            return None
        address = f"https://{_HUB_KEY}/v1/" if registry == _HUB_KEY else registry
        try:
            process = await asyncio.create_subprocess_exec(
                f"docker-credential-{helper}",
                "get",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
        except OSError as error:
            log.warning("registry.helper_failed", helper=helper, reason=error.strerror or str(error))
            return None
        try:
            async with asyncio.timeout(HELPER_SECONDS):
                said = await _answer(process, address)
                await process.wait()
            answer = json.loads(said) if process.returncode == 0 else {}
        except (TimeoutError, ValueError) as error:
            log.warning("registry.helper_failed", helper=helper, reason=str(error) or "it did not answer in time")
            return None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if not isinstance(answer, dict) or not isinstance(answer.get("Secret"), str) or not answer["Secret"]:
            return None
        user = str(answer.get("Username", ""))
        return Credential(identity=answer["Secret"]) if user == "<token>" else Credential(user, answer["Secret"])


async def _answer(process: asyncio.subprocess.Process, address: str) -> bytes:
    """What a helper says of `address`; nothing when it left. Raises ValueError for more than anybody has to say."""
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write(address.encode() + b"\n")
        process.stdin.close()
        said = await process.stdout.read(HELPER_BYTES)
        while more := await process.stdout.read(HELPER_BYTES):
            said += more
            if len(said) > HELPER_BYTES:
                raise ValueError("it says too much")
    except (BrokenPipeError, ConnectionResetError):
        return b""
    return said


def _host(key: str) -> str:
    """`https://index.docker.io/v1/` -> `index.docker.io`"""
    return key.partition("://")[2].partition("/")[0] if "://" in key else key.partition("/")[0]


def _text(entry: Mapping[str, object], key: str) -> str:
    value = entry.get(key)
    return value if isinstance(value, str) else ""


def _plain(entry: object) -> Credential | None:
    """One registry of `registry.put`."""
    if not isinstance(entry, dict):
        return None
    if _text(entry, "username"):
        return Credential(_text(entry, "username"), _text(entry, "password"))
    return Credential(bearer=_text(entry, "token")) if _text(entry, "token") else None


def _docker(entry: object) -> Credential | None:
    """One entry of `auths`."""
    if not isinstance(entry, dict):
        return None
    if _text(entry, "identitytoken"):
        return Credential(identity=_text(entry, "identitytoken"))
    if _text(entry, "registrytoken"):
        return Credential(bearer=_text(entry, "registrytoken"))
    try:
        user, _, password = base64.b64decode(_text(entry, "auth"), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        user = password = ""
    user, password = (user, password.rstrip("\0")) if user else (_text(entry, "username"), _text(entry, "password"))
    return Credential(user, password) if user else None
