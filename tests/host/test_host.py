"""Hosts on a real lattice, driven over the control interface as any v1 client would."""

import asyncio
import json
import socket
from pathlib import Path

import aiohttp
import pytest
from servers import free_port
from worlds import ADD, ADDER, ASK, ASKER, in_time, link, start_http

from actors import Limits
from lattice import EntityId, Function, Invocation, WitError, events
from lattice.errors import DeadlineExceeded, LimitExceeded, NotLinked, Trap, Unreachable


async def test_a_host_says_who_it_is_and_says_goodbye(world):
    host = await world.host(labels={"zone": "a"}, name="calm-oak-1")
    started = await world.until(events.HostStarted, friendly_name="calm-oak-1")
    assert started.labels["zone"] == "a" and "hostcore.os" in started.labels
    replies = await world.lattice.control_all("host", "ping", most=1)
    assert replies[0].response["id"] == host.id and len(host.id) == 56 and host.id[0] == "N"
    reply = await world.ask("host", "get", host.id)
    assert reply.response["components"] == [] and reply.response["labels"]["zone"] == "a"
    assert (await world.ask("host", "stop", host.id)).message == "successfully handled stop host"
    await asyncio.wait_for(host.run(), 5)
    await host.stop()
    await world.until(events.HostStopped)


async def test_a_component_is_started_called_and_stopped(world):
    host = await world.host()
    await world.scale(host, "adder", world.wasm("adder", ADDER), 2, annotations={"by": "test"})
    assert await world.call("adder", ADD, 40, 2) == 42
    described = (await world.ask("host", "get", host.id)).response["components"][0]
    assert (described["id"], described["max_instances"], described["annotations"]) == ("adder", 2, {"by": "test"})
    await world.scale(host, "adder", "", 0)
    with pytest.raises(Unreachable, match='"adder"'):
        await world.call("adder", ADD, 1, 2)


async def test_a_component_calls_another_directly_and_across_hosts(world):
    a, b = await world.host(), await world.host()
    await world.scale(a, "asker", world.wasm("asker", ASKER))
    await world.scale(b, "adder", world.wasm("adder", ADDER))
    with pytest.raises((NotLinked, Trap), match="not linked to demo:math/ops"):
        await world.call("asker", ASK, 41)
    assert (await world.ask("link", "put", **link("asker", "adder", "demo:math", "ops"))).success
    assert await world.call("asker", ASK, 41) == 42
    await world.scale(a, "adder", world.wasm("adder", ADDER))
    await world.scale(b, "adder", "", 0)
    assert await world.call("asker", ASK, 1) == 2


async def test_an_image_that_is_missing_fails_the_scale_and_says_which(world):
    host = await world.host()
    await world.ask("component", "scale", host.id, component_id="x", component_ref="file:///no/such.wasm", count=1)
    failed = await world.until(events.ComponentScaleFailed, component_id="x")
    assert "/no/such.wasm" in failed.error and failed.image_ref == "file:///no/such.wasm"


async def test_a_component_with_an_unlinked_import_is_refused_when_links_come_first(world):
    host = await world.host()
    reference = world.wasm("asker", ASKER)
    strict = {"trellis.dev/strict-links": "true"}
    body = {"component_id": "asker", "component_ref": reference, "count": 1, "annotations": strict}
    await world.ask("component", "scale", host.id, **body)
    failed = await world.until(events.ComponentScaleFailed, component_id="asker")
    assert "demo:math/ops" in failed.error and "no link provides it" in failed.error
    await world.ask("link", "put", **link("asker", "adder", "demo:math", "ops"))
    await world.scale(host, "asker", reference, 1, annotations=strict)


async def test_a_spinning_guest_ends_at_its_deadline_and_its_neighbours_do_not_notice(world):
    host = await world.host()
    await world.scale(host, "adder", world.wasm("adder", ADDER), 8)
    spin = asyncio.create_task(world.call("adder", Function.parse("demo:math/ops#spin"), timeout=0.5))
    for _ in range(20):
        assert await world.call("adder", ADD, 1, 1) == 2
    with pytest.raises(DeadlineExceeded):
        await spin
    with pytest.raises(Trap, match="unreachable"):
        await world.call("adder", Function.parse("demo:math/ops#crash"))


