"""A provider gets the secrets of its links as configuration, from the back ends that its host has."""

import asyncio
from pathlib import Path

from structlog.testing import capture_logs

from host import Host, HostConfig
from lattice import EntityId, Function, Invocation, events
from lattice.lattice import Lattice
from lattice.memory import MemoryBroker

SOURCE = """
from pydantic import BaseModel, SecretStr
from providers import Link, Provider, export

class Login(BaseModel):
    user: str
    password: SecretStr

class Vault(Provider):
    link_config = Login

    @export("demo:vault/api#length")
    async def length(self, link: Link[Login]) -> int:
        return len(link.config.password.get_secret_value())

    @export("demo:vault/api#others")
    async def others(self, link: Link[Login]) -> list[str]:
        return list(link.record.source_config)
"""


async def test_a_secret_of_a_link_reaches_the_provider_and_nobody_else(tmp_path: Path):
    (tmp_path / "vault.py").write_text(SOURCE)
    (tmp_path / "db").write_text("correct horse")
    (tmp_path / "short").write_text("pony")
    told: asyncio.Queue[events.Event] = asyncio.Queue()
    broker = MemoryBroker()
    with capture_logs() as logs:
        async with (
            Host(HostConfig(secrets_folder=tmp_path), broker.connect()) as host,
            await Lattice("default", broker.connect()).start() as lattice,
        ):
            await lattice.on_events(lambda _, event: told.put_nowait(event))

            async def until(kind: type[events.Event]) -> events.Event:
                async with asyncio.timeout(20):
                    while not isinstance(event := await told.get(), kind):
                        pass
                return event

            async def put(key: str) -> None:
                reference = {"name": "password", "backend": "files", "key": key}
                await lattice.control("config", "put", "SECRET_password", body=reference)

            async def ask(function: str) -> object:
                call = Invocation(EntityId("vault"), Function("demo:vault/api", function), (), EntityId("shop"))
                return await lattice.invoke(call.within(5))

            await put("gone")
            await lattice.control("config", "put", "login", body={"user": "ada"})
            await lattice.control("config", "put", "here", body={"placement": "host"})
            link = {
                "source_id": "shop",
                "target": "vault",
                "name": "default",
                "wit_namespace": "demo",
                "wit_package": "vault",
                "interfaces": ["api"],
                "target_config": ["login", "SECRET_password"],
                "source_config": ["SECRET_password"],
            }
            assert (await lattice.control("link", "put", body=link)).success
            start = {"provider_id": "vault", "provider_ref": (tmp_path / "vault.py").as_uri(), "config": ["here"]}
            await lattice.control("provider", "start", host.id, body=start)
            refused = await until(events.LinkSetFailed)
            assert isinstance(refused, events.LinkSetFailed) and refused.error is not None
            assert 'TRL-SEC-002: secret `password` of "vault" is missing: `files` has no `gone`' in refused.error

            await put("db")
            await until(events.LinkSet)
            assert await ask("length") == len("correct horse")
            assert await ask("others") == []
            await put("short")
            async with asyncio.timeout(20):
                while await ask("length") != len("pony"):
                    await asyncio.sleep(0.01)
    assert any(line["event"] == "link.changed" for line in logs)
    assert "horse" not in repr(logs) and "pony" not in repr(logs)
