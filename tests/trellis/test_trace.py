"""`trellis trace`: one request across hosts, from what each of them remembers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import click
import pytest
from click.testing import CliRunner
from servers import free_port
from shop import put_shop

import trellis
from lattice import EntityId, Function, Invocation, LatticeError
from lattice.traces import Question, recent, spans_of
from trellis.cli import cli
from trellis.commands.trace import _waterfall
from trellis.embedded import EmbeddedLattice
from trellis.waterfall import rows, trees

SOON = 0.02
"""Seconds that answers take at most: everybody is in this process."""

GIVEN = f"00-{'ab' * 16}-{'cd' * 8}-01"


class Shop:
    def __init__(self, lattice: EmbeddedLattice, port: int) -> None:
        self.lattice = lattice
        self.url = f"http://127.0.0.1:{port}/orders?token=secret"

    async def order(self, **headers: str) -> tuple[int, str]:
        """The status of a request, and its trace."""
        async with aiohttp.ClientSession() as client, client.get(self.url, headers=headers) as response:
            return response.status, response.headers["x-trellis-trace"]


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    port = free_port()
    async with trellis.lattice(hosts=[{"zone": "a"}, {"zone": "b"}]) as lattice:
        await lattice.deploy(put_shop(tmp_path, port))
        yield Shop(lattice, port)


async def test_a_request_is_one_tree_across_hosts(shop):
    status, trace = await shop.order(traceparent=GIVEN)
    assert (status, trace) == (200, "ab" * 16)
    found, more = await spans_of(shop.lattice.client, trace, SOON)
    [top] = trees(found)
    assert [(row.tree + row.what, row.where.partition(",")[0]) for row in rows([top]) if row.span is not None] == [
        ("GET /orders 200", "host-0"),
        ("└ shop-web incoming-handler.handle", "direct"),
        ("  ├ shop-asker asks.ask", "over the lattice to host-1"),
        ("  │ ├ shop-store ops.add", "direct"),
    ]
    assert (top.span.parent, more) == ("cd" * 8, False)
    for _, parent in top.walk():
        assert all(parent.start <= child.start <= child.end <= parent.end for child in parent.children)
    lines = [click.unstyle(line) for line in _waterfall([top])]
    assert lines[0].startswith(f"trace {trace}  ")
    assert "secret" not in "".join(lines)


async def test_requests_are_listed_by_their_first_span_the_latest_or_the_slowest_first(shop):
    client = shop.lattice.client
    traces = [(await shop.order())[1] for _ in range(3)]
    latest = await recent(client, Question(recent=2), SOON)
    assert [(seen.span.trace, seen.span.kind) for seen in latest] == [(traces[2], "request"), (traces[1], "request")]
    slowest = await recent(client, Question(recent=9, order="slowest"), SOON)
    times = [seen.span.seconds for seen in slowest]
    assert len(times) == 3 and times == sorted(times, reverse=True)
    assert await recent(client, Question(recent=9, failed=True), SOON) == []


async def test_a_request_that_failed_says_where(shop):
    app = {host.name: host for host in shop.lattice.hosts}
    app["host-1"].router.severed.add((EntityId("shop-asker"), EntityId("shop-store")))
    status, trace = await shop.order()
    assert status == 500
    [first] = await recent(shop.lattice.client, Question(recent=9, failed=True), SOON)
    assert first.span.trace == trace
    found, _ = await spans_of(shop.lattice.client, trace, SOON)
    text = "\n".join(click.unstyle(line) for line in _waterfall(trees(found)))
    assert "GET /orders 500" in text
    assert text.count('the link from "shop-asker" to "shop-store" is cut') == 1


async def test_a_call_from_outside_that_observes_nothing_is_listed_too(shop):
    call = Invocation(EntityId("shop-asker"), Function.parse("demo:math/asks#ask"), (1,), trace={"traceparent": GIVEN})
    assert await shop.lattice.client.invoke(call.within(5)) == 2
    [first] = await recent(shop.lattice.client, Question(recent=9), SOON)
    assert (first.name, first.span.kind, first.span.parent) == ("host-1", "component", "cd" * 8)


async def test_a_question_that_is_none_has_no_answer(shop):
    transport = shop.lattice.client.transport
    subject = f"trellis.traces.{shop.lattice.client.name}"
    assert await transport.gather(subject, b'{"trace": "../.."}', seconds=SOON) == []
    with pytest.raises(LatticeError):
        await transport.request(subject, b"noise", timeout=SOON)


# -- the verb


def test_an_id_that_is_none_is_refused_before_anybody_is_asked():
    result = CliRunner().invoke(cli, ["trace", "my-request", "-o", "json"])
    assert result.exit_code == 1
    assert json.loads(result.stderr)["code"] == "TRL-TRC-001"
