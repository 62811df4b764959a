"""What members log is on the lattice: kept, told to whoever listens, and never waited for."""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from pydantic import SecretStr
from servers import Broker

from lattice import journal as journals
from lattice import subjects
from lattice.history import logs_of
from lattice.jetstream import JetStream
from lattice.journal import Journal, ToJournal, to_journal
from lattice.lattice import Lattice
from lattice.memory import MemoryBroker
from lattice.nats_transport import NatsOptions, NatsTransport, connect

log = structlog.get_logger("test")


@pytest.fixture(autouse=True)
def logging_to_the_journal() -> None:
    structlog.configure(
        processors=[structlog.processors.add_log_level, to_journal, structlog.processors.JSONRenderer(default=str)]
    )


async def kept(nats: NatsTransport, lattice: str) -> list[dict[str, Any]]:
    since = datetime.now(UTC) - timedelta(minutes=1)
    batches = [json.loads(raw) async for raw in logs_of(lattice).past(JetStream(nats), since)]
    return [line for batch in batches for line in batch["lines"]]


def sent(lines: list[dict[str, Any]], key: str = "event") -> list[Any]:
    return [line[key] for line in lines]


@pytest.mark.nats
async def test_lines_are_kept_with_their_app_and_trace_from_before_the_connection_on(
    nats: NatsTransport, lattice_name: str
):
    journal = Journal("N1", "host-a")
    journal.app = {"shop-api": "shop"}.get
    log.info("host.starting", host="host-a")
    async with journal.sending(Lattice(lattice_name, nats)):
        log.info("host.seen", host="host-b")
        log.warning("guest.logged", actor="shop-api", message="hm", trace="ab" * 16)
    first, seen, second = await kept(nats, lattice_name)
    assert first["event"] == "host.starting" and first["level"] == "info" and "other_host" not in first
    assert seen["other_host"] == "host-b"
    assert {**second, "time": ""} == {
        "time": "",
        "level": "warning",
        "event": "guest.logged",
        "component": "shop-api",
        "message": "hm",
        "app": "shop",
        "trace": "ab" * 16,
    }
    assert abs(datetime.fromisoformat(second["time"]) - datetime.now(UTC)) < timedelta(seconds=20)


@pytest.mark.nats
async def test_what_a_process_logs_as_json_keeps_its_level_and_its_trace(nats: NatsTransport, lattice_name: str):
    journal = Journal("N1", "host-a")
    async with journal.sending(Lattice(lattice_name, nats)):
        own = {"event": "sms.refused", "level": "error", "trace": "cd" * 16, "provider": "somebody"}
        log.info("provider.wrote", provider="sms", line=json.dumps(own))
        log.info("provider.wrote", provider="sms", line="{not JSON")
    first, second = await kept(nats, lattice_name)
    assert (first["event"], first["level"], first["provider"]) == ("sms.refused", "error", "sms")
    assert first["trace"] == "cd" * 16
    assert (second["event"], second["line"]) == ("provider.wrote", "{not JSON")


@pytest.mark.nats
async def test_secrets_tracebacks_threads_and_odd_values(nats: NatsTransport, lattice_name: str):
    journal = Journal("N1", "host-a")
    async with journal.sending(Lattice(lattice_name, nats)):
        log.info("link.put", password=SecretStr("hunter2"), config={"token": SecretStr("hunter2"), 3: b"x"})
        try:
            raise ValueError("no stock")
        except ValueError:
            log.exception("order.failed")
        await asyncio.to_thread(log.info, "from.a.thread", lone="\ud800", long="x" * 100_000)
        logging.getLogger("somelib").addHandler(ToJournal())
        logging.getLogger("somelib").warning("library %s", "speaks")
    lines = await kept(nats, lattice_name)
    assert sent(lines) == ["link.put", "order.failed", "from.a.thread", "library speaks"]
    assert "hunter2" not in json.dumps(lines) and lines[0]["password"] == "**********"
    assert "ValueError: no stock" in lines[1]["exception"]
    assert lines[2]["cut"] and len(lines[2]["long"]) == journals.SHORTENED
    assert lines[3]["logger"] == "somelib"


async def test_what_is_known_to_be_secret_is_hidden_wherever_it_stands():
    journal, heard = Journal("N1", "host-a"), []
    journal.readers.append(heard.append)
    known: set[str | bytes] = {"hunter2", b"-----KEY-----\nMIIEvQ\n", "ab"}
    journal.known = lambda: known
    log.info("component.wrote", line="password is hunter2", config={"nested": ["a hunter2", b"hunter2"]}, number=2)
    log.info("component.wrote", line="MIIEvQ", stream="abc")
    known.add("later")
    log.info("component.wrote", line="sooner or later")
    first, key, last = heard
    assert (first["line"], first["config"], first["number"]) == ("password is ***", {"nested": ["a ***", "b'***'"]}, 2)
    assert (key["line"], key["stream"], last["line"]) == ("***", "abc", "sooner or ***")


