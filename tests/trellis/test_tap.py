"""`trellis tap`: calls as they end, as long as somebody looks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from servers import free_port
from shop import ASK, SHOP_ASKER, SHOP_STORE, put_shop

import trellis
from lattice import Invocation, Unreachable
from lattice.lattice import Lattice
from lattice.memory import MemoryBroker
from lattice.names import DEFAULT_LINK
from lattice.tap import Told, Wish, tapped
from lattice.tracing import Span
from trellis.embedded import EmbeddedLattice
from trellis.tapping import Call, Merged, Printer


@pytest.fixture
async def lattice(tmp_path: Path) -> AsyncIterator[EmbeddedLattice]:
    async with trellis.lattice(hosts=[{"zone": "a"}, {"zone": "b"}]) as made:
        await made.deploy(put_shop(tmp_path, free_port()))
        yield made


@asynccontextmanager
async def seen(lattice: EmbeddedLattice, text: str, *, values: bool = False) -> AsyncIterator[AsyncIterator[Call]]:
    async with tapped(lattice.client, text, values=values) as told:
        yield aiter(Merged(told))


async def ask(lattice: EmbeddedLattice, number: int = 1) -> None:
    """`web`, on another host than those it needs."""
    web, _ = lattice.hosts
    call = Invocation(SHOP_ASKER, ASK, (number,), source=SHOP_STORE)
    assert await web.router.route(call.within(5)) == number + 1


async def test_a_call_over_the_lattice_is_one_with_what_both_sides_show_of_it(lattice):
    async with asyncio.timeout(10), seen(lattice, "store->asker", values=True) as calls:
        await ask(lattice)
        call = await anext(calls)
    assert (call.asked.name, call.asked.span.kind) == ("host-0", "away")
    assert call.answered is not None and call.answered.name == "host-1"
    assert (call.args, call.answer) == ("1", "2")
    line = Printer().text(call)
    assert "shop-store -> shop-asker asks.ask" in line and "host-0 to host-1" in line and "(1) -> 2" in line


@pytest.mark.parametrize(
    ("text", "targets"),
    [
        ("", {"shop-asker", "shop-store"}),
        ("asker->store", {"shop-store"}),
        ("->asker", {"shop-asker"}),
        ("shop-asker->", {"shop-store"}),
    ],
)
async def test_only_what_was_asked_for_is_shown(lattice, text, targets):
    async with asyncio.timeout(10), seen(lattice, text) as calls:
        await ask(lattice)
        assert {(await anext(calls)).asked.span.target for _ in targets} == targets


@pytest.mark.parametrize("order", [1, -1])
async def test_the_two_sides_of_a_call_may_be_told_of_in_any_order(order):
    first, second = (f"00-{'ab' * 16}-{id * 8}-01" for id in ("cd", "ef"))
    away = Span(first, "", 1.0, 0.3, "away", False, *_CALL)
    there = Span(second, "cd" * 8, 7.0, 0.1, "provider", False, *_CALL)
    told: asyncio.Queue[Told] = asyncio.Queue()
    for name, span in [("near", away), ("far", there)][::order]:
        told.put_nowait(Told(id=name, name=name, spans=[span]))
    call = await anext(aiter(Merged(told)))
    assert (call.where, call.asked.span) == ("near to far", away)


async def test_nobody_observes_for_a_tap_that_nobody_holds(lattice):
    host = lattice.hosts[1]
    before = len(host.observing.observers)
    async with asyncio.timeout(10):
        async with seen(lattice, "") as calls:
            await ask(lattice)
            await anext(calls)
            assert len(host.observing.observers) == before + 1
        while len(host.observing.observers) > before:
            await asyncio.sleep(0.01)


async def test_a_tap_that_is_not_renewed_ends_by_itself(lattice):
    client, host = lattice.client, lattice.hosts[1]
    before = len(host.observing.observers)
    asked = Wish(id="forgotten", to=client.transport.inbox(), seconds=0.1).model_dump_json().encode()
    await client.transport.publish(f"trellis.tap.{client.name}", asked)
    async with asyncio.timeout(10):
        while len(host.observing.observers) == before:
            await asyncio.sleep(0.001)
        while len(host.observing.observers) > before:
            await asyncio.sleep(0.01)


async def test_what_a_host_has_given_out_as_a_secret_is_not_shown(lattice):
    lattice.hosts[1].secrets.given.add("7")
    async with asyncio.timeout(10), seen(lattice, "->store", values=True) as calls:
        await ask(lattice, 7)
        call = await anext(calls)
    assert (call.args, call.answer) == ("***, 1", "8")


async def test_where_nobody_observes_that_is_said_at_once():
    async with Lattice("empty", MemoryBroker().connect()) as nobody:
        with pytest.raises(Unreachable):
            async with tapped(nobody):
                raise AssertionError("there is nothing to see")


async def test_a_host_that_is_too_busy_counts_what_it_does_not_tell(lattice, monkeypatch):
    monkeypatch.setattr("lattice.tap.MOST", 2)
    observing = lattice.hosts[1].observing
    span = Span(f"00-{'ab' * 16}-{'cd' * 8}-01", "", 1.0, 0.1, "provider", True, *_CALL)
    async with asyncio.timeout(10), tapped(lattice.client) as told:
        for _ in range(5):
            observing.tell(span, (), None)
        batch = await told.get()
    assert (len(batch.spans), batch.dropped) == (2, 3)


_CALL = (SHOP_ASKER, SHOP_STORE, "demo:math/ops#add", DEFAULT_LINK, "ok")
