"""Hooks: told once of the start and the end of each statement, with its figures."""

from __future__ import annotations

import asyncio
import logging

import pytest

import aiotaos
from aiotaos import Hooks, ProgrammingError, Query, hooks
from aiotaos.embedded import Server
from tests.trouble import Proxy

QUICK = {"conn_retries": 3, "retry_backoff_ms": 1, "retry_backoff_max_ms": 4}


class Noted(Hooks):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Query]] = []
        self.errors: list[BaseException] = []

    def query_start(self, query: Query) -> None:
        assert query.seconds is query.server_seconds is query.rows is query.context is None
        assert query.started <= asyncio.get_running_loop().time()
        query.context = len(self.calls)
        self.calls.append(("start", query))

    def query_end(self, query: Query) -> None:
        assert self.calls[query.context] == ("start", query)
        self.calls.append(("end", query))

    def query_error(self, query: Query, error: BaseException) -> None:
        self.calls.append(("error", query))
        self.errors.append(error)

    def told(self, last: str = "end") -> Query:
        """The only statement since the last look."""
        (first, query), (second, same) = self.calls
        assert (first, second) == ("start", last)
        assert query is same
        assert query.seconds is not None
        assert query.seconds >= 0
        self.calls.clear()
        return query


@pytest.fixture
def noted():
    return Noted()


@pytest.fixture
async def conn(server, noted):
    async with aiotaos.connect(server.dsn, hooks=noted) as conn:
        yield conn


@pytest.fixture
async def table(clean, noted):
    """A connection to an embedded server with a table and a super table."""
    async with Server() as server, aiotaos.connect(server.dsn, hooks=noted) as conn:
        await conn.execute("create database d")
        await conn.select_db("d")
        await conn.execute("create table t (ts timestamp, v int)")
        await conn.execute("create stable s (ts timestamp, v int) tags (g int)")
        noted.calls.clear()
        yield conn


async def test_a_query(server, conn, noted):
    server.integers("select v from t", [1, 2], [3])
    assert await conn.fetch("select v from t", req_id=77) == [(1,), (2,), (3,)]
    query = noted.told()
    assert query.sql == "select v from t"
    assert query.operation == "SELECT"
    assert query.parameters == 0
    assert query.req_id == 77
    assert query.endpoint == server.endpoint
    assert query.database is None
    assert query.attempts == 1
    assert query.server_seconds == 1234e-9
    assert query.rows is None
    assert noted.errors == []


async def test_a_streamed_query_ends_when_its_result_stands(server, conn, noted):
    server.integers("rows", [1], [2])
    result = await conn.query("rows")
    assert noted.told().operation == "ROWS"
    assert [row async for row in result] == [(1,), (2,)]
    assert noted.calls == []


async def test_a_statement_for_its_effect(server, conn, noted):
    server.affect("insert into t values (1, 2) (3, 4)", 2)
    assert await conn.execute("insert into t values (1, 2) (3, 4)") == 2
    query = noted.told()
    assert (query.operation, query.parameters, query.rows) == ("INSERT", 0, 2)
    await conn.execute("use power")
    assert noted.told().database is None
    server.affect("delete from t", 0)
    await conn.execute("delete from t")
    query = noted.told()
    assert (query.database, query.rows) == ("power", 0)


async def test_a_comment_is_no_operation(server, conn, noted):
    server.affect("/* why */ -- not\n Drop table t", 0)
    await conn.execute("/* why */ -- not\n Drop table t")
    assert noted.told().operation == "DROP"


async def test_parameters(table, noted):
    assert await table.execute("insert into t values (?, ?)", 1_700_000_000_000, 7) == 1
    query = noted.told()
    assert (query.sql, query.operation) == ("insert into t values (?, ?)", "INSERT")
    assert (query.parameters, query.rows, query.database) == (2, 1, "d")
    assert await table.fetchval("select v from t where v = ?", 7) == 7
    query = noted.told()
    assert (query.parameters, query.rows) == (1, None)
    assert await table.execute("delete from t where ts < ?", 1) == 0
    query = noted.told()
    assert (query.sql, query.parameters) == ("delete from t where ts < ?", 1)