async def test_a_component_has_the_limits_it_was_scaled_with_until_it_is_scaled_with_others(world):
    host = await world.host(limits=Limits(fuel=10**8))
    adder = world.wasm("adder", ADDER)
    spin = Function.parse("demo:math/ops#spin")
    for asked, amount in (({"max_fuel": "20000"}, 20000), ({"max_fuel": "10000"}, 10000), (None, 10**8)):
        await world.scale(host, "adder", adder, component_limits=asked)
        with pytest.raises(LimitExceeded, match=f"its limit of {amount} units of fuel") as caught:
            await world.call("adder", spin)
        assert (caught.value.details["limit"], caught.value.details["amount"]) == ("fuel", amount)
        assert await world.call("adder", ADD, 1, 2) == 3
    refused = {"component_id": "adder", "component_ref": adder, "count": 4, "component_limits": {"max_handles": "no"}}
    await world.ask("component", "scale", host.id, **refused)
    failed = await world.until(events.ComponentScaleFailed, component_id="adder")
    assert failed.error.startswith("TRL-LIM-001: max_handles is 'no'")


async def test_an_update_swaps_the_image_and_a_failing_one_keeps_the_old(world):
    host = await world.host()
    await world.scale(host, "adder", world.wasm("adder", ADDER), 2)
    second = world.wasm("second", ADDER.replace("i32.add", "i32.mul"))
    reply = await world.ask("component", "update", host.id, component_id="adder", new_component_ref=second)
    assert reply.success
    await world.until(events.ComponentScaled, component_id="adder", image_ref=second)
    assert await world.call("adder", ADD, 3, 4) == 12
    await world.ask("component", "update", host.id, component_id="adder", new_component_ref="file:///gone.wasm")
    failed = await world.until(events.ComponentScaleFailed, component_id="adder")
    assert "gone.wasm" in failed.error
    assert await world.call("adder", ADD, 3, 4) == 12
    reply = await world.ask("component", "update", host.id, component_id="nobody", new_component_ref=second)
    assert not reply.success and "nobody" in reply.message


async def test_calls_in_hand_end_where_they_began_while_their_component_is_scaled_updated_and_stopped(world):
    host = await world.host()
    arrived, go = asyncio.Queue(), asyncio.Event()

    async def slow(invocation: Invocation):
        arrived.put_nowait(None)
        await go.wait()
        return sum(invocation.args)

    await world.lattice.serve(EntityId("slow"), slow)
    await world.ask("link", "put", **link("asker", "slow", "demo:math", "ops"))
    first, second = world.wasm("first", ASKER), world.wasm("second", ASKER.replace("i32.const 1", "i32.const 2"))
    await world.scale(host, "asker", first, 4)
    old = asyncio.create_task(world.call("asker", ASK, 40))
    await arrived.get()
    await world.scale(host, "asker", first, 1)
    await world.ask("component", "update", host.id, component_id="asker", new_component_ref=second)
    await world.until(events.ComponentScaled, component_id="asker", image_ref=second)
    new = asyncio.create_task(world.call("asker", ASK, 40))
    await arrived.get()
    world.events.clear()
    assert (await world.ask("component", "scale", host.id, component_id="asker", count=0)).success
    async with asyncio.timeout(5):
        while "asker" in host.components.running:
            await asyncio.sleep(0.01)
    go.set()
    assert (await old, await new) == (41, 42)
    await world.until(events.ComponentScaled, component_id="asker", max_instances=0)


async def test_a_version_that_cannot_begin_never_takes_a_call(world):
    host = await world.host()
    await world.scale(host, "adder", world.wasm("adder", ADDER), 2)
    broken = ADDER.replace('(func (export "crash") unreachable))', '(func (export "crash") unreachable) (start 2))')
    body = {"component_id": "adder", "component_ref": world.wasm("broken", broken), "count": 2, "allow_update": True}
    await world.ask("component", "scale", host.id, **body)
    failed = await world.until(events.ComponentScaleFailed, component_id="adder")
    assert failed.error.startswith("TRL-IMG-013: ") and "unreachable" in failed.error
    assert await world.call("adder", ADD, 3, 4) == 7
    await world.ask("component", "scale", host.id, **{**body, "component_id": "fresh"})
    await world.until(events.ComponentScaleFailed, component_id="fresh")
    assert [c["id"] for c in (await world.ask("host", "get", host.id)).response["components"]] == ["adder"]


