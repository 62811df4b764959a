"""`trellis call`: any export of a component, with JSON in and out."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from verbs import trellis

from trellis.commands.call import Asked, call
from trellis.failures import Failure
from trellis.local import Granted

Written = Callable[[str], Path]

PERSON = '{"name": "Ada", "age": 36, "mood": "happy"}'


@pytest.fixture
def calculator(written: Written, cache: Path) -> Path:
    return written("CALCULATOR")


async def answer(capsys: pytest.CaptureFixture[str], file: Path, function: str, *texts: str, code: int = 0) -> str:
    """What a call prints: the last line, behind what is logged where nobody said how to."""
    assert await call(file, Asked(function, texts), Granted(timeout=30)) == code
    return capsys.readouterr().out.splitlines()[-1]


async def refused(file: Path, function: str, *texts: str, granted: Granted | None = None) -> Failure:
    with pytest.raises(Failure) as caught:
        await call(file, Asked(function, texts), granted or Granted(timeout=30))
    return caught.value


@pytest.mark.parametrize(
    "name",
    [
        "test:calculator/whole@0.1.0#divide",
        "test:calculator/whole@0.1.0.divide",
        "test:calculator/whole#divide",
        "test:calculator/whole.divide",
        "whole#divide",
        "whole.divide",
        "divide",
    ],
)
async def test_a_function_is_found_by_every_name_that_is_unambiguous(
    calculator: Path, capsys: pytest.CaptureFixture[str], name: str
):
    assert await answer(capsys, calculator, name, "84", "2") == "42"


async def test_a_version_with_dots_is_told_from_the_functions_name(
    calculator: Path, capsys: pytest.CaptureFixture[str]
):
    assert await answer(capsys, calculator, "test:calculator/echo@0.2.0-rc.1.same", "7") == "7"


async def test_the_worlds_own_functions_go_by_their_bare_name(calculator: Path, capsys: pytest.CaptureFixture[str]):
    assert await answer(capsys, calculator, "half", "3") == "1.5"


@pytest.mark.parametrize(
    ("function", "text"),
    [
        ("whole.same", "18446744073709551615"),
        ("half", '"NaN"'),
        ("half", '"-Infinity"'),
        ("bytes", '{"$bytes": "AP/+"}'),
        ("text", '"Grüße 😀"'),
    ],
)
async def test_every_value_arrives_exactly(
    calculator: Path, capsys: pytest.CaptureFixture[str], function: str, text: str
):
    assert await answer(capsys, calculator, function, text) == text


async def test_the_err_side_is_printed_and_ends_with_2(calculator: Path, capsys: pytest.CaptureFixture[str]):
    assert await answer(capsys, calculator, "checked", "7", "2") == "3"
    assert await answer(capsys, calculator, "checked", "7", "0", code=2) == '{"err": "by-zero"}'


async def test_a_name_that_several_have_is_refused_with_all_of_them(calculator: Path):
    told = str(await refused(calculator, "same", "1"))
    assert "`same` can be any of test:calculator/whole@0.1.0#same, test:calculator/echo@0.2.0-rc.1#same" in told


async def test_an_unknown_function_is_answered_with_the_one_that_was_meant_and_a_list(calculator: Path):
    failure = await refused(calculator, "test:calculator/whole#divid", "1", "2")
    assert failure.exit_code == 1
    assert "did you mean `test:calculator/whole@0.1.0#divide`?" in str(failure)
    assert "test:calculator/echo@0.2.0-rc.1#bytes" in str(failure)


@pytest.mark.parametrize(
    ("function", "texts", "message"),
    [
        ("divide", ["1"], "divide takes 2 arguments (a, b), 1 given"),
        ("spin", ["1"], "spin takes 0 arguments, 1 given"),
        ("divide", ["1", '"x"'], 'b: "x" is not a s32: give a whole number'),
        ("divide", ["1", "2147483648"], "b: 2147483648 does not fit s32"),
        ("bytes", ["[1, 300]"], "data[1]: 300 does not fit u8"),
        ("text", ["hello"], "text: `hello` is not JSON"),
    ],
)
async def test_arguments_that_do_not_fit_are_refused_with_place_and_signature(
    calculator: Path, function: str, texts: list[str], message: str
):
    failure = await refused(calculator, function, *texts)
    assert failure.exit_code == 1
    assert message in str(failure)
    assert f"{function}: func(" in str(failure)


async def test_a_bare_word_is_answered_with_the_quotes_it_needs(calculator: Path):
    assert """'"hello"'""" in str(await refused(calculator, "text", "hello"))


async def test_a_trap_says_where_it_was(calculator: Path):
    failure = await refused(calculator, "divide", "1", "0")
    assert failure.exit_code == 2
    assert '"calculator" trapped in test:calculator/whole#divide: wasm trap: integer divide by zero' in str(failure)
    assert "innermost first" in str(failure)


async def test_a_call_that_takes_too_long_is_stopped(calculator: Path):
    failure = await refused(calculator, "spin", granted=Granted(timeout=0.1))
    assert failure.exit_code == 2
    assert "did not finish spin within its limit of 0.1 s" in str(failure) and "--timeout" in str(failure)


@pytest.fixture
def things(cache: Path) -> Path:
    return Path(__file__).parents[1] / "actors/things.wat"


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        ("test:things/api#[constructor]thing 3 then test:things/api#[method]thing.get @1", "3"),
        ("thing 3 then thing.get @1", "3"),
        ("api.thing 3 then api#thing 4 then thing.merge @1 @2 then thing.get @3", "7"),
        ("pair then thing.get @1[1]", "2"),
        ("thing 3 then thing.get @1 then thing @2 then thing.get @3", "3"),
        ("thing 1 then thing 2 then thing.merge @1 @2 then dropped", "2"),
        ("pair", '[{"$resource": "thing"}, {"$resource": "thing"}]'),
    ],
)
async def test_a_resource_is_made_and_used_in_one_chain_of_calls(
    things: Path, capsys: pytest.CaptureFixture[str], words: str, printed: str
):
    function, *texts = words.split()
    assert await answer(capsys, things, function, *texts) == printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("thing 3 then", "no function is named behind the last `then`"),
        ("thing.get 3", "self: thing is a resource, which JSON cannot hold"),
        ("thing.get @1", "`@1` is not there yet: 0 calls come before this one"),
        ("thing.get @x", "`@x` is not a result: write @1, @1[0] or @1.name"),
        ("pair then thing.get @1[2]", "`@1[2]` is not there: what call 1 returned has no such part"),
        ("pair then thing.get @1.first", "`@1.first` is not there"),
        ("dropped then thing.get @1", "self: 0 is not a thing of test:things/api"),
        ("thing 3 then thing.merge @1 @1", "unknown handle"),
        ("thing 13 then thing.get @1", "trapped in test:things/api#[method]thing.get"),
        ("thing.got 3", "did you mean `test:things/api@1.0.0#[method]thing.get`?"),
    ],
)
async def test_a_chain_that_breaks_says_where(things: Path, words: str, message: str):
    function, *texts = words.split()
    assert message in str(await refused(things, function, *texts))


async def test_a_chain_ends_with_the_first_err(calculator: Path, capsys: pytest.CaptureFixture[str]):
    assert await answer(capsys, calculator, "checked", "7", "0", "then", "half", "1", code=2) == '{"err": "by-zero"}'


async def test_raw_is_refused_for_what_is_neither_text_nor_bytes(calculator: Path):
    with pytest.raises(Failure, match="--raw is for text and bytes"):
        await call(calculator, Asked("half", ("1",), raw=True), Granted())


async def test_exports_that_need_more_than_json_name_their_own_verb(written: Written, cache: Path):
    assert "trellis serve" in str(await refused(written("TEAPOT"), "handle"))
    assert "trellis run" in str(await refused(written("COPIER"), "wasi:cli/run.run"))


@pytest.mark.parametrize(
    ("granted", "message"),
    [
        (Granted(dirs=("here",)), "expected HOST::GUEST"),
        (Granted(dirs=("/no/such/folder::/",)), "there is no such folder"),
        (Granted(net=("example.com",)), "names no port"),
        (Granted(http=("not a host",)), "is not something to allow"),
        (Granted(env=("A",)), "--env A: expected KEY=VALUE"),
        (Granted(config=("=b",)), "--config =b: expected KEY=VALUE"),
    ],
)
async def test_grants_that_cannot_be_are_refused(calculator: Path, granted: Granted, message: str):
    failure = await refused(calculator, "half", "1", granted=granted)
    assert failure.exit_code == 1
    assert message in str(failure)


def test_from_a_shell_stdout_has_the_answer_alone(calculator: Path):
    done = trellis("call", calculator, "divide", "--", "-84", "2")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"-42\n", b"")
    done = trellis("call", calculator, "bytes", "[0, 255, 10]", "--raw")
    assert (done.returncode, done.stdout) == (0, b"\0\xff\n")
    done = trellis("call", calculator, "divide", "1", "0")
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"error[TRL-CAL-003]")


def test_a_forgotten_pair_of_dashes_is_named(calculator: Path):
    done = trellis("call", calculator, "divide", "-84", "2")
    assert done.returncode == 1
    assert b"write -- before it" in done.stderr


@pytest.mark.parametrize("size", ["lots", "3x", "-1"])
def test_a_size_that_is_none_is_refused(calculator: Path, size: str):
    done = trellis("call", calculator, "half", "1", f"--memory={size}")
    assert done.returncode == 1
    assert b"is not a size; write 64Mi" in done.stderr


def test_a_lattice_is_never_imported(calculator: Path):
    code = (
        "import sys, asyncio\n"
        "from pathlib import Path\n"
        "from trellis.commands.call import Asked, call\n"
        "from trellis.local import Granted\n"
        f"asyncio.run(call(Path({str(calculator)!r}), Asked('half', ('1',)), Granted()))\n"
        "print([m for m in ('nats', 'ruamel.yaml', 'httptools', 'aiohttp') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-2:] == ["0.5", "[]"]


@pytest.mark.toolchain
def test_a_python_component_is_called_with_records_and_what_it_prints_goes_to_stderr(python_guest: Path):
    done = trellis("call", python_guest, "people.older", PERSON, "2")
    assert json.loads(done.stdout) == {"name": "Ada", "age": 38, "mood": "happy"}
    assert done.stderr.endswith(b"thinking\n")


@pytest.mark.toolchain
def test_a_python_exception_is_the_traps_last_word(python_guest: Path):
    done = trellis("call", python_guest, "fail", '"because"')
    assert (done.returncode, done.stdout) == (2, b"")
    told = done.stderr.decode()
    assert "RuntimeError: because\n" in told
    trapped = f'"{python_guest.stem}" trapped in tests:guest/people#fail'
    assert f"error[TRL-CAL-003]: {trapped}: RuntimeError: because" in told


@pytest.mark.toolchain
def test_a_store_is_there_only_when_it_is_granted(python_guest: Path):
    assert trellis("call", python_guest, "visit", PERSON, "--kv").stdout == b"1\n"
    denied = trellis("call", python_guest, "visit", PERSON)
    assert denied.returncode == 2
    assert b"guest.denied" in denied.stderr and b"option=--kv" in denied.stderr


@pytest.mark.toolchain
def test_too_little_memory_says_so(python_guest: Path):
    done = trellis("call", python_guest, "people.older", PERSON, "2", "--memory", "1Mi")
    assert done.returncode == 2
    assert b"ran out of memory" in done.stderr and b"--memory" in done.stderr
