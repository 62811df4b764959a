"""wasmcloud:postgres on PostgreSQL, with wasmCloud's configuration keys. Needs the extra `postgres`.

| function                               | arguments        | result                                              |
|----------------------------------------|------------------|-----------------------------------------------------|
| wasmcloud:postgres/query#query         | sql, params      | [[{"column-name": ..., "value": pg-value}, ...] ...] |
| wasmcloud:postgres/query#query-batch   | sql              |                                                     |
| wasmcloud:postgres/prepared#prepare    | sql              | a token                                             |
| wasmcloud:postgres/prepared#exec       | token, params    | rows affected                                       |

Parameters are written `$1`, `$2`, ... and never read as SQL. Errors are answers, of the variants in
`actors/wit/deps/postgres.wit`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import asyncpg
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr

from lattice import BadInput, Finding, Value, WitError
from providers.link import Link, LinkId
from providers.provider import Provider, export
from providers.sql.pgvalues import Inexpressible, Unfit, argument, pg_value
from providers.wit import GUESTS

QUERY = "wasmcloud:postgres/query"
PREPARED = "wasmcloud:postgres/prepared"


def _key(name: str) -> AliasChoices:
    return AliasChoices(f"postgres_{name}", name)


class PostgresLink(BaseModel):
    """A link's target_config."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    host: str = Field(validation_alias=_key("host"))
    port: int = Field(5432, ge=1, le=65535, validation_alias=_key("port"))
    username: str = Field(validation_alias=_key("username"))
    password: SecretStr = Field(SecretStr(""), validation_alias=_key("password"))
    database: str = Field(validation_alias=_key("database"))
    tls_required: bool = Field(False, validation_alias=_key("tls_required"))
    """Without it, TLS is used where the server offers it, and nobody asks whose certificate it is."""
    tls_ca_file: str | None = Field(None, validation_alias=_key("tls_ca_file"))
    pool_size: int = Field(10, ge=1, le=1000, validation_alias=_key("pool_size"))
    timeout_ms: int = Field(10_000, ge=1, le=3_600_000, validation_alias=_key("timeout_ms"))
    """What one call may take, waiting for a connection included."""
    max_rows: int = Field(10_000, ge=1, validation_alias=_key("max_rows"))
    """What one answer may hold."""

    @property
    def place(self) -> str:
        return f"PostgreSQL at {self.host}:{self.port}"

    def tls(self) -> ssl.SSLContext | str:
        """Raises OSError for a CA file that cannot be read."""
        if self.tls_required or self.tls_ca_file:
            return ssl.create_default_context(cafile=self.tls_ca_file)
        return "prefer"


async def _intervals_as_text(connection: Any) -> None:
    """A span of time is no `pg-value`: it goes and comes as PostgreSQL writes it."""
    await connection.set_type_codec("interval", schema="pg_catalog", encoder=str, decoder=str, format="text")


class Server:
    """The connections of all links that say the same."""

    def __init__(self, config: PostgresLink) -> None:
        self.config = config
        self._pool: Any = None

    async def open(self) -> None:
        """Raises whatever asyncpg does, unless the server answers and takes the login."""
        config = self.config
        self._pool = asyncpg.create_pool(
            host=config.host,
            port=config.port,
            user=config.username,
            password=config.password.get_secret_value(),
            database=config.database,
            ssl=config.tls(),
            min_size=0,
            max_size=config.pool_size,
            server_settings={"application_name": "trellis"},
            init=_intervals_as_text,
        )
        await self._pool
        await self.greet()

    async def greet(self) -> None:
        async with self.connection() as connection:
            await connection.fetchval("SELECT 1")

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        """One connection, for as long as a call may take: then TimeoutError, and the server stops, too."""
        async with asyncio.timeout(self.config.timeout_ms / 1000):
            async with self._pool.acquire() as connection:
                yield connection

    async def close(self) -> None:
        self._pool.terminate()


class Answer(NamedTuple):
    columns: list[tuple[str, str]]
    """Names and types."""
    rows: list[Any]
    affected: int

    def values(self) -> list[list[dict[str, Value]]]:
        """The rows as the WIT has them. Raises Inexpressible."""
        return [
            [
                {"column-name": name, "value": pg_value(cell, type, name)}
                for (name, type), cell in zip(self.columns, row, strict=True)
            ]
            for row in self.rows
        ]


async def run(connection: Any, sql: str, params: list[Any], most: int) -> Answer:
    """One statement. Raises Inexpressible when its answer has more than `most` rows; it is undone then."""
    statement = await connection.prepare(sql)
    columns = [(column.name, column.type.name) for column in statement.get_attributes()]
    if not columns:
        await statement.fetch(*params)
        count = statement.get_statusmsg().rpartition(" ")[2]  # such as INSERT 0 3
        return Answer([], [], int(count) if count.isdigit() else 0)
    async with connection.transaction():
        rows = await (await statement.cursor(*params)).fetch(most + 1)
        if len(rows) > most:
            raise Inexpressible(f"the answer has more than {most} rows: use LIMIT")
    return Answer(columns, rows, len(rows))