@pytest.mark.nats
async def test_a_broker_that_goes_and_comes_back_gets_what_was_logged_meanwhile_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    journal = Journal("N1", "host-a")
    monkeypatch.setattr(journals, "RETRY", 0.05)
    broker = Broker(tmp_path)
    broker.start()
    try:
        async with Lattice("l", await connect(broker.url)) as lattice, journal.sending(lattice):
            log.info("before")
            await asyncio.wait_for(journal.sent(), 10)
            broker.kill()
            for number in range(100):
                log.info("meanwhile", number=number)
            broker.start()
            await asyncio.wait_for(journal.sent(), 20)
            lines = await kept(lattice.transport, "l")
    finally:
        broker.stop()
    assert [line["number"] for line in lines if line["event"] == "meanwhile"] == list(range(100))
    assert sent(lines).count("before") == 1


async def test_what_is_too_much_is_dropped_oldest_first_and_counted(
    monkeypatch: pytest.MonkeyPatch,
):
    journal = Journal("N1", "host-a")
    monkeypatch.setattr(journals, "HELD", 20_000)
    for number in range(1000):
        log.info("much", number=number)
    transport = MemoryBroker().connect()
    heard: list[dict[str, Any]] = []
    await transport.subscribe(subjects.logs("l", "*"), lambda message: heard.extend(json.loads(message.data)["lines"]))
    async with journal.sending(Lattice("l", transport)):
        pass
    await transport.close()
    told, *rest = [line for line in heard if line["event"] != "logs.not_kept"]
    assert (told["event"], told["lines"], told["level"]) == ("logs.dropped", journal.dropped, "warning")
    assert [line["number"] for line in rest] == list(range(1000))[journal.dropped :]
    assert 0 < journal.dropped < 1000


async def test_a_broker_that_takes_short_messages_only_gets_short_batches(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(journals, "HEARD", 0.01)
    transport = MemoryBroker(max_payload=8192).connect()
    heard: list[Any] = []
    await transport.subscribe(subjects.logs("l", "*"), lambda m: heard.extend(json.loads(m.data)["lines"]))
    journal = Journal("N1", "host-a")
    for number in range(100):
        log.info("much", number=number, text="x" * 500)
    log.info("too long", text="x" * 10_000)
    log.info("last")
    async with journal.sending(Lattice("l", transport)):
        await asyncio.wait_for(journal.sent(), 10)
    await transport.close()
    assert [line["number"] for line in heard if line["event"] == "much"] == list(range(100))
    assert "last" in sent(heard) and "too long" not in sent(heard) and "logs.unsent" in sent(heard)


async def test_without_jetstream_those_who_listen_get_the_lines_and_one_warning_says_why():
    journal = Journal("N1", "host-a")
    transport = MemoryBroker().connect()
    heard: list[str] = []
    await transport.subscribe(subjects.logs("l", "*"), lambda m: heard.extend(sent(json.loads(m.data)["lines"])))
    async with journal.sending(Lattice("l", transport)):
        log.info("hello")
    await transport.close()
    assert heard == ["hello", "logs.not_kept"]


@pytest.mark.nats
@pytest.mark.parametrize("denied", ['["trellis.log.>"]', '["trellis.log.>", "$JS.API.>"]'])
async def test_a_login_that_may_not_send_stops_it_with_one_warning(tmp_path: Path, denied: str):
    logged: list[str] = []

    def note(_: object, __: str, event: Any) -> str:
        logged.append(event["event"])
        return ""

    structlog.configure(processors=[structlog.processors.add_log_level, to_journal, note])
    user = f"{{user: u, password: p, permissions: {{publish: {{deny: {denied}}}}}}}"
    broker = Broker(tmp_path, config=f"authorization {{ users: [{user}] }}")
    broker.start()
    try:
        journal = Journal("N1", "host-a")
        options = NatsOptions(broker.url, user="u", password="p")
        async with Lattice("l", await connect(options)) as lattice, journal.sending(lattice):
            log.info("hello")
            await asyncio.wait_for(journal.sent(), 10)
            for _ in range(100):
                log.info("unheard")
            await lattice.transport.flush()
            await asyncio.wait_for(journal.sent(), 10)
    finally:
        broker.stop()
    assert logged.count("logs.refused") == 1 and logged.count("nats.error") <= 2