async def test_what_the_manager_settled_changes_when_the_manager_says_so(world):
    host = await world.host(limits=Limits(execution=30.0))
    adder, settled = world.wasm("adder", ADDER), {"trellis.dev/settings": "one"}
    short = {"max_execution_time": "200"}
    await world.scale(host, "adder", adder, 2, annotations=settled, component_limits=short)
    await world.scale(host, "adder", adder, 3, annotations=settled, component_limits={"max_execution_time": "20000"})
    with pytest.raises(DeadlineExceeded):
        await world.call("adder", Function.parse("demo:math/ops#spin"), timeout=5)
    described = (await world.ask("host", "get", host.id)).response["components"][0]
    assert (described["max_instances"], described["limits"]) == (3, short)
    await world.scale(host, "adder", adder, 3, annotations={"trellis.dev/settings": "two"})
    assert (await world.ask("host", "get", host.id)).response["components"][0]["limits"] is None


async def test_http_reaches_a_component_and_says_so_when_there_is_none(world):
    host = await world.host()
    port = free_port()
    await start_http(world, host, port)
    started = await world.until(events.ProviderStarted, provider_id="http")
    assert started.image_ref == "builtin:http-server"
    async with aiohttp.ClientSession() as client, client.get(f"http://127.0.0.1:{port}/") as answer:
        assert answer.status == 503
    text = (Path(__file__).parents[2] / "benchmarks/hello_http.wat").read_text()
    await world.scale(host, "web", world.wasm("web", text))
    async with aiohttp.ClientSession() as client, client.get(f"http://127.0.0.1:{port}/") as answer:
        assert answer.status == 200 and "ello" in await answer.text()
    reply = await world.ask("provider", "stop", host.id, provider_id="http")
    assert reply.success
    await world.until(events.ProviderStopped, provider_id="http")


async def test_a_port_in_use_is_told_to_the_lattice_and_served_once_it_is_free(world):
    host = await world.host()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        await start_http(world, host, port)
        failed = await world.until(events.LinkSetFailed, source_id="http")
        assert str(port) in failed.error and "in use" in failed.error
    async with asyncio.timeout(20), aiohttp.ClientSession() as client:
        while True:
            try:
                async with client.get(f"http://127.0.0.1:{port}/") as answer:
                    assert answer.status == 503
                    break
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.1)


async def test_unknown_and_broken_requests_get_a_sentence(world):
    host = await world.host()
    assert (await world.ask("host", "dance", host.id)).message == "unsupported subject"
    reply = await world.ask("component", "scale", host.id, count=1)
    assert not reply.success and "component_id" in reply.message
    reply = await world.ask("provider", "stop", host.id, provider_id="nobody")
    assert not reply.success and reply.message == "provider with that ID is not running"
    reply = await world.ask("label", "put", host.id, key="hostcore.os", value="beos")
    assert not reply.success
    assert (await world.ask("label", "put", host.id, key="zone", value="b")).success
    assert host.labels["zone"] == "b"


SHOUT = """
from lattice import WitError
from providers import Link, Provider, export


class Shout(Provider):
    @export("demo:math/ops#add")
    async def add(self, link: Link, a: int, b: int) -> int:
        if a == 0:
            raise WitError("nothing")
        if a == 99:
            import os
            os._exit(7)
        return a + b + int(link.config.get("extra", "0"))
"""


async def test_a_provider_in_its_own_process_is_linked_reconfigured_and_restarted(world):
    host = await world.host()
    path = world.folder / "shout.py"
    path.write_text(SHOUT)
    await world.lattice.control("config", "put", "extra", body={"extra": "100"})
    await world.ask("link", "put", **link("tester", "calc", "demo:math", "ops", target_config=["extra"]))
    body = {"provider_id": "calc", "provider_ref": path.as_uri()}
    assert (await world.ask("provider", "start", host.id, **body)).success
    await world.until(events.ProviderStarted, provider_id="calc")

    def call(*args):
        return world.lattice.invoke(Invocation(EntityId("calc"), ADD, args, EntityId("tester")).within(5))

    assert await call(1, 2) == 103
    with pytest.raises(WitError):
        await call(0, 0)
    await world.lattice.control("config", "put", "extra", body={"extra": "200"})
    async with asyncio.timeout(10):
        while await call(1, 2) != 203:
            await asyncio.sleep(0.02)
    world.events.clear()
    with pytest.raises((DeadlineExceeded, Unreachable)):
        await world.lattice.invoke(Invocation(EntityId("calc"), ADD, (99, 0), EntityId("tester")).within(1))
    stopped = await world.until(events.ProviderStopped, provider_id="calc")
    assert "exited with 7" in stopped.reason
    unwell = await world.until(events.HealthCheckFailed, provider_id="calc")
    assert "exited with 7" in (unwell.error or "")
    await world.until(events.ProviderStarted, provider_id="calc")
    assert await call(1, 2) == 203


