"""Key-value in Redis (6.0 or later) or Valkey, with wasmCloud's configuration keys. Needs the extra `redis`."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

import structlog
from pydantic import BaseModel, ConfigDict, Field, SecretStr
from redis import exceptions as refusals
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from lattice import BadInput, Denied, Finding, LatticeError, Unreachable, WitError
from providers.keyvalue.store import MOST, Change, KeyValue, NotANumber, Store
from providers.link import Link, LinkId

log = structlog.get_logger("providers")

DEFAULT_URL = "redis://127.0.0.1:6379/"

CONNECTIONS = 32
"""Connections to one server at most; more calls wait for one."""

FIRST_PAUSE = 0.01
"""Seconds before a command is tried again, doubled each time."""


class RedisSettings(BaseModel):
    """The provider's own configuration: what holds for links that say nothing else."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    url: SecretStr = SecretStr(DEFAULT_URL)
    """`redis://[user:password@]host[:port][/db]`, `rediss://` with TLS, or `unix://[user:password@]/path[?db=n]`."""
    disable_default_connection: bool = False
    """Refuse links without a `url` of their own."""
    share_connections_by_url: bool = True
    """Taken for wasmCloud's sake. Links with the same settings always share their connections."""
    backend_reconnect_num_retries: int = Field(3, ge=0, le=100)
    backend_reconnect_max_delay_ms: int = Field(300, ge=0)
    backend_connection_timeout_ms: int = Field(3000, gt=0)
    backend_response_timeout_ms: int = Field(1000, gt=0)


class RedisLink(BaseModel):
    """A link's target_config."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    url: SecretStr | None = None
    bucket: str | None = Field(None, pattern=r"^[A-Za-z0-9_-]+$")
    """Keep this link's keys apart, as `bucket:key`. Without it the link has the whole database, as in wasmCloud."""
    backend_reconnect_num_retries: int | None = Field(None, ge=0, le=100)
    backend_reconnect_max_delay_ms: int | None = Field(None, ge=0)
    backend_connection_timeout_ms: int | None = Field(None, gt=0)
    backend_response_timeout_ms: int | None = Field(None, gt=0)


@dataclass(frozen=True, slots=True)
class Reach:
    """How a server is reached; links for which this is equal share connections. Times are in seconds."""

    url: SecretStr
    retries: int
    longest_pause: float
    connecting: float
    answering: float

    @property
    def place(self) -> str:
        """The URL without credentials, for people."""
        try:
            parts = urlsplit(self.url.get_secret_value())
            port = f":{parts.port}" if parts.port else ""
        except ValueError:
            return "(not a URL)"
        return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"


def reach(link: RedisLink, settings: RedisSettings) -> Reach:
    """What the link says, else what the provider says."""

    def said(name: str) -> int:
        own: int | None = getattr(link, name)
        return cast(int, getattr(settings, name)) if own is None else own

    return Reach(
        link.url or settings.url,
        said("backend_reconnect_num_retries"),
        said("backend_reconnect_max_delay_ms") / 1000,
        said("backend_connection_timeout_ms") / 1000,
        said("backend_response_timeout_ms") / 1000,
    )


