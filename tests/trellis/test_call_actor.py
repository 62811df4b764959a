"""`trellis call` of an actor that runs on a lattice: the same JSON as for a file, and a code for each way to fail."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from verbs import ended, environment

from host import Host, HostConfig
from lattice import events
from lattice.nats_transport import NatsOptions
from trellis.commands.call import Asked, call_actor
from trellis.failures import Failure
from trellis.options import Where
from wadm.desired import APPSPEC

pytestmark = pytest.mark.nats

Written = Callable[[str], Path]

ASKER = """(component
  (import "demo:math/ops@0.1.0" (instance $ops (export "add" (func (param "a" u32) (result u32)))))
  (core func $add (canon lower (func $ops "add")))
  (core module $m (import "ops" "add" (func $add (param i32) (result i32)))
    (func (export "ask") (param i32) (result i32) (call $add (local.get 0))))
  (core instance $i (instantiate $m (with "ops" (instance (export "add" (func $add))))))
  (func (export "ask") (param "n" u32) (result u32) (canon lift (core func $i "ask"))))"""


@pytest.fixture
async def host(nats_url: str, lattice_name: str) -> AsyncIterator[Host]:
    async with Host(HostConfig(lattice=lattice_name, nats=NatsOptions(nats_url), grace=1.0)) as started:
        yield started


@pytest.fixture
def place(nats_url: str, lattice_name: str) -> Where:
    return Where(nats_url, lattice_name, "")


async def run_on(host: Host, id: str, file: Path, **annotations: str) -> None:
    done = asyncio.Event()

    def heard(_: object, event: events.Event) -> None:
        assert not isinstance(event, events.ComponentScaleFailed), event.error
        if isinstance(event, events.ComponentScaled) and event.component_id == id:
            done.set()

    hearing = await host.lattice.on_events(heard)
    body = {"component_id": id, "component_ref": file.as_uri(), "count": 4, "annotations": annotations}
    assert (await host.lattice.control("component", "scale", host.id, body=body)).success
    await asyncio.wait_for(done.wait(), 20)
    await hearing.unsubscribe()


@pytest.fixture
async def calculator(host: Host, written: Written) -> Host:
    await run_on(host, "shop-calculator", written("CALCULATOR"), **{APPSPEC: "shop"})
    return host


def last(capsys: pytest.CaptureFixture[str]) -> str:
    """The last line printed: the others are logged, since the host is in this process."""
    return capsys.readouterr().out.splitlines()[-1]


async def refused(place: Where, target: str, function: str, *texts: str, seconds: float = 10.0) -> Failure:
    with pytest.raises(Failure) as caught:
        await call_actor(place, target, Asked(function, texts), seconds)
    return caught.value


async def test_an_actor_is_called_as_a_file_is(calculator: Host, place: Where, capsys: pytest.CaptureFixture[str]):
    async def answer(function: str, *texts: str, json: bool = False) -> tuple[int, str]:
        code = await call_actor(place, "shop-calculator", Asked(function, texts, json=json), 10)
        return code, last(capsys)

    assert await answer("test:calculator/whole@0.1.0#divide", "84", "2") == (0, "42")
    assert await answer("whole.same", "18446744073709551615") == (0, "18446744073709551615")
    assert await answer("half", "3") == (0, "1.5"), "a function of the world itself"
    assert await answer("bytes", '{"$bytes": "AP/+"}') == (0, '{"$bytes": "AP/+"}')
    assert await answer("checked", "7", "0") == (2, '{"err": "by-zero"}')
    assert await answer("checked", "8", "2", json=True) == (0, '{"ok": 4}')


async def test_what_does_not_fit_is_refused_before_anything_is_called(calculator: Host, place: Where):
    assert "b: 2147483648 does not fit s32" in str(await refused(place, "shop-calculator", "divide", "1", "2147483648"))
    unknown = await refused(place, "shop-calculator", "test:calculator/whole#divid", "1", "2")
    assert "did you mean `test:calculator/whole@0.1.0#divide`?" in str(unknown) and unknown.exit_code == 1


async def test_a_component_goes_by_its_name_in_the_app(
    calculator: Host, place: Where, capsys: pytest.CaptureFixture[str]
):
    assert await call_actor(place, "calculator", Asked("half", ("1",)), 10) == 0
    assert last(capsys) == "0.5"


@pytest.mark.parametrize(
    ("function", "texts", "code", "words"),
    [
        ("divide", ("1", "0"), "TRL-CAL-003", "integer divide by zero"),
        ("spin", (), "TRL-CAL-005", "--timeout SECONDS"),
    ],
)
async def test_a_trap_and_a_deadline_have_codes_of_their_own(
    calculator: Host, place: Where, function: str, texts: tuple[str, ...], code: str, words: str
):
    failure = await refused(place, "shop-calculator", function, *texts, seconds=0.5)
    assert failure.exit_code == 2
    assert code in str(failure) and words in str(failure)


async def test_an_import_without_a_link_is_said_with_the_links_there_are(host: Host, place: Where, tmp_path: Path):
    file = tmp_path / "asker.wat"
    file.write_text(ASKER)
    await run_on(host, "asker", file)
    failure = await refused(place, "asker", "ask", "1")
    assert "TRL-CAL-003" in str(failure) and '"asker" is not linked to demo:math/ops' in str(failure)
    assert "trellis link get asker" in str(failure)


async def test_who_is_not_there_is_answered_with_those_who_are(calculator: Host, place: Where):
    failure = await refused(place, "calculater", "half", "1")
    assert failure.exit_code == 1
    assert "TRL-CAL-004" in str(failure) and "there are shop-calculator" in str(failure)


async def test_a_lattice_without_a_host_says_so(place: Where):
    nobody = await refused(place, "calculator", "half", "1")
    assert nobody.exit_code == 3 and "TRL-NET-003" in str(nobody)


async def test_a_provider_says_that_it_has_no_types(host: Host, place: Where):
    body = {"provider_id": "store", "provider_ref": "builtin:keyvalue-memory"}
    assert (await host.lattice.control("provider", "start", host.id, body=body)).success
    async with asyncio.timeout(10):
        while "store" not in host.router.local:
            await asyncio.sleep(0.01)
    failure = await refused(place, "store", "wasi:keyvalue/store#get")
    assert "TRL-CAL-004" in str(failure) and "`store` is a provider" in str(failure)


async def test_a_shell_tells_actors_from_files(calculator: Host, place: Where, tmp_path: Path):
    there = environment(TRELLIS_NATS=place.nats, TRELLIS_LATTICE=place.lattice)
    call = functools.partial(ended, "call", cwd=tmp_path, env=there)
    assert await call("shop-calculator", "divide", "--", "-84", "2") == (0, "-42\n", "")
    code, _, err = await call("gone.wasm", "divide", "1", "2")
    assert code == 1 and "TRL-CLI-001" in err and "gone.wasm is not a file" in err
    code, _, err = await call("shop-calculator", "divide", "1", "2", "--kv")
    assert code == 1 and "takes no grants" in err
