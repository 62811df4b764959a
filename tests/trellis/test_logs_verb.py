"""`trellis logs`: what was logged on every host, before a crash, too."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import click
import pytest
from components import STREAMS
from servers import free_port
from verbs import Terminal

from lattice import EntityId, Function, HostId, Invocation, subjects
from lattice.client import ControlClient
from lattice.control import APPSPEC, ScaleComponent, StartProvider
from lattice.lattice import Lattice
from lattice.links import LinkDefinition
from lattice.memory import MemoryBroker
from lattice.nats_transport import connect
from trellis.commands.logs import _in_order
from trellis.failures import Failure
from trellis.loglines import Batches, Printer, Wanted
from trellis.logs import configure

TALKER = (
    "(component"
    + STREAMS
    + r"""
  (import "wasi:cli/stderr@0.2.0" (instance $stderr
    (alias outer 1 $output-stream (type $out-outer)) (export "output-stream" (type $out (eq $out-outer)))
    (export "get-stderr" (func (result (own $out))))))
  (core module $libc (memory (export "memory") 1) (data (i32.const 64) "no stock for sku 8812\n"))
  (core instance $libc (instantiate $libc))
  (alias core export $libc "memory" (core memory $memory))
  (core func $get (canon lower (func $stderr "get-stderr")))
  (core func $write (canon lower (func $streams "[method]output-stream.blocking-write-and-flush") (memory $memory)))
  (core module $m
    (import "host" "get" (func $get (result i32)))
    (import "host" "write" (func $write (param i32 i32 i32 i32)))
    (func (export "buy") (call $write (call $get) (i32.const 64) (i32.const 22) (i32.const 32))))
  (core instance $host (export "get" (func $get)) (export "write" (func $write)))
  (core instance $i (instantiate $m (with "host" (instance $host))))
  (func $buy (canon lift (core func $i "buy")))
  (instance $till (export "buy" (func $buy)))
  (export "demo:shop/till@0.1.0" (instance $till)))"""
)
"""Prints a line on stderr when it is called."""

SMS = """
import sys
from providers import Provider

class Sms(Provider):
    async def started(self) -> None:
        print("gateway sms.example connected", file=sys.stderr)