class Server:
    """The connections to one server."""

    def __init__(self, reach: Reach) -> None:
        """Raises ValueError for a URL that cannot be; connects nowhere yet."""
        self.reach = reach
        pool = BlockingConnectionPool.from_url(
            reach.url.get_secret_value(),
            max_connections=CONNECTIONS,
            timeout=reach.connecting,
            socket_connect_timeout=reach.connecting,
            socket_timeout=reach.answering,
            protocol=2,
            retry=Retry(NoBackoff(), 0),  # what may be repeated is decided in `ask`
        )
        self._client: Any = Redis.from_pool(pool)  # its types are not the same in all versions we take

    async def ask(self, *command: bytes | str | int, repeat: bool = True) -> Any:
        """Run a command; one that does no harm when it is carried out twice is repeated while the server is away.

        Raises Unreachable, Denied, or LatticeError for what the server says no to.
        """
        tries = self.reach.retries if repeat else 0
        pause = FIRST_PAUSE
        while True:
            try:
                return await self._client.execute_command(*command)
            except refusals.RedisError as error:
                if tries <= 0 or not _away(error):
                    raise self._translated(error) from error
            except OSError as error:
                if tries <= 0:
                    raise self._translated(error) from error
            tries -= 1
            await asyncio.sleep(min(pause, self.reach.longest_pause) * (0.5 + random.random() / 2))
            pause *= 2

    def _translated(self, error: BaseException) -> LatticeError:
        """The one place where redis-py's errors become ours."""
        where = f"Redis at {self.reach.place}"
        match error:
            case refusals.AuthenticationError() | refusals.AuthorizationError():
                return Denied(f"{where} refuses the login: {error}")
            case refusals.NoPermissionError():
                return Denied(f"{where}: {error}")
            case refusals.TimeoutError():
                return Unreachable(f"{where} did not answer within {self.reach.answering:g} s")
            case refusals.BusyLoadingError():
                return Unreachable(f"{where} is still loading its data")
            case refusals.ConnectionError() | OSError():
                return Unreachable(f"{where} does not answer: {error or type(error).__name__}")
        return LatticeError(f"{where}: {error}")

    async def greet(self) -> None:
        """Raises BadInput, naming what is wrong, unless the server answers."""
        try:
            await self.ask("PING", repeat=False)
        except Denied as error:
            raise BadInput(
                Finding("TRL-PRV-010", error.message, fix='correct user and password in "url"', why=_HOW)
            ) from error
        except LatticeError as error:
            raise BadInput(Finding("TRL-PRV-010", error.message, fix='start it, or correct "url"', why=_HOW)) from error

    @asynccontextmanager
    async def notifications(self, prefix: bytes) -> AsyncIterator[AsyncIterator[bytes]]:
        """The names of keys that change, of those that begin with `prefix`, while the block runs.

        Raises LatticeError when the server does not tell, or breaks off.
        """
        await self._have_changes_told()
        database = self._client.connection_pool.connection_kwargs.get("db", 0)
        channel = f"__keyspace@{database}__:".encode()
        listener = self._client.pubsub(ignore_subscribe_messages=True)
        try:
            await listener.psubscribe(channel + prefix + b"*")

            async def names() -> AsyncIterator[bytes]:
                while True:
                    message = await listener.get_message(timeout=60)
                    if message is not None and message["data"] in CHANGES:
                        yield message["channel"][len(channel) :]

            yield names()
        except (refusals.RedisError, OSError) as error:
            raise self._translated(error) from error
        finally:
            await listener.aclose()

    async def _have_changes_told(self) -> None:
        """Servers tell of nothing unless they are configured to; one that does not show how it is, is believed."""
        try:
            _, told = await self.ask("CONFIG", "GET", "notify-keyspace-events")
        except LatticeError as error:
            log.warning("watch.unchecked", server=self.reach.place, error=error.message)
            return
        flags = told.decode()
        if missing := ({"K"} if "A" in flags else TOLD) - set(flags):
            await self.ask("CONFIG", "SET", "notify-keyspace-events", flags + "".join(sorted(missing)))

    async def close(self) -> None:
        await self._client.aclose(close_connection_pool=True)


TOLD = frozenset("K$gxe")
"""Keyspace notifications of strings, deletions, and keys whose time is over or whose room was needed."""

CHANGES = frozenset(
    (b"set", b"del", b"incrby", b"append", b"setrange", b"rename_to", b"rename_from", b"expired", b"evicted")
)
"""Of all that is told about a key, what changes its value."""


_HOW = "a link is taken only when its server answers; hosts try a refused link again"


def _away(error: refusals.RedisError) -> bool:
    """The server may be back in a moment; a login that it refuses will not get better."""
    if isinstance(error, (refusals.AuthenticationError, refusals.AuthorizationError)):
        return False
    return isinstance(error, (refusals.ConnectionError, refusals.TimeoutError))


