"""Logging in to NATS: every kind of credential against a real server, and what is said when it is the wrong one."""

import asyncio
import base64
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

import nkeys
import pytest
import trustme
from verbs import begun, ended, ran, said

from host import Host, HostConfig
from lattice import EntityId, Function, Invocation, events
from lattice.errors import Denied, Unreachable
from lattice.lattice import Lattice
from lattice.login import Login, Server, Settings, options
from lattice.nats_transport import NatsOptions, connect
from providers.runner import Start
from trellis.options import LOGIN, Where

pytestmark = pytest.mark.nats


def seed(kind: int = nkeys.PREFIX_BYTE_USER) -> tuple[str, str]:
    """An nkey: its seed, and the public key."""
    made = nkeys.encode_seed(os.urandom(32), kind)
    return made.decode(), nkeys.from_seed(bytearray(made)).public_key.decode()


def jwt(issuer: tuple[str, str], subject: str, **claims) -> str:
    """A NATS JWT that `issuer` signs."""

    def part(value) -> str:
        raw = value if isinstance(value, bytes) else json.dumps(value).encode()
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    body = {"jti": os.urandom(8).hex(), "iat": 1_700_000_000, "iss": issuer[1], "name": "test", "sub": subject}
    text = part({"typ": "JWT", "alg": "ed25519-nkey"}) + "." + part({**body, "nats": {"version": 2, **claims}})
    return text + "." + part(nkeys.from_seed(bytearray(issuer[0].encode())).sign(text.encode()))


