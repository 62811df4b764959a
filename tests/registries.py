"""Servers that images come from: Debian's docker-registry, and small ones that ask for tokens, redirect, or lie."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

USER, PASSWORD = "ann", "s3cret"
HTPASSWD = "ann:$2b$05$abcdefghijklmnopqrstuuLK7U1u6pVRmL7L1BBM2aS35PSZnDXlK\n"
"""PASSWORD by bcrypt, the only form the registry takes."""

ADDER = b"\0asm\x0d\0\x01\0"
"""The smallest component there is."""


class DockerRegistry:
    """A real registry in a folder and on a loopback port of its own."""

    def __init__(self, folder: Path, *, login: bool = False) -> None:
        binary = shutil.which("docker-registry")
        if binary is None:
            pytest.skip("no docker-registry: apt-get install docker-registry")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        config: dict[str, Any] = {
            "version": 0.1,
            "log": {"level": "warn"},
            "storage": {"filesystem": {"rootdirectory": str(folder / "blobs")}},
            "http": {"addr": f"127.0.0.1:{self.port}"},
        }
        if login:
            (folder / "htpasswd").write_text(HTPASSWD)
            config["auth"] = {"htpasswd": {"realm": "test", "path": str(folder / "htpasswd")}}
        (folder / "config.yml").write_text(json.dumps(config))
        self._log = (folder / "log").open("wb")
        self._process = subprocess.Popen(
            [binary, "serve", str(folder / "config.yml")], stdout=self._log, stderr=subprocess.STDOUT
        )
        until = time.monotonic() + 20
        while time.monotonic() < until and self._process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.02)
        self.stop()
        pytest.fail(f"docker-registry did not start: {(folder / 'log').read_text()}")

    @property
    def name(self) -> str:
        return f"127.0.0.1:{self.port}"

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(10)
        self._log.close()


Answer = Callable[[web.Request], web.StreamResponse]


@asynccontextmanager
async def http_server(answer: Answer, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """HOST:PORT of a server that answers every request with `answer`."""

    async def handle(request: web.Request) -> web.StreamResponse:
        return answer(request)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"{host}:{port}"
    finally:
        await runner.cleanup()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def manifest_of(component: bytes, layer: str = "application/wasm", **more: Any) -> dict[str, Any]:
    return {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.wasm.config.v0+json",
            "digest": f"sha256:{digest(b'{}')}",
            "size": 2,
        },
        "layers": [{"mediaType": layer, "digest": f"sha256:{digest(component)}", "size": len(component)}],
        **more,
    }


class SmallRegistry:
    """Serves what it is given by path below /v2/, and counts; subclass or set `before` to do otherwise."""

    def __init__(self) -> None:
        self.paths: dict[str, bytes] = {}
        self.requests: list[web.Request] = []
        self.before: Callable[[web.Request], web.StreamResponse | None] = lambda _: None

    def put(self, repository: str, tag: str, component: bytes, manifest: dict[str, Any] | None = None) -> str:
        """The manifest's digest."""
        body = json.dumps(manifest or manifest_of(component)).encode()
        self.paths[f"/v2/{repository}/manifests/{tag}"] = body
        self.paths[f"/v2/{repository}/manifests/sha256:{digest(body)}"] = body
        self.paths[f"/v2/{repository}/blobs/sha256:{digest(component)}"] = component
        return digest(body)

    def __call__(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        special = self.before(request)
        if special is not None:
            return special
        body = self.paths.get(request.path)
        if body is None:
            return web.json_response({"errors": [{"code": "MANIFEST_UNKNOWN", "message": "unknown"}]}, status=404)
        return web.Response(body=body)