async def test_many_rows(table, noted):
    rows = [(1_700_000_000_000 + i, i) for i in range(5)]
    assert await table.executemany("insert into t values (?, ?)", rows) == 5
    query = noted.told()
    assert (query.operation, query.parameters, query.rows) == ("INSERT", None, 5)
    assert await table.insert("t", [(ts, -v) for ts, v in rows]) == 5
    query = noted.told()
    assert (query.operation, query.parameters, query.rows) == ("INSERT", None, 5)
    assert "?" in query.sql


async def test_each_batch_of_an_insert(table, noted):
    rows = [("a", 1, 1_700_000_000_000 + i, i) for i in range(5)]
    await table.insert("s", rows, tbname="tbname", tags=["g"], batch_rows=2)
    assert sorted(kind for kind, _ in noted.calls) == ["end"] * 3 + ["start"] * 3
    assert [query.rows for kind, query in noted.calls if kind == "end"] == [2, 2, 1]
    assert len({query.req_id for _, query in noted.calls}) == 3


async def test_lines(table, noted):
    assert await table.schemaless_insert(["m,g=1 v=1 1700000000000", "m,g=2 v=2 1700000000000"])
    query = noted.told()
    assert (query.sql, query.operation, query.parameters) == ("", "SCHEMALESS", None)
    assert (query.rows, query.attempts, query.database) == (2, 1, "d")


async def test_a_prepared_insert(table, noted):
    async with await table.prepare("insert into t values (?, ?)") as statement:
        await statement.bind([[1_700_000_000_000, 1_700_000_000_001], [1, 2]])
        assert noted.calls == []
        assert await statement.execute(req_id=78) == 2
    query = noted.told()
    assert (query.sql, query.operation) == ("insert into t values (?, ?)", "INSERT")
    assert (query.parameters, query.rows, query.req_id) == (None, 2, 78)


async def test_a_prepared_query(table, noted):
    async with await table.prepare("select v from t where v > ?") as statement:
        assert await statement.fetch(3) == []
        query = noted.told()
        assert (query.operation, query.parameters, query.rows) == ("SELECT", 1, None)


async def test_a_writer(table, noted):
    async with table.writer("t") as writer:
        for i in range(3):
            await writer.write((1_700_000_000_000 + i, i))
    query = noted.told()
    assert (query.operation, query.parameters, query.rows) == ("INSERT", None, 3)


async def test_a_cursor(server, conn, noted):
    server.integers("select v from t", [1])
    async with conn.cursor() as cursor:
        await cursor.execute("select v from t")
        assert await cursor.fetchall() == [(1,)]
    assert noted.told().operation == "SELECT"


async def test_a_refusal(server, conn, noted):
    with pytest.raises(ProgrammingError) as raised:
        await conn.fetch("nonsense")
    query = noted.told("error")
    assert noted.errors == [raised.value]
    assert (query.operation, query.attempts) == ("NONSENSE", 1)
    assert query.server_seconds is query.rows is None


async def test_refused_lines(table, noted):
    with pytest.raises(aiotaos.Error):
        await table.schemaless_insert("no line at all")
    assert noted.told("error").operation == "SCHEMALESS"


async def test_input_that_cannot_be_sent(table, noted):
    with pytest.raises(aiotaos.DataError) as raised:
        await table.execute("insert into t values (?, ?)", 1, 2**40)
    assert noted.told("error").rows is None
    assert noted.errors == [raised.value]


async def test_too_late(server, conn, noted):
    server.integers("slow", [1])
    gate = server.hold("query", "slow")
    with pytest.raises(aiotaos.TimeoutError) as raised:
        await conn.fetch("slow", timeout=0.02)
    query = noted.told("error")
    assert noted.errors == [raised.value]
    assert query.seconds is not None
    assert query.seconds >= 0.02
    gate.open()
    await server.until(lambda: server.session.freed)


async def test_cancelled(server, conn, noted):
    server.integers("slow", [1])
    gate = server.hold("query", "slow")
    task = asyncio.ensure_future(conn.fetch("slow"))
    await gate.reached.wait()
    assert [kind for kind, _ in noted.calls] == ["start"]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    noted.told("error")
    assert isinstance(noted.errors[0], asyncio.CancelledError)
    gate.open()
    await server.until(lambda: server.session.freed)


