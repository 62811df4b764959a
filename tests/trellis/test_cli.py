"""The command line itself: help, exit codes, where a lattice is found."""

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import verbs
from click.testing import CliRunner, Result

from trellis.cli import VERBS, cli
from trellis.commands.host import parse_labels
from trellis.failures import Failure
from trellis.hosting import parse_limits
from trellis.options import DEFAULT_NATS, where


def trellis(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without any project, and an environment that names no lattice."""
    for name in ("TRELLIS_NATS", "TRELLIS_LATTICE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_help_names_every_verb():
    result = trellis("--help")
    assert result.exit_code == 0
    for verb, line in VERBS.items():
        assert f"  {verb} " in result.stdout
        assert line in result.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str):
    result = trellis(verb, "--help")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("Usage:")


def test_help_imports_nothing_that_is_slow():
    code = (
        "import sys; sys.argv = ['trellis', '--help']\n"
        "from trellis.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "slow = 'asyncio', 'pydantic', 'nats', 'wasmtime', 'structlog', 'ruamel.yaml'\n"
        "print([m for m in slow if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("link", "put", "a b", "kv", "wasi:keyvalue/store"), "'a b' is not an id"),
        (("link", "put", "a", "k.v", "wasi:keyvalue/store"), "'k.v' is not an id"),
        (("link", "put", "a", "kv", "wasi:keyvalue"), "names no interface"),
        (("link", "put", "a", "kv", "keyvalue"), "is not a package"),
        (("link", "del", "a", "keyvalue"), "is not a package"),
        (("link", "del", "a", "wasi:keyvalue", "--target", "k v"), "'k v' is not an id"),
        (("config", "put", "a.b", "x=1"), "`a.b` cannot name a configuration"),
        (("config", "put", "web", "x"), "`x` is not KEY=VALUE"),
        (("config", "put", "web", "x=1", "x=2"), "says a key twice"),
        (("config", "get", "a b"), "`a b` cannot name a configuration"),
        (("config", "del", ">"), "`>` cannot name a configuration"),
        (("host", "label", "a", "zone"), "`zone` is not a label"),
        (("host", "label", "a", "zone=a", "zone=b"), "is given twice"),
        (("host", "start", "--label", "=a"), "is not a label"),
        (("host", "start", "--dead-after", "0.1"), "0.1 is not in the range"),
        (("host", "start", "--nats-config", "/no/such.toml"), "/no/such.toml"),
        (("events", "--since", "soon"), "`soon` is no time"),
        (("call", "a.wasm", "f"), "a.wasm is not a file"),
        (("status", "--timeout", "nan"), "'nan' is not a number of seconds"),
        (("top", "--interval", "inf"), "'inf' is not a number of seconds"),
        (("deploy", "--timeout", "soon"), "'soon' is not a valid number"),
        (("up", "--timeout", "-1"), "-1.0 is not in the range"),
        (("status", "--lattice", "a.>"), "`a.>` cannot name a lattice"),
        (("host", "start", "--lattice", "a b"), "`a b` cannot name a lattice"),
        (("up", "--lattice", "*"), "`*` cannot name a lattice"),
        (("status", "--nats", "http://127.0.0.1"), "`http://127.0.0.1` is not the URL of a NATS server"),
        (("status", "--nats", "nats://a:b@127.0.0.1:99999"), "`127.0.0.1:99999` is not the URL of a NATS server"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_reached(arguments: tuple[str, ...], words: str):
    result = trellis(*arguments)
    assert result.exit_code == 1
    assert result.stderr.startswith("error[TRL-CLI-") and words in result.stderr, result.stderr


def test_every_verb_that_reads_a_manifest_says_the_same_of_one_that_is_no_text(elsewhere: Path):
    (elsewhere / "app.yaml").write_bytes(b"\xff\xfe")
    for verb in (("check",), ("plan",), ("up",), ("add", "kv")):
        result = trellis(*verb)
        assert result.exit_code == 1 and "error[TRL-CLI-002]: " in result.stderr, result.stderr
        assert "app.yaml is not UTF-8 text" in result.stderr and "fix: save it as UTF-8" in result.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has none")
@pytest.mark.parametrize(("where", "code"), [(">/dev/full", 1), (">&-", 0)])
def test_output_that_cannot_be_written_is_no_traceback(where: str, code: int):
    shell = f'"{sys.executable}" -m trellis version {where}'
    done = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, timeout=60)
    assert done.returncode == code and "Traceback" not in done.stderr, done.stderr
    assert code == 0 or done.stderr == "error[TRL-CLI-002]: No space left on device\n"


def test_what_is_not_pushed_is_named(elsewhere: Path):
    (elsewhere / "none.wasm").write_bytes(b"")
    assert "none.wasm is empty" in trellis("push", "none.wasm", "127.0.0.1:1/none:1").stderr


def test_a_mistyped_verb_is_answered_with_the_one_that_was_meant():
    result = trellis("depoly")
    assert result.exit_code == 1
    assert "did you mean `deploy`?" in result.stderr


def test_a_mistyped_option_is_a_user_error():
    result = trellis("status", "--latice", "x")
    assert result.exit_code == 1
    assert result.stderr.startswith("error[TRL-CLI-001]")


def test_version_names_what_it_stands_on():
    result = trellis("version", "-o", "json")
    assert result.exit_code == 0
    assert {"trellis", "wasmtime", "nats-py"} <= set(json.loads(result.stdout))


def test_the_version_is_also_an_option():
    result = trellis("--version")
    assert result.exit_code == 0 and result.stdout == f"trellis {version('trellis-lattice')}\n"


@pytest.mark.parametrize(
    "verb", [("status",), ("scale", "a=1"), ("undeploy", "a"), ("host", "start"), ("wadm", "start")]
)
def test_without_a_broker_every_verb_says_where_it_looked_and_how_to_start_one(verb: tuple[str, ...]):
    result = trellis(*verb, "--nats", "nats://127.0.0.1:1")
    assert result.exit_code == 3
    assert "no NATS server answers at nats://127.0.0.1:1 (from --nats)" in result.stderr
    assert "why: Connection refused\n" in result.stderr and "trellis up" in result.stderr


def test_a_password_in_the_url_is_not_repeated():
    result = trellis("status", "--nats", "nats://me:secret@127.0.0.1:1")
    assert result.exit_code == 3
    assert "secret" not in result.output


def test_labels_are_key_value_pairs():
    assert parse_labels(("zone=a", "net=x=y")) == {"zone": "a", "net": "x=y"}
    for wrong in (("zone",), ("=a",), ("zone=a", "zone=b")):
        with pytest.raises(Failure):
            parse_labels(wrong)


def test_a_hosts_limits_are_written_as_in_a_manifest():
    limits = parse_limits(("memory=1Gi", "time=90s", "fuel=5000", "handles=7"))
    assert (limits.memory, limits.execution, limits.fuel, limits.handles) == (2**30, 90.0, 5000, 7)
    for wrong, said in (
        ("memory", "expected KEY=VALUE"),
        ("memory=lots", "--limit memory: `lots` is not a size"),
        ("instances=5", "there is no limit `instances`"),
    ):
        with pytest.raises(Failure, match=said):
            parse_limits((wrong,))


def test_a_lattice_is_found_by_option_then_environment_then_running_up_then_default(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
):
    assert where(None, None).nats == DEFAULT_NATS

    inner = elsewhere / "app" / "actor"
    inner.mkdir(parents=True)
    state = elsewhere / "app" / ".trellis" / "up.json"
    state.parent.mkdir()
    state.write_text(json.dumps({"nats": "nats://up:1", "lattice": "mine", "pid": os.getpid()}))
    found = where(None, None, inner)
    assert (found.nats, found.lattice, found.said) == ("nats://up:1", "mine", str(state))

    monkeypatch.setenv("TRELLIS_NATS", "nats://env:1")
    assert where(None, None, inner).nats == "nats://env:1"
    assert where("nats://option:1", "other", inner).nats == "nats://option:1"
    assert where("nats://option:1", "other", inner).lattice == "other"


def test_the_state_file_of_an_up_that_is_gone_is_not_believed(elsewhere: Path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (elsewhere / ".trellis").mkdir()
    (elsewhere / ".trellis" / "up.json").write_text(
        json.dumps({"nats": "nats://up:1", "lattice": "mine", "pid": gone.pid})
    )
    assert where(None, None, elsewhere).nats == DEFAULT_NATS


def test_without_a_command_the_help_is_shown_and_nothing_is_wrong():
    for command in ([], ["host"]):
        result = verbs.trellis(*command)
        assert result.returncode == 0
        assert b"Usage: trellis" in result.stdout and not result.stderr


def test_what_a_host_may_grant_is_checked_before_it_starts(tmp_path):
    for option, value, word in (
        ("--allow-dir", str(tmp_path / "nowhere"), "is not a folder"),
        ("--allow-net", "example.com", "names no port"),
        ("--allow-http", "exa mple.com", "HOST:PORT"),
        ("--stack", "1Ki", "a stack of 1024 bytes cannot be"),
    ):
        result = trellis("host", "start", option, value)
        assert result.exit_code == 1 and word in result.stderr, result.stderr
