"""Our own providers, and one as a user writes it, keep the promises of `providers.conformance`."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections import defaultdict
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from clock import Clock
from servers import PostgresServer

from lattice import ByteStream, Invocation, Trap, Value, WitError
from lattice.nats_transport import connect
from lattice.streams import read_body
from lattice.transport import Transport
from providers import Link, LinkRecord, Provider, export
from providers.blobstore.fs import FsBlobStore
from providers.blobstore.nats import NatsBlobStore
from providers.conformance import Conformance, Site
from providers.cron import Cron
from providers.http.client import HttpClient
from providers.http.server import HttpServer
from providers.keyvalue.memory import MemoryKeyValue
from providers.keyvalue.nats import NatsKeyValue
from providers.link import link_between
from providers.load import resolve
from providers.messaging.nats import MessagingNats
from providers.sql.sqlite import SqliteSql
from providers.testing import PROVIDER

BLOBS = "wasi:blobstore/blobstore"
SOURCES = ("one", "two", "three")
SHOUT = Path(__file__).parents[2] / "examples" / "shout" / "provider" / "shout.py"


class TestShout(Conformance):
    def provider(self) -> Provider:
        return resolve(str(SHOUT))()

    def links(self) -> list[LinkRecord]:
        suffixes = dict(zip(SOURCES, ("!", "?", "..."), strict=True))
        return [
            link_between(source, PROVIDER, "demo:text/transform", target_config={"suffix": suffix})
            for source, suffix in suffixes.items()
        ]

    async def use(self, site: Site, link: LinkRecord) -> None:
        assert await site.call(link, "demo:text/transform#shout", "hi") == f"HI{link.target_config['suffix']}"

    async def carry(self, site: Site, link: LinkRecord, data: bytes) -> bytes | None:
        text = data.hex().upper()
        back: str = await site.call(link, "demo:text/transform#shout", text)
        return bytes.fromhex(back.removesuffix("!"))


class KeyValueConformance(Conformance):
    def links(self) -> list[LinkRecord]:
        config = {"bucket": "conformance", "enable_bucket_auto_create": "true"}
        return [
            link_between(one, PROVIDER, "wasi:keyvalue/store,atomics,batch", target_config=config) for one in SOURCES
        ]

    async def use(self, site: Site, link: LinkRecord) -> None:
        key = f"of-{link.source_id}"
        await site.call(link, "wasi:keyvalue/store#set", "default", key, key.encode())
        assert await site.call(link, "wasi:keyvalue/store#get", "default", key) == key.encode()

    async def carry(self, site: Site, link: LinkRecord, data: bytes) -> bytes | None:
        await site.call(link, "wasi:keyvalue/store#set", "default", "large", data)
        back: bytes = await site.call(link, "wasi:keyvalue/store#get", "default", "large")
        return back


class TestMemoryKeyValue(KeyValueConformance):
    def provider(self) -> Provider:
        return MemoryKeyValue()


class TestNatsKeyValue(KeyValueConformance):
    def provider(self) -> Provider:
        return NatsKeyValue()

    async def carry(self, site: Site, link: LinkRecord, data: bytes) -> bytes | None:
        return None  # a JetStream value is one message


@pytest.mark.redis
class TestRedisKeyValue(KeyValueConformance):
    @pytest.fixture(autouse=True)
    def server(self, redis_server) -> None:
        self.config = {"url": redis_server.url}
        self.other_config = {"url": redis_server.url + "0"}

    def provider(self) -> Provider:
        return resolve("builtin:keyvalue-redis")()


class TestBlobStoreInFiles(Conformance):
    @pytest.fixture(autouse=True)
    def root(self, tmp_path: Path) -> None:
        self.root = tmp_path

    def provider(self) -> Provider:
        return FsBlobStore()

    def links(self) -> list[LinkRecord]:
        return [self.link(source, str(self.root)) for source in SOURCES]

    def bad_link(self) -> LinkRecord | None:
        (self.root / "file").touch()
        return self.link("four", str(self.root / "file"))

    @staticmethod
    def link(source: str, root: str) -> LinkRecord:
        return link_between(source, PROVIDER, "wasi:blobstore/blobstore", target_config={"root": root})

    async def use(self, site: Site, link: LinkRecord) -> None:
        assert await self.carry(site, link, b"data") == b"data"

    async def carry(self, site: Site, link: LinkRecord, data: bytes) -> bytes | None:
        box = f"box-{link.source_id}"
        if not await site.call(link, f"{BLOBS}#container-exists", box):
            with contextlib.suppress(WitError):  # another of us was faster
                await site.call(link, f"{BLOBS}#create-container", box)
        await site.call(link, f"{BLOBS}#write-container-data", {"container": box, "object": "it"}, data)
        body = await site.call(link, f"{BLOBS}#get-container-data", {"container": box, "object": "it"}, 0, len(data))
        return await body.read_all() if isinstance(body, ByteStream) else body


@pytest.mark.nats
class TestBlobStoreOnNats(TestBlobStoreInFiles):
    @pytest.fixture(autouse=True)
    def server(self, nats_url: str) -> None:
        self.url = nats_url

    async def transport(self) -> Transport:
        return await connect(self.url)

    far_transport = transport

    def provider(self) -> Provider:
        return NatsBlobStore()

    def bad_link(self) -> LinkRecord | None:
        return None

    @staticmethod
    def link(source: str, root: str) -> LinkRecord:
        return link_between(source, PROVIDER, "wasi:blobstore/blobstore")


class TestSqlite(Conformance):
    @pytest.fixture(autouse=True)
    def root(self, tmp_path: Path) -> None:
        self.root = tmp_path

    def provider(self) -> Provider:
        return SqliteSql()

    def links(self) -> list[LinkRecord]:
        return [self.link(source, str(self.root / f"{source}.db")) for source in SOURCES]

    def bad_link(self) -> LinkRecord | None:
        return self.link("four", "a/relative/path.db")

    @staticmethod
    def link(source: str, path: str) -> LinkRecord:
        return link_between(source, PROVIDER, "trellis:sql/query", target_config={"path": path})

    async def use(self, site: Site, link: LinkRecord) -> None:
        assert await self.carry(site, link, b"data") == b"data"

    async def carry(self, site: Site, link: LinkRecord, data: bytes) -> bytes | None:
        answer = await site.call(link, "trellis:sql/query#query", "SELECT ?", [{"blob": data}])
        back: bytes = answer["rows"][0][0]["blob"]
        return back


class TestHttpClient(Conformance):
    @pytest.fixture(autouse=True)
    async def echoing(self) -> AsyncIterator[None]:
        async def echo(request: web.Request) -> web.Response:
            return web.Response(body=await request.read())

        app = web.Application(client_max_size=10_000_000)
        app.router.add_post("/", echo)
        async with TestServer(app) as server:
            self.authority = f"127.0.0.1:{server.port}"
            yield

    def provider(self) -> Provider:
        return HttpClient()

    def links(self) -> list[LinkRecord]:
        return [self.link(source) for source in SOURCES]

    def bad_link(self) -> LinkRecord | None:
        return self.link("four", proxy="socks5://a")

    @staticmethod
    def link(source: str, **config: str) -> LinkRecord:
        return link_between(source, PROVIDER, "wasi:http/outgoing-handler", target_config=config)

    async def use(self, site: Site, link: LinkRecord) -> None:
        assert await self.carry(site, link, b"data") == b"data"

    async def carry(self, site: Site, link: LinkRecord, data: bytes) -> bytes | None:
        request = {"method": "POST", "path-with-query": "/", "scheme": "http", "authority": self.authority}
        answer = await site.call(
            link, "wasi:http/outgoing-handler#handle", {**request, "headers": [], "body": data}, None
        )
        return await read_body(answer["body"])


class TestMessaging(Conformance):
    def provider(self) -> Provider:
        return MessagingNats()

    def links(self) -> list[LinkRecord]:
        return [
            link_between(
                PROVIDER, source, "wasmcloud:messaging/handler", source_config={"subscriptions": f"to.{source}"}
            )
            for source in SOURCES
        ]

    async def peer(self, invocation: Invocation) -> Value:
        message = invocation.args[0]
        self.heard[message["subject"]].set()
        return None

    async def use(self, site: Site, link: LinkRecord) -> None:
        self.heard = getattr(self, "heard", {})
        heard = self.heard[f"to.{link.target}"] = asyncio.Event()
        await site.far.transport.publish(f"to.{link.target}", b"hello")
        await heard.wait()


class TestCron(Conformance):
    def provider(self) -> Provider:
        self.clock = Clock()
        return Cron(clock=self.clock)

    def links(self) -> list[LinkRecord]:
        return [self.link(source, "tick=* * * * * *:") for source in SOURCES]

    def bad_link(self) -> LinkRecord | None:
        return self.link("four", "never=0 0 31 2 *:")

    @staticmethod
    def link(target: str, cronjobs: str) -> LinkRecord:
        return link_between(PROVIDER, target, "wasmcloud:cron/scheduler", source_config={"cronjobs": cronjobs})

    async def peer(self, invocation: Invocation) -> Value:
        self.called[invocation.target].set()
        return None

    async def use(self, site: Site, link: LinkRecord) -> None:
        self.called = getattr(self, "called", defaultdict(asyncio.Event))
        called = self.called[link.target]
        called.clear()
        while not called.is_set():
            self.clock.pass_to(self.clock.now() + timedelta(seconds=1))
            await asyncio.sleep(0)


@pytest.mark.postgres
class TestPostgres(Conformance):
    @pytest.fixture(autouse=True)
    def server(self, postgres_server: PostgresServer) -> None:
        self.port = str(postgres_server.port)

    def provider(self) -> Provider:
        return resolve("builtin:sqldb-postgres")()

    def links(self) -> list[LinkRecord]:
        return [self.link(source) for source in SOURCES]

    def bad_link(self) -> LinkRecord | None:
        return self.link("four", password="wrong")

    def link(self, source: str, password: str = "right") -> LinkRecord:
        config = {"host": "127.0.0.1", "port": self.port, "username": "me", "password": password, "pool_size": "2"}
        config["database"] = "postgres"
        return link_between(source, PROVIDER, "wasmcloud:postgres/query,prepared", target_config=config)

    async def use(self, site: Site, link: LinkRecord) -> None:
        assert await self.carry(site, link, b"data") == b"data"

    async def carry(self, site: Site, link: LinkRecord, data: bytes) -> bytes | None:
        [[answer]] = await site.call(link, "wasmcloud:postgres/query#query", "SELECT $1::bytea", [{"bytea": data}])
        back: bytes = answer["value"]["bytea"]
        return back


class TestHttpServer(Conformance):
    config = MappingProxyType({"routing_mode": "path", "default_address": "127.0.0.1:0"})
    other_config = MappingProxyType({**config, "timeout_ms": "5000"})

    def provider(self) -> Provider:
        return HttpServer()

    def links(self) -> list[LinkRecord]:
        return [self.link(source, f"/{source}") for source in SOURCES]

    def bad_link(self) -> LinkRecord | None:
        return self.link("four", "/one")

    @staticmethod
    def link(target: str, path: str) -> LinkRecord:
        return link_between(PROVIDER, target, "wasi:http/incoming-handler", source_config={"path": path})

    async def peer(self, invocation: Invocation) -> Value:
        body = invocation.args[0]["body"]
        return {"status": 200, "headers": [], "body": body or invocation.target.encode()}

    async def use(self, site: Site, link: LinkRecord) -> None:
        assert await self.post(site, link, b"") == link.target.encode()

    async def carry(self, site: Site, link: LinkRecord, data: bytes) -> bytes | None:
        return await self.post(site, link, data)

    async def post(self, site: Site, link: LinkRecord, data: bytes) -> bytes:
        url = site.runtime.provider.url(link.id) + link.source_config["path"]
        async with aiohttp.ClientSession() as session, session.post(url, data=io.BytesIO(data)) as response:
            return await response.read()


async def test_a_provider_that_forgets_its_links_does_not_pass():
    class Forgetful(resolve(str(SHOUT))):  # type: ignore[misc]
        async def link_added(self, link: Link) -> None:
            self.known = link

        async def link_removed(self, link: Link) -> None:
            del self.known

        @export("demo:text/transform#shout")
        async def shout(self, link: Link, text: str) -> str:
            return f"{text.upper()}{self.known.config['suffix']}"

    class Suite(TestShout):
        def provider(self) -> Provider:
            return Forgetful()

    with pytest.raises((AssertionError, Trap)):
        await Suite().test_every_link_works_beside_the_others_and_it_says_that_it_is_well()
    with pytest.raises((AssertionError, Trap)):
        await Suite().test_links_come_and_go_in_any_order()