async def test_attempts_are_counted(server, noted):
    """Three of them are one statement for the hooks."""
    answer, refusals = server.answer, 2

    def busy(sql):
        nonlocal refusals
        if sql == "select v from t" and refusals:
            refusals -= 1
            return answer("busy")
        return answer(sql)

    server.integers("select v from t", [1])
    server.refuse("busy", 0xFFFE, "too many queries")
    server.answer = busy
    async with aiotaos.connect(server.dsn, hooks=noted, **QUICK) as conn:
        assert await conn.fetchval("select v from t") == 1
        assert noted.told().attempts == 3
        refusals = 100
        with pytest.raises(aiotaos.OperationalError):
            await conn.fetchval("select v from t")
        assert noted.told("error").attempts == 4


async def test_the_endpoint_is_that_which_answered(clean, noted):
    """The first server goes away; the statement is run by the other."""
    async with Server() as server, Proxy(server.port) as one, Proxy(server.port) as other:
        dsn = f"ws://127.0.0.1:{one.port},127.0.0.1:{other.port}"
        async with aiotaos.connect(dsn, hooks=noted, **QUICK) as conn:
            first = conn.endpoint
            (one if first.endswith(str(one.port)) else other).refuse()
            assert await conn.fetchval("select 1") == 1
            query = noted.told()
            assert query.endpoint == conn.endpoint != first
            assert query.attempts in (1, 2)


async def test_hooks_that_raise_do_no_harm(server, caplog):
    class Broken(Hooks):
        def query_start(self, query):
            raise ZeroDivisionError("start")

        def query_end(self, query):
            raise ZeroDivisionError("end")

        def query_error(self, query, error):
            raise ZeroDivisionError("error")

    server.integers("select v from t", [1])
    async with aiotaos.connect(server.dsn, hooks=Broken()) as conn:
        assert await conn.fetchval("select v from t") == 1
        with pytest.raises(ProgrammingError):
            await conn.execute("nonsense")
    records = [record for record in caplog.records if record.name == "aiotaos.hooks"]
    assert [record.getMessage().rpartition(".")[2] for record in records] == [
        "query_start failed",
        "query_end failed",
        "query_start failed",
        "query_error failed",
    ]
    assert all(record.levelno == logging.ERROR and record.exc_info for record in records)


async def test_hooks_that_do_nothing(server):
    server.integers("select v from t", [1])
    async with aiotaos.connect(server.dsn, hooks=Hooks()) as conn:
        assert await conn.fetchval("select v from t") == 1
        with pytest.raises(ProgrammingError):
            await conn.execute("nonsense")


async def test_without_hooks_nothing_is_noted(table, noted, server, monkeypatch):
    """No :class:`Query` is even made."""

    def refuse(*arguments, **fields):
        pytest.fail("a Query was made")

    monkeypatch.setattr("aiotaos.run.Query", refuse)
    monkeypatch.setattr(hooks, "Query", refuse)
    async with aiotaos.connect(table.endpoint, database="d") as conn:
        await conn.execute("insert into t values (?, ?)", 1_700_000_000_000, 1)
        await conn.insert("t", [(1_700_000_000_001, 1)])
        await conn.schemaless_insert("m,g=1 v=1 1700000000000")
        async with await conn.prepare("insert into t values (?, ?)") as statement:
            await statement.execute(1_700_000_000_002, 2)
        assert await conn.fetchval("select count(*) from t") == 3
    assert noted.calls == []


async def test_a_pool(server, noted):
    server.integers("select v from t", [1])
    async with aiotaos.create_pool(server.dsn, hooks=noted) as pool:
        assert await pool.fetchval("select v from t") == 1
        assert noted.told().sql == "select v from t"
        async with pool.acquire() as conn:
            assert await conn.fetchval("select v from t") == 1
        noted.told()


async def test_what_a_pool_does_by_itself_is_seen_too(server, noted):
    check = aiotaos.Pool.check_connection
    async with (
        aiotaos.create_pool(server.dsn, hooks=noted, check=check) as pool,
        pool.acquire(),
    ):
        assert noted.told().sql == "select 1"