def _error(error: Exception, config: PostgresLink) -> Value:
    """The one place where asyncpg's errors become a `query-error`."""
    match error:
        case Unfit():
            return {"invalid-params": str(error)}
        case TimeoutError():
            return {"unexpected": f"{config.place} did not answer within {config.timeout_ms / 1000:g} s"}
        case asyncpg.PostgresConnectionError() | asyncpg.PostgresSystemError() | OSError():
            return {"unexpected": f"{config.place} does not answer: {error or type(error).__name__}"}
        case asyncpg.PostgresError():
            state = error.sqlstate or ""
            case = {"22": "invalid-params", "42": "invalid-query"}.get(state[:2], "unexpected")
            return {case: f"{error} (SQLSTATE {state})" if state else str(error)}
        case asyncpg.InterfaceError() if "argument" in str(error):
            return {"invalid-params": str(error)}
        case asyncpg.InterfaceError():  # what asyncpg says when it leaves a transaction whose connection is gone
            return {"unexpected": f"{config.place} does not answer: the connection broke off"}
    return {"unexpected": str(error) or type(error).__name__}


REFUSALS = (Unfit, Inexpressible, asyncpg.PostgresError, asyncpg.InterfaceError, OSError, ValueError)
"""TimeoutError is an OSError."""


class PostgresSql(Provider):
    """`builtin:sqldb-postgres`. A link is refused unless its server answers and takes the login."""

    wit = GUESTS / "postgres.wit"
    link_config = PostgresLink

    def __init__(self) -> None:
        self._used: dict[LinkId, Server] = {}
        self._turn = asyncio.Lock()

    async def link_added(self, link: Link[PostgresLink]) -> None:
        async with self._turn:
            server = next((s for s in self._used.values() if s.config == link.config), None)
            if server is None:
                server = await self._opened(link)
            self._used[link.id] = server

    async def _opened(self, link: Link[PostgresLink]) -> Server:
        server, place = Server(link.config), link.config.place
        try:
            await server.open()
        except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError) as error:
            raise _refused(
                link, f"{place} refuses the login: {error}", "correct user, password and database"
            ) from error
        except REFUSALS as error:
            reason = error if str(error) else type(error).__name__
            raise _refused(link, f"{place} does not answer: {reason}", "start it, or correct host and port") from error
        return server

    async def link_removed(self, link: Link[Any]) -> None:
        async with self._turn:
            server = self._used.pop(link.id)
            if server not in self._used.values():
                await server.close()

    async def healthy(self) -> bool | str:
        """Whether every server that a link uses answers."""
        for server in set(self._used.values()):
            try:
                await server.greet()
            except REFUSALS as error:
                return f"{server.config.place} does not answer: {error or type(error).__name__}"
        return True

    async def _run(self, link: Link[PostgresLink], sql: str, params: list[Value]) -> Answer:
        arguments = [argument(param) for param in params]
        async with self._used[link.id].connection() as connection:
            return await run(connection, sql, arguments, link.config.max_rows)

    @export(f"{QUERY}#query")
    async def query(self, link: Link[Any], sql: str, params: list[Value]) -> list[list[dict[str, Value]]]:
        try:
            return (await self._run(link, sql, params)).values()
        except REFUSALS as error:
            raise WitError(_error(error, link.config)) from error

    @export(f"{QUERY}#query-batch")
    async def query_batch(self, link: Link[Any], sql: str) -> None:
        """Several statements at once, as one transaction unless they say otherwise."""
        try:
            async with self._used[link.id].connection() as connection:
                await connection.execute(sql)
        except REFUSALS as error:
            raise WitError(_error(error, link.config)) from error

    @export(f"{PREPARED}#prepare")
    async def prepare(self, link: Link[Any], statement: str) -> str:
        """The token is the statement, found to be one: so every provider on every host knows it."""
        try:
            async with self._used[link.id].connection() as connection:
                await connection.prepare(statement)
        except REFUSALS as error:
            [said] = _error(error, link.config).values()
            raise WitError({"unexpected": said}) from error
        return statement

    @export(f"{PREPARED}#exec")
    async def exec(self, link: Link[Any], token: str, params: list[Value]) -> int:
        try:
            return (await self._run(link, token, params)).affected
        except REFUSALS as error:
            raise WitError({"query-error": _error(error, link.config)}) from error


def _refused(link: Link[PostgresLink], said: str, fix: str) -> BadInput:
    return BadInput(Finding("TRL-PRV-010", f"link {link.record}: {said}", fix=fix))