ADD = """
local old = redis.call('GET', KEYS[1]) or '0'
old = string.match(old, '^%s*(%d+)%s*$')
if not old or #old > 20 then return 'not a number' end
local one, other = string.rep('0', 20 - #old) .. old, string.rep('0', 20 - #ARGV[1]) .. ARGV[1]
local sum, carry = '', 0
for i = 20, 1, -1 do
  local digit = string.byte(one, i) + string.byte(other, i) - 96 + carry
  carry = digit > 9 and 1 or 0
  sum = string.char(48 + digit % 10) .. sum
end
if carry > 0 or sum > ARGV[2] then return 'too large' end
sum = string.gsub(sum, '^0+(%d)', '%1')
redis.call('SET', KEYS[1], sum, 'KEEPTTL')
return sum
"""
"""Add ARGV[1] to the decimal number at KEYS[1], up to ARGV[2]: INCRBY ends at 2^63, and counts below zero.

In text, digit by digit, because Lua's numbers are exact up to 2^53 only.
"""


SWAP = """
local old = redis.call('GET', KEYS[1])
if old ~= (ARGV[1] == '1' and ARGV[2]) then return 0 end
redis.call('SET', KEYS[1], ARGV[3], 'KEEPTTL')
return 1
"""
"""Set KEYS[1] to ARGV[3] if it is ARGV[2], or if it is not there when ARGV[1] is 0."""


class RedisStore(Store):
    """The keys of one database that begin with `prefix`, which is for us only."""

    def __init__(self, server: Server, prefix: str) -> None:
        self.server = server
        self.prefix = prefix.encode()

    def _name(self, key: str) -> bytes:
        return self.prefix + key.encode("utf-8", "surrogatepass")

    async def get(self, key: str) -> bytes | None:
        found: bytes | None = await self.server.ask("GET", self._name(key))
        return found

    async def set(self, key: str, value: bytes) -> None:
        await self.server.ask("SET", self._name(key), bytes(value))

    async def delete(self, key: str) -> None:
        await self.server.ask("DEL", self._name(key))

    async def exists(self, key: str) -> bool:
        return bool(await self.server.ask("EXISTS", self._name(key)))

    async def page(self, cursor: int, most: int) -> tuple[list[str], int | None]:
        """Redis's own cursor (SCAN): `most` is a hint to it, and a key may come twice while others are written.

        Keys that are not text are left out: no WIT string names them.
        """
        matching = ("MATCH", self.prefix + b"*") if self.prefix else ()
        while True:
            after, names = await self.server.ask("SCAN", cursor, *matching, "COUNT", most)
            keys = [key for name in names if (key := _text(name[len(self.prefix) :])) is not None]
            if keys or not after:
                return keys, after or None
            cursor = after

    async def increment(self, key: str, delta: int) -> int:
        """Never repeated: a server that does not answer may have counted."""
        if delta > MOST:
            raise NotANumber(f"the number would leave the range of a u64: {delta}")
        sum: bytes = await self.server.ask("EVAL", ADD, 1, self._name(key), delta, MOST, repeat=False)
        if sum == b"not a number":
            raise NotANumber("the value is not a number (decimal digits of a u64)")
        if sum == b"too large":
            raise NotANumber("the number would leave the range of a u64")
        return int(sum)

    async def swap(self, key: str, old: bytes | None, new: bytes) -> bool:
        """Never repeated: a server that does not answer may have swapped."""
        there = (0, b"") if old is None else (1, old)
        return bool(await self.server.ask("EVAL", SWAP, 1, self._name(key), *there, bytes(new), repeat=False))

    async def watch(self) -> AsyncIterator[Change | None]:
        """By keyspace notifications. A key that changes again before it is read is told of once, as it is then."""
        async with self.server.notifications(self.prefix) as events:
            yield None
            async for name in events:
                if (key := _text(name[len(self.prefix) :])) is not None:
                    yield Change(key, await self.get(key))

    async def get_many(self, keys: list[str]) -> list[bytes | None]:
        if not keys:
            return []
        found: list[bytes | None] = await self.server.ask("MGET", *map(self._name, keys))
        return found

    async def set_many(self, values: Mapping[str, bytes]) -> None:
        """All or nothing, which is more than the WIT asks."""
        if values:
            pairs = [part for key, value in values.items() for part in (self._name(key), bytes(value))]
            await self.server.ask("MSET", *pairs)

    async def delete_many(self, keys: list[str]) -> None:
        if keys:
            await self.server.ask("DEL", *map(self._name, keys))


