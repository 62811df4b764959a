"""wasmcloud:postgres on a real PostgreSQL: every value there and back, and its failures as answers."""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from servers import PostgresServer

from lattice import BadInput, DeadlineExceeded, WitError
from providers.link import LinkRecord, link_between
from providers.load import builtin_name, resolve
from providers.testing import PROVIDER, Running, running

pytestmark = pytest.mark.postgres
pgvalues = pytest.importorskip("providers.sql.pgvalues")
postgres = pytest.importorskip("providers.sql.postgres")


def link(server: PostgresServer, source: str = "actor", **config: str) -> LinkRecord:
    wanted = {"HOST": "127.0.0.1", "PORT": str(server.port), "USERNAME": "me", "PASSWORD": "right"}
    wanted = {f"POSTGRES_{key}": value for key, value in (wanted | {"DATABASE": "postgres"}).items()}
    return link_between(source, PROVIDER, "wasmcloud:postgres/query,prepared", target_config=wanted | config)


class Sql:
    """The database as an actor uses it."""

    def __init__(self, running: Running) -> None:
        self.running = running

    async def __call__(self, sql: str, *params: Any, timeout: float = 20) -> list[Any]:
        """The rows' values; of one column, its."""
        rows = await self.running.call("wasmcloud:postgres/query#query", sql, list(params), timeout=timeout)
        found = [[entry["value"] for entry in row] for row in rows]
        return [row[0] if len(row) == 1 else row for row in found]

    async def batch(self, sql: str) -> None:
        await self.running.call("wasmcloud:postgres/query#query-batch", sql)

    async def prepare(self, sql: str) -> str:
        return await self.running.call("wasmcloud:postgres/prepared#prepare", sql)

    async def exec(self, token: str, *params: Any) -> int:
        return await self.running.call("wasmcloud:postgres/prepared#exec", token, list(params))


async def refusal(call: Any) -> Any:
    with pytest.raises(WitError) as error:
        await call
    return error.value.payload


@pytest.fixture
async def sql(postgres_server: PostgresServer, lattice_name: str) -> AsyncIterator[Sql]:
    async with running(postgres.PostgresSql(), [link(postgres_server)]) as started:
        yield Sql(started)


@pytest.fixture
def table(lattice_name: str) -> str:
    return lattice_name.replace("-", "_")


@pytest.mark.parametrize("ref", ["builtin:sqldb-postgres", "ghcr.io/wasmcloud/sqldb-postgres:0.13.1"])
def test_it_answers_to_wasmclouds_references(ref):
    assert builtin_name(ref) == "sqldb-postgres"
    assert resolve(ref) is postgres.PostgresSql


# -- values

F = pgvalues.parts_of
DAY = {"ymd": (2026, 2, 28)}
NOON = {"hour": 12, "min": 30, "sec": 15, "micro": 250}
SQUARE = [(F(0.0), F(0.0)), (F(1.5), F(0.0)), (F(1.5), F(-2.0))]