@pytest.mark.parametrize("placement", ["host", "process"])
async def test_a_provider_is_replaced_and_no_call_is_lost(world, placement):
    host = await world.host()
    version = """from providers import Provider, export
class Calc(Provider):
    async def started(self):
        {0}
    @export("demo:math/ops#add")
    async def add(self, link, a, b):
        return {1}
"""
    references = {}
    for name, begin, result in (("one", "pass", "a + b"), ("two", "pass", "a * b"), ("bad", "raise OSError", "0")):
        path = world.folder / f"{name}.py"
        path.write_text(version.format(begin, result))
        references[name] = path.as_uri()
    await world.lattice.control("config", "put", "place", body={"placement": placement})
    await world.ask("link", "put", **link("tester", "calc", "demo:math", "ops"))
    body = {"provider_id": "calc", "config": ["place"]}
    await world.ask("provider", "start", host.id, **body, provider_ref=references["one"])
    await world.until(events.ProviderStarted, provider_id="calc")

    async def call():
        invocation = Invocation(EntityId("calc"), ADD, (3, 4), EntityId("tester"))
        return await world.lattice.invoke_at(host.id, invocation.within(5))

    answers, enough = [await call()], asyncio.Event()

    async def keep_calling():
        while not enough.is_set():
            answers.append(await call())
            await asyncio.sleep(0.005)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(keep_calling())
        again = {**body, "provider_ref": references["two"]}
        assert not (await world.ask("provider", "start", host.id, **again)).success
        for _ in range(2):  # whoever asks may lose patience, and ask again
            assert (await world.ask("provider", "start", host.id, **again, replace=True)).success
        await world.until(events.ProviderStarted, image_ref=references["two"])
        await world.ask("provider", "start", host.id, **{**again, "provider_ref": references["bad"]}, replace=True)
        failed = await world.until(events.ProviderStartFailed, provider_id="calc")
        assert failed.provider_ref == references["bad"]
        enough.set()
    assert answers[0] == 7 and answers[-1] == 12
    assert set(answers) == {7, 12}
    described = (await world.ask("host", "get", host.id)).response["providers"]
    assert [p["image_ref"] for p in described] == [references["two"]]
    assert await call() == 12
    assert not [e for e in world.events if isinstance(e, events.ProviderStopped)]


@pytest.mark.parametrize("placement", ["host", "process"])
async def test_a_new_http_server_takes_over_the_port(world, placement):
    host, port = await world.host(), free_port()
    await world.lattice.control("config", "put", "place", body={"placement": placement})
    await start_http(world, host, port)
    turned_away = []

    async def ask():
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            if not (await reader.read(-1)).startswith(b"HTTP/1.1 503 "):  # nobody is behind it, as it says itself
                turned_away.append("no answer")
            writer.close()
        except ConnectionError as error:
            turned_away.append(error)

    async def keep_asking():
        while True:
            await ask()
            await asyncio.sleep(0.005)

    async def answered():
        turned_away.clear()
        await ask()
        return not turned_away

    await in_time(answered)
    async with asyncio.TaskGroup() as tasks:
        asking = tasks.create_task(keep_asking())
        for version in ("0.27.0", "0.28.0"):
            image = f"ghcr.io/wasmcloud/http-server:{version}"
            body = {"provider_id": "http", "provider_ref": image, "config": ["place"], "replace": True}
            await world.ask("provider", "start", host.id, **body)
            await world.until(events.ProviderStarted, image_ref=image)
        asking.cancel()
    assert not turned_away
    assert await answered()


async def test_a_provider_that_cannot_start_says_why(world):
    host = await world.host()
    for reference, word in (("file:///no/provider.py", "/no/provider.py"), ("builtin:htp-server", "http-server")):
        world.events.clear()
        await world.ask("provider", "start", host.id, provider_id="p", provider_ref=reference)
        failed = await world.until(events.ProviderStartFailed, provider_id="p")
        assert word in failed.error


async def test_every_reply_on_the_wire_is_one_that_clients_can_decode(world):
    host = await world.host()
    subject = f"wasmbus.ctl.v1.{world.lattice.name}."
    for tail in ("host.ping", f"host.get.{host.id}", "link.get", "claims.get", "config.get.nothing", "link.put"):
        raw = await world.lattice.transport.request(subject + tail, b"", timeout=2)
        body = json.loads(raw.data)
        assert isinstance(body["success"], bool) and isinstance(body["message"], str)
