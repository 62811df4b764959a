"""trellis:sql on SQLite: a file for each link, whose statements can reach nothing but that file.

| function                   | arguments                            | result                               |
|----------------------------|--------------------------------------|--------------------------------------|
| trellis:sql/query#query    | sql, params                          | {"columns", "rows", "changes"}       |
| trellis:sql/query#transact | [{"sql": ..., "params": [...]}, ...] | such a record for each; all, or none |

A value is "null", {"integer": 1}, {"real": 1.0}, {"text": "a"} or {"blob": b"a"}. Errors are answers, of the variant in
`actors/wit/deps/sql.wit`.
"""

from __future__ import annotations

import asyncio
import math
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from lattice import BadInput, Finding, Value, WitError
from providers.link import Link, LinkId
from providers.provider import Provider, export
from providers.wit import GUESTS

QUERY = "trellis:sql/query"

Result = TypeVar("Result")

OPCODES = 5000
"""Steps of SQLite's machine between two looks at the clock: some tens of microseconds."""
STATEMENT = 1024 * 1024
"""Bytes of one statement."""

READABLE = frozenset(
    ("table_info", "table_xinfo", "table_list", "index_info", "index_list", "index_xinfo", "foreign_key_list")
)
"""PRAGMAs that only tell about the schema; guests may not use any other."""


class SqliteLink(BaseModel):
    """A link's target_config."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    """The database's file, which is made when it is not there; an absolute path, in a folder that is there."""
    read_only: bool = False
    timeout_ms: int = Field(5000, ge=1, le=3_600_000)
    """What one call may take, waiting included."""
    pool_size: int = Field(4, ge=1, le=64)
    """Statements that run at a time. Of those that write, SQLite runs one."""
    max_rows: int = Field(10_000, ge=1)
    max_bytes: int = Field(16 * 1024 * 1024, ge=1)
    """What one answer may hold."""
    max_size: int | None = Field(None, ge=65536)
    """Bytes that the database may grow to."""


class Failed(Exception):
    """The `error` that a statement is answered with."""

    def __init__(self, error: Value) -> None:
        super().__init__(error)
        self.error = error


_CASES = {
    sqlite3.SQLITE_CONSTRAINT: "constraint",
    sqlite3.SQLITE_AUTH: "denied",
    sqlite3.SQLITE_READONLY: "denied",
    sqlite3.SQLITE_ERROR: "invalid",
    sqlite3.SQLITE_MISMATCH: "invalid",
    sqlite3.SQLITE_RANGE: "invalid",
    sqlite3.SQLITE_INTERRUPT: "timeout",
    sqlite3.SQLITE_BUSY: "timeout",
    sqlite3.SQLITE_LOCKED: "timeout",
    sqlite3.SQLITE_FULL: "full",
    sqlite3.SQLITE_TOOBIG: "too-large",
}
_BARE = frozenset(("timeout", "full", "too-large"))


@contextmanager
def _said() -> Iterator[None]:
    """The one place where SQLite's errors become ours."""
    try:
        yield
    except (sqlite3.Error, ValueError, OverflowError) as error:
        number = getattr(error, "sqlite_errorcode", None)
        # what Python itself finds wrong (too few parameters, two statements, integers beyond 64 bits) has no number
        case = "invalid" if number is None else _CASES.get(number & 0xFF, "other")
        raise Failed(case if case in _BARE else {case: str(error)}) from error


def _identity(path: str) -> tuple[int, int]:
    """Of the file that is there, whatever it was called before."""
    found = Path(path).stat()
    return found.st_dev, found.st_ino


