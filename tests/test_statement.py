"""Prepared statements: binding by columns, tables and rows; what is refused before it is sent."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

import aiotaos
from aiotaos import (
    DataError,
    FieldKind,
    InterfaceError,
    Statement,
    StatementError,
    StatementField,
    TableRows,
    TypeCode,
    dict_row,
)

T0 = 1709251200000
MOMENT = datetime(2024, 3, 1, tzinfo=UTC)
SUBTABLES = "insert into ? using s tags(?, ?) values(?, ?, ?, ?)"


@pytest.fixture
async def db():
    async with aiotaos.connect("embedded://") as connection:
        await connection.execute("create database d precision 'ms'")
        await connection.execute("use d")
        await connection.execute(
            "create stable s (ts timestamp, v int, t varchar(4), n nchar(2)) "
            "tags (place nchar(4), grp int)"
        )
        await connection.execute("create table p (ts timestamp, v int)")
        yield connection


@pytest.fixture
async def statement(db):
    async with await db.prepare(SUBTABLES) as statement:
        yield statement


@pytest.fixture
async def plain(db):
    async with await db.prepare("insert into p values(?, ?)") as statement:
        yield statement


async def rows(db, columns="tbname, place, grp, v, t, n"):
    return await db.fetch(f"select {columns} from s order by tbname, ts")


# What a statement tells.


async def test_what_an_insert_tells(statement):
    column, tag = FieldKind.COLUMN, FieldKind.TAG
    assert isinstance(statement, Statement)
    assert statement.sql == SUBTABLES
    assert statement.fields[1:] == (
        StatementField("place", tag, TypeCode.NCHAR, 4),
        StatementField("grp", tag, TypeCode.INT, 4),
        StatementField("ts", column, TypeCode.TIMESTAMP, 8),
        StatementField("v", column, TypeCode.INT, 4),
        StatementField("t", column, TypeCode.VARCHAR, 4),
        StatementField("n", column, TypeCode.NCHAR, 2),
    )
    assert statement.fields[0].kind is FieldKind.TBNAME
    assert (statement.is_insert, statement.parameter_count, statement.bound) == (True, 7, 0)
    assert repr(statement) == "<Statement INSERT, 0 rows bound>"
    await statement.aclose()
    assert statement.closed
    assert repr(statement) == "<Statement INSERT, closed>"


async def test_what_a_query_tells(db):
    async with await db.prepare("select v from p where v > ? and v < ?") as query:
        assert (query.is_insert, query.parameter_count, query.fields) == (False, 2, ())
        assert repr(query) == "<Statement query, 0 rows bound>"


# Writing.


async def test_bind(db, statement):
    columns = [[T0, T0 + 1], [1, None], ["a", None], ["涛𝄞", ""]]
    await statement.bind(columns, tbname="d1", tags=["上海", 7])
    by_name = {"ts": (MOMENT,), "t": np.array(["b"]), "n": [None], "v": np.array([5], "i8")}
    await statement.bind(by_name, tbname="d2", tags={"grp": None, "place": "x"})
    assert statement.bound == 3
    assert repr(statement) == "<Statement INSERT, 3 rows bound>"
    assert await rows(db) == []
    assert await statement.execute() == 3
    assert statement.bound == 0
    assert await rows(db) == [
        ("d1", "上海", 7, 1, "a", "涛𝄞"),
        ("d1", "上海", 7, None, None, ""),
        ("d2", "x", None, 5, "b", None),
    ]


async def test_bind_tables(db, statement):
    tables = [
        TableRows([[T0 + row], [row], [None], [None]], f"d{row}", ["x", row]) for row in range(3)
    ]
    await statement.bind_tables(iter(tables))
    await statement.bind_tables([])
    assert await statement.execute() == 3
    assert await rows(db, "tbname, grp, v") == [("d0", 0, 0), ("d1", 1, 1), ("d2", 2, 2)]


async def test_bind_rows(db, statement):
    given = [
        ("d2", "x", 2, T0 + 1, 1, None, None),
        ("d1", "y", 1, T0, 2, None, None),
        ("d2", "z", 9, T0, 3, None, None),
    ]
    await statement.bind_rows(row for row in given)
    await statement.bind_rows([])
    assert statement.bound == 3
    assert await statement.execute() == 3
    assert await rows(db, "tbname, place, grp, v") == [
        ("d1", "y", 1, 2),
        ("d2", "x", 2, 3),
        ("d2", "x", 2, 1),
    ]


async def test_execute_a_row(db, plain):
    assert await plain.execute(T0, 1) == 1
    await plain.bind_rows([(T0 + 1, 2)])
    assert await plain.execute(MOMENT + timedelta(milliseconds=2), None) == 2
    assert await db.fetch("select v from p order by ts") == [(1,), (2,), (None,)]


async def test_many_rows_of_one_table(db, plain):
    count = 70_000
    await plain.bind([np.arange(T0, T0 + count), np.arange(count)])
    assert plain.bound == count
    assert await plain.execute() == count
    assert await db.fetchrow("select count(*), min(v), max(v), sum(v) from p") == (
        count, 0, count - 1, count * (count - 1) // 2,
    )  # fmt: skip


async def test_many_rows_of_a_named_table(db, statement):
    count = 40_000
    texts = [f"{row % 7919}" for row in range(count)]
    times = np.arange(T0, T0 + count)
    await statement.bind([times, range(count), texts, [None] * count], tbname="d", tags=["x", 1])
    assert await statement.execute() == count
    found = await db.fetch("select v, t from d")
    assert found == list(zip(range(count), texts, strict=True))


async def test_nothing_of_what_is_dropped_is_written(db, plain):
    await plain.bind_rows([(T0, 1)])
    await plain.aclose()
    assert plain.bound == 0
    assert await db.fetchval("select count(*) from p") == 0


# Queries.


async def test_queries(db, plain):
    await plain.bind([[T0, T0 + 1, T0 + 2], [1, 2, None]])
    await plain.execute()
    async with await db.prepare("select v from p where v >= ? or ts = ? order by ts") as query:
        assert await query.fetch(2, MOMENT) == [(1,), (2,)]
        assert await query.fetch(9, MOMENT + timedelta(milliseconds=2)) == [(None,)]
        assert await query.fetch(2, T0 + 5) == [(2,)]
        query.row_factory = dict_row
        assert await query.fetch(2, T0 + 5) == [{"v": 2}]


async def test_a_query_without_parameters(db, plain):
    await plain.execute(T0, 1)
    async with await db.prepare("select v from p") as query:
        assert await query.fetch() == [(1,)]
        assert await query.fetch() == [(1,)]


@pytest.mark.parametrize("parameters", [(), (1, 2)])
async def test_queries_with_a_wrong_number_of_parameters(db, parameters):
    async with await db.prepare("select v from p where v > ?") as query:
        with pytest.raises(StatementError) as caught:
            await query.query(*parameters)
        expected = f"the statement has 1 placeholders and got {len(parameters)} parameters"
        assert str(caught.value) == expected
        assert await query.fetch(0) == []


async def test_a_query_is_no_insert(db, plain):
    with pytest.raises(StatementError, match=r"^the statement is an INSERT; it has no rows$"):
        await plain.query(1, 2)
    async with await db.prepare("select v from p where v > ?") as query:
        for call in (lambda: query.bind([[1]]), lambda: query.bind_rows([(1,)])):
            with pytest.raises(StatementError, match="give its parameters to query"):
                await call()
        with pytest.raises(StatementError, match="run it with query"):
            await query.execute()


# Bad input: nothing is sent, and the statement stays of use.

ONE = ([T0], [1], ["a"], ["n"])
BAD_BINDS = [
    (([T0], [2**31], ["a"], ["n"]), "column 'v', row 0: 2147483648 is not a value of INT"),
    (([T0], ["1"], ["a"], ["n"]), "column 'v', row 0: '1' is not a value of INT"),
    (([T0], [1], ["涛涛"], ["n"]), "column 't', row 0: '涛涛' has 6 bytes, more than VARCHAR(4)"),
    (([T0], [1], ["a"], ["𝄞𝄞𝄞"]), "column 'n', row 0: '𝄞𝄞𝄞' has 3 characters, more than NCHAR(2)"),
    (([None], [1], ["a"], ["n"]), "column 'ts', row 0: None is no time; every row needs one"),
    (([datetime(2024, 1, 1)], [1], ["a"], ["n"]), "column 'ts', row 0: datetime.datetime(2024, 1"),
    (
        (np.array(["NaT"], "M8[ms]"), [1], ["a"], ["n"]),
        "column 'ts', row 0: None is no time; every row needs one",
    ),
    (([np.datetime64("NaT")], [1], ["a"], ["n"]), "column 'ts', row 0: np.datetime64('NaT"),
    (([T0], [float("nan")], ["a"], ["n"]), "column 'v', row 0: nan is not a value of INT"),
    (([T0], [1, 2], ["a"], ["n"]), "columns of unequal length: ts 1, v 2, t 1, n 1"),
    (([], [], [], []), "there are no rows"),
    (([T0], [1], ["a"]), "columns: expected 4 (ts, v, t, n), got 3"),
    (([T0], 1, ["a"], ["n"]), "column 'v': expected a list, a numpy array or an Arrow array of"),
    (
        {"ts": [T0], "v": [1], "t": ["a"]},
        "columns by name: missing 'n'; expected ts, v, t, n",
    ),
    (
        {"ts": [T0], "v": [1], "t": ["a"], "n": ["n"], "w": [1]},
        "columns by name: unknown 'w'; expected ts, v, t, n",
    ),
]


@pytest.mark.parametrize(("columns", "message"), BAD_BINDS, ids=[case[1] for case in BAD_BINDS])
async def test_bad_columns(db, statement, columns, message):
    await statement.bind(ONE, tbname="good", tags=["x", 1])
    with pytest.raises((DataError, StatementError)) as caught:
        await statement.bind(columns, tbname="bad", tags=["x", 1])
    assert str(caught.value).startswith(f"table 'bad': {message}")
    assert statement.bound == 1
    assert await statement.execute() == 1
    assert await rows(db, "tbname") == [("good",)]


@pytest.mark.parametrize(
    ("tbname", "tags", "message"),
    [
        (None, ["x", 1], "table name: expected a string, got None"),
        (5, ["x", 1], "table name: expected a string, got 5"),
        ("", ["x", 1], "table name: expected 1 to 270 bytes, got ''"),
        ("a\0", ["x", 1], r"table name: expected 1 to 270 bytes, got 'a\x00'"),
        ("涛" * 91, ["x", 1], "table name: expected 1 to 270 bytes, got '涛"),
        ("d", ["x"], "tags: expected 2 (place, grp), got 1"),
        ("d", None, "tags: expected 2 (place, grp), got 0"),
        ("d", ["x", 1, 2], "tags: expected 2 (place, grp), got 3"),
        ("d", {"place": "x"}, "tags by name: missing 'grp'; expected place, grp"),
        ("d", {"place": "x", "grp": 1, "a": 2}, "tags by name: unknown 'a'; expected place, grp"),
        (
            "d",
            ["xxxxx", 1],
            "table 'd': tag 'place': 'xxxxx' has 5 characters, more than NCHAR(4) takes",
        ),
        ("d", ["x", "1"], "table 'd': tag 'grp': '1' is not a value of INT"),
    ],
)
async def test_bad_names_and_tags(db, statement, tbname, tags, message):
    with pytest.raises((DataError, StatementError)) as caught:
        await statement.bind(ONE, tbname=tbname, tags=tags)
    assert str(caught.value).startswith(message)
    assert statement.bound == 0
    assert await db.fetch("show tables like 'd%'") == []


async def test_a_name_for_the_statements_own_table(plain):
    with pytest.raises(StatementError) as caught:
        await plain.bind([[T0], [1]], tbname="p")
    assert str(caught.value) == ("tbname: the statement names its table and takes no name, got 'p'")
    with pytest.raises(StatementError, match=r"^tags: expected 0 \(none\), got 1$"):
        await plain.bind([[T0], [1]], tags=[1])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([("d", "x", 1, T0, 1, "a")], "row 0 has 6 values, the statement takes 7"),
        ([("d", "x", 1, T0, 1, "a", "n"), 5], "row 1: expected a sequence of 7 values, got 5"),
        (
            [("d", "x", 1, T0, 1, "a", "n"), "short"],
            "row 1: expected a sequence of 7 values, got 's",
        ),
        ([("d", "x", 1, T0, 1, "a", "n"), ()], "row 1 has 0 values, the statement takes 7"),
        ([(None, "x", 1, T0, 1, "a", "n")], "row 0: table name: expected a string, got None"),
        (
            [("d", "x", 1, T0, 1, "a", "n"), ("", "x", 1, T0, 1, "a", "n")],
            "row 1: table name: expected 1 to 270 bytes, got ''",
        ),
        ([(["d"], "x", 1, T0, 1, "a", "n")], "table name: expected a string, got ['d']"),
        (
            [*[("d", "x", 1, T0, 1, "a", "n")] * 3, ("e", "x", 2**31, T0, 1, "a", "n")],
            "tag 'grp', row 3: 2147483648 is not a value of INT",
        ),
        (
            [("d", "x", 1, T0, 1, "a", "n"), ("d", "x", 1, None, 1, "a", "n")],
            "column 'ts', row 1: None is no time; every row needs one",
        ),
    ],
)
async def test_bad_rows(db, statement, given, message):
    with pytest.raises((DataError, StatementError)) as caught:
        await statement.bind_rows(given)
    assert str(caught.value).startswith(message)
    assert statement.bound == 0
    assert await db.fetch("show tables like 'd%'") == []


async def test_two_columns_of_times_may_be_null(db):
    """Only the server knows which of them is the table's time."""
    await db.execute("create table two (ts timestamp, other timestamp)")
    async with await db.prepare("insert into two values(?, ?)") as two:
        assert await two.execute(T0, None) == 1


