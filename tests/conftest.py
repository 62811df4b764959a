"""A private nats-server for each test process, a lattice name of its own for each test, and a component in Python."""

from __future__ import annotations

import gc
import itertools
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import structlog
from servers import Broker
from toolchains import Toolchains

from lattice.nats_transport import NatsTransport, connect

_numbers = itertools.count(1)


def pytest_configure() -> None:
    """Commands under test are stopped with Ctrl-C, which those of a shell's background job ignore from birth.

    They know none of the contexts that this user has. What Python compiles of our modules is kept: hundreds begin.
    """
    os.environ["XDG_CONFIG_HOME"] = os.devnull
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Tests that look for what is left behind collect garbage, and need not walk all tests for it each time."""
    gc.freeze()


@pytest.fixture(autouse=True)
def logs_of_its_own(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test (or a command it runs in this process) configures of structlog ends with it.

    A logger that was cached would keep its configuration for ever, and captured logs would stay empty.
    """
    configure = structlog.configure

    def uncached(**settings: object) -> None:
        configure(**{**settings, "cache_logger_on_first_use": False})  # type: ignore[arg-type]

    monkeypatch.setattr(structlog, "configure", uncached)
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def broker() -> Iterator[Broker]:
    """One nats-server for all tests of this process. Do not stop it: make a Broker of your own for that."""
    folder = Path(tempfile.mkdtemp(prefix="trellis-test-"))
    started = Broker(folder)
    started.start()
    yield started
    started.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def nats_url(broker: Broker) -> str:
    return broker.url


@pytest.fixture
async def nats(broker: Broker) -> AsyncIterator[NatsTransport]:
    """A connection to a real nats-server."""
    transport = await connect(broker.url)
    yield transport
    await transport.close()


@pytest.fixture
def lattice_name() -> str:
    """A lattice that no other test uses."""
    return f"t{os.getpid()}-{next(_numbers)}"


@pytest.fixture(scope="session")
def python_guest(pytestconfig: pytest.Config) -> Path:
    """The component of guests/python, which all tests share that need one: it takes long to build and to compile."""
    return Toolchains(pytestconfig.cache.mkdir("components")).component("python")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Starts a nats-server with a configuration; its address."""
    brokers: list[Broker] = []

    def start(config: str = "") -> str:
        folder = tmp_path / f"broker-{len(brokers)}"
        folder.mkdir()
        brokers.append(Broker(folder, config=config))
        brokers[-1].start()
        return brokers[-1].url

    yield start
    for broker in brokers:
        broker.stop()