VALUES = [
    ("int2", {"int2": -(2**15)}),
    ("int4", {"int4": 2**31 - 1}),
    ("int8", {"int8": -(2**63)}),
    ("bool", {"bool": True}),
    ("float8", {"float8": F(0.1)}),
    ("float4", {"float4": F(1.5)}),
    ("numeric", {"numeric": "12345678901234567890.000000000123"}),
    ("money", {"money": "$1,234.50"}),
    ("bit(4)", {"bit": (4, b"\xa0")}),
    ("varbit", {"varbit": (None, b"\xff")}),
    ("bytea", {"bytea": b"\0\xff'"}),
    ("char(3)", {"char": (3, b"abc")}),
    ("varchar", {"varchar": (None, "ü'; --".encode())}),
    ("text", {"text": ""}),
    ("name", {"name": "pg_class"}),
    ("xml", {"xml": "<a/>"}),
    ("json", {"json": '{"a": [1]}'}),
    ("jsonb", {"jsonb": '{"a": [1]}'}),
    ("uuid", {"uuid": "0f8fad5b-d9cb-469f-a165-70867728950e"}),
    ("cidr", {"cidr": "10.1.0.0/16"}),
    ("inet", {"inet": "fe80::1"}),
    ("macaddr", {"macaddr": {"bytes": (8, 0, 43, 1, 2, 255)}}),
    ("macaddr8", {"macaddr8": {"bytes": (8, 0, 43, 1, 2, 3, 4, 5)}}),
    ("date", {"date": DAY}),
    ("date", {"date": "positive-infinity"}),
    ("date", {"date": "negative-infinity"}),
    ("time", {"time": NOON}),
    ("timetz", {"time-tz": {"timesonze": "+05:30", "time": NOON}}),
    ("timestamp", {"timestamp": {"date": DAY, "time": NOON}}),
    (
        "timestamptz",
        {"timestamp-tz": {"timestamp": {"date": DAY, "time": NOON}, "offset": {"eastern-hemisphere-secs": 0}}},
    ),
    (
        "daterange",
        {"interval": {"start": DAY, "start-inclusive": True, "end": {"ymd": (2027, 1, 1)}, "end-inclusive": False}},
    ),
    ("point", {"point": SQUARE[1]}),
    ("box", {"box": (SQUARE[0], SQUARE[1])}),
    ("lseg", {"lseg": (SQUARE[1], SQUARE[2])}),
    ("line", {"line": ((F(0.0), F(1.0)), (F(1.0), F(3.0)))}),
    ("path", {"path": SQUARE}),
    ("polygon", {"polygon": SQUARE}),
    ("circle", {"circle": (SQUARE[2], F(3.0))}),
    ("pg_lsn", {"pg-lsn": 2**40}),
    ("tsquery", {"ts-query": "'fat' & 'rat'"}),
    ("int4[]", {"int4-array": [1, 2]}),
    ("text[]", {"text-array": ["a", "b,c"]}),
    ("timestamp[]", {"timestamp-array": [{"date": DAY, "time": NOON}]}),
    ("bytea[]", {"bytea-array": [b"", b"\0"]}),
    ("tsvector", {"ts-vector": [{"position": 2, "weight": "A", "data": "it's"}]}),
    ("tsvector", {"ts-vector": [{"position": n, "weight": "D", "data": "a\\b"} for n in (1, 7)]}),
    ("tsvector", {"ts-vector": [{"position": None, "weight": None, "data": "rat"}]}),
    ("interval", {"text": "1 day 02:03:04"}),
    ("interval[]", {"text-array": ["1 mon", "-00:00:01"]}),
    ("text", "null"),
]


@pytest.mark.parametrize(("type", "value"), VALUES, ids=[f"{type}-{n}" for n, (type, _) in enumerate(VALUES)])
async def test_values_come_back_as_they_went_in(sql: Sql, type: str, value: Any):
    [back] = await sql(f"SELECT $1::{type}", value)
    assert back == value


@given(st.floats())
def test_floats_come_back_from_their_parts(number: float):
    back = pgvalues.float_of(pgvalues.parts_of(number))
    assert back == number or (math.isnan(back) and math.isnan(number))
    assert math.copysign(1, back) == math.copysign(1, number) or math.isnan(number)


async def test_the_case_of_a_parameter_may_be_any_that_its_column_takes(sql: Sql):
    assert await sql("SELECT $1::int8 + $2::int8", {"integer": 1}, {"serial": 2}) == [{"int8": 3}]
    offset = {"western-hemisphere-secs": 3600}
    moment = {"timestamp-tz": {"timestamp": {"date": DAY, "time": NOON}, "offset": offset}}
    [back] = await sql("SELECT $1::timestamptz", moment)
    assert back["timestamp-tz"]["timestamp"]["time"]["hour"] == 13