# Errors of the server, and the end.


async def test_a_table_that_is_altered(db, plain):
    assert await plain.execute(T0, 1) == 1
    await db.execute("alter table p add column w int")
    with pytest.raises(aiotaos.Error):
        await plain.execute(T0 + 1, 2, 3)
    async with await db.prepare("insert into p values(?, ?, ?)") as other:
        assert await other.execute(T0 + 1, 2, 3) == 1


async def test_statements_the_server_does_not_prepare(db):
    with pytest.raises(aiotaos.ProgrammingError) as caught:
        await db.prepare("create table x (ts timestamp, v int)")
    assert (caught.value.code, caught.value.sql) == (0x2600, "create table x (ts timestamp, v int)")
    with pytest.raises(aiotaos.ProgrammingError, match="Table does not exist") as caught:
        await db.prepare("insert into nosuch values(?, ?)")
    assert caught.value.code == 0x022B


async def test_nothing_bound(plain):
    with pytest.raises(StatementError, match=r"^nothing is bound$"):
        await plain.execute()


async def test_after_its_end(db, plain):
    query = await db.prepare("select v from p where v > ?")
    await query.aclose()
    await plain.aclose()
    await plain.aclose()
    for call in (
        lambda: plain.bind([[T0], [1]]),
        lambda: plain.bind_rows([(T0, 1)]),
        lambda: plain.bind_tables([]),
        lambda: plain.execute(T0, 1),
        lambda: query.query(1),
        lambda: query.fetch(1),
    ):
        with pytest.raises(StatementError, match=r"^the statement is closed$"):
            await call()
    assert await db.fetchval("select count(*) from p") == 0


async def test_many_statements_at_once(db):
    async def write(table: int) -> int:
        async with await db.prepare(SUBTABLES) as own:
            for row in range(5):
                await own.bind_rows([(f"d{table}", "x", table, T0 + row, row, None, None)])
            return await own.execute()

    assert await asyncio.gather(*map(write, range(20))) == [5] * 20
    assert await db.fetchval("select count(*) from s") == 100


@pytest.mark.parametrize("req_id", [0, -1, 2**63, "1", True])
async def test_bad_req_ids(plain, req_id):
    with pytest.raises(InterfaceError, match="req_id: expected an integer from 1"):
        await plain.execute(req_id=req_id)
