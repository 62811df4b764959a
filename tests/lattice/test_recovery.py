"""Calls under way when the broker, or only our own connection to it, was lost."""

import asyncio
from collections import Counter

import pytest
import structlog.testing
from servers import Broker

from lattice import EntityId, Function, Invocation, recovery
from lattice.cable import Cable
from lattice.errors import Unreachable
from lattice.lattice import Lattice
from lattice.memory import MemoryBroker
from lattice.nats_transport import connect

F = Function.parse("demo:text/transform#shout")
TARGET = EntityId("shouter")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(recovery, "ANSWERING", 0.2)


class Shouter:
    """Answers each call with its argument, once that argument's gate is open."""

    def __init__(self, *kinds: str) -> None:
        self.gates = {kind: asyncio.Event() for kind in kinds}
        self.begun: Counter[str] = Counter()

    async def shout(self, call: Invocation) -> str:
        kind: str = call.args[0]
        self.begun[kind] += 1
        await self.gates[kind].wait()
        return kind

    async def has_begun(self, *kinds: str) -> None:
        while any(self.begun[kind] == 0 for kind in kinds):
            await asyncio.sleep(0.005)


async def written(member: Lattice) -> None:
    """Return once what it said has left the process."""
    while member.data._client._pending:
        await asyncio.sleep(0.005)


def asking(caller: Lattice, kind: str) -> asyncio.Task[str]:
    return asyncio.create_task(caller.invoke(Invocation(TARGET, F, (kind,)).within(60)))


async def ending(call: asyncio.Task[str]) -> str:
    try:
        return await call
    except Unreachable as error:
        assert "may have been carried out" in error.message
        return "lost"


@pytest.mark.nats
async def test_when_the_broker_dies_each_call_is_answered_or_ends_soon_after_and_none_is_carried_out_twice(
    tmp_path, lattice_name
):
    broker = Broker(tmp_path)
    broker.start()
    shouter = Shouter("after", "meanwhile", "unheard answer", "unheard question", "new")
    try:
        async with (
            asyncio.timeout(40),
            Lattice(lattice_name, await connect(broker.url)) as caller,
            Lattice(lattice_name, await connect(broker.url)) as callee,
        ):
            serving = await callee.serve(TARGET, shouter.shout)
            await callee.transport.flush()
            calls = {kind: asking(caller, kind) for kind in ("after", "meanwhile", "unheard answer")}
            await shouter.has_begun(*calls)
            with broker.paused():
                shouter.gates["unheard answer"].set()
                while len(serving._running) > 2:
                    await asyncio.sleep(0.005)
                calls["unheard question"] = asking(caller, "unheard question")
                await asyncio.sleep(0)
                await asyncio.gather(written(caller), written(callee))
                broker.process.kill()
            with structlog.testing.capture_logs() as logged:
                broker.kill()
                while caller.data.connected or callee.data.connected:
                    await asyncio.sleep(0.005)
                while not isinstance(caller.data._client.last_error, ConnectionRefusedError):
                    await asyncio.sleep(0.005)
            refused = [line for line in logged if "Connect call failed" in line.get("error", "")]
            assert {line["log_level"] for line in refused} <= {"debug"}, "that it is disconnected is told once"
            for kind in ("meanwhile", "new"):
                shouter.gates[kind].set()
            calls["new"] = asking(caller, "new")
            broker.start()
            soon = {kind: await ending(calls[kind]) for kind in calls if kind != "after"}
            assert not calls["after"].done()
            shouter.gates["after"].set()
            assert await calls["after"] == "after"
    finally:
        broker.stop()
    assert soon == {
        "meanwhile": "meanwhile",
        "unheard answer": "lost",
        "unheard question": "lost",
        "new": "new",
    }
    assert shouter.begun == {"after": 1, "meanwhile": 1, "unheard answer": 1, "new": 1}


@pytest.fixture
async def cut(monkeypatch):
    """A caller whose connection can be cut, a callee, and a caller's call that the callee has in hand."""
    monkeypatch.setattr(recovery, "SETTLING", 0.01)
    broker = MemoryBroker()
    cable = Cable(broker)
    shouter = Shouter("hi")
    async with asyncio.timeout(20), Lattice("t", cable) as caller, Lattice("t", broker.connect()) as callee:
        serving = await callee.serve(TARGET, shouter.shout)
        call = asking(caller, "hi")
        await shouter.has_begun("hi")
        cable.cut()
        yield cable, shouter, serving, call
        call.cancel()


async def test_a_call_whose_answer_came_while_its_caller_was_cut_off_ends(cut):
    cable, shouter, serving, call = cut
    shouter.gates["hi"].set()
    while serving._running:
        await asyncio.sleep(0)
    cable.mend()
    assert await ending(call) == "lost"


async def test_a_call_that_is_still_in_hand_is_waited_for(cut):
    cable, shouter, _, call = cut
    cable.mend()
    await asyncio.wait([call], timeout=3 * recovery.ANSWERING)
    assert not call.done()
    shouter.gates["hi"].set()
    assert await call == "hi"


async def test_a_call_is_asked_after_until_somebody_who_serves_its_target_answers(cut):
    cable, _, serving, call = cut
    asked = asyncio.Event()
    await serving.drain(0)
    await cable.broker.connect().subscribe("trellis.inhand.t.shouter", lambda message: asked.set())
    cable.mend()
    await asked.wait()
    assert not call.done()
    asked.clear()
    await asked.wait()
    late = Lattice("t", cable.broker.connect())
    await late.serve(TARGET, Shouter().shout)
    assert await ending(call) == "lost"
    await late.close()
