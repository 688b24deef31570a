"""Parameters of statements: bound to INSERTs and queries, written as literals into others."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import numpy as np
import pytest

import aiotaos
from aiotaos import DataError, InterfaceError, StatementError, dict_row

T0 = 1709251200000
MOMENT = datetime(2024, 3, 1, tzinfo=UTC)
INSERT = "insert into t values(?, ?, ?)"
NAMED = "insert into ? using s tags(?) values(?, ?)"


@pytest.fixture
async def db():
    async with aiotaos.connect("embedded://") as connection:
        await connection.execute("create database d precision 'ms'")
        await connection.execute("create database e precision 'ms'")
        await connection.execute("use d")
        await connection.execute("create table t (ts timestamp, v int, n nchar(4))")
        await connection.execute("create stable s (ts timestamp, v int) tags (g nchar(4))")
        yield connection


async def values(db, table="t"):
    return [row[0] for row in await db.fetch(f"select v from {table} order by ts")]


# Statements with parameters.


async def test_an_insert(db):
    assert await db.execute(INSERT, MOMENT, 1, "涛𝄞") == 1
    assert await db.execute("-- one\n INSERT INTO t VALUES(?, -5, ?)", T0 + 1, None) == 1
    assert await db.fetch("select * from t") == [
        (MOMENT, 1, "涛𝄞"),
        (MOMENT + timedelta(milliseconds=1), -5, None),
    ]


async def test_queries(db):
    await db.executemany(INSERT, [(T0 + row, row, f"n{row}") for row in range(4)])
    where = "select v from t where v >= ? and n <> ?"
    assert await db.fetch(where, 1, "n2") == [(1,), (3,)]
    assert await db.fetchrow(where, 2, "n2") == (3,)
    assert await db.fetchrow(where, 9, "n2") is None
    assert await db.fetchval(where, 2, "") == 2
    assert await db.fetch(where, 3, "", row_factory=dict_row) == [{"v": 3}]
    async with await db.query(where, 0, "n1") as result:
        assert [row async for row in result] == [(0,), (2,), (3,)]
    assert await db.execute(where, 0, "") == 0


@pytest.mark.parametrize(
    "moment",
    [
        MOMENT,
        MOMENT.astimezone(timezone(timedelta(hours=-5))),
        np.datetime64("2024-03-01T00:00:00"),
        T0,
        np.int64(T0),
    ],
    ids=repr,
)
async def test_times_in_queries(db, moment):
    await db.executemany(INSERT, [(T0 - 1, 0, None), (T0, 1, None), (T0 + 1, 2, None)])
    assert await db.fetchval("select v from t where ts = ?", moment) == 1


async def test_parameters_are_no_sql(db):
    await db.execute(INSERT, T0, 1, "' or")
    assert await db.fetch("select v from t where n = ?", "' or 1=1 --") == []
    assert await db.fetch("select v from t where n = ?", "' or") == [(1,)]
    assert await db.fetch("select v, '?' from t where n = ?", "' or") == [(1, "?")]


async def test_literals_where_nothing_is_bound(db):
    await db.execute(NAMED, "c", "old", T0, 1)
    await db.execute("alter table c set tag g = ?", "it's")
    assert await db.fetchval("select g from c") == "it's"


async def test_cursors(db):
    async with db.cursor() as cur:
        await cur.execute(INSERT, (T0, 1, "a"))
        assert (cur.rowcount, cur.description) == (1, None)
        await cur.executemany(INSERT, [[T0 + 1, 2, "b"], (T0 + 2, 3, "c")])
        assert (cur.rowcount, cur.description, cur.result) == (2, None, None)
        assert await cur.execute("select v from t where v > ?", [1]) is cur
        assert await cur.fetchall() == [(2,), (3,)]
        assert cur.rowcount == 2
        await cur.executemany(INSERT, [])
        assert cur.rowcount == 0


# Many rows.


async def test_executemany(db):
    rows = ((f"c{row % 3}", f"g{row % 3}", T0 + row, row) for row in range(10))
    assert await db.executemany(NAMED, rows) == 10
    assert await values(db, "c1") == [1, 4, 7]
    assert await db.fetch("select distinct tbname, g from s order by tbname") == [
        ("c0", "g0"), ("c1", "g1"), ("c2", "g2"),
    ]  # fmt: skip
    assert await db.executemany(NAMED, []) == 0


async def test_executemany_of_many_rows(db):
    count = 66_000
    assert await db.executemany(INSERT, [(T0 + row, row, None) for row in range(count)]) == count
    assert await db.fetchrow("select count(*), max(v) from t") == (count, count - 1)


async def test_executemany_of_other_statements(db):
    await db.executemany(NAMED, [("a", "x", T0, 1), ("b", "y", T0, 2)])
    assert await db.executemany("select v from s where v = ?", [(1,), (2,)]) == 0
    sql = "alter table a set tag g = ?"
    assert await db.executemany(sql, [("p",), ("q",)]) == 0
    assert await db.fetchval("select g from a") == "q"


# Bad input: nothing is sent.


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ((T0, 2**31, "a"), "column 'v', row 0: 2147483648 is not a value of INT"),
        ((T0, 1.0, "a"), "column 'v', row 0: 1.0 is not a value of INT"),
        ((T0, 1, "abcde"), "column 'n', row 0: 'abcde' has 5 characters, more than NCHAR(4) takes"),
        ((T0, 1, "𝄞𝄞𝄞𝄞𝄞"), "column 'n', row 0: '𝄞𝄞𝄞𝄞𝄞' has 5 characters, more than NCHAR(4)"),
        ((None, 1, "a"), "column 'ts', row 0: None is no time; every row needs one"),
        ((datetime(2024, 1, 1), 1, "a"), "column 'ts', row 0: datetime.datetime(2024, 1, 1, 0, 0)"),
    ],
)
async def test_bad_rows(db, parameters, message):
    calls = [
        lambda: db.execute(INSERT, *parameters),
        lambda: db.cursor().execute(INSERT, parameters),
        lambda: db.executemany(INSERT, [parameters]),
    ]
    for call in calls:
        with pytest.raises((DataError, StatementError)) as caught:
            await call()
        assert str(caught.value).startswith(message)
    with pytest.raises((DataError, StatementError)) as caught:
        await db.executemany(INSERT, [(T0, 1, "a"), parameters])
    assert str(caught.value).startswith(message.replace("row 0", "row 1"))
    assert await values(db) == []


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ((), StatementError, None),
        ((1, 2), StatementError, "the statement has 1 placeholders and got 2 parameters"),
        (
            ([1],),
            StatementError,
            "parameter 1: [1] cannot be bound; expected None, bool, int, float",
        ),
        (
            (datetime(2024, 1, 1),),
            DataError,
            "parameter 1: datetime.datetime(2024, 1, 1, 0, 0) has",
        ),
        (
            (2**64,),
            DataError,
            "parameter 1: 18446744073709551616 cannot be sent as BIGINT UNSIGNED",
        ),
    ],
)
async def test_bad_parameters_of_queries(db, parameters, error, message):
    if message is None:  # without parameters it is sent as it is
        error, message = aiotaos.ProgrammingError, "[0x2600]"
    with pytest.raises(error) as caught:
        await db.fetch("select v from t where v = ?", *parameters)
    assert str(caught.value).startswith(message)
    assert await db.fetchval("select count(*) from t where v = ?", 1) == 0


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        (float("nan"), "parameter 1: nan cannot be written in SQL"),
        (Decimal("Infinity"), "parameter 1: Decimal('Infinity') cannot be written in SQL"),
        ("a\0", r"parameter 1: 'a\x00' has a NUL character, which SQL cannot hold"),
        (
            np.datetime64("NaT", "s"),
            "parameter 1: np.datetime64('NaT','s') is not a time that SQL can hold",
        ),
        (datetime(2024, 1, 1), "parameter 1: datetime.datetime(2024, 1, 1, 0, 0) has no time zone"),
        (
            1j,
            "parameter 1: 1j has no literal; expected None, bool, int, float, Decimal, str, bytes",
        ),
    ],
)
async def test_bad_literals(conn, server, parameter, message):
    with pytest.raises((DataError, StatementError)) as caught:
        await conn.execute("alter table c set tag g = ?", parameter)
    assert str(caught.value).startswith(message)
    assert server.session.seen("query") == []


async def test_too_many_parameters_for_literals(conn, server):
    with pytest.raises(StatementError, match=r"^the statement has 1 placeholders and got 2 parame"):
        await conn.execute("alter table c set tag g = ?", 1, 2)
    assert server.session.seen("query") == []


@pytest.mark.parametrize("params", ["abc", b"abc", 5, {1}, {"a": 1}, None], ids=repr)
async def test_parameters_of_cursors_are_sequences(conn, server, params):
    with pytest.raises(InterfaceError) as caught:
        await conn.cursor().execute("select ?", params)
    assert str(caught.value) == f"params: expected a sequence of values, got {params!r}"
    assert server.session.seen("query") == []


@pytest.mark.parametrize("req_id", [0, 2**63, "1"])
async def test_bad_req_ids(db, req_id):
    for call in (
        lambda: db.execute(INSERT, T0, 1, "a", req_id=req_id),
        lambda: db.executemany(INSERT, [(T0, 1, "a")], req_id=req_id),
        lambda: db.fetch("select v from t where v = ?", 1, req_id=req_id),
    ):
        with pytest.raises(InterfaceError, match="req_id: expected an integer from 1"):
            await call()
    assert await values(db) == []


# Statements used again.


async def test_a_table_altered_between_two_uses(db):
    assert await db.execute(NAMED, "c", "g", T0, 1) == 1
    await db.execute("alter table s add column w int")
    assert await db.execute(NAMED.replace("?, ?)", "?, ?, ?)"), "c", "g", T0 + 1, 2, 3) == 1
    with pytest.raises(aiotaos.DatabaseError):
        await db.execute(NAMED, "c", "g", T0 + 2, 4)
    await db.execute("alter table s drop column w")
    assert await db.execute(NAMED, "c", "g", T0 + 2, 4) == 1
    assert await values(db, "c") == [1, 2, 4]


async def test_a_column_that_becomes_longer_between_two_uses(db):
    await db.execute("create stable m (ts timestamp, n nchar(2)) tags (g int)")
    sql = "insert into ? using m tags(1) values(?, ?)"
    assert await db.execute(sql, "c", T0, "ab") == 1
    await db.execute("alter stable m modify column n nchar(8)")
    assert await db.execute(sql, "c", T0 + 1, "abcdefgh") == 1
    assert await db.fetch("select n from c") == [("ab",), ("abcdefgh",)]


async def test_a_table_made_anew_between_two_uses(db):
    query = "select v from t where v > ?"
    assert await db.execute(INSERT, T0, 1, "a") == 1
    assert await db.fetchval(query, 0) == 1
    await db.execute("drop table t")
    for call in (lambda: db.execute(INSERT, T0, 1, "a"), lambda: db.fetch(query, 0)):
        with pytest.raises(aiotaos.DatabaseError, match="Table does not exist"):
            await call()
    await db.execute("create table t (ts timestamp, n nchar(4), v bigint)")
    assert await db.execute(INSERT, T0, "a", 2**40) == 1
    assert await db.fetch(query, 0) == [(2**40,)]


async def test_a_super_table_made_anew_between_two_uses(db):
    assert await db.execute(NAMED, "c", "g", T0, 1) == 1
    await db.execute("drop table s")
    with pytest.raises(aiotaos.DatabaseError, match="Table does not exist"):
        await db.execute(NAMED, "c", "g", T0, 1)
    await db.execute("create stable s (ts timestamp, v bigint) tags (h nchar(8))")
    assert await db.execute(NAMED, "c", "eightchr", T0, 2**40) == 1
    assert await db.fetch("select v, h from s") == [(2**40, "eightchr")]


async def test_another_database_between_two_uses(db):
    await db.execute("create stable e.s (ts timestamp, v int) tags (g nchar(4))")
    assert await db.execute(NAMED, "c", "g", T0, 1) == 1
    await db.execute("use e")
    assert await db.execute(NAMED, "c", "g", T0, 2) == 1
    assert await db.fetch("select v from s where v > ?", 0) == [(2,)]
    await db.select_db("d")
    assert await db.execute(NAMED, "c", "g", T0 + 1, 3) == 1
    assert await values(db, "d.c") == [1, 3]
    assert await values(db, "e.c") == [2]


async def test_more_statements_than_are_kept(db):
    """The server has to drop some; all of them work before and after."""
    texts = [f"insert into ? using s tags('g') values(?, {number})" for number in range(80)]
    for turn in range(2):
        for number, sql in enumerate(texts):
            assert await db.execute(sql, f"c{number}", T0 + turn) == 1
    assert await db.fetchval("select count(*) from s") == 160


async def test_many_tasks_with_one_statement(db):
    rows = [(f"c{row}", "g", T0, row) for row in range(50)]
    assert await asyncio.gather(*(db.execute(NAMED, *row) for row in rows)) == [1] * 50
    sql = "select v from s where v = ?"
    assert await asyncio.gather(*(db.fetchval(sql, row) for row in range(50))) == list(range(50))


async def test_results_of_one_query_read_in_turns(db):
    await db.executemany(INSERT, [(T0 + row, row, None) for row in range(10)])
    sql = "select v from t where v >= ?"
    async with await db.query(sql, 0) as first, await db.query(sql, 5) as second:
        for row in range(5):
            assert await first.fetchone() == (row,)
            assert await second.fetchone() == (row + 5,)
        assert await second.fetchone() is None
        assert await first.fetchall() == [(5,), (6,), (7,), (8,), (9,)]


async def test_a_row_that_is_not_unpacked(db):
    with pytest.raises(StatementError) as caught:
        await db.execute("insert into t values(?, ?, ?)", (T0, 1, "a"))
    assert str(caught.value) == (
        "the statement has 3 placeholders and got 1 parameters; a row is given as *row"
    )
    assert await db.fetch("select * from t") == []


@pytest.mark.parametrize("parameters", [(T0, 1), (T0, 1, "a", 2)], ids=len)
async def test_rows_of_another_length(db, parameters):
    with pytest.raises(StatementError) as caught:
        await db.execute(INSERT, *parameters)
    assert str(caught.value) == (
        f"the statement has 3 placeholders and got {len(parameters)} parameters"
    )
    with pytest.raises(StatementError) as caught:
        await db.executemany(INSERT, [(T0, 1, "a"), parameters])
    assert str(caught.value) == f"row 1 has {len(parameters)} values, the statement takes 3"
    assert await values(db) == []


async def test_times_that_nanoseconds_cannot_hold(db):
    """They must not wrap around: a DELETE would take what it should leave."""
    await db.execute("insert into t values(?, ?, ?)", T0, 1, "a")
    late = np.datetime64("2300-01-01")
    assert await db.fetch("select v from t where ts > ?", late) == []
    await db.execute("delete from t where ts > ?", late)
    assert await db.fetchval("select count(*) from t") == 1
    assert await db.fetchval("select count(*) from t where ts < ?", late) == 1


@pytest.mark.parametrize("use", ["/* x */ use other", "-- c\nuse other", "  USE other"])
async def test_use_behind_a_comment(db, use):
    await db.execute("create database other")
    for name in ("other", db.database):
        await db.execute(f"create stable {name}.u (ts timestamp, v int) tags (g int)")
    sql = "insert into ? using u tags(?) values(?, ?)"
    home = db.database
    await db.execute(sql, "a", 1, T0, 1)
    await db.execute(use)
    assert db.database == "other"
    await db.execute(sql, "b", 1, T0, 2)
    assert await db.fetch("select tbname, v from other.u") == [("b", 2)]
    assert await db.fetch(f"select tbname, v from {home}.u") == [("a", 1)]


async def test_use_that_is_cancelled(db):
    """Whatever came of it, a kept statement does not write where it should not."""
    await db.execute("create database other")
    for name in ("other", db.database):
        await db.execute(f"create stable {name}.u (ts timestamp, v int) tags (g int)")
    sql = "insert into ? using u tags(?) values(?, ?)"
    await db.execute(sql, "a", 1, T0, 1)
    use = asyncio.create_task(db.execute("use other"))
    await asyncio.sleep(0)
    use.cancel()
    await asyncio.wait([use])
    await db.execute(sql, "b", 1, T0, 2)
    (home,) = await db.fetchrow("select database()")
    assert db.database == home
    assert ("b", 2) in await db.fetch(f"select tbname, v from {home}.u")


@pytest.mark.parametrize(
    "sql", ["-- a comment\ninsert into t values(?, ?, ?)", "/* ? */ insert into t values(?,?,?)"]
)
async def test_comments_before_a_prepared_statement(db, sql):
    assert await db.execute(sql, T0, 1, "a") == 1
    assert await db.fetch("/* ? */ select v from t where v = ?", 1) == [(1,)]