class Connection:
    """One connection, used by one thread at a time. Everything here blocks."""

    def __init__(self, config: SqliteLink) -> None:
        self._config = config
        self._until = 0.0
        self._left = False
        self._open()

    def _open(self) -> None:
        config = self._config
        self._ours = True
        mode = "ro" if config.read_only else "rwc"
        self._sqlite = sqlite3.connect(
            f"{Path(config.path).as_uri()}?mode={mode}",
            uri=True,
            timeout=config.timeout_ms / 1000,
            isolation_level=None,  # no transactions behind our back
            check_same_thread=False,
        )
        try:
            self._configure()
            self._file = _identity(config.path)
        except BaseException:
            self._sqlite.close()
            raise

    def _follow(self) -> None:
        """Another file may have taken the place of the one that is open: of that one nobody would hear any more."""
        try:
            there = _identity(self._config.path)
        except OSError as error:
            raise Failed({"other": f"the database's file is gone: {error.strerror}"}) from error
        if there != self._file:
            self._sqlite.close()
            self._open()

    def _configure(self) -> None:
        config, sqlite = self._config, self._sqlite
        sqlite.execute("PRAGMA foreign_keys = ON")
        sqlite.execute("PRAGMA trusted_schema = OFF")
        if not config.read_only:
            sqlite.execute("PRAGMA journal_mode = WAL")
            sqlite.execute("PRAGMA synchronous = NORMAL")
        sqlite.execute("SELECT count(*) FROM sqlite_schema")  # reads the file: is it a database at all?
        if config.max_size is not None:
            (page,) = sqlite.execute("PRAGMA page_size").fetchone()
            sqlite.execute(f"PRAGMA max_page_count = {config.max_size // page}")
        sqlite.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        sqlite.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, STATEMENT)
        sqlite.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, config.max_bytes)
        sqlite.set_authorizer(self._allowed)
        sqlite.set_progress_handler(self._is_late, OPCODES)
        self._ours = False

    def _allowed(self, action: int, one: str | None, other: str | None, *_: str | None) -> int:
        """Asked by SQLite when it compiles a statement."""
        if self._ours:
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_PRAGMA:
            return sqlite3.SQLITE_OK if (one or "").lower() in READABLE else sqlite3.SQLITE_DENY
        if action in (
            sqlite3.SQLITE_ATTACH,
            sqlite3.SQLITE_DETACH,
            sqlite3.SQLITE_TRANSACTION,
            sqlite3.SQLITE_SAVEPOINT,
        ):
            return sqlite3.SQLITE_DENY
        return sqlite3.SQLITE_OK

    def _is_late(self) -> bool:
        return self._left or time.monotonic() > self._until

    def take(self, until: float) -> None:
        """The next run ends by `until`, which is on `time.monotonic()`'s clock."""
        self._until = until
        self._left = False

    def leave(self) -> None:
        """Nobody waits for what is running any more: end it. From any thread."""
        self._left = True

    def run(self, statements: Sequence[tuple[str, list[Any]]]) -> list[dict[str, Value]]:
        """Their answers, in order. Several are one transaction. Raises Failed."""
        with _said():
            self._follow()
            if len(statements) == 1:
                return [self._answer(*statements[0])]
            self._own("BEGIN IMMEDIATE")
            try:
                answers = [self._answer(sql, params) for sql, params in statements]
                self._own("COMMIT")
            except BaseException:
                with suppress(sqlite3.OperationalError):  # SQLite may have rolled back by itself
                    self.take(math.inf)
                    self._own("ROLLBACK")
                raise
            return answers

    def _own(self, sql: str) -> None:
        self._ours = True
        try:
            self._sqlite.execute(sql)
        finally:
            self._ours = False

    def _answer(self, sql: str, params: list[Any]) -> dict[str, Value]:
        before = self._sqlite.total_changes
        cursor = self._sqlite.execute(sql, params)
        try:
            rows: list[list[Value]] = []
            size = 0
            for row in cursor:
                size += sum(len(cell) if isinstance(cell, (str, bytes)) else 8 for cell in row)
                if len(rows) == self._config.max_rows or size > self._config.max_bytes:
                    raise Failed("too-large")
                rows.append([_value(cell) for cell in row])
            columns = [column[0] for column in cursor.description or ()]
        finally:
            cursor.close()
        return {"columns": columns, "rows": rows, "changes": self._sqlite.total_changes - before}

    def close(self) -> None:
        self._sqlite.close()