@given(st.lists(st.tuples(texts := st.text(st.characters(exclude_characters="\0", codec="utf-8")), st.none() | texts)))
def test_pairs_of_hstore_come_back_from_their_text(pairs: list[tuple[str, str | None]]):
    assert pgvalues._hstore_value(pgvalues._hstore(pairs)) == pairs


async def test_hstore_comes_and_goes_as_pairs(sql: Sql):
    await sql.batch("CREATE EXTENSION IF NOT EXISTS hstore")
    pairs = {"hstore": [("", "\\"), ("k", "v=>'"), ('a "b"', None)]}  # in PostgreSQL's own order
    assert await sql("SELECT $1::hstore", pairs) == [pairs]


async def test_types_of_ones_own_come_back_as_text(sql: Sql, table: str):
    await sql.batch(f"CREATE TYPE {table} AS ENUM ('happy', 'sad')")
    assert await sql(f"SELECT 'sad'::{table}") == [{"text": "sad"}]
    assert await sql(f"SELECT $1::{table}", {"text": "happy"}) == [{"text": "happy"}]


# -- statements


async def test_rows_name_their_columns(sql: Sql, table: str):
    await sql.batch(
        f"CREATE TABLE {table} (id serial PRIMARY KEY, what text UNIQUE); INSERT INTO {table} (what) VALUES ('a')"
    )
    rows = await sql.running.call("wasmcloud:postgres/query#query", f"SELECT id, what AS w FROM {table}", [])
    assert rows == [[{"column-name": "id", "value": {"int4": 1}}, {"column-name": "w", "value": {"text": "a"}}]]
    assert await sql(f"INSERT INTO {table} (what) VALUES ($1) RETURNING id", {"text": "b"}) == [{"int4": 2}]
    assert await sql(f"UPDATE {table} SET what = what || '!'") == []
    assert await sql(f"SELECT what FROM {table} ORDER BY id") == [{"text": "a!"}, {"text": "b!"}]


async def test_a_batch_is_done_as_a_whole_or_not_at_all(sql: Sql, table: str):
    assert (
        "does not exist" in (await refusal(sql.batch(f"CREATE TABLE {table} (x int); SELECT nothing")))["invalid-query"]
    )
    assert "does not exist" in (await refusal(sql(f"SELECT * FROM {table}")))["invalid-query"]


async def test_a_prepared_statement_is_known_to_every_provider(sql: Sql, table: str, postgres_server: PostgresServer):
    await sql.batch(f"CREATE TABLE {table} (x int)")
    token = await sql.prepare(f"INSERT INTO {table} SELECT * FROM generate_series(1, $1)")
    assert await sql.exec(token, {"int4": 3}) == 3
    async with running(postgres.PostgresSql(), [link(postgres_server)]) as other:
        assert await Sql(other).exec(token, {"int4": 2}) == 2
    assert "syntax" in (await refusal(sql.prepare("SELEC 1")))["unexpected"]
    assert "invalid-params" in (await refusal(sql.exec(token)))["query-error"]


@pytest.mark.parametrize(
    ("statement", "params", "case"),
    [
        ("SELEC 1", [], "invalid-query"),
        ("SELECT * FROM nothing", [], "invalid-query"),
        ("SELECT 1; SELECT 2", [], "invalid-query"),
        ("SELECT $1::int4", [], "invalid-params"),
        ("SELECT 1", [{"int4": 1}], "invalid-params"),
        ("SELECT $1::int4", [{"text": "x"}], "invalid-params"),
        ("SELECT $1::numeric", [{"numeric": "x"}], "invalid-params"),
        ("SELECT $1::uuid", [{"uuid": "x"}], "invalid-params"),
        ("SELECT $1::text", [{"char": (3, b"ab")}], "invalid-params"),
        ("SELECT $1::date", [{"date": {"ymd": (2026, 2, 30)}}], "invalid-params"),
        ("SELECT 1 / 0", [], "invalid-params"),
        ("SELECT $1::interval", [{"text": "soon"}], "invalid-params"),
        ("SELECT $1::tsvector", [{"ts-vector": [{"position": None, "weight": "A", "data": "a"}]}], "invalid-params"),
        ("SELECT ROW(1, 'a')", [], "unexpected"),
        ("SELECT ARRAY[1, NULL]", [], "unexpected"),
    ],
)
async def test_what_a_statement_does_wrong_is_an_answer(sql: Sql, statement, params, case):
    assert list(await refusal(sql(statement, *params))) == [case]
    assert await sql("SELECT 1") == [{"int4": 1}]