"""

TRACE = {"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"}


class Logs(Terminal):
    async def logs(self, *arguments: str) -> list[dict[str, Any]]:
        out = await self.text("logs", *arguments, "-o", "ndjson")
        return [json.loads(line) for line in out.splitlines()]


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await holds():
            await asyncio.sleep(0.02)


@pytest.mark.nats
async def test_what_a_host_logged_before_it_was_killed_is_there_and_what_others_log_is_followed(
    nats_url: str, lattice_name: str, tmp_path: Path
):
    terminal = Logs(nats_url, lattice_name)
    (tmp_path / "talker.wat").write_text(TALKER)
    (tmp_path / "sms.py").write_text(SMS)
    address = f"127.0.0.1:{free_port()}"
    async with contextlib.AsyncExitStack() as stack:
        lattice = await stack.enter_async_context(Lattice(lattice_name, await connect(nats_url)))
        client = ControlClient(lattice)
        hosts = {name: await terminal.start("host", "start", "--name", name) for name in ("calm-oak-1", "wise-elm-2")}
        for process in hosts.values():
            stack.push_async_callback(process.wait)
            stack.callback(lambda process: process.returncode is None and process.kill(), process)
        await until(lambda: _there(client, 2))
        ids = {host.friendly_name: HostId(host.id) for host in await client.hosts(0.3, most=2)}
        oak, marks = ids["calm-oak-1"], {APPSPEC: "shop"}
        seen: list[str] = []
        await lattice.transport.subscribe(subjects.logs(lattice_name, "*"), lambda m: seen.append(m.data.decode()))

        async def said(*words: str) -> bool:
            return all("".join(seen).count(word) >= words.count(word) for word in words)

        await client.put_config("http", {"access_log": "true"})
        await client.start_provider(
            oak,
            StartProvider(provider_id="shop-http", provider_ref="builtin:http-server", config=["http"], host_id=oak),
        )
        await client.start_provider(
            oak,
            StartProvider(
                provider_id="shop-sms", provider_ref=(tmp_path / "sms.py").as_uri(), host_id=oak, annotations=marks
            ),
        )
        await client.put_config("web", {"address": address})
        web = {"source_id": "shop-http", "target": "shop-api", "source_config": ["web"]}
        http = {"wit_namespace": "wasi", "wit_package": "http", "interfaces": ["incoming-handler"]}
        await client.put_link(LinkDefinition.model_validate({**web, **http}))
        reference = (tmp_path / "talker.wat").as_uri()
        for host in (oak, ids["wise-elm-2"]):
            await client.scale(
                host, ScaleComponent(component_id="shop-api", component_ref=reference, count=1, annotations=marks)
            )
        buy = Invocation(EntityId("shop-api"), Function.parse("demo:shop/till#buy"), trace=TRACE).within(20)
        await until(lambda: said("http.listening", "gateway sms.example", *["component.started"] * 2))
        await lattice.invoke_at(oak, buy)
        async with aiohttp.ClientSession() as session, session.get(f"http://{address}/cart?id=7") as response:
            status = response.status
        await until(lambda: said("sku 8812", "http.answered"))
        hosts["calm-oak-1"].kill()
        await hosts["calm-oak-1"].wait()

        lines = await terminal.logs("shop", "--host", "calm-oak-1", "--since", "10m")
        assert [line["time"] for line in lines] == sorted(line["time"] for line in lines)
        (printed,) = await terminal.logs("-c", "api", "--trace", "abab")
        assert {key: printed[key] for key in ("host", "host_id", "app", "component", "stream", "line", "trace")} == {
            "host": "calm-oak-1",
            "host_id": oak,
            "app": "shop",
            "component": "shop-api",
            "stream": "stderr",
            "line": "no stock for sku 8812",
            "trace": "ab" * 16,
        }
        assert printed in lines
        (answered,) = [line for line in lines if line["event"] == "http.answered"]
        assert (answered["component"], answered["provider"]) == ("shop-api", "shop-http")
        assert (answered["path"], answered["status"]) == ("/cart?id=7", status)
        wrote = [line["line"] for line in lines if line["event"] == "provider.wrote"]
        assert "gateway sms.example connected" in wrote
        assert {line["event"] for line in await terminal.logs("--host", oak)} > {"host.started", "component.started"}
        assert {line["level"] for line in await terminal.logs("--level", "warning")} <= {"warning", "error"}
        for verb, told in (("logs", "nothing that was asked for was logged"), ("events", "asked for happened")):
            code, out, err = await terminal.run(verb, *(["--app"] if verb == "events" else []), "another-app")
            assert (code, out) == (0, "") and told in err
        shown = await terminal.text("logs", "-c", "shop-api", "-n", "1")
        assert "calm-oak-1" in shown or "wise-elm-2" in shown

        following = await terminal.start("logs", "shop", "-f", "-n", "1", "-o", "ndjson", "--host", "wise-elm-2")
        stack.callback(lambda: following.returncode is None and following.kill())
        while following.returncode is None:
            await lattice.invoke_at(ids["wise-elm-2"], buy)  # until it listens
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(following.wait(), 0.1)
        assert following.stdout is not None
        assert json.loads(await following.stdout.read())["line"] == "no stock for sku 8812"


async def _there(client: ControlClient, number: int) -> bool:
    return len(await client.hosts(0.2, most=number)) == number


async def test_a_lattice_that_keeps_nothing_says_so():
    transport = MemoryBroker().connect()
    with pytest.raises(Failure, match=r"TRL-LOG-001.*nothing keeps what is logged on lattice `l`"):
        async for _ in _in_order(Lattice("l", transport), datetime.now(UTC), Batches()):
            pass
    await transport.close()


def batch(number: int, *lines: object, id: str = "N1") -> bytes:
    return json.dumps({"id": id, "host": "host-a", "number": number, "lines": lines}).encode()


def test_a_batch_that_comes_twice_counts_once_and_what_is_none_not_at_all():
    batches, line = Batches(), {"time": "2026-01-31T18:00:00+00:00", "event": "a"}
    assert len(list(batches.lines(batch(1, line, "noise", {"event": "no time"})))) == 1
    assert list(batches.lines(batch(1, line))) == []
    assert len(list(batches.lines(batch(2, line)))) == 1
    assert len(list(batches.lines(batch(1, line, id="N2")))) == 1
    for noise in (b"", b"[]", b"{}", b'{"id": 1, "host": 2, "number": "x", "lines": []}', b"[" * 100_000):
        assert list(batches.lines(noise)) == []


def line(**more: object) -> dict[str, Any]:
    return {"time": "2026-01-31T18:00:00+00:00", "host": "a", "host_id": "N1", "level": "info", "event": "e", **more}


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted(app="shop"),
        Wanted(component="api"),
        Wanted(component="shop-api"),
        Wanted(level="warning"),
        Wanted(trace="ab"),
    ],
)
def test_a_line_is_shown_when_all_that_was_asked_for_is_true_of_it(wanted: Wanted):
    yes = line(app="shop", component="shop-api", level="error", trace="abcd")
    assert yes in wanted
    assert line(app="other", component="other-web", level="info", trace="cdab") not in wanted
    assert line(host="b") not in Wanted(host="a") and yes in Wanted(host="N1")


def test_what_failed_to_start_belongs_to_the_app_that_its_id_is_derived_from():
    assert line(component="shop-api") in Wanted(app="shop")
    assert line(component="shop-api", app="other") not in Wanted(app="shop")
    assert line() not in Wanted(app="shop")


def test_what_processes_log_under_names_of_ours_is_text():
    (read,) = Batches().lines(batch(1, {"time": "2026", "event": 5, "app": ["x"], "trace": None, "level": {}}))
    assert (read["event"], read["app"], read["trace"], read["level"]) == ("5", "['x']", "None", "{}")
    assert read not in Wanted(app="shop", component="api") and Printer().text(read)


@pytest.mark.parametrize(
    ("logged", "text"),
    [
        (line(event="component.wrote", line="hello", stream="stdout"), "hello"),
        (line(event="guest.logged", context="cart", message="empty"), "cart: empty"),
        (line(event="http.answered", method="GET", path="/", status=200, seconds=0.0123), "GET / 200 12 ms"),
        (
            line(
                event="http.failed", method="GET", path="/", status=500, error="trapped", output="Traceback\nTypeError"
            ),
            "GET / 500 trapped",
        ),
        (line(event="host.lost", id="N2"), "host.lost id=N2"),
        (line(event="component.wrote", line="a\x1b]0;title\x07\tb\x9b1m"), r"a\x1b]0;title\x07" + "\tb" + r"\x9b1m"),
        (line(event="order.failed", exception="Traceback\nValueError"), "order.failed\nTraceback\nValueError"),
    ],
)
def test_lines_for_people_say_what_was_said(logged: dict[str, Any], text: str):
    assert click.unstyle(Printer().text(logged)).endswith(f"  a  -  info     {text}")


def test_what_asyncio_says_of_every_tls_connection_is_not_shown(caplog: pytest.LogCaptureFixture):
    configure("text", "warning")
    for said in ("returning true from eof_received() has no effect when using ssl", "something else"):
        logging.getLogger("asyncio").warning(said)
    assert caplog.messages == ["something else"]