class Database:
    """A file's connections, each in use by one call at a time."""

    def __init__(self, config: SqliteLink) -> None:
        self._config = config
        self._threads = ThreadPoolExecutor(config.pool_size, thread_name_prefix="sqlite")
        self._free: asyncio.Queue[Connection] = asyncio.Queue()
        self._all: list[Connection] = []

    async def _in_thread(self, work: Callable[..., Result], *args: Any) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)

    async def open(self) -> None:
        """Raises sqlite3.Error."""
        try:
            for _ in range(self._config.pool_size):
                self._all.append(await self._in_thread(Connection, self._config))
        except BaseException:
            await self.close()
            raise
        for connection in self._all:
            self._free.put_nowait(connection)

    async def run(self, statements: Sequence[tuple[str, list[Any]]]) -> list[dict[str, Value]]:
        """Raises Failed. When it is cancelled, or its time is over, SQLite stops, too."""
        seconds = self._config.timeout_ms / 1000
        until = time.monotonic() + seconds
        try:
            async with asyncio.timeout(seconds):
                connection = await self._free.get()
        except TimeoutError:
            raise Failed("timeout") from None
        connection.take(until)
        running = asyncio.ensure_future(self._in_thread(connection.run, statements))
        running.add_done_callback(lambda _: self._back(running, connection))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            connection.leave()
            raise

    def _back(self, running: asyncio.Future[Any], connection: Connection) -> None:
        if not running.cancelled():
            running.exception()  # seen, also when nobody waits for it any more
        self._free.put_nowait(connection)

    async def close(self) -> None:
        """After the last call."""
        for connection in self._all:
            await self._in_thread(connection.close)
        self._all.clear()
        self._threads.shutdown(wait=False)


class SqliteSql(Provider):
    """`builtin:sqldb-sqlite`."""

    wit = GUESTS / "sql.wit"
    link_config = SqliteLink

    def __init__(self) -> None:
        self._databases: dict[LinkId, Database] = {}

    async def link_added(self, link: Link[SqliteLink]) -> None:
        if not Path(link.config.path).is_absolute():
            raise _unusable(link, "it is not an absolute path")
        database = Database(link.config)
        try:
            await database.open()
        except sqlite3.Error as error:
            raise _unusable(link, str(error)) from error
        self._databases[link.id] = database

    async def link_removed(self, link: Link[Any]) -> None:
        await self._databases.pop(link.id).close()

    @export(f"{QUERY}#query")
    async def query(self, link: Link[Any], sql: str, params: list[Value]) -> dict[str, Value]:
        [answer] = await self._run(link, [_statement(sql, params)])
        return answer

    @export(f"{QUERY}#transact")
    async def transact(self, link: Link[Any], statements: list[Mapping[str, Value]]) -> list[dict[str, Value]]:
        wanted = [_statement(statement["sql"], statement["params"]) for statement in statements]
        return await self._run(link, wanted) if wanted else []

    async def _run(self, link: Link[Any], statements: list[tuple[str, list[Any]]]) -> list[dict[str, Value]]:
        try:
            return await self._databases[link.id].run(statements)
        except Failed as failed:
            raise WitError(failed.error) from failed


def _unusable(link: Link[SqliteLink], why: str) -> BadInput:
    return BadInput(
        Finding(
            "TRL-PRV-013",
            f'link {link.record}: "path" {link.config.path} cannot be used: {why}',
            fix='set "path" to the absolute path of a SQLite database, in a folder that this process may write to',
        )
    )


def _statement(sql: str, params: list[Value]) -> tuple[str, list[Any]]:
    """With what is bound for each WIT `value`."""
    return sql, [None if param == "null" else next(iter(param.values())) for param in params]


def _value(cell: Any) -> Value:
    """The WIT `value` of what SQLite gave."""
    match cell:
        case None:
            return "null"
        case int():
            return {"integer": cell}
        case float():
            return {"real": cell}
        case str():
            return {"text": cell}
        case _:
            return {"blob": cell}
