"""Prepared statements at ``/ws``: stmt2."""

from __future__ import annotations

import math
import struct
from typing import Any

import pytest

from aiotaos import TypeCode

CONN = {"user": "root", "password": "taosdata"}
T0 = 1709251200000
FIXED = {
    TypeCode.BOOL: "?",
    TypeCode.TINYINT: "b",
    TypeCode.INT: "i",
    TypeCode.BIGINT: "q",
    TypeCode.UBIGINT: "Q",
    TypeCode.FLOAT: "f",
    TypeCode.DOUBLE: "d",
    TypeCode.TIMESTAMP: "q",
}
ABSENT = object()
Columns = list[tuple[TypeCode, list[Any]]]


def _text(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else b""


def block(type: TypeCode, values: list[Any]) -> bytes:
    flags = bytes(2 if value is ABSENT else value is None for value in values)
    head = struct.pack("<ii", type, len(values)) + flags
    if type in FIXED:
        slots = (0 if value is None or value is ABSENT else value for value in values)
        buffer = struct.pack(f"<{len(values)}{FIXED[type]}", *slots)
        head += b"\0"
    else:
        raw = [one if isinstance(one, bytes) else _text(one) for one in values]
        buffer = b"".join(raw)
        head += b"\1" + struct.pack(f"<{len(raw)}i", *map(len, raw))
    body = head + struct.pack("<i", len(buffer)) + buffer
    return struct.pack("<I", len(body) + 4) + body


def bind(id: int, *tables: tuple[str | None, Columns, Columns], req_id: int = 7) -> bytes:
    """The frame that binds tables of name, tags and columns."""
    _, tags, columns = tables[0]
    names = [table[0].encode() + b"\0" for table in tables if table[0] is not None]
    sections = [struct.pack(f"<{len(names)}H", *map(len, names)) + b"".join(names)]
    for part in (1, 2):
        parts = [b"".join(block(*one) for one in table[part]) for table in tables]
        raw = struct.pack(f"<{len(parts)}I", *map(len, parts)) + b"".join(parts)
        sections.append(raw if tables[0][part] else b"")
    offsets, at = [], 28
    for section in sections:
        offsets.append(at if section else 0)
        at += len(section)
    head = struct.pack("<7I", at, len(tables), len(tags), len(columns), *offsets)
    return struct.pack("<QQQHi", req_id, id, 9, 1, -1) + head + b"".join(sections)


class Stmt:
    """A statement of stmt2 at a socket."""

    def __init__(self, ws: Any, id: int) -> None:
        self.ws = ws
        self.id = id

    async def prepare(self, sql: str, get_fields: bool = True) -> dict[str, Any]:
        return await self.ws.ask(
            "stmt2_prepare", req_id=2, stmt_id=self.id, sql=sql, get_fields=get_fields
        )

    async def bind(self, *tables: tuple[str | None, Columns, Columns]) -> dict[str, Any]:
        await self.ws.socket.send_bytes(bind(self.id, *tables))
        reply = await self.ws.receive()
        assert (reply["action"], reply["req_id"], reply["stmt_id"]) == ("stmt2_bind", 7, self.id)
        return reply

    async def exec(self) -> dict[str, Any]:
        return await self.ws.ask("stmt2_exec", req_id=3, stmt_id=self.id)

    async def write(self, *tables: tuple[str | None, Columns, Columns]) -> int:
        assert (await self.bind(*tables))["code"] == 0
        reply = await self.exec()
        assert reply["code"] == 0, reply
        return reply["affected"]

    async def select(self, sql: str, *values: tuple[TypeCode, Any]) -> list[tuple[Any, ...]]:
        reply = await self.prepare(sql)
        assert (reply["code"], reply["is_insert"]) == (0, False), reply
        assert (reply["fields"], reply["fields_count"]) == (None, len(values))
        if values:
            reply = await self.bind((None, [], [(type, [value]) for type, value in values]))
            assert reply["code"] == 0, reply
        reply = await self.exec()
        assert (reply["code"], reply.get("affected")) == (0, 0), reply
        return await self.ws.result(await self.ws.ask("stmt2_result", req_id=4, stmt_id=self.id))


@pytest.fixture
async def ws(fresh):
    assert (await fresh.ask("conn", req_id=1, **CONN))["code"] == 0
    await fresh.query("create database d precision 'ms'")
    await fresh.query("use d")
    await fresh.query(
        "create stable m (ts timestamp, i int, d double, s varchar(4), n nchar(2)) "
        "tags (loc nchar(4), grp int)"
    )
    return fresh


@pytest.fixture
async def stmt(ws):
    reply = await ws.ask(
        "stmt2_init", req_id=1, single_stb_insert=True, single_table_bind_once=False
    )
    return Stmt(ws, reply["stmt_id"])


def ts(*ticks: int | None) -> tuple[TypeCode, list[Any]]:
    return TypeCode.TIMESTAMP, list(ticks)


def ints(*values: Any) -> tuple[TypeCode, list[Any]]:
    return TypeCode.INT, list(values)


def nchar(*values: Any) -> tuple[TypeCode, list[Any]]:
    return TypeCode.NCHAR, list(values)


def varchar(*values: Any) -> tuple[TypeCode, list[Any]]:
    return TypeCode.VARCHAR, list(values)


def doubles(*values: Any) -> tuple[TypeCode, list[Any]]:
    return TypeCode.DOUBLE, list(values)


INTO_NEW = "insert into ? using m tags (?, ?) (ts, i) values (?, ?)"


def names(reply: dict[str, Any]) -> list[tuple[str, int]]:
    assert reply["code"] == 0, reply
    assert reply["fields_count"] == len(reply["fields"])
    return [(field["name"], field["bind_type"]) for field in reply["fields"]]


@pytest.mark.parametrize(
    ("sql", "fields"),
    [
        (
            "insert into ? using m (grp) tags (?) (ts, s) values (?, ?)",
            [("tbname", 4), ("grp", 2), ("ts", 1), ("s", 1)],
        ),
        (
            "INSERT INTO ? (s, ts) USING `d`.`m` TAGS ('x', ?) VALUES (?, now + 1s);",
            [("tbname", 4), ("grp", 2), ("s", 1)],
        ),
        (
            "insert into d.m (i, tbname, grp, ts, loc) values (?, ?, ?, ?, ?)",
            [("i", 1), ("tbname", 4), ("grp", 2), ("ts", 1), ("loc", 2)],
        ),
        ("insert into m (tbname, ts, i) values ('a', ?, -1)", [("ts", 1)]),
        ("insert into a using m (loc) tags (?) (ts, i) values (?, 1)", [("loc", 2), ("ts", 1)]),
        ("insert into t values (?, 5)", [("ts", 1)]),
        ("insert into d.`t` (v, ts) values (?, ?)", [("v", 1), ("ts", 1)]),
    ],
)
async def test_fields_in_the_order_of_the_marks(ws, stmt, sql, fields):
    await ws.query("create table t (ts timestamp, v int)")
    assert names(await stmt.prepare(sql)) == fields


async def test_what_fields_tell(ws, stmt):
    await ws.query("create database ns precision 'ns'")
    await ws.query(
        "create stable ns.s (ts timestamp, dec decimal(10, 3), g geometry(50), vb varbinary(7)) "
        "tags (at timestamp)"
    )
    reply = await stmt.prepare("insert into ns.? using ns.s tags (?) values (?, ?, ?, ?)")
    assert reply["code"] == 0x2600
    reply = await stmt.prepare("insert into ? using ns.s tags (?) values (?, ?, ?, ?)")
    facts = ("name", "field_type", "precision", "scale", "bytes", "bind_type")
    assert [tuple(field[fact] for fact in facts) for field in reply["fields"]] == [
        ("tbname", 8, 0, 0, 271, 4),
        ("at", 9, 2, 0, 8, 2),
        ("ts", 9, 2, 0, 8, 1),
        ("dec", 21, 10, 3, 8, 1),
        ("g", 20, 0, 0, 52, 1),
        ("vb", 16, 0, 0, 9, 1),
    ]
    reply = await stmt.prepare("insert into ? using ns.s tags (1) (ts) values (?)", False)
    assert (reply["is_insert"], reply["fields"], reply["fields_count"]) == (True, None, 0)


async def test_new_tables_get_tags_and_old_ones_keep_theirs(ws, stmt):
    await stmt.prepare(INTO_NEW)
    a = ("a", [nchar("北京"), ints(1)], [ts(T0, T0 + 1), ints(1, None)])
    b = ("b", [nchar(None), ints(None)], [ts(T0), ints(3)])
    assert await stmt.write(a, b) == 3
    assert await stmt.write(("a", [nchar("x"), ints(9)], [ts(T0 + 1), ints(2)])) == 1
    assert await ws.rows("select tbname, ts, i, loc, grp from m order by tbname, ts") == [
        ("a", T0, 1, "北京", 1),
        ("a", T0 + 1, 2, "北京", 1),
        ("b", T0, 3, None, None),
    ]


async def test_several_binds_before_one_exec(ws, stmt):
    await stmt.prepare(INTO_NEW)
    for row in range(3):
        one = ("a", [nchar("x"), ints(1)], [ts(T0 + row), ints(row)])
        assert (await stmt.bind(one))["code"] == 0
    assert await ws.rows("select count(*) from m") == [(0,)]
    assert (await stmt.exec())["affected"] == 3
    assert await ws.rows("select i from a order by ts") == [(0,), (1,), (2,)]


async def test_rows_that_name_their_table_in_any_order(ws, stmt):
    await stmt.prepare("insert into m (i, tbname, grp, ts, loc) values (?, ?, ?, ?, 'z')")
    a, b = ((name, [ints(grp)], [ints(grp * 10), ts(T0)]) for name, grp in (("a", 1), ("b", 2)))
    assert await stmt.write(a, b) == 2
    rows = await ws.rows("select tbname, i, grp, loc from m order by tbname")
    assert rows == [("a", 10, 1, "z"), ("b", 20, 2, "z")]


async def test_tables_of_other_databases(ws, stmt):
    await ws.query("create database e")
    await stmt.prepare(INTO_NEW)
    reply = await stmt.bind(("nosuch.a", [nchar("x"), ints(1)], [ts(T0), ints(1)]))
    assert (reply["code"], reply["message"]) == (0x0388, "Database not exist")
    await stmt.prepare(INTO_NEW)
    tags = [nchar("x"), ints(1)]
    tables = [(name, tags, [ts(T0), ints(1)]) for name in ("d.a", "`d`.`B`", "`C`", "D")]
    assert await stmt.write(*tables) == 4
    rows = await ws.rows("select tbname from m order by tbname")
    assert rows == [("B",), ("C",), ("D",), ("a",)]


async def test_a_normal_table_and_literals(ws, stmt):
    await ws.query("create table t (ts timestamp, v int, w varchar(8))")
    await stmt.prepare("insert into t values (?, ?, 'it''s')")
    assert await stmt.write((None, [], [ts(T0, T0 + 1), ints(1, 2)])) == 2
    assert await ws.rows("select v, w from t order by ts") == [(1, "it's"), (2, "it's")]
    await stmt.prepare("insert into t (ts, v) values (1709251200000, -8)")
    assert await stmt.write((None, [], [])) == 1
    assert await ws.rows("select v, w from t limit 1") == [(-8, "it's")]


async def test_tables_known_by_their_name_alone(ws, stmt):
    await ws.query("create table t (ts timestamp, v int)")
    await ws.query("create table a using m tags ('x', 1)")
    sql = "insert into ? values (?, ?)"
    reply = await stmt.prepare(sql)
    assert (reply["code"], reply["stmt_id"]) == (0x022B, stmt.id)
    assert (await stmt.prepare(sql, get_fields=False))["is_insert"]
    assert await stmt.write(("t", [], [ts(T0), ints(5)])) == 1
    assert await ws.rows("select v from t") == [(5,)]
    reply = await stmt.bind(("nosuch", [], [ts(T0), ints(5)]))
    assert (reply["code"], reply["message"]) == (0x022B, "Table does not exist")
    await stmt.prepare("insert into ? (i, ts) values (?, ?)", get_fields=False)
    assert await stmt.write(("d.a", [], [ints(6), ts(T0)])) == 1
    assert await ws.rows("select i from a") == [(6,)]


async def test_rows_of_the_same_time_become_one(ws, stmt):
    await stmt.prepare(INTO_NEW)
    tags = [nchar("x"), ints(1)]
    assert await stmt.write(("a", tags, [ts(T0, T0), ints(1, 2)])) == 1
    assert await stmt.write(("a", tags, [ts(T0), ints(None)])) == 1
    assert await ws.rows("select i from a") == [(None,)]


async def test_rows_that_say_nothing_about_a_column(ws, stmt):
    await ws.query(f"insert into a using m tags ('x', 1) values ({T0}, 1, 1.5, 's', 'n')")
    await stmt.prepare("insert into ? using m tags (?, ?) values (?, ?, ?, ?, ?)")
    columns = [
        ts(T0, T0 + 1, T0 + 2),
        ints(ABSENT, 2, ABSENT),
        doubles(2.5, ABSENT, 3.5),
        varchar(ABSENT, ABSENT, ABSENT),
        nchar(None, "m", ABSENT),
    ]
    assert await stmt.write(("a", [nchar("x"), ints(1)], columns)) == 3
    assert await ws.rows("select i, d, s, n from a order by ts") == [
        (1, 2.5, "s", None),
        (2, None, None, "m"),
        (None, 3.5, None, None),
    ]


async def test_nan_and_infinity(ws, stmt):
    await ws.query("create table t (ts timestamp, f float, d double)")
    await stmt.prepare("insert into t values (?, ?, ?)")
    floats = (TypeCode.FLOAT, [math.nan, None, -math.inf])
    columns = [ts(T0, T0 + 1, T0 + 2), floats, doubles(math.inf, math.nan, None)]
    assert await stmt.write((None, [], columns)) == 3
    rows = await ws.rows("select f, d from t order by ts")
    assert repr(rows) == "[(nan, inf), (None, nan), (-inf, None)]"


async def test_json_decimal_blob_and_geometry(ws, stmt):
    await ws.query(
        "create stable j (ts timestamp, a decimal(10, 2), c blob, g geometry(50)) tags (t json)"
    )
    await stmt.prepare("insert into ? using j tags (?) values (?, ?, ?, ?)")
    point = struct.pack("<BIdd", 1, 1, 1, 2)
    columns = [
        ts(T0, T0 + 1),
        (TypeCode.DECIMAL64, ["-12.345", None]),
        (TypeCode.BLOB, [b"\0\xff", None]),
        (TypeCode.GEOMETRY, [point, None]),
    ]
    assert await stmt.write(("a", [(TypeCode.JSON, ['{"k": 1}'])], columns)) == 2
    rows = await ws.rows("select a, c, g, t from j order by ts")
    assert [(row[0] if row[0] is None else str(row[0]), *row[1:]) for row in rows] == [
        ("-12.35", b"\0\xff", point, '{"k":1}'),
        (None, None, None, '{"k":1}'),
    ]
    reply = await stmt.bind(("b", [(TypeCode.JSON, ["[1]"])], columns))
    assert (reply["code"], reply["message"]) == (0x0200, "json parse error")


async def test_a_hundred_thousand_rows(ws, stmt):
    await stmt.prepare("insert into ? using m tags (?, ?) values (?, ?, ?, ?, ?)")
    tables = []
    for number in range(4):
        rows = range(25_000)
        text = [f"{row % 1000}" for row in rows]
        columns = [
            ts(*(T0 + row for row in rows)),
            ints(*rows),
            doubles(*rows),
            varchar(*text),
            nchar(*("é" for _ in rows)),
        ]
        tables.append((f"t{number}", [nchar("x"), ints(number)], columns))
    assert await stmt.write(*tables) == 100_000
    assert await ws.rows("select count(*), sum(i) from m") == [(100_000, 1_249_950_000)]


@pytest.mark.parametrize(
    ("condition", "values", "found"),
    [
        ("i > ?", [(TypeCode.INT, 1)], [2, 3]),
        ("i = ?", [(TypeCode.TINYINT, -1)], []),
        ("i > ?", [(TypeCode.BIGINT, -5)], [1, 2, 3]),
        ("i - ? = 1", [(TypeCode.BIGINT, -1)], []),
        ("i + 1 - ? = 3", [(TypeCode.BIGINT, -1)], [1]),
        ("d >= ?", [(TypeCode.DOUBLE, 2.5)], [2]),
        ("d < ?", [(TypeCode.DOUBLE, 1e300)], [1, 2]),
        ("d = ?", [(TypeCode.FLOAT, 1.5)], [1]),
        ("s = ?", [(TypeCode.VARCHAR, "it's")], [1]),
        ("s like ?", [(TypeCode.VARCHAR, "%t%")], [1]),
        ("n = ? or loc = ?", [(TypeCode.NCHAR, "é"), (TypeCode.VARCHAR, "北")], [2, 3]),
        ("ts >= ?", [(TypeCode.TIMESTAMP, T0 + 1)], [2, 3]),
        ("ts between ? and ?", [(TypeCode.TIMESTAMP, T0), (TypeCode.BIGINT, T0 + 1)], [1, 2]),
        ("ts = ?", [(TypeCode.VARCHAR, "2024-03-01T00:00:00.001Z")], [2]),
        ("ts > ?", [(TypeCode.VARCHAR, "2024-03-01 00:00:00.001")], [3]),
        ("ts > cast(? as timestamp)", [(TypeCode.BIGINT, T0)], [2, 3]),
        ("i in (?, ?)", [(TypeCode.INT, 1), (TypeCode.INT, 3)], [1, 3]),
        ("s = ?", [(TypeCode.VARCHAR, None)], []),
        ("tbname = ?", [(TypeCode.VARCHAR, "b")], [3]),
        ("i > 0 limit ?", [(TypeCode.INT, 2)], [1, 2]),
        ("i > 0 -- what?\n and s <> '?' and i < ?", [(TypeCode.INT, 2)], [1]),
    ],
)
async def test_queries(ws, stmt, condition, values, found):
    await ws.query(
        f"insert into a using m tags ('x', 1) values ({T0}, 1, 1.5, 'it''s', null) "
        f"({T0 + 1}, 2, 2.5, null, 'é') b using m tags ('北', 2) ({'ts'}, i) values ({T0 + 2}, 3)"
    )
    where, _, limit = condition.partition(" limit")
    sql = f"select i from m where {where} order by ts{limit and ' limit' + limit}"
    assert await stmt.select(sql, *values) == [(number,) for number in found]


async def test_queries_of_other_types(ws, stmt):
    await ws.query("create table t (ts timestamp, vb varbinary(4), ok bool, a decimal(10, 2))")
    await ws.query("insert into t values (1, '\\x00ff', true, 1.25) (2, null, false, 2.5)")
    for condition, value, found in (
        ("vb = ?", (TypeCode.VARBINARY, b"\0\xff"), [1]),
        ("vb <> ?", (TypeCode.VARBINARY, b""), [1]),
        ("ok = ?", (TypeCode.BOOL, False), [2]),
        ("a > ?", (TypeCode.DECIMAL64, "1.3"), [2]),
        ("a < ?", (TypeCode.DOUBLE, 1.3), [1]),
    ):
        rows = await stmt.select(f"select ts from t where {condition}", value)
        assert rows == [(number,) for number in found]


@pytest.mark.parametrize(
    "value",
    [
        (TypeCode.DOUBLE, math.nan),
        (TypeCode.GEOMETRY, b"x"),
        (TypeCode.BLOB, b"x"),
    ],
)
async def test_values_that_no_query_takes(stmt, value):
    await stmt.prepare("select * from m where d > ?")
    reply = await stmt.bind((None, [], [(value[0], [value[1]])]))
    assert (reply["code"], "not supported by the embedded" in reply["message"]) == (0x2600, True)


async def test_values_without_a_table(stmt):
    rows = await stmt.select(
        "select ?, ?, ?, ? as x",
        (TypeCode.BOOL, True),
        (TypeCode.UBIGINT, 2**64 - 1),
        (TypeCode.DOUBLE, -0.25),
        (TypeCode.VARCHAR, "é"),
    )
    assert rows == [(True, 2**64 - 1, -0.25, "é")]
    assert await stmt.select("select 1") == [(1,)]


async def test_the_result_of_a_query_can_be_had_once(ws, stmt):
    assert await stmt.select("select ?", (TypeCode.INT, 1)) == [(1,)]
    again = await ws.ask("stmt2_result", req_id=4, stmt_id=stmt.id)
    assert (again["code"], again["message"]) == (0x022A, "Stmt API usage error")


async def test_a_query_again_with_other_values(ws, stmt):
    await stmt.prepare("select ?")
    for value in (1, 2):
        await stmt.bind((None, [], [ints(value)]))
        assert (await stmt.exec())["code"] == 0
        reply = await ws.ask("stmt2_result", req_id=4, stmt_id=stmt.id)
        assert await ws.result(reply) == [(value,)]


@pytest.mark.parametrize(
    ("sql", "code", "message"),
    [
        ("insert into nosuch values (?)", 0x022B, "Table does not exist"),
        ("insert into ? using nosuch tags (?) values (?)", 0x022B, "Table does not exist"),
        ("insert into nosuch.t values (?)", 0x0388, "Database not exist"),
        ("selec ?", 0x2600, "stmt only support 'SELECT' or 'INSERT'"),
        ("create table x (ts timestamp, v int)", 0x2600, "stmt only support"),
        ("", 0x2600, "stmt only support"),
        ("insert into ? using m (nosuch) tags (?) values (?)", 0x2602, "Invalid column name"),
        ("insert into ? using m tags (?) values (?, ?)", 0x260D, "Tags number not matched"),
        ("insert into ? using m tags (?, ?) values (?)", 0x263F, "Illegal number of columns"),
        ("insert into m (ts, i) values (?, ?)", 0x0200, "tbname column should not be null"),
        ("insert into m (tbname, i) values (?, ?)", 0x0200, "Primary timestamp column"),
        ("insert into ? using m tags (?, ?) (i) values (?)", 0x0200, "Primary timestamp column"),
        ("insert into ? using m tags (?, ?) (ts, ts) values (?, ?)", 0x0216, "duplicated column"),
        ("insert into ? using m tags (?, ?) (ts) values (?) (?)", 0x2600, "not supported by the"),
        ("insert into t select * from m where i > ?", 0x2600, "not supported by the embedded"),
        ("insert into ? values (?", 0x2601, "Incomplete SQL statement"),
        ("select * form m where i > ?", 0x2600, 'syntax error near "m where'),
        ("select i from m where i > ? ?", 0x2600, "syntax error"),
    ],
)
async def test_what_cannot_be_prepared(ws, stmt, sql, code, message):
    reply = await stmt.prepare(sql)
    assert (reply["code"], reply["stmt_id"]) == (code, stmt.id)
    assert message in reply["message"]
    again = await stmt.exec()
    assert again["code"] == code
    assert again["message"].startswith("stmt already failed with err: ")
    assert again["message"].endswith(", please use stmt prepare")
    assert names(await stmt.prepare("insert into m (tbname, ts) values (?, ?)"))


TAGS = [nchar("x"), ints(1)]


@pytest.mark.parametrize(
    ("table", "code", "message"),
    [
        (("a", TAGS, [ts(None), ints(1)]), 0x267B, "Primary key should not be null"),
        (("a", TAGS, [ts(ABSENT), ints(1)]), 0x267B, "Primary key should not be null"),
        (("a", TAGS, [ts(T0, T0), doubles(1, 2)]), 0x0200, "column type mis-match"),
        (("a", TAGS, [ts(T0, T0), ints(1)]), 0x0200, "row number in each bind param"),
        (("a", TAGS, [ts(T0)]), 0x0236, "bind number out of range or not match"),
        (("a", TAGS, [ts(*range(32768)), ints(*range(32768))]), 0x0236, "bind number out of"),
        (("a", [nchar("x")], [ts(T0), ints(1)]), 0x0236, "bind number out of range"),
        (("a", [nchar("12345"), ints(1)], [ts(T0), ints(1)]), 0x2653, "Value too long"),
        (("a", [varchar("x"), ints(1)], [ts(T0), ints(1)]), 0x0200, "column type mis-match"),
        (("a", [], [ts(T0), ints(1)]), 0x022B, "Table does not exist"),
        ((None, TAGS, [ts(T0), ints(1)]), 0x022B, "Table name is not set"),
        (("", TAGS, [ts(T0), ints(1)]), 0x022B, "Table name is empty"),
    ],
)
async def test_what_cannot_be_bound(ws, stmt, table, code, message):
    await stmt.prepare(INTO_NEW)
    reply = await stmt.bind(table)
    assert reply["code"] == code
    assert message in reply["message"]
    again = await stmt.bind(("a", TAGS, [ts(T0), ints(1)]))
    assert (again["code"], "please use stmt prepare" in again["message"]) == (code, True)
    assert (await stmt.exec())["code"] == code
    await stmt.prepare(INTO_NEW)
    assert await stmt.write(("a", TAGS, [ts(T0), ints(1)])) == 1


@pytest.mark.parametrize(
    ("columns", "code"),
    [
        ([ts(T0), varchar("12345"), nchar("x")], 0x2653),
        ([ts(T0), varchar("éé "), nchar("x")], 0x2653),
        ([ts(T0), varchar("éé"), nchar("xxx")], 0x2653),
        ([ts(T0), varchar(b"\xff"), nchar("x")], 0x2600),
        ([ts(T0), varchar("x"), nchar(b"\xff")], 0x2600),
        ([ts(T0), varchar("éé"), nchar("🚀🚀")], 0),
    ],
)
async def test_texts_that_do_not_fit(stmt, columns, code):
    await stmt.prepare("insert into ? using m tags (?, ?) (ts, s, n) values (?, ?, ?)")
    assert (await stmt.bind(("a", TAGS, columns)))["code"] == code


async def test_null_of_any_type_for_one_row(ws, stmt):
    await stmt.prepare(INTO_NEW)
    assert await stmt.write(("a", [varchar(None), ints(1)], [ts(T0), varchar(None)])) == 1
    assert await ws.rows("select i, loc from m") == [(None, None)]


async def test_nothing_is_stored_if_one_row_cannot_be(ws, stmt):
    await stmt.prepare(INTO_NEW)
    good = ("a", TAGS, [ts(T0), ints(1)])
    late = ("b", TAGS, [ts(2**62), ints(1)])
    assert (await stmt.bind(good, late))["code"] == 0
    reply = await stmt.exec()
    assert (reply["code"], reply["message"]) == (0x060B, "Timestamp data out of range")
    assert await ws.rows("select count(*) from m") == [(0,)]
    assert await ws.rows("show tables") == []


async def test_a_name_that_is_another_tables(ws, stmt):
    await ws.query("create table t (ts timestamp, v int)")
    for name, code in (("t", 0x2603), ("m", 0x0603), ("x" * 193, 0x2617)):
        await stmt.prepare(INTO_NEW)
        assert (await stmt.bind((name, TAGS, [ts(T0), ints(1)])))["code"] == 0
        assert (await stmt.exec())["code"] == code


async def test_a_table_that_changes_after_the_bind(ws, stmt):
    await stmt.prepare(INTO_NEW)
    await stmt.bind(("a", TAGS, [ts(T0), ints(1)]))
    await ws.query("alter table m drop column i")
    assert (await stmt.exec())["code"] == 0x2602
    await stmt.prepare("insert into ? using m tags (?, ?) (ts, d) values (?, ?)")
    await stmt.bind(("a", TAGS, [ts(T0), doubles(1)]))
    await ws.query("drop stable m")
    await ws.query("create stable m (ts timestamp, d double) tags (loc nchar(4), grp int)")
    assert (await stmt.exec())["code"] == 0x0125


async def test_steps_out_of_order(ws, stmt):
    for step in (stmt.exec(), ws.ask("stmt2_result", req_id=4, stmt_id=stmt.id)):
        assert (await step)["code"] == 0x022A
    await stmt.prepare(INTO_NEW)
    reply = await ws.ask("stmt2_result", req_id=4, stmt_id=stmt.id)
    assert (reply["code"], reply["message"]) == (65535, "stmt is insert, no result set")
    reply = await stmt.exec()
    assert (reply["code"], reply["message"]) == (0x022A, "Stmt API usage error")
    await stmt.prepare("select ?")
    assert (await stmt.exec())["code"] == 0x022A
    await stmt.prepare("select ?")
    assert (await stmt.bind((None, [], [ints(1, 2)])))["code"] == 0x0236


async def test_statements_that_do_not_exist(ws, stmt):
    unknown = Stmt(ws, 99)
    nil = (65535, "stmt2 is nil", 99)
    for step in (unknown.prepare("select 1"), unknown.exec(), unknown.bind((None, [], [ints(1)]))):
        reply = await step
        assert (reply["code"], reply["message"], reply["stmt_id"]) == nil
    for _ in range(2):
        reply = await ws.ask("stmt2_close", req_id=5, stmt_id=stmt.id)
        assert (reply["code"], reply["stmt_id"], reply["req_id"]) == (0, stmt.id, 5)
    assert (await stmt.exec())["message"] == "stmt2 is nil"
    old = (await ws.ask("init", req_id=1))["stmt_id"]
    assert (await Stmt(ws, old).exec())["message"] == "stmt2 is nil"
    assert (await ws.ask("stmt2_close", req_id=5, stmt_id=old))["message"] == "stmt2 is nil"
    assert (await ws.ask("stmt2_exec", req_id="x"))["message"] == (
        "unmarshal stmt2_exec request error"
    )


async def test_binds_that_cannot_be_read_do_no_harm(ws, stmt):
    await stmt.prepare(INTO_NEW)
    good = bind(stmt.id, ("a", TAGS, [ts(T0), ints(1)]))
    for wrong, message in (
        (good[:26], "message length is too short"),
        (good[:24] + b"\2" + good[25:], "unknown stmt2 bind version"),
        (good + b"\0", "total length not match"),
    ):
        await ws.socket.send_bytes(wrong)
        reply = await ws.receive()
        assert (reply["code"], reply["stmt_id"]) == (65535, stmt.id)
        assert message in reply["message"]
    await ws.socket.send_bytes(good)
    assert (await ws.receive())["code"] == 0
    assert (await stmt.exec())["affected"] == 1


async def test_two_statements_at_once(ws, stmt):
    reply = await ws.ask("stmt2_init", req_id=1)
    other = Stmt(ws, reply["stmt_id"])
    assert other.id != stmt.id
    for number, one in enumerate((stmt, other)):
        await one.prepare(INTO_NEW)
        await one.bind((f"t{number}", TAGS, [ts(T0), ints(number)]))
    assert [(await one.exec())["affected"] for one in (stmt, other)] == [1, 1]
    assert await ws.rows("select i from m order by i") == [(0,), (1,)]


async def test_a_socket_that_closes_frees_its_results(server, ws, stmt):
    await stmt.prepare("select * from m where i > ?")
    await stmt.bind((None, [], [ints(1)]))
    await stmt.exec()
    await ws.socket.close()
    await server.stop()


async def test_steps_sent_without_waiting_do_not_mix(ws, stmt):
    """They are done one by one, in whatever order; each gets its answer."""
    await stmt.prepare(INTO_NEW)
    for row in range(20):
        tags = [nchar("x"), ints(1)]
        await ws.socket.send_bytes(
            bind(stmt.id, ("a", tags, [ts(T0 + row), ints(row)]), req_id=100 + row)
        )
    replies = [await ws.receive() for _ in range(20)]
    assert sorted(reply["req_id"] for reply in replies) == list(range(100, 120))
    assert {reply["code"] for reply in replies} == {0}
    assert (await stmt.exec())["affected"] == 20


async def test_a_socket_that_closes_while_it_writes(server, http, ws, stmt):
    await stmt.prepare(INTO_NEW)
    rows = range(30_000)
    tables = [
        (f"t{number}", TAGS, [ts(*(T0 + row for row in rows)), ints(*rows)]) for number in range(3)
    ]
    await ws.socket.send_bytes(bind(stmt.id, *tables))
    assert (await ws.receive())["code"] == 0
    await ws.send("stmt2_exec", req_id=3, stmt_id=stmt.id)
    await ws.socket.close()
    async with http.ws_connect("/ws") as socket:
        other = type(ws)(socket)
        await other.ask("conn", req_id=1, db="d", **CONN)
        (count,) = await other.rows("select count(*) from m")
        assert count in ((0,), (90_000,))
        await other.query("insert into z using m tags ('z', 1) (ts, i) values (1, 1)")
        assert await other.rows("select i from z") == [(1,)]


async def test_a_name_of_another_super_table(ws, stmt):
    await ws.query("create stable other (ts timestamp, v int) tags (t int)")
    await ws.query("create table x using other tags (1)")
    await stmt.prepare(INTO_NEW)
    assert (await stmt.bind(("x", TAGS, [ts(T0), ints(1)])))["code"] == 0
    reply = await stmt.exec()
    assert (reply["code"], reply["message"]) == (0x061D, "Table already exists in other stables")