class Certificates:
    """A CA, and a certificate by it for the server and for a client."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = folder / "ca.pem"
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.ca))
        for name in ("server", "client"):
            issued = authority.issue_cert("127.0.0.1", "localhost")
            issued.private_key_pem.write_to_path(str(folder / f"{name}.key"))
            issued.cert_chain_pems[0].write_to_path(str(folder / f"{name}.pem"))

    def config(self, *, verify: bool) -> str:
        files = {"cert_file": "server.pem", "key_file": "server.key", "ca_file": "ca.pem"}
        lines = "\n".join(f'{key}: "{self.folder / name}"' for key, name in files.items())
        return f"tls {{ {lines}\n verify: {json.dumps(verify)} }}"


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("certificates"))


async def trellis(url: str, *arguments: str, **environment: str) -> tuple[int, str, str]:
    unset = {key: None for key in os.environ if key.startswith("TRELLIS_")}
    return await ran(*arguments, env={**unset, "TRELLIS_NATS": url, **environment})


async def lets_in(url: str, flags: list[str], environment: dict[str, str]) -> None:
    """Both ways of saying who one is open the door."""
    for words, variables in ((flags, {}), ([], environment)):
        code, out, err = await trellis(url, "host", "ls", *words, **variables)
        assert code == 0, err
        assert "no host answers" in out


async def refuses(url: str, *flags: str, verb: tuple[str, ...] = ("host", "ls"), never: str = "") -> None:
    code, out, err = await trellis(url, *verb, *flags)
    assert code == 3, (out, err)
    assert "TRL-NET-005" in err and "refuses the login" in err
    assert not never or never not in out + err


async def test_user_and_password(served):
    url = served('authorization { users: [{user: "ann", password: "pass-ann"}] }')
    await lets_in(
        url,
        ["--nats-user", "ann", "--nats-password", "pass-ann"],
        {"TRELLIS_NATS_USER": "ann", "TRELLIS_NATS_PASSWORD": "pass-ann"},
    )
    await refuses(url)
    await refuses(url, "--nats-user", "ann", "--nats-password", "wrong-pass", never="wrong-pass")
    await refuses(url, verb=("status",))
    clean = {key: value for key, value in os.environ.items() if not key.startswith("TRELLIS_")}
    verbs = (("host", "start"), ("wadm", "start"), ("up", "--nats", url))
    for code, _, err in await asyncio.gather(*(ended(*verb, env={**clean, "TRELLIS_NATS": url}) for verb in verbs)):
        assert code in (2, 3) and "refuses the login" in err


async def test_a_file_says_where_and_who(served, tmp_path):
    url = served('authorization { users: [{user: "ann", password: "pass-ann"}] }')
    file = tmp_path / "nats.toml"
    file.write_text(f'lattice = "ours"\n[nats]\nurl = "{url}"\nuser = "ann"\npassword = "pass-ann"\n')
    code, out, err = await trellis("", "host", "ls", "--nats-config", str(file))
    assert code == 0 and "no host answers" in out, err
    code, _, err = await trellis("", "link", "get", TRELLIS_NATS_CONFIG=str(file))
    assert code == 3 and "lattice `ours`" in err


async def test_a_token(served):
    url = served('authorization { token: "open-sesame" }')
    await lets_in(url, ["--nats-token", "open-sesame"], {"TRELLIS_NATS_TOKEN": "open-sesame"})
    await refuses(url, "--nats-token", "close-sesame", never="close-sesame")


async def test_an_nkey(served, tmp_path):
    secret, public = seed()
    url = served(f"authorization {{ users: [{{nkey: {public}}}] }}")
    file = tmp_path / "ann.nk"
    file.write_text(f"# ann\n{secret}\n")
    await lets_in(url, ["--nats-nkey", str(file)], {"TRELLIS_NATS_NKEY": str(file)})
    other, _ = seed()
    file.write_text(other)
    await refuses(url, "--nats-nkey", str(file), never=other)
    file.write_text("SUnonsense")
    await refuses(url, "--nats-nkey", str(file))
    file.write_text("nothing")
    code, _, err = await trellis(url, "host", "ls", "--nats-nkey", str(file))
    assert code == 1 and "holds no nkey seed" in err


async def test_a_credentials_file(served, tmp_path):
    operator = seed(nkeys.PREFIX_BYTE_OPERATOR)
    account, system = seed(nkeys.PREFIX_BYTE_ACCOUNT), seed(nkeys.PREFIX_BYTE_ACCOUNT)
    limits = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1)
    known = [f"{one[1]}: {jwt(operator, one[1], type='account', limits=limits)}\n" for one in (account, system)]
    url = served(
        f"operator: {jwt(operator, operator[1], type='operator')}\nsystem_account: {system[1]}\n"
        f"resolver: MEMORY\nresolver_preload: {{ {''.join(known)} }}\n"
    )

    def creds(user: tuple[str, str], signer: tuple[str, str]) -> str:
        token = jwt(signer, user[1], type="user", subs=-1, data=-1, payload=-1)
        return (
            f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{user[0]}\n------END USER NKEY SEED------\n"
        )

    file = tmp_path / "ann.creds"
    file.write_text(creds(seed(), account))
    await lets_in(url, ["--nats-creds", str(file)], {"TRELLIS_NATS_CREDS": str(file)})
    file.write_text(creds(seed(), seed(nkeys.PREFIX_BYTE_ACCOUNT)))
    await refuses(url, "--nats-creds", str(file))

    ann, apart = seed(), {"jwt": tmp_path / "ann.jwt", "nkey": tmp_path / "ann.nk"}
    apart["jwt"].write_text(jwt(account, ann[1], type="user", subs=-1, data=-1, payload=-1) + "\n")
    apart["nkey"].write_text(ann[0])
    login = Login(jwt=str(apart["jwt"]), nkey=str(apart["nkey"]))
    await (await connect(options(Server(url, login), "ann"))).close()
    with pytest.raises(Unreachable, match="a JWT needs the seed of its nkey"):
        await connect(options(Server(url, Login(jwt=login.jwt)), "ann"))


async def test_tls_with_a_ca_of_ones_own(served, certificates):
    url = served(certificates.config(verify=False))
    await lets_in(url, ["--nats-ca", str(certificates.ca)], {"TRELLIS_NATS_CA": str(certificates.ca)})
    code, _, err = await trellis(url, "host", "ls")
    assert code == 3 and "TRL-NET-006" in err and "certificate" in err and "--nats-ca" in err


async def test_tls_with_a_certificate_for_the_client(served, certificates):
    url = served(certificates.config(verify=True))
    folder = certificates.folder
    files = {"ca": "ca.pem", "cert": "client.pem", "key": "client.key"}
    await lets_in(
        url,
        [word for name, file in files.items() for word in (f"--nats-{name}", str(folder / file))],
        {f"TRELLIS_NATS_{name.upper()}": str(folder / file) for name, file in files.items()},
    )
    code, _, err = await trellis(url, "host", "ls", "--nats-ca", str(certificates.ca))
    assert code == 3 and "TRL-NET-006" in err, err


async def test_a_file_that_is_not_there_is_a_user_error(nats_url):
    for name in ("creds", "nkey", "ca"):
        code, _, err = await trellis(nats_url, "host", "ls", f"--nats-{name}", "/no/such/file")
        assert code == 1 and "/no/such/file" in err


async def test_a_provider_in_its_own_process_logs_in_as_its_host_does(served, tmp_path, lattice_name):
    url = served('authorization { users: [{user: "ann", password: "pass-ann"}] }')
    ann = NatsOptions(url, user="ann", password="pass-ann")
    config = HostConfig(lattice=lattice_name, nats=ann, grace=1.0)
    reference = tmp_path / "empty.py"
    reference.write_text("from providers import Provider\n\n\nclass Empty(Provider):\n    pass\n")
    heard: asyncio.Queue[events.Event] = asyncio.Queue()
    async with Lattice(lattice_name, await connect(ann)) as lattice, Host(config) as host:
        await lattice.on_events(lambda source, event: heard.put_nowait(event))
        await lattice.transport.flush()
        body = {"provider_id": "empty", "provider_ref": reference.as_uri()}
        assert (await lattice.control("provider", "start", host.id, body=body)).success
        async with asyncio.timeout(20):
            while not isinstance(await heard.get(), events.ProviderStarted):
                pass


async def test_a_provider_started_by_hand_logs_in_as_a_host_does(served, tmp_path, lattice_name):
    url = served('authorization { users: [{user: "ann", password: "pass-ann"}] }')
    reference = tmp_path / "greeter.py"
    reference.write_text(
        "from providers import Link, Provider, export\n\n\nclass Greeter(Provider):\n"
        '    @export("demo:greet/hello#hi")\n    async def hi(self, link: Link) -> str:\n        return "hi"\n'
    )
    file = tmp_path / "nats.toml"
    file.write_text(f'lattice = "{lattice_name}"\n[nats]\nurl = "{url}"\nuser = "ann"\npassword = "wrong"\n')
    clean = {key: value for key, value in os.environ.items() if not key.startswith("TRELLIS_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "providers", str(reference), "--nats-config", str(file), "--peer", "me"),
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env={**clean, "TRELLIS_NATS_PASSWORD": "pass-ann"},
    )
    ann = NatsOptions(url, user="ann", password="pass-ann")
    hi = Invocation(EntityId("greeter"), Function.parse("demo:greet/hello#hi"), source=EntityId("me"))
    try:
        async with Lattice(lattice_name, await connect(ann)) as lattice, asyncio.timeout(20):
            while True:
                try:
                    assert await lattice.invoke(hi) == "hi"
                    break
                except Unreachable:
                    await asyncio.sleep(0.02)
    finally:
        process.terminate()
        await process.wait()


async def test_an_up_on_somebody_elses_server_logs_in_with_all_its_processes(served, tmp_path):
    url = served('authorization { users: [{user: "ann", password: "pass-ann"}] }')
    clean = {key: value for key, value in os.environ.items() if not key.startswith("TRELLIS_")}
    login = {"TRELLIS_NATS_USER": "ann", "TRELLIS_NATS_PASSWORD": "pass-ann"}
    process = await begun("up", "--nats", url, cwd=tmp_path, stderr=asyncio.subprocess.STDOUT, env={**clean, **login})
    try:
        shown = await said(process, "logs")
        assert "host-a" in shown and "pass-ann" not in shown
    finally:
        process.terminate()
        await asyncio.wait_for(process.communicate(), 30)


def test_no_secret_shows_in_anything_that_prints_itself():
    secrets = {name: f"secret-{name}" for name in LOGIN}
    server = Server("nats://u:secret-url@h:1", Login(**secrets))
    settings = Settings(nats=server, data=server)
    connection = NatsOptions("nats://u:secret-url@h:1", password="secret-password", nkey_seed="secret-nkey")
    start = Start.model_validate({"host_id": "N", "provider_id": "p", "nats": asdict(connection)})
    for thing in (server.login, settings, Where("nats://u:secret-url@h:1", "default", "", settings), connection):
        assert "secret" not in repr(thing) and "secret" not in str(thing)
    assert "secret-password" not in repr(start) and "secret-nkey" not in repr(start)
    assert set(secrets.values()) < set(settings.environment().values())


async def test_a_refused_login_says_so_to_programs_too(served):
    url = served('authorization { token: "open-sesame" }')
    with pytest.raises(Unreachable, match="refuses the login") as caught:
        await connect(NatsOptions(url, token="wrong"))
    assert caught.value.details["because"] == "login" and "wrong" not in str(caught.value)


async def test_what_a_login_may_not_do_is_said_at_once(served):
    url = served(
        'authorization { users: [{user: ann, password: p, permissions: {publish: {deny: ["wasmbus.ctl.>"]}}}] }'
    )
    transport = await connect(NatsOptions(url, user="ann", password="p"))
    with pytest.raises(Denied, match=r"may not publish to wasmbus\.ctl\.v1\.Ours\.link\.get"):
        await transport.request("wasmbus.ctl.v1.Ours.link.get", b"", timeout=60)
    await transport.close()
    code, _, err = await trellis(url, "link", "get", "--nats-user", "ann", "--nats-password", "p")
    assert code == 5 and "TRL-NET-008" in err
