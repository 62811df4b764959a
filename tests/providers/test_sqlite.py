"""trellis:sql on SQLite: values come back as they went in, and a statement reaches nothing but its own database."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from lattice import BadInput, BadValue, DeadlineExceeded, NotLinked, WitError
from providers.link import LinkRecord, link_between
from providers.load import resolve
from providers.sql.sqlite import SqliteSql
from providers.testing import PROVIDER, Running, running

ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"


def link(source: str = "actor", **config: str) -> LinkRecord:
    return link_between(source, PROVIDER, "trellis:sql/query", target_config=config)


class Sql:
    """The database as an actor uses it, with plain Python values."""

    def __init__(self, running: Running, source: str = "actor") -> None:
        self.running = running
        self.source = source

    async def answer(self, sql: str, *params: Any, timeout: float = 10) -> dict[str, Any]:
        wanted = [value(param) for param in params]
        return await self.running.call("trellis:sql/query#query", sql, wanted, source=self.source, timeout=timeout)

    async def __call__(self, sql: str, *params: Any) -> list[Any]:
        """The rows; of one column, its values."""
        rows = [[plain(cell) for cell in row] for row in (await self.answer(sql, *params))["rows"]]
        return [row[0] if len(row) == 1 else row for row in rows]

    async def transact(self, *statements: tuple[Any, ...]) -> list[dict[str, Any]]:
        wanted = [{"sql": sql, "params": [value(p) for p in params]} for sql, *params in statements]
        return await self.running.call("trellis:sql/query#transact", wanted, source=self.source)


def value(thing: Any) -> Any:
    names = {int: "integer", float: "real", str: "text", bytes: "blob"}
    return "null" if thing is None else {names[type(thing)]: thing}


def plain(cell: Any) -> Any:
    return None if cell == "null" else next(iter(cell.values()))


async def refusal(call: Any) -> Any:
    with pytest.raises(WitError) as error:
        await call
    return error.value.payload


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "app.db"


@pytest.fixture
async def sql(path: Path) -> AsyncIterator[Sql]:
    async with running(SqliteSql(), [link(path=str(path), timeout_ms="2000")]) as started:
        made = Sql(started)
        await made("CREATE TABLE todo (id INTEGER PRIMARY KEY, what TEXT NOT NULL UNIQUE, done BOOL DEFAULT 0)")
        yield made


def test_it_is_there_by_name():
    assert resolve("builtin:sqldb-sqlite") is SqliteSql


@pytest.mark.parametrize("thing", [None, 0, -(2**63), 2**63 - 1, 1.5, "", "ü'; DROP TABLE todo; --", b"", b"\0\xff"])
async def test_values_come_back_as_they_went_in(sql: Sql, thing):
    assert await sql("SELECT ?", thing) == [thing]


async def test_an_answer_names_its_columns_and_counts_its_changes(sql: Sql):
    one = await sql.answer("INSERT INTO todo (what) VALUES (?), (?) RETURNING id", "a", "b")
    assert one == {"columns": ["id"], "rows": [[{"integer": 1}], [{"integer": 2}]], "changes": 2}
    assert await sql.answer("UPDATE todo SET done = 1") == {"columns": [], "rows": [], "changes": 2}
    assert (await sql.answer("SELECT what AS w, done FROM todo WHERE 0")) == {
        "columns": ["w", "done"],
        "rows": [],
        "changes": 0,
    }


async def test_what_was_written_outlives_the_provider(sql: Sql, path: Path):
    await sql("INSERT INTO todo (what) VALUES ('stay')")
    async with running(SqliteSql(), [link(path=str(path))]) as other:
        assert await Sql(other)("SELECT what FROM todo") == ["stay"]


async def test_a_transaction_is_done_as_a_whole_or_not_at_all(sql: Sql):
    insert = "INSERT INTO todo (what) VALUES (?)"
    answers = await sql.transact((insert, "a"), ("SELECT count(*) FROM todo",), (insert, "b"))
    assert [answer["changes"] for answer in answers] == [1, 0, 1]
    assert answers[1]["rows"] == [[{"integer": 1}]]
    assert "UNIQUE" in (await refusal(sql.transact((insert, "c"), (insert, "a"))))["constraint"]
    assert await sql("SELECT what FROM todo ORDER BY what") == ["a", "b"]
    assert await sql.transact() == []


async def test_concurrent_writers_wait_for_each_other(sql: Sql):
    await asyncio.gather(*(sql("INSERT INTO todo (what) VALUES (?)", f"t{n}") for n in range(50)))
    assert await sql("SELECT count(*) FROM todo") == [50]


@pytest.mark.parametrize(
    ("statement", "params", "case"),
    [
        ("SELEC 1", (), "invalid"),
        ("SELECT * FROM nothing", (), "invalid"),
        ("SELECT ?", (), "invalid"),
        ("SELECT 1", (1,), "invalid"),
        ("SELECT 1; SELECT 2", (), "invalid"),
        ("INSERT INTO todo (what) VALUES (NULL)", (), "constraint"),
        ("BEGIN", (), "denied"),
        ("SAVEPOINT a", (), "denied"),
    ],
)
async def test_what_a_statement_does_wrong_is_an_answer(sql: Sql, statement, params, case):
    assert case in await refusal(sql(statement, *params))
    assert await sql("SELECT 1") == [1]


@pytest.mark.parametrize("params", [[1], [{"integer": "1"}], [{"number": 1}], [{"text": "a", "blob": b""}]])
async def test_what_is_no_value_is_refused(sql: Sql, params):
    for function, *args in (("query", "SELECT ?", params), ("transact", [{"sql": "SELECT ?", "params": params}])):
        with pytest.raises(BadValue, match="params"):
            await sql.running.call(f"trellis:sql/query#{function}", *args)


async def test_statements_reach_no_other_file_and_no_setting(sql: Sql, path: Path):
    outside = path.parent / "outside.db"
    sqlite3.connect(outside).close()
    for attempt in (
        f"ATTACH '{outside}' AS other",
        f"VACUUM INTO '{path.parent / 'copy.db'}'",
        "PRAGMA writable_schema = 1",
        "PRAGMA journal_mode = DELETE",
        "PRAGMA max_page_count = 1000000000",
        "SELECT load_extension('x')",
    ):
        assert await refusal(sql(attempt)), attempt
    assert {file.name for file in path.parent.glob("*.db")} == {"app.db", "outside.db"}
    assert len(await sql("PRAGMA table_info(todo)")) == 3


async def test_actors_have_the_databases_that_their_links_name(sql: Sql, tmp_path: Path):
    await sql.running.runtime.put_link(link("other", path=str(tmp_path / "other.db")))
    assert "no such table" in (await refusal(Sql(sql.running, "other")("SELECT * FROM todo")))["invalid"]
    with pytest.raises(NotLinked):
        await Sql(sql.running, "stranger")("SELECT 1")


# -- limits and failures


async def test_a_statement_that_takes_too_long_is_stopped(path: Path):
    async with running(SqliteSql(), [link(path=str(path), timeout_ms="50", pool_size="1")]) as started:
        assert await refusal(Sql(started)(ENDLESS)) == "timeout"
        assert await Sql(started)("SELECT 1") == [1]


async def test_a_statement_whose_caller_left_is_stopped(path: Path):
    async with running(SqliteSql(), [link(path=str(path), timeout_ms="600000", pool_size="1")]) as started:
        with pytest.raises(DeadlineExceeded):
            await Sql(started).answer(ENDLESS, timeout=0.05)
        assert await Sql(started)("SELECT 1") == [1], "the only connection is free again"


async def test_a_database_that_somebody_else_locks_is_an_answer_in_time(path: Path):
    async with running(SqliteSql(), [link(path=str(path), timeout_ms="50")]) as started:
        sql = Sql(started)
        await sql("CREATE TABLE t (x)")
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        assert await refusal(sql("INSERT INTO t VALUES (1)")) == "timeout"
        assert await sql("SELECT count(*) FROM t") == [0], "reading goes on"
        other.execute("ROLLBACK")
        await sql("INSERT INTO t VALUES (1)")
        other.close()


async def test_answers_are_bounded(path: Path):
    async with running(SqliteSql(), [link(path=str(path), max_rows="3", max_bytes="1000")]) as started:
        sql = Sql(started)
        assert await sql("SELECT value FROM json_each('[1,2,3]')") == [1, 2, 3]
        assert await refusal(sql("SELECT value FROM json_each('[1,2,3,4]')")) == "too-large"
        assert await refusal(sql("SELECT zeroblob(600), zeroblob(600)")) == "too-large"
        assert await refusal(sql("SELECT zeroblob(2000)")) == "too-large"


async def test_a_full_database_is_an_answer_and_can_be_emptied(path: Path):
    async with running(SqliteSql(), [link(path=str(path), max_size="65536")]) as started:
        sql = Sql(started)
        await sql("CREATE TABLE t (x)")
        await sql("INSERT INTO t VALUES (zeroblob(30000))")
        assert await refusal(sql("INSERT INTO t VALUES (zeroblob(60000))")) == "full"
        await sql("DELETE FROM t")
        await sql("INSERT INTO t VALUES (zeroblob(30000))")


async def test_a_read_only_link_writes_nothing(sql: Sql, path: Path):
    async with running(SqliteSql(), [link(path=str(path), read_only="true")]) as started:
        assert "denied" in await refusal(Sql(started)("DELETE FROM todo"))
        assert await Sql(started)("SELECT count(*) FROM todo") == [0]


@pytest.mark.parametrize(("name", "said"), [("absent/app.db", "unable to open"), ("text.db", "not a database")])
async def test_a_file_that_cannot_be_used_refuses_the_link(tmp_path: Path, name: str, said: str):
    (tmp_path / "text.db").write_text("these are no pages of a database, but words " * 100)
    async with running(SqliteSql(), []) as started:
        with pytest.raises(BadInput, match=said) as refused:
            await started.runtime.put_link(link(path=str(tmp_path / name)))
        assert refused.value.findings[0].code == "TRL-PRV-013"
        with pytest.raises(BadInput, match="not an absolute path"):
            await started.runtime.put_link(link(path="app.db"))
        with pytest.raises(BadInput, match='"path" is missing'):
            await started.runtime.put_link(link())
        with pytest.raises(BadInput, match='"pool" is not a key that it knows'):
            await started.runtime.put_link(link(path="/tmp/app.db", pool="3"))


async def test_a_file_that_goes_away_is_an_answer_until_it_is_back(tmp_path: Path):
    folder = tmp_path / "mounted"
    folder.mkdir()
    async with running(SqliteSql(), [link(path=str(folder / "app.db"), pool_size="1")]) as started:
        sql = Sql(started)
        await sql("CREATE TABLE t (x)")
        folder.rename(tmp_path / "unmounted")
        assert "gone" in (await refusal(sql("INSERT INTO t VALUES (1)")))["other"]
        (tmp_path / "unmounted").rename(folder)
        await sql("INSERT INTO t VALUES (2)")
        assert await sql("SELECT x FROM t") == [2]


async def test_a_file_that_takes_the_place_of_another_is_the_database(path: Path, tmp_path: Path):
    async with running(SqliteSql(), [link(path=str(path), pool_size="1")]) as started:
        sql = Sql(started)
        await sql("CREATE TABLE t AS SELECT 'lost' AS x")
        with contextlib.closing(sqlite3.connect(tmp_path / "backup.db")) as backup:
            backup.execute("CREATE TABLE t AS SELECT 'restored' AS x")
            backup.commit()
        for file in path.parent.glob(f"{path.name}*"):
            file.unlink()
        (tmp_path / "backup.db").rename(path)
        assert await sql("SELECT x FROM t") == ["restored"]
        assert await sql("INSERT INTO t VALUES ('new') RETURNING x") == ["new"]
