"""Prepared statements at ``/ws``: stmt v1."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from aiotaos import TypeCode
from aiotaos.protocol import frames

CONN = {"user": "root", "password": "taosdata"}
T0 = 1709251200000
SQL = "insert into ? using m tags (?, ?) (ts, i, n) values (?, ?, ?)"


class Stmt:
    """A statement of stmt v1 at a socket."""

    def __init__(self, ws: Any, id: int) -> None:
        self.ws = ws
        self.id = id

    async def ask(self, action: str, **args: Any) -> dict[str, Any]:
        reply = await self.ws.ask(action, req_id=5, stmt_id=self.id, **args)
        assert (reply["action"], reply["req_id"], reply["stmt_id"]) == (action, 5, self.id)
        return reply

    async def do(self, action: str, **args: Any) -> dict[str, Any]:
        reply = await self.ask(action, **args)
        assert reply["code"] == 0, reply
        return reply

    async def send(self, action: frames.Action, block: bytes) -> dict[str, Any]:
        await self.ws.socket.send_bytes(struct.pack("<QQQ", 6, self.id, action) + block)
        return await self.ws.receive()


def raw_block(rows: int, *columns: tuple[int, bytes, bytes]) -> bytes:
    """A raw block of type, bitmap or offsets, and data of each column."""
    infos = b"".join(struct.pack("<bi", type, 0) for type, _, _ in columns)
    lengths = struct.pack(f"<{len(columns)}i", *(len(data) for _, _, data in columns))
    data = b"".join(head + data for _, head, data in columns)
    return struct.pack("<iiiiIQ", 1, 0, rows, len(columns), 0, 0) + infos + lengths + data


def text(type: TypeCode, value: str) -> tuple[int, bytes, bytes]:
    raw = value.encode("utf-32-le" if type is TypeCode.NCHAR else "utf-8")
    return type, struct.pack("<i", 0), struct.pack("<H", len(raw)) + raw


@pytest.fixture
async def ws(fresh):
    assert (await fresh.ask("conn", req_id=1, **CONN))["code"] == 0
    await fresh.query("create database d precision 'us'")
    await fresh.query("use d")
    await fresh.query(
        "create stable m (ts timestamp, i int, n nchar(4)) tags (loc varchar(4), f double)"
    )
    return fresh


@pytest.fixture
async def stmt(ws):
    return Stmt(ws, (await ws.ask("init", req_id=1))["stmt_id"])


async def test_json_values(ws, stmt):
    assert (await stmt.do("prepare", sql=SQL))["is_insert"] is True
    for name, tags in (("a", ["x", 1]), ("d.b", [None, 2.5])):
        await stmt.do("set_table_name", name=name)
        await stmt.do("set_tags", tags=tags)
        columns = [[T0 * 1000, "2024-03-01T00:00:00.000001Z"], [1, None], ["é", None]]
        await stmt.do("bind", columns=columns)
        await stmt.do("add_batch")
    assert (await stmt.do("exec"))["affected"] == 4
    assert await ws.rows("select tbname, ts, i, n, loc, f from m order by tbname, ts") == [
        ("a", T0 * 1000, 1, "é", "x", 1.0),
        ("a", T0 * 1000 + 1, None, None, "x", 1.0),
        ("b", T0 * 1000, 1, "é", None, 2.5),
        ("b", T0 * 1000 + 1, None, None, None, 2.5),
    ]


async def test_raw_blocks(ws, stmt):
    await stmt.do("prepare", sql=SQL)
    await stmt.do("set_table_name", name="a")
    tags = raw_block(1, text(TypeCode.VARCHAR, "x"), (TypeCode.DOUBLE, b"\0", struct.pack("<d", 2)))
    reply = await stmt.send(frames.Action.SET_TAGS, tags)
    assert (reply["code"], reply["action"], reply["req_id"]) == (0, "set_tags", 6)
    columns = raw_block(
        1,
        (TypeCode.TIMESTAMP, b"\0", struct.pack("<q", 1)),
        (TypeCode.INT, b"\0", struct.pack("<i", -1)),
        text(TypeCode.NCHAR, "涛🚀"),
    )
    reply = await stmt.send(frames.Action.BIND, columns)
    assert (reply["code"], reply["action"], reply["stmt_id"]) == (0, "bind", stmt.id)
    await stmt.do("add_batch")
    assert (await stmt.do("exec"))["affected"] == 1
    assert await ws.rows("select ts, i, n, loc, f from a") == [(1, -1, "涛🚀", "x", 2.0)]


async def test_tags_must_be_one_row_and_of_the_right_number(stmt):
    await stmt.do("prepare", sql=SQL)
    await stmt.do("set_table_name", name="a")
    double = (TypeCode.DOUBLE, b"\0", struct.pack("<2d", 1, 2))
    two = raw_block(2, (TypeCode.VARCHAR, struct.pack("<2i", -1, -1), b""), double)
    reply = await stmt.send(frames.Action.SET_TAGS, two)
    assert (reply["code"], reply["message"]) == (65535, "rows not equal 1")
    reply = await stmt.ask("set_tags", tags=["x"])
    assert (reply["code"], reply["message"]) == (65535, "stmt tags count not match")
    reply = await stmt.ask("bind", columns=[[1], [2]])
    assert (reply["code"], reply["message"]) == (65535, "stmt column count not match")
    reply = await stmt.send(frames.Action.BIND, raw_block(1, text(TypeCode.VARCHAR, "x")))
    assert reply["message"] == "stmt column count not match, expect 3, but get 1"
    await stmt.do("set_tags", tags=["x", 1])


@pytest.mark.parametrize("value", [True, "1", 2**31, 1.5, [1]])
async def test_json_values_that_do_not_suit(stmt, value):
    await stmt.do("prepare", sql=SQL)
    await stmt.do("set_table_name", name="a")
    reply = await stmt.ask("bind", columns=[[1], [value], ["x"]])
    assert (reply["code"], "invalid value for INT" in reply["message"]) == (65535, True)


async def test_a_number_beyond_any_column(ws, stmt):
    await stmt.do("prepare", sql=SQL)
    await stmt.do("set_table_name", name="a")
    for tags in (["x", 10**400], ["x" * 5, 1]):
        assert (await stmt.ask("set_tags", tags=tags))["code"] in (0, 0x2600, 65535)
    assert await ws.rows("select 1") == [(1,)]


async def test_fields(ws, stmt):
    await stmt.do("prepare", sql="insert into ? using m (loc) tags (?) (ts, n) values (?, ?)")
    (tag,) = (await stmt.do("get_tag_fields"))["fields"]
    assert (tag["name"], tag["field_type"], tag["bytes"]) == ("loc", TypeCode.VARCHAR, 6)
    time, n = (await stmt.do("get_col_fields"))["fields"]
    assert (time["name"], time["field_type"], time["precision"]) == ("ts", TypeCode.TIMESTAMP, 1)
    assert (n["name"], n["field_type"], n["bytes"]) == ("n", TypeCode.NCHAR, 18)
    assert (await stmt.do("stmt_num_params"))["num_params"] == 2
    parameter = await stmt.do("stmt_get_param", index=1)
    assert (parameter["index"], parameter["data_type"], parameter["length"]) == (1, 10, 18)
    assert (await stmt.ask("stmt_get_param", index=2))["code"] == 0x022A
    await stmt.do("prepare", sql="insert into ? values (?, ?)")
    assert (await stmt.ask("get_col_fields"))["code"] == 0x022B


async def test_a_normal_table(ws, stmt):
    await ws.query("create table t (ts timestamp, vb varbinary(4))")
    await stmt.do("prepare", sql="insert into ? values (?, ?)")
    await stmt.do("set_table_name", name="t")
    assert (await stmt.do("get_tag_fields"))["fields"] is None
    await stmt.do("set_tags", tags=[])
    await stmt.do("bind", columns=[[1], ["00ff"]])
    await stmt.do("add_batch")
    assert (await stmt.do("exec"))["affected"] == 1
    assert await ws.rows("select vb from t") == [(b"\0\xff",)]
    await stmt.do("prepare", sql="insert into t values (?, ?)")
    assert (await stmt.ask("set_table_name", name="t"))["code"] == 0x022A


async def test_a_query(ws, stmt):
    await ws.query("insert into a using m tags ('x', 1) values (1, 5, 'é')")
    reply = await stmt.do("prepare", sql="select i, n from m where n = ? and i < ?")
    assert reply["is_insert"] is False
    assert (await stmt.do("stmt_num_params"))["num_params"] == 2
    for _ in range(2):
        number = (TypeCode.BIGINT, b"\0", struct.pack("<q", 6))
        reply = await stmt.send(frames.Action.BIND, raw_block(1, text(TypeCode.NCHAR, "é"), number))
        assert reply["code"] == 0, reply
        await stmt.do("add_batch")
        assert (await stmt.do("exec"))["affected"] == 0
        reply = await stmt.do("use_result")
        assert reply["fields_names"] == ["i", "n"]
        assert reply["id"] == reply["result_id"]
        assert await ws.result(reply) == [(5, "é")]


async def test_a_result_ends_with_its_statement(ws, stmt):
    await stmt.do("prepare", sql="select 1")
    await stmt.do("add_batch")
    await stmt.do("exec")
    id = (await stmt.do("use_result"))["result_id"]
    await ws.send("close", req_id=5, stmt_id=stmt.id)
    reply = await ws.ask("exec", req_id=5, stmt_id=stmt.id)
    assert (reply["code"], reply["message"]) == (65535, "stmt is nil")
    assert (await ws.fetch(id)).message == "result is nil"


async def test_steps_out_of_order(stmt):
    await stmt.do("prepare", sql=SQL)
    for step in ("add_batch", "exec"):
        assert (await stmt.ask(step))["code"] == 0x022A
        await stmt.do("prepare", sql=SQL)
    await stmt.do("set_table_name", name="a")
    await stmt.do("set_tags", tags=["x", 1])
    await stmt.do("bind", columns=[[1], [1], ["x"]])
    reply = await stmt.ask("exec")
    assert (reply["code"], reply["message"]) == (0x022A, "Stmt API usage error")
    reply = await stmt.ask("bind", columns=[[1], [1], ["x"]])
    assert (reply["code"], "please use stmt prepare" in reply["message"]) == (0x022A, True)


async def test_families_are_kept_apart(ws, stmt):
    new = (await ws.ask("stmt2_init", req_id=1))["stmt_id"]
    assert new == stmt.id + 1
    reply = await ws.ask("close", req_id=5, stmt_id=new)
    assert (reply["code"], reply["message"], reply["action"]) == (65535, "stmt is nil", "close")
    await ws.send("close", req_id=5, stmt_id=99)
    assert (await ws.ask("stmt2_close", req_id=6, stmt_id=new))["req_id"] == 6
