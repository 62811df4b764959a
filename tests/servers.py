"""Real servers for tests, each in a folder and on a port of its own, ended by handle."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme

from trellis.broker import server_binary


class Server:
    """A process in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    def kill(self) -> None:
        """End it as a crash does. `start` begins again, on the same port."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)
        self.process = None

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)
            self.process = None


class Broker(Server):
    """A nats-server with JetStream, in a folder, which keeps its data, and on a port of its own.

    `config` is in nats-server's language.
    """

    def __init__(self, folder: Path, port: int = -1, config: str = "") -> None:
        super().__init__(folder)
        self.config = config
        self.port = port

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        for old in self.folder.glob("*.ports"):
            old.unlink()
        file = self.folder / "nats.conf"
        file.write_text(self.config)
        chosen = ("-c", str(file)) if self.config else ()
        self.process = subprocess.Popen(
            [
                *(server_binary(), "-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd", str(self.folder / "store")),
                *("--ports_file_dir", str(self.folder), "-l", str(self.folder / "log"), *chosen),
            ]
        )
        until = time.monotonic() + 10
        while time.monotonic() < until:
            for ports in self.folder.glob("*.ports"):
                try:
                    self.port = int(json.loads(ports.read_text())["nats"][0].rpartition(":")[2])
                except (ValueError, KeyError, IndexError):
                    continue  # not written to its end yet
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.01)
        pytest.fail(f"nats-server did not start: {(self.folder / 'log').read_text()}")

    @contextmanager
    def paused(self) -> Iterator[None]:
        """It is there, and does not answer."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        os.waitpid(self.process.pid, os.WUNTRACED)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


class RedisServer(Server):
    """A redis-server (or valkey-server) that keeps nothing, on a port of its own; without one the test is skipped."""

    def __init__(self, folder: Path, *options: str) -> None:
        super().__init__(folder)
        self.options = options
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/"

    def start(self) -> None:
        program = shutil.which("redis-server") or shutil.which("valkey-server")
        if program is None:
            pytest.skip("no redis-server on PATH (apt install redis-server)")
        self.process = subprocess.Popen(
            [
                *(program, "--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--appendonly", "no"),
                *("--dir", str(self.folder), "--logfile", str(self.folder / "redis.log"), *self.options),
            ]
        )
        until = time.monotonic() + 10
        while time.monotonic() < until and self.process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.01)
        pytest.fail(f"redis-server did not start: {(self.folder / 'redis.log').read_text()}")


class PostgresServer:
    """A PostgreSQL on a port of its own, with the database `postgres` for the user `me`, password `right`, and TLS.

    Its certificate is of the authority in `ca_file`. Without a PostgreSQL the test is skipped. It does not run as root,
    so then it is run as the user `postgres`.
    """

    def __init__(self, *options: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="trellis-postgres-"))
        self.options = options
        self.port = free_port()
        self.ca_file = self.folder / "ca.pem"
        self.process: subprocess.Popen[bytes] | None = None

    def _run(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        found = [*Path("/usr/lib/postgresql").glob(f"*/bin/{program}"), *filter(None, [shutil.which(program)])]
        if not found:
            pytest.skip("no PostgreSQL (apt install postgresql)")
        user = None
        if os.getuid() == 0:
            user = "postgres"
            for place in (self.folder, *self.folder.glob("*")):
                shutil.chown(place, user)
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen([found[0], *arguments], user=user, stdout=log, stderr=log, cwd=self.folder)

    def make(self) -> None:
        password = self.folder / "password"
        password.write_text("right")
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.ca_file))
        issued = authority.issue_cert("127.0.0.1")
        issued.cert_chain_pems[0].write_to_path(str(self.folder / "cert.pem"))
        issued.private_key_pem.write_to_path(str(self.folder / "key.pem"))
        (self.folder / "key.pem").chmod(0o600)
        made = self._run(
            "initdb",
            *("-D", str(self.folder / "data"), "-U", "me", "--pwfile", str(password), "-A", "scram-sha-256"),
            *("--no-sync", "--no-instructions", "-E", "UTF8", "--locale", "C"),
        )
        if made.wait(60):
            pytest.fail(f"initdb failed: {(self.folder / 'log').read_text()}")

    def start(self) -> None:
        self.process = self._run(
            "postgres",
            *("-D", str(self.folder / "data"), "-h", "127.0.0.1", "-p", str(self.port), "-k", ""),
            *("-c", "fsync=off", "-c", "ssl=on", "-c", f"ssl_cert_file={self.folder}/cert.pem"),
            *("-c", f"ssl_key_file={self.folder}/key.pem", *self.options),
        )
        until = time.monotonic() + 20
        while time.monotonic() < until and self.process.poll() is None:
            if "ready to accept connections" in (self.folder / "log").read_text():
                return
            time.sleep(0.01)
        pytest.fail(f"PostgreSQL did not start: {(self.folder / 'log').read_text()}")

    def stop(self) -> None:
        """At once: connections are cut. `start` begins again, on the same port and with the same data."""
        if self.process is not None:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(20)
            self.process = None
            (self.folder / "log").unlink()

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
