"""Where secrets are kept: each back end gives what was put there, and shows it to nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import structlog
from click.testing import CliRunner
from servers import Broker

from lattice import BadInput, LatticeError, nats_transport
from lattice.lattice import Lattice
from lattice.memory import MemoryBroker
from lattice.nats_transport import connect
from lattice.secrets import SecretBackend, SecretReference
from lattice.transport import Transport
from providers.keyvalue.nats import escaped
from providers.secrets.backends import backends
from providers.secrets.environment import EnvironmentSecrets
from providers.secrets.files import FileSecrets
from providers.secrets.nats import Keys, SealedSecrets, put, seal
from trellis.cli import cli

HUSH = "hush-hush"


def wanted(key: str = "db/password", **more: str) -> SecretReference:
    return SecretReference(name="pw", backend="here", key=key, **more)


Kept = tuple[SecretBackend, Callable[[str, str], Awaitable[None]]]


@pytest.fixture(params=["environment", "files", "sealed"])
async def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Kept:
    """A back end, and how to put a secret there."""
    environment: dict[str, str] = {}
    keys, bucket = Keys.parse(Keys.generate()), await MemoryBroker().connect().bucket("secrets")

    async def in_environment(key: str, value: str) -> None:
        environment["TRELLIS_SECRET_" + key.upper().replace("/", "_").replace("-", "_")] = value

    async def in_file(key: str, value: str) -> None:
        (tmp_path / key).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / key).write_text(value)

    async def in_bucket(key: str, value: str) -> None:
        await put(bucket, keys.public, key, value)

    match request.param:
        case "environment":
            return EnvironmentSecrets(environment), in_environment
        case "files":
            return FileSecrets(tmp_path), in_file
    return SealedSecrets(bucket, keys), in_bucket


async def test_a_secret_is_what_was_put_there(kept: Kept):
    secrets, put_there = kept
    assert await secrets(wanted()) is None
    await put_there("db/password", HUSH)
    assert await secrets(wanted()) == HUSH
    assert await secrets(wanted("db-name")) is None
    await put_there("db/password", "")
    assert await secrets(wanted()) == ""


async def test_a_field_is_a_member_of_a_secret_that_is_an_object(kept: Kept):
    secrets, put_there = kept
    await put_there("db", '{"user": "me", "port": 5432}')
    assert await secrets(wanted("db", field="user")) == "me"
    assert await secrets(wanted("db", field="port")) == "5432"
    assert await secrets(wanted("db", field="other")) is None
    for value in (HUSH, "[1]"):
        await put_there("db", value)
        with pytest.raises(LatticeError, match="has no fields") as refused:
            await secrets(wanted("db", field="user"))
        assert HUSH not in str(refused.value)


async def test_no_log_and_no_repr_shows_one(kept: Kept):
    secrets, put_there = kept
    with structlog.testing.capture_logs() as events:
        await put_there("db/password", HUSH)
        await secrets(wanted())
    assert HUSH not in repr(secrets)
    assert HUSH not in repr(events)


# -- environment and files


async def test_nothing_else_of_the_environment_is_given_away():
    secrets = EnvironmentSecrets({"AWS_SECRET": HUSH, "TRELLIS_SECRET_A": "a"})
    assert await secrets(wanted("AWS_SECRET")) is None
    assert await secrets(wanted("a")) == "a"


async def test_no_key_leads_out_of_the_folder(tmp_path: Path):
    (tmp_path / "outside").write_text(HUSH)
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "outside")
    (folder / "..data").mkdir()
    (folder / "..data" / "pw").write_text("fine")
    (folder / "pw").symlink_to("..data/pw")  # as Kubernetes mounts them
    secrets = FileSecrets(folder)
    assert await secrets(wanted("pw")) == "fine"
    for key in ("../outside", "link", str(tmp_path / "outside"), "a\0b"):
        with pytest.raises(LatticeError):
            await secrets(wanted(key))
    assert await secrets(wanted("..data")) is None
    assert await FileSecrets(tmp_path / "absent")(wanted("pw")) is None


async def test_a_file_that_is_no_text_is_bytes(tmp_path: Path):
    (tmp_path / "key").write_bytes(b"\xff\x00")
    assert await FileSecrets(tmp_path)(wanted("key")) == b"\xff\x00"
    (tmp_path / "big").write_bytes(bytes(2_000_000))
    with pytest.raises(LatticeError, match="larger than"):
        await FileSecrets(tmp_path)(wanted("big"))


@pytest.mark.parametrize("secrets", [EnvironmentSecrets({}), FileSecrets(Path("/"))])
async def test_who_keeps_no_versions_says_so(secrets: SecretBackend):
    with pytest.raises(LatticeError, match="keeps no versions"):
        await secrets(wanted(version="1"))


# -- sealed


async def test_what_the_bucket_holds_is_sealed_and_only_the_key_opens_it(transport: Transport, lattice_name: str):
    bucket = await transport.bucket(f"secrets-{lattice_name}")
    keys = Keys.parse(Keys.generate())
    await put(bucket, keys.public, "db/password", HUSH)
    await put(bucket, keys.public, "raw key", b"\xff")
    entries = [await bucket.get(key) for key in await bucket.keys()]
    assert all(HUSH.encode() not in entry.value for entry in entries if entry and entry.value)
    secrets = SealedSecrets(bucket, keys)
    assert await secrets(wanted()) == HUSH
    assert await secrets(wanted("raw key")) == b"\xff"
    with pytest.raises(LatticeError, match="sealed for a key that is not here"):
        await SealedSecrets(bucket, Keys.parse(Keys.generate()))(wanted())


async def test_versions_stay_when_a_secret_is_put_again(transport: Transport, lattice_name: str):
    bucket, keys = await transport.bucket(f"secrets-{lattice_name}"), Keys.parse(Keys.generate())
    await put(bucket, keys.public, "pw", "one", version="1")
    await put(bucket, keys.public, "pw", "two", version="2")
    secrets = SealedSecrets(bucket, keys)
    assert [await secrets(wanted("pw", version=v)) for v in ("1", "2", "3")] == ["one", "two", None]
    assert await secrets(wanted("pw")) == "two"


async def test_a_key_can_be_replaced_while_old_secrets_are_about():
    bucket = await MemoryBroker().connect().bucket("secrets")
    old, new = Keys.generate(), Keys.generate()
    await put(bucket, Keys.parse(old).public, "old", "1")
    both = Keys.parse(f"{new}\n{old}\n")
    assert both.public == Keys.parse(new).public
    await put(bucket, both.public, "new", "2")
    secrets = SealedSecrets(bucket, both)
    assert [await secrets(wanted(key)) for key in ("old", "new")] == ["1", "2"]


async def test_a_sealed_secret_cannot_be_moved_to_another_name():
    bucket, keys = await MemoryBroker().connect().bucket("secrets"), Keys.parse(Keys.generate())
    await put(bucket, keys.public, "theirs", HUSH)
    entry = await bucket.get("theirs")
    assert entry is not None
    await bucket.put("mine", entry.value or b"")
    with pytest.raises(LatticeError, match="sealed under another name"):
        await SealedSecrets(bucket, keys)(wanted("mine"))


@pytest.mark.parametrize("damage", [lambda sealed: sealed[:-1], lambda sealed: sealed[:-1] + b"\0\0", lambda _: b""])
async def test_damage_is_noticed(damage):
    bucket, keys = await MemoryBroker().connect().bucket("secrets"), Keys.parse(Keys.generate())
    await bucket.put(escaped("pw"), damage(seal(keys.public, "pw", HUSH)))
    with pytest.raises(LatticeError, match="damaged"):
        await SealedSecrets(bucket, keys)(wanted("pw"))


@pytest.mark.parametrize(
    "text",
    ["", HUSH, "trellis-secrets-key:abc", f"{Keys.generate()} {HUSH}"],
    ids=["nothing", "text", "short", "a key and more"],
)
def test_what_is_no_key_is_refused_without_showing_it(text: str):
    with pytest.raises(BadInput, match="not a key of secrets") as refused:
        Keys.parse(text)
    assert HUSH not in str(refused.value)


def test_the_private_key_is_no_key_to_seal_with():
    with pytest.raises(BadInput, match="trellis-secrets-public-key"):
        seal(Keys.generate(), "pw", HUSH)


# -- a host's


async def test_a_host_has_what_it_is_started_with(tmp_path: Path):
    async with Lattice("t", MemoryBroker().connect()) as lattice:
        assert set(await backends(lattice, folder=None, key_file=None)) == {"env"}
        key_file = tmp_path / "key"
        key_file.write_text(Keys.generate())
        with pytest.raises(BadInput, match="can be read by others"):
            await backends(lattice, folder=tmp_path, key_file=key_file)
        key_file.chmod(0o600)
        assert set(await backends(lattice, folder=tmp_path, key_file=key_file)) == {"env", "files", "nats-kv"}
        for wrong in ({"folder": key_file, "key_file": None}, {"folder": None, "key_file": tmp_path / "absent"}):
            with pytest.raises(BadInput, match="TRL-SEC-003"):
                await backends(lattice, **wrong)


@pytest.mark.nats
async def test_the_verb_keeps_what_a_host_can_open(nats_url: str, lattice_name: str, tmp_path: Path):
    def trellis(*arguments: str, value: str | None = None) -> str:
        place = ("--nats", nats_url, "--lattice", lattice_name)
        done = CliRunner().invoke(cli, [*arguments, *(place if arguments[1] != "keygen" else ())], input=value)
        assert done.exit_code == 0, done.output
        return done.stdout.strip()

    public = trellis("secret", "keygen", str(tmp_path / "key"))
    assert (tmp_path / "key").stat().st_mode & 0o077 == 0
    await asyncio.to_thread(trellis, "secret", "put", "pw", "--key", public, "--version", "1", value=HUSH)
    await asyncio.to_thread(trellis, "secret", "put", "pw", "--key", public, value="newer")
    assert await asyncio.to_thread(trellis, "secret", "ls") == "pw"
    async with Lattice(lattice_name, await connect(nats_url)) as lattice:
        secrets = (await backends(lattice, folder=None, key_file=tmp_path / "key"))["nats-kv"]
        assert await secrets(wanted("pw")) == "newer"
        assert await secrets(wanted("pw", version="1")) == HUSH
        await asyncio.to_thread(trellis, "secret", "del", "pw")
        assert await secrets(wanted("pw")) is None
        assert await secrets(wanted("pw", version="1")) is None


@pytest.mark.nats
async def test_a_back_end_that_is_silent_or_away_is_a_failure_in_time_until_it_is_back(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(nats_transport, "ANSWERING", 0.2)
    broker, keys = Broker(tmp_path), Keys.parse(Keys.generate())
    broker.start()
    transport = await connect(broker.url)
    try:
        bucket = await transport.bucket("secrets")
        await put(bucket, keys.public, "db/password", HUSH)
        sealed = SealedSecrets(bucket, keys)
        with broker.paused(), pytest.raises(LatticeError, match="in time"):
            await sealed(wanted())
        broker.kill()
        with pytest.raises(LatticeError):
            await sealed(wanted())
        broker.start()
        async with asyncio.timeout(20):
            while True:
                try:
                    assert await sealed(wanted()) == HUSH
                    break
                except LatticeError:
                    await asyncio.sleep(0.02)
    finally:
        await transport.close()
        broker.stop()