async def test_nothing_of_a_session_is_left_to_the_next_call(postgres_server: PostgresServer):
    async with running(postgres.PostgresSql(), [link(postgres_server, pool_size="1")]) as started:
        sql = Sql(started)
        await sql.batch("SET search_path = nowhere; BEGIN; CREATE TABLE pg_temp.left_behind (x int)")
        assert await sql("SHOW search_path") == [{"text": '"$user", public'}]
        assert "invalid-query" in await refusal(sql("SELECT * FROM left_behind"))


async def test_more_calls_than_connections_wait_for_one(postgres_server: PostgresServer):
    async with running(postgres.PostgresSql(), [link(postgres_server, POSTGRES_POOL_SIZE="2")]) as started:
        pids = await asyncio.gather(*(Sql(started)("SELECT pg_backend_pid()") for _ in range(40)))
    assert len({pid["int4"] for [pid] in pids}) <= 2


async def test_a_server_that_is_full_is_an_answer(sql: Sql, table: str, postgres_server: PostgresServer):
    await sql.batch(f"CREATE ROLE {table} LOGIN PASSWORD 'right' CONNECTION LIMIT 1")
    async with running(postgres.PostgresSql(), [link(postgres_server, POSTGRES_USERNAME=table)]) as started:
        asleep = asyncio.create_task(refusal(Sql(started)("SELECT pg_sleep(60)")))
        found = f"FROM pg_stat_activity WHERE usename = '{table}' AND query LIKE '%sleep%'"
        while not await sql(f"SELECT 1 {found}"):
            pass
        assert "too many connections" in (await refusal(Sql(started)("SELECT 1")))["unexpected"]
        await sql(f"SELECT pg_cancel_backend(pid) {found}")
        assert "canceling" in str(await asleep)
        assert await Sql(started)("SELECT 1") == [{"int4": 1}]


async def test_links_that_say_the_same_share_their_connections(postgres_server: PostgresServer):
    links = [link(postgres_server), link(postgres_server, "other")]
    async with running(postgres.PostgresSql(), links) as started:
        assert len(set(started.provider._used.values())) == 1
        await started.runtime.delete_link(links[1].id)
        assert await Sql(started)("SELECT 1") == [{"int4": 1}]


# -- limits and failures


async def test_answers_are_bounded(postgres_server: PostgresServer):
    async with running(postgres.PostgresSql(), [link(postgres_server, max_rows="3")]) as started:
        assert len(await Sql(started)("SELECT generate_series(1, 3)")) == 3
        assert "more than 3 rows" in (await refusal(Sql(started)("SELECT generate_series(1, 1000000)")))["unexpected"]


async def test_a_statement_that_takes_too_long_is_stopped_on_the_server(postgres_server: PostgresServer):
    async with running(postgres.PostgresSql(), [link(postgres_server, timeout_ms="100", pool_size="1")]) as started:
        sql = Sql(started)
        assert "within 0.1 s" in (await refusal(sql("SELECT pg_sleep(60)")))["unexpected"]
        [count] = await sql("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%sleep(60)' AND state = 'active'")
        assert count == {"int8": 0}


async def test_a_statement_whose_caller_left_is_stopped(sql: Sql):
    with pytest.raises(DeadlineExceeded):
        await sql("SELECT pg_sleep(61)", timeout=0.1)
    async with asyncio.timeout(10):
        while await sql("SELECT 1 FROM pg_stat_activity WHERE query LIKE '%sleep(61)' AND state = 'active'"):
            pass


