"""The verbs that talk to hosts: events, host, link, config; run as processes against a host on a real lattice."""

import asyncio
import contextlib
import json
from datetime import UTC, datetime

import pytest
from verbs import Terminal

from host import Host, HostConfig
from lattice.lattice import Lattice
from lattice.nats_transport import NatsOptions, connect
from trellis.commands.events import moment
from trellis.commands.host import _drain, _stop
from trellis.failures import Failure
from trellis.logs import configure
from trellis.options import Where
from trellis.planner import Planner
from wadm import Manager

pytestmark = pytest.mark.nats


STORE = {
    "apiVersion": "core.oam.dev/v1beta1",
    "kind": "Application",
    "metadata": {"name": "shop", "annotations": {"version": "v1"}},
    "spec": {
        "components": [{"name": "kv", "type": "capability", "properties": {"image": "builtin:keyvalue-memory"}}],
    },
}


@pytest.fixture
async def host(nats_url, lattice_name):
    configure("text", "error")  # what the host logs in this process is not what a verb prints
    config = HostConfig(lattice=lattice_name, nats=NatsOptions(nats_url), name="calm-oak-1", labels={"zone": "a"})
    async with Host(config) as started:
        yield started


@pytest.fixture
def terminal(nats_url, lattice_name):
    return Terminal(nats_url, lattice_name)


async def test_hosts_are_listed_labelled_and_stopped_by_name(host, terminal):
    (listed,) = await terminal.json("host", "ls")
    assert (listed["friendly_name"], listed["id"], listed["components"]) == ("calm-oak-1", host.id, [])
    _, out, _ = await terminal.run("host", "ls")
    assert "calm-oak-1" in out and "zone=a" in out
    labels = await terminal.json("host", "label", "calm-oak-1", "tier=gold", "zone-")
    assert labels["tier"] == "gold" and "zone" not in labels
    code, _, err = await terminal.run("host", "label", host.id, "hostcore.os=beos")
    assert code == 1 and "TRL-CLI-001" in err and "hostcore" in err
    stopping = asyncio.create_task(terminal.run("host", "stop", host.id[:8]))
    await asyncio.wait_for(host.run(), 20)
    await host.stop()
    assert await stopping == (0, "calm-oak-1 has stopped\n", "")


async def test_a_host_is_emptied_by_the_manager_and_takes_work_again(host, nats_url, lattice_name, terminal):
    config = HostConfig(lattice=lattice_name, nats=NatsOptions(nats_url), name="wise-elm-2", grace=1.0)
    by_hand = {"provider_id": "own", "provider_ref": "builtin:keyvalue-memory"}
    async with Host(config) as other, Lattice(lattice_name, await connect(nats_url)) as lattice:
        assert (await lattice.control("provider", "start", host.id, body=by_hand)).success
        async with Manager(lattice, discovery=0.1):
            planner = Planner(lattice)
            assert (await planner.put(STORE))["result"] == "created"
            await planner.deploy("shop", "v1")
            async with asyncio.timeout(20):
                while not (runs := [one for one in (host, other) if "shop-kv" in one.router.local]):
                    await asyncio.sleep(0.02)
            (full,) = runs
            code, out, err = await terminal.run("host", "drain", full.name, "--why", "new kernel")
            assert (code, err) == (0, "")
            assert out.startswith(f"{full.name} is empty" + (", but for own" if full is host else ""))
            (last,) = {host, other} - {full}
            assert "shop-kv" in last.router.local and full.labels["trellis.dev/drained"] == "new kernel"
            place = Where(nats_url, lattice_name, "")
            with pytest.raises(Failure, match="(?s)TRL-HST-004.*still runs shop-kv"):
                await _drain(place, last.name, "yes", timeout=0.1)  # there is nowhere else to go
            for one in (host, other):
                assert await _drain(place, one.id, None, timeout=None) == {"id": one.id, "name": one.name, "left": []}
                assert "trellis.dev/drained" not in one.labels


async def test_a_host_that_does_not_stop_in_time_is_said_to_be_at_it(host, nats_url, lattice_name):
    with pytest.raises(Failure, match=r"TRL-HST-003.*calm-oak-1 has not stopped within 0.1 s"):
        await _stop(Where(nats_url, lattice_name, ""), "calm-oak-1", timeout=0.1)  # nobody runs it here


async def test_a_host_that_is_not_there_is_answered_with_those_that_are(host, terminal):
    code, _, err = await terminal.run("host", "stop", "nobody")
    assert code == 1 and "TRL-HST-001" in err and "calm-oak-1" in err


