"""The official client writes with statements and without a schema.

It blocks, and keeps the GIL while it waits: the server runs as a process of its own.
"""

from __future__ import annotations

import asyncio

import pytest

import aiotaos

taosws = pytest.importorskip("taosws")
TICKS = [1709251200000, 1709251200001]


@pytest.fixture
def conn(embedded_dsn):
    first = taosws.connect(embedded_dsn)
    first.execute("create database peers")
    first.close()
    conn = taosws.connect(f"{embedded_dsn}/peers")
    conn.execute(
        "create stable m (ts timestamp, b bool, i int, d double, s varchar(20), n nchar(20)) "
        "tags (loc nchar(16), grp int)"
    )
    yield conn
    conn.close()


def rows(conn, sql):
    return [tuple(row) for row in conn.query(sql)]


def columns():
    return [
        taosws.millis_timestamps_to_column(TICKS),
        taosws.bools_to_column([True, None]),
        taosws.ints_to_column([-1, None]),
        taosws.doubles_to_column([0.1, None]),
        taosws.varchar_to_column(["it's", None]),
        taosws.nchar_to_column(["涛思🚀", None]),
    ]


async def read(embedded_dsn, sql):
    async with aiotaos.connect(f"{embedded_dsn}/peers") as conn:
        return await conn.fetch(sql)


STORED = [
    ("a", True, -1, 0.1, "it's", "涛思🚀", "北京", 7),
    ("a", None, None, None, None, None, "北京", 7),
    ("b", True, -1, 0.1, "it's", "涛思🚀", None, None),
    ("b", None, None, None, None, None, None, None),
]
ALL = "select tbname, b, i, d, s, n, loc, grp from m order by tbname, ts"


def test_stmt2(conn, embedded_dsn):
    stmt = conn.stmt2_statement()
    stmt.prepare("insert into ? using m tags (?, ?) values (?, ?, ?, ?, ?, ?)")
    tags = [taosws.nchar_to_tag("北京"), taosws.int_to_tag(7)]
    nothing = [taosws.nchar_to_tag(None), taosws.int_to_tag(None)]
    stmt.bind(
        [
            taosws.stmt2_bind_param_view("a", tags, columns()),
            taosws.stmt2_bind_param_view("b", nothing, columns()),
        ]
    )
    assert stmt.execute() == 4
    assert rows(conn, ALL) == asyncio.run(read(embedded_dsn, ALL)) == STORED
    stmt.bind([taosws.stmt2_bind_param_view("a", nothing, columns())])
    assert stmt.execute() == 2
    assert rows(conn, ALL) == STORED
    stmt.close()


def test_a_query_with_stmt2(conn):
    conn.execute(f"insert into a using m (loc) tags ('x') (ts, i) values ({TICKS[0]}, 1)")
    stmt = conn.stmt2_statement()
    stmt.prepare("select i, s, loc from m where i >= ? and loc = ?")
    one = [taosws.ints_to_column([1]), taosws.varchar_to_column(["x"])]
    stmt.bind([taosws.stmt2_bind_param_view(None, None, one)])
    stmt.execute()
    assert [tuple(row) for row in stmt.result_set()] == [(1, None, "x")]
    stmt.close()


def test_stmt_v1(conn, embedded_dsn):
    stmt = conn.statement()
    stmt.prepare("insert into ? using m tags (?, ?) values (?, ?, ?, ?, ?, ?)")
    for name, loc, grp in (("a", "北京", 7), ("b", None, None)):
        stmt.set_tbname(name)
        stmt.set_tags([taosws.nchar_to_tag(loc), taosws.int_to_tag(grp)])
        stmt.bind_param(columns())
        stmt.add_batch()
    assert stmt.execute() == 4
    stmt.close()
    assert rows(conn, ALL) == asyncio.run(read(embedded_dsn, ALL)) == STORED


def test_schemaless(conn, embedded_dsn):
    def insert(lines, protocol, precision):
        conn.schemaless_insert(lines=lines, protocol=protocol, precision=precision, ttl=0, req_id=1)

    line, telnet, json = (
        taosws.PySchemalessProtocol.Line,
        taosws.PySchemalessProtocol.Telnet,
        taosws.PySchemalessProtocol.Json,
    )
    milli, second = taosws.PySchemalessPrecision.Millisecond, taosws.PySchemalessPrecision.Second
    insert(['w,k=a v=1i64,s="x" 1709251200000', "w,k=b v=2i64 1709251200001"], line, milli)
    insert(["w.t 1709251200 1.5 k=a"], telnet, second)
    insert(['{"metric":"w.j","timestamp":1709251200,"value":true,"tags":{"k":"a"}}'], json, second)
    lines = "select v, s, k from w order by _ts"
    assert (
        rows(conn, lines)
        == asyncio.run(read(embedded_dsn, lines))
        == [(1, "x", "a"), (2, None, "b")]
    )
    assert rows(conn, "select _value, k from w_t") == [(1.5, "a")]
    assert rows(conn, "select _value, k from w_j") == [(True, "a")]
    with pytest.raises(taosws.Error, match="0x3002"):
        insert(["w"], line, milli)


def test_the_official_client_reads_what_aiotaos_writes(conn, embedded_dsn):
    values = [[True, None], [-1, None], [0.1, None], ["it's", None], ["涛思🚀", None]]

    async def write():
        async with aiotaos.connect(f"{embedded_dsn}/peers") as ours:
            insert = "insert into ? using m tags (?, ?) values (?, ?, ?, ?, ?, ?)"
            async with await ours.prepare(insert) as stmt:
                await stmt.bind([TICKS, *values], tbname="a", tags=["北京", 7])
                assert await stmt.execute() == 2
            names = ("ts", "b", "i", "d", "s", "n")
            data = dict(zip(names, [TICKS, *values], strict=True))
            data |= {"name": ["b", "b"], "loc": [None, None], "grp": [None, None]}
            assert await ours.insert("m", data, tbname="name", tags=["loc", "grp"]) == 2
            line = aiotaos.line("w", {"v": 1, "s": "x"}, {"k": "a"}, TICKS[0])
            assert await ours.schemaless_insert(line) == 1

    asyncio.run(write())
    assert rows(conn, ALL) == STORED
    assert rows(conn, "select v, s, k from w") == [(1, "x", "a")]