async def test_a_server_that_is_down_refuses_the_link_and_one_that_dies_is_an_answer_until_it_is_back(
    postgres_server: PostgresServer, table: str
):
    place = f"PostgreSQL at 127.0.0.1:{postgres_server.port}"
    async with running(postgres.PostgresSql(), []) as started:
        try:
            postgres_server.stop()
            with pytest.raises(BadInput, match=f"{place} does not answer") as refused:
                await started.runtime.put_link(link(postgres_server))
            assert refused.value.findings[0].code == "TRL-PRV-010"
            postgres_server.start()
            await started.runtime.put_link(link(postgres_server))
            sql = Sql(started)
            await sql.batch(f"CREATE TABLE {table} (x int)")
            asleep = asyncio.create_task(sql("SELECT pg_sleep(60)"))
            while not await sql("SELECT 1 FROM pg_stat_activity WHERE query LIKE '%sleep(60)' AND state = 'active'"):
                pass
            postgres_server.stop()
            assert "does not answer" in (await refusal(asleep))["unexpected"]
            assert "does not answer" in (await refusal(sql("SELECT 1")))["unexpected"]
            assert place in (await started.runtime.health()).message
        finally:
            postgres_server.start()
        assert await sql(f"SELECT count(*) FROM {table}") == [{"int8": 0}]
        assert (await started.runtime.health()).healthy


@pytest.mark.parametrize("wrong", [{"password": "hush"}, {"username": "nobody"}, {"database": "nothing"}])
async def test_a_wrong_login_refuses_the_link_without_saying_it(postgres_server: PostgresServer, wrong):
    config = {f"POSTGRES_{key.upper()}": value for key, value in wrong.items()}
    async with running(postgres.PostgresSql(), []) as started:
        with pytest.raises(BadInput, match="refuses the login") as refused:
            await started.runtime.put_link(link(postgres_server, **config))
        assert "hush" not in str(refused.value)
        await started.runtime.put_link(link(postgres_server))
        assert "right" not in repr(started.provider.links) + repr(
            [link.config for link in started.provider.links.values()]
        )


async def test_tls_is_used_where_it_is_and_checked_where_it_is_required(postgres_server: PostgresServer):
    encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    required = {"POSTGRES_TLS_REQUIRED": "true"}
    async with running(postgres.PostgresSql(), [link(postgres_server)]) as started:
        assert await Sql(started)(encrypted) == [{"bool": True}]
        with pytest.raises(BadInput, match="does not answer: .*certificate verify failed"):
            await started.runtime.put_link(link(postgres_server, "other", **required))
        trusted = {"POSTGRES_TLS_CA_FILE": str(postgres_server.ca_file), **required}
        await started.runtime.put_link(link(postgres_server, **trusted))
        assert await Sql(started)(encrypted) == [{"bool": True}]
        with pytest.raises(BadInput, match="No such file"):
            await started.runtime.put_link(link(postgres_server, "other", POSTGRES_TLS_CA_FILE="/absent.pem"))


async def test_a_server_that_never_answers_refuses_the_link_in_time():
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        server = PostgresServer()
        server.port = mute.getsockname()[1]
        async with running(postgres.PostgresSql(), []) as started:
            with pytest.raises(BadInput, match="does not answer"):
                await started.runtime.put_link(link(server, timeout_ms="100"))
        server.remove()


@pytest.mark.parametrize(
    ("config", "said"),
    [({"POSTGRES_PORT": "none"}, '"postgres_port" input should be'), ({"POSTGRES_POOL_SIZE": "0"}, "greater than")],
)
async def test_configuration_that_cannot_be_refuses_the_link(config, said):
    server = PostgresServer()
    async with running(postgres.PostgresSql(), []) as started:
        with pytest.raises(BadInput, match=said):
            await started.runtime.put_link(link(server, **config))
    server.remove()