async def test_without_a_host_a_request_says_how_to_start_one(terminal):
    for verb in (("link", "get"), ("config", "put", "a", "b=c"), ("host", "stop", "x")):
        code, _, err = await terminal.run(*verb)
        assert code == 3 and "TRL-NET-003" in err and "trellis host start" in err


async def test_links_are_put_listed_refused_and_deleted(host, terminal):
    put = await terminal.json("link", "put", "counter", "store", "wasi:keyvalue/store,atomics@0.2.0")
    assert put["interfaces"] == ["store", "atomics"]
    (listed,) = await terminal.json("link", "get")
    assert listed == put
    assert await terminal.json("link", "get", "somebody-else") == []
    code, _, err = await terminal.run("link", "put", "counter", "other", "wasi:keyvalue/store")
    assert code == 2 and "different target" in err
    code, _, err = await terminal.run("link", "put", "a", "b", "wasi:http/types", "--source-config", "nowhere")
    assert code == 2 and "TRL-HST-002" in err and "Configuration nowhere not found" in err
    assert (await terminal.json("link", "del", "counter", "wasi:keyvalue"))["deleted"]
    assert not (await terminal.json("link", "del", "counter", "wasi:keyvalue"))["deleted"]


async def test_configurations_are_put_shown_and_deleted(host, terminal):
    assert (await terminal.run("config", "put", "web", "level=debug", "who=a=b"))[0] == 0
    assert await terminal.json("config", "get") == ["web"]
    assert await terminal.json("config", "get", "web") == {"level": "debug", "who": "a=b"}
    assert (await terminal.run("config", "get", "web"))[1] == "level=debug\nwho=a=b\n"
    assert (await terminal.run("config", "del", "web"))[0] == 0
    code, _, err = await terminal.run("config", "get", "web")
    assert code == 1 and "TRL-CFG-001" in err


async def test_events_are_shown_as_they_happen_for_people_and_as_ndjson(host, terminal):
    async with contextlib.AsyncExitStack() as stack:
        people = await terminal.start("events", "-f", "-n", "1", "--type", "config_set")
        stack.callback(lambda: people.returncode is None and people.kill())
        machine = await terminal.start("events", "-f", "-n", "1", "-o", "ndjson", "--type", "config_set")
        stack.callback(lambda: machine.returncode is None and machine.kill())
        async with asyncio.timeout(30):
            while people.returncode is None or machine.returncode is None:
                await host.lattice.control("config", "put", "web", body={"a": "b"})
                await asyncio.sleep(0.05)  # until both listen
        shown, _ = await people.communicate()
        line, _ = await machine.communicate()
    assert b"config_set" in shown and b"calm-oak-1" in shown and shown.endswith(b"web\n")
    event = json.loads(line)
    assert event["type"] == "com.wasmcloud.lattice.config_set" and event["data"] == {"config_name": "web"}


async def test_events_of_the_past_are_shown_and_then_those_that_happen(host, terminal):
    await host.lattice.control("config", "put", "first", body={"a": "b"})
    _, out, _ = await terminal.run("events", "--since", "1d")
    assert [row.split()[1] for row in out.splitlines()] == ["host_started", "config_set"]
    assert "calm-oak-1" in out and out.endswith("first\n")
    following = await terminal.start(
        "events", "-f", "--since", "10m", "--type", "config_set", "-n", "2", "-o", "ndjson"
    )
    try:
        assert following.stdout is not None
        async with asyncio.timeout(30):
            assert json.loads(await following.stdout.readline())["data"] == {"config_name": "first"}
            await host.lattice.control("config", "put", "second", body={"a": "b"})
            assert json.loads(await following.stdout.readline())["data"] == {"config_name": "second"}
            assert await following.wait() == 0
    finally:
        if following.returncode is None:
            following.kill()
        await following.communicate()


@pytest.mark.parametrize("text", ["yesterday", "10 m", "9e9d", ""])
def test_a_time_that_is_none_is_refused(text):
    with pytest.raises(Failure, match="is no time"):
        moment(text)


def test_a_time_is_so_long_ago_or_a_date():
    assert abs((datetime.now(UTC) - moment("1.5h")).total_seconds() - 5400) < 5
    assert moment("2026-01-31T18:00Z") == datetime(2026, 1, 31, 18, tzinfo=UTC)
    assert moment("2026-01-31").tzinfo is not None