def _text(name: bytes) -> str | None:
    try:
        return name.decode()
    except UnicodeDecodeError:
        return None


class RedisKeyValue(KeyValue):
    """`builtin:keyvalue-redis`.

    A link is refused, with the reason, unless its server answers and takes the login. A server that dies later is an
    error that guests can handle, until it is back.
    """

    settings_model = RedisSettings
    link_config = RedisLink
    settings: RedisSettings

    def __init__(self) -> None:
        self._stores: dict[LinkId, RedisStore] = {}
        self._servers: dict[Reach, Server] = {}
        self._turn = asyncio.Lock()

    async def config_changed(self, config: Mapping[str, str]) -> None:
        """Links that rely on the provider's URL move to the new one; those that it does not work for stay."""
        for link in list(self.links.values()):
            await self.link_added(link)

    async def link_added(self, link: Link[RedisLink]) -> None:
        if link.config.url is None and self.settings.disable_default_connection:
            raise BadInput(
                Finding(
                    "TRL-CFG-002",
                    f'link {link.record}: "url" is missing',
                    why='"disable_default_connection" is set for the provider',
                    fix='set "url" in the configuration',
                )
            )
        server = await self._server(link)
        prefix = "" if link.config.bucket is None else f"{link.config.bucket}:"
        store = self._stores[link.id] = RedisStore(server, prefix)
        await self._tidy()
        if not link.incoming:
            self.unwatch(link)
            await self._begin_to_watch(link, store)

    async def _begin_to_watch(self, link: Link[RedisLink], store: RedisStore) -> None:
        try:
            await self.watch(link, store)
        except LatticeError as error:
            await self.link_removed(link)
            raise BadInput(
                Finding(
                    "TRL-PRV-010",
                    f"link {link.record}: {error.message}",
                    why="a watcher needs the server's keyspace notifications",
                    fix="set notify-keyspace-events to KA on the server, or allow this login CONFIG and PSUBSCRIBE",
                )
            ) from error

    async def link_changed(self, old: Link[Any], new: Link[Any]) -> None:
        await self._add_instead(old, new)

    async def link_removed(self, link: Link[Any]) -> None:
        self.unwatch(link)
        self._stores.pop(link.id, None)
        await self._tidy()

    async def stopped(self) -> None:
        self._stores.clear()
        await self._tidy()

    async def healthy(self) -> bool | str:
        """Whether every server that a link uses answers."""
        for server in list(self._servers.values()):
            try:
                await server.ask("PING", repeat=False)
            except LatticeError as error:
                return error.message
        return True

    async def open(self, link: Link[Any], name: str) -> RedisStore:
        """A link without a `bucket` of its own takes any name, as wasmCloud's provider does: they are all the same."""
        meant = self.meant(link, name)
        if meant is None and link.config.bucket is None:
            meant = link
        store = None if meant is None else self._stores.get(meant.id)
        if store is None:
            raise WitError("no-such-store")
        return store

    async def _server(self, link: Link[RedisLink]) -> Server:
        """The server that `link` means, which has just answered."""
        wanted = reach(link.config, self.settings)
        async with self._turn:
            server = self._servers.get(wanted)
            if server is not None:
                await server.greet()
                return server
            try:
                server = Server(wanted)
            except ValueError:
                raise BadInput(
                    Finding(
                        "TRL-CFG-002",
                        f'link {link.record}: "url" is not the URL of a Redis server',
                        fix="write redis://HOST:PORT/DB, rediss:// for TLS, or unix:///PATH",
                    )
                ) from None
            try:
                await server.greet()
            except BaseException:
                await server.close()
                raise
            self._servers[wanted] = server
            return server

    async def _tidy(self) -> None:
        """Leave the servers that no link uses any more."""
        async with self._turn:
            used = {store.server.reach for store in self._stores.values()}
            for reach in [reach for reach in self._servers if reach not in used]:
                await self._servers.pop(reach).close()
