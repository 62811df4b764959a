"""`trellis top`: what each host counts, put together."""

from __future__ import annotations

import asyncio
import functools
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from pseudo_terminal import CTRL_C, terminal
from worlds import ADD, ADDER, World, world_on

from lattice import Function, LatticeError
from lattice.control import APPSPEC
from lattice.figures import Calls, Figures, Part
from lattice.histogram import Histogram
from lattice.names import EntityId
from trellis.cli import cli
from trellis.commands.top import look
from trellis.logs import configure
from trellis.rates import rates

CRASH = Function.parse("demo:math/ops#crash")


@pytest.fixture
async def world(nats_url: str, lattice_name: str, tmp_path: Path) -> AsyncIterator[World]:
    configure("text", "error")  # what hosts log in this process is not what the verb prints
    async with world_on(nats_url, lattice_name, tmp_path) as made:
        yield made


@pytest.mark.nats
async def test_calls_are_counted_where_they_are_answered_and_added_up_over_the_hosts(world: World, tmp_path: Path):
    first, second = await world.host(name="a"), await world.host(name="b")
    for host in (first, second):
        await world.scale(host, "shop-sum", world.wasm("adder", ADDER), annotations={APPSPEC: "shop"})
    before = await look(world.lattice)
    for _ in range(20):
        assert await world.call("shop-sum", ADD, 1, 2) == 3
    for _ in range(5):
        with pytest.raises(LatticeError):
            await world.call("shop-sum", CRASH)
    found = rates(before, await look(world.lattice), "shop")
    assert [host["name"] for host in found["hosts"]] == ["a", "b"]
    assert all(host["cpu"] > 0 and host["memory"] > 10_000_000 for host in found["hosts"])
    (part,) = found["parts"]
    assert (part["id"], part["app"], part["kind"], part["hosts"]) == ("shop-sum", "shop", "component", ["a", "b"])
    assert (part["calls"], part["failed"], part["busy"], part["waiting"]) == (25, 5, 0, 0)
    assert part["instances"] == 8 and part["rate"] > 0 and 0 < part["p50"] <= part["p99"] < 30

    environment = {"TRELLIS_NATS": world.url, "TRELLIS_LATTICE": world.lattice.name}
    top = functools.partial(CliRunner().invoke, cli, env=environment)
    shown = asyncio.create_task(asyncio.to_thread(top, ["top", "-n", "2", "--interval", "0.2", "-o", "ndjson"]))
    while not shown.done():
        await world.call("shop-sum", ADD, 1, 2)
    lines = [json.loads(line) for line in (await shown).stdout.splitlines()]
    assert len(lines) == 2 and all(line["parts"][0]["rate"] > 0 for line in lines)
    text = (await asyncio.to_thread(top, ["top", "shop", "-n", "1", "--interval", "0.1"])).stdout
    assert "HOST" in text and "shop-sum  component          8      2" in text

    async with terminal("top", "--interval", "0.2", folder=tmp_path, environment=environment) as shown:
        await shown.sees(r"^shop-sum +component +8 +2 +0\.0 ")
        calling = asyncio.create_task(call_for_ever(world))
        await shown.sees(r"^shop-sum +component +8 +2 +[1-9]")
        calling.cancel()
        assert shown.screen.count("HOST") == 2, "the look before was cleared away: one HOST, and one HOSTS"
        shown.types(CTRL_C)
        assert await shown.ends() == 130


async def call_for_ever(world: World) -> None:
    while True:
        await world.call("shop-sum", ADD, 1, 2)


@pytest.mark.nats
def test_without_a_host_it_says_how_to_start_one(nats_url: str, lattice_name: str):
    environment = {**os.environ, "TRELLIS_NATS": nats_url, "TRELLIS_LATTICE": lattice_name}
    result = CliRunner().invoke(cli, ["top", "-n", "1", "--interval", "0.1"], env=environment)
    assert result.exit_code == 3 and "TRL-NET-003" in result.stderr


def figures(
    name: str, uptime: float, calls: int, failed: int = 0, kind: str = "component", host: bool = True
) -> dict[str, Figures]:
    times = Histogram()
    for _ in range(calls):
        times.observe(0.003)
    counted = Calls(kind=kind, id=EntityId("api"), failed=failed, seconds=times.seconds, counts=times.counts)
    said = Figures(
        id=name,
        name=name,
        host=host,
        uptime=uptime,
        cpu=uptime / 4,
        memory=1,
        parts=[Part(id=EntityId("api"), kind="component", instances=2, busy=2, waiting=1)],
        calls=[counted],
    )
    return {name: said}


def test_rates_are_of_the_time_between_by_each_hosts_own_clock():
    before = {**figures("a", 10, calls=100, failed=1), **figures("b", 500, calls=0)}
    now = {**figures("a", 12, calls=140, failed=5), **figures("b", 501, calls=10), **figures("new", 1, calls=7)}
    found = rates(before, now)
    assert [(host["name"], host["cpu"], host["rate"]) for host in found["hosts"]] == [
        ("a", 0.25, 20.0),
        ("b", 0.25, 10.0),
        ("new", None, None),
    ]
    (part,) = found["parts"]
    assert (part["rate"], part["calls"], part["failed"]) == (30.0, 50, 4)
    assert (part["instances"], part["busy"], part["waiting"]) == (6, 6, 3)
    assert 0.0025 < part["p50"] < part["p99"] < 0.005


def test_what_a_process_answers_that_counts_nothing_is_counted_by_its_callers():
    before = {**figures("a", 10, 0, kind="away"), **figures("b", 10, 0, kind="away")}
    now = {**figures("a", 11, 3, kind="away"), **figures("b", 11, 4, kind="away")}
    (part,) = rates(before, now)["parts"]
    assert part["rate"] == 7.0
    counted = {**figures("c", 11, 5)}
    (part,) = rates({**before, **figures("c", 10, 0)}, {**now, **counted})["parts"]
    assert part["rate"] == 5.0, "those that were counted where they were answered are not counted twice"


def test_a_provider_in_its_own_process_is_of_its_host_and_counted_by_itself():
    before = {**figures("a", 10, 0, kind="away"), **figures("a.api", 9, 0, kind="provider", host=False)}
    now = {**figures("a", 11, 3, kind="away"), **figures("a.api", 10, 5, kind="provider", host=False)}
    found = rates(before, now)
    assert [host["name"] for host in found["hosts"]] == ["a"]
    (part,) = found["parts"]
    assert (part["hosts"], part["instances"], part["rate"]) == (["a"], 2, 5.0)
