"""The stand-in for libtaos itself: prepared statements and schemaless lines."""

from __future__ import annotations

import ctypes
import struct
import threading
from ctypes import POINTER, byref, c_char_p, c_int, c_int32, c_void_p
from typing import Any

import pytest

from tests.native.calls import NO_CALL, Bind2, BindV, Call, MultiBind, Option2, Taos, code
from tests.native.standin import COLUMN, TAG, TBNAME, Parameter, Standin

INSERT = "insert into ? using s tags(?) values (?, ?)"
PARAMETERS = [
    Parameter("tbname", TBNAME, 8, 271),
    Parameter("loc", TAG, 8, 18),
    Parameter("ts", COLUMN, 9, 8, 1),
    Parameter("n", COLUMN, 10, 82),
]


@pytest.fixture
def api(standin: Standin) -> Taos:
    standin.parameters(INSERT, PARAMETERS)
    return Taos(standin)


@pytest.fixture
def taos(api: Taos) -> int:
    return api.connect()


class Bound:
    """Values of one type as a bind has them, and the memory that they are in."""

    def __init__(self, type: int, values: list[bytes | None], stride: int = 0) -> None:
        self.type, self.number = type, len(values)
        cells = [(value or b"").ljust(stride, b"\0") for value in values]
        self.data = ctypes.create_string_buffer(b"".join(cells))
        self.stride = stride or 8
        self.lengths = (c_int32 * len(values))(*(len(value or b"") for value in values))
        self.nulls = ctypes.create_string_buffer(bytes(value is None for value in values))

    def second(self) -> Bind2:
        where = map(ctypes.addressof, (self.data, self.lengths, self.nulls))
        return Bind2(self.type, *where, self.number)

    def first(self) -> MultiBind:
        data, lengths, nulls = map(ctypes.addressof, (self.data, self.lengths, self.nulls))
        return MultiBind(self.type, data, self.stride, lengths, nulls, self.number)


def bind_table(name: str, tags: list[Bound], columns: list[Bound]) -> tuple[BindV, list[Any]]:
    """A BINDV of one table, and what must live as long."""
    tag_array = (Bind2 * len(tags))(*(each.second() for each in tags))
    column_array = (Bind2 * len(columns))(*(each.second() for each in columns))
    pointer = POINTER(Bind2)
    names = (c_char_p * 1)(name.encode())
    tag_pointers = (pointer * 1)(ctypes.cast(tag_array, pointer))
    column_pointers = (pointer * 1)(ctypes.cast(column_array, pointer))
    made = BindV(1, names, tag_pointers, column_pointers)
    return made, [tags, columns, tag_array, column_array, names, tag_pointers, column_pointers]


def ticks(*values: int | None) -> Bound:
    packed = [None if value is None else struct.pack("<q", value) for value in values]
    return Bound(9, packed, 8)


LOGGED = {
    "table": "t1",
    "tags": [{"type": 8, "values": ["6e6f727468"]}],
    "column": -1,
    "columns": [
        {"type": 9, "values": ["0100000000000000", "0200000000000000", None]},
        {"type": 10, "values": ["c3a9", None, ""]},
    ],
}


def values(stride: int = 0) -> tuple[Bound, list[Bound]]:
    return Bound(8, [b"north"]), [ticks(1, 2, None), Bound(10, ["é".encode(), None, b""], stride)]


def prepared(api: Taos, taos: int, sql: str = INSERT, **option: Any) -> int:
    settings = Option2(77, True, False, option.get("fn", NO_CALL), option.get("userdata"))
    stmt = api.lib.taos_stmt2_init(taos, byref(settings))
    assert stmt
    assert api.lib.taos_stmt2_prepare(stmt, sql.encode(), 0) == 0, api.lib.taos_stmt2_error(stmt)
    return int(stmt)


def test_parameters(api: Taos, taos: int) -> None:
    stmt = prepared(api, taos)
    number, fields = c_int(), c_void_p()
    assert api.lib.taos_stmt2_get_fields(stmt, byref(number), byref(fields)) == 0
    assert number.value == 4
    data = ctypes.string_at(fields.value or 0, 76 * 4)
    found = [struct.unpack_from("<65sbBBiB", data, 76 * k) for k in range(4)]
    assert [each[0].rstrip(b"\0") for each in found] == [b"tbname", b"loc", b"ts", b"n"]
    assert found[2][1:] == (9, 1, 0, 8, COLUMN)
    assert api.standin.left()["fields"] == 1
    api.lib.taos_stmt2_free_fields(stmt, fields)
    api.lib.taos_stmt2_free_fields(stmt, None)
    api.lib.taos_stmt2_free_fields(stmt, fields)
    assert api.standin.misuse() == {"double_frees": 1}
    assert api.lib.taos_stmt2_prepare(stmt, b"insert into other values (?)", 0) == 0
    assert code(api.lib.taos_stmt2_get_fields(stmt, byref(number), byref(fields))) == 0x0200
    assert api.lib.taos_stmt2_prepare(stmt, b"select * from t where a > ? and b < ?", 0) == 0
    assert api.lib.taos_stmt2_get_fields(stmt, byref(number), None) == 0
    assert number.value == 2
    assert api.lib.taos_stmt2_close(stmt) == 0
    assert api.standin.left() == {"connections": 1}


def test_second_generation(api: Taos, taos: int) -> None:
    stmt = prepared(api, taos)
    affected = c_int()
    assert code(api.lib.taos_stmt2_exec(stmt, byref(affected))) == 0x022A
    for _ in range(2):
        tag, columns = values()
        table, _kept = bind_table("t1", [tag], columns)
        assert api.lib.taos_stmt2_bind_param(stmt, byref(table), -1) == 0
    assert api.lib.taos_stmt2_exec(stmt, byref(affected)) == 0
    assert affected.value == 6
    (event,) = api.standin.log("execute")
    assert event["binds"] == [LOGGED, LOGGED]
    assert (event["api"], event["sql"], event["reqid"]) == ("stmt2", INSERT, 77)
    assert (event["one_table"], event["bind_once"], event["rows"]) == (True, False, 6)


def test_asynchronous_execution(api: Taos, taos: int) -> None:
    seen: list[Any] = []

    def look(call: Call) -> None:
        seen.append(api.lib.taos_affected_rows(call.res))
        seen.append(code(api.lib.taos_stmt2_close(stmt)))  # hangs for ever in libtaos

    call = Call(look)
    stmt = prepared(api, taos, INSERT + " /* hold=gate */", fn=call.c, userdata=5)
    api.standin.parameters(INSERT, PARAMETERS)
    bound = Call()
    tag, columns = values()
    table, kept = bind_table("t1", [tag], columns)
    assert api.lib.taos_stmt2_bind_param_a(stmt, byref(table), -1, bound.c, 6) == 0
    assert (bound.wait().code, bound.param, bound.res) == (0, 6, None)
    assert kept
    assert api.lib.taos_stmt2_exec(stmt, None) == 0
    assert not call.done.is_set()
    api.standin.release("gate")
    assert (call.wait().code, call.param) == (0, 5)
    assert seen == [3, 0x022A]
    assert api.lib.taos_stmt2_close(stmt) == 0
    assert api.standin.misuse() == {"deadlocks": 1}
    assert api.standin.left() == {"connections": 1}


def test_execution_that_is_killed(api: Taos, taos: int) -> None:
    call = Call()
    stmt = prepared(api, taos, "select 1 /* never */", fn=call.c)
    assert api.lib.taos_stmt2_exec(stmt, None) == 0
    assert api.lib.taos_stmt2_result(stmt) is None
    api.lib.taos_kill_query(taos)
    assert code(call.wait().code) == 0x022D
    assert api.lib.taos_stmt2_error(stmt) == b"Query killed"


def test_prepared_query(api: Taos, taos: int) -> None:
    call = Call()
    stmt = prepared(api, taos, "select * from t where v > ? /* rows=7 cols=3 */", fn=call.c)
    column = Bound(5, [struct.pack("<q", 4)], 8)
    table, _kept = bind_table("", [], [column])
    assert api.lib.taos_stmt2_bind_param(stmt, byref(table), -1) == 0
    assert api.lib.taos_stmt2_exec(stmt, None) == 0
    res = call.wait().res
    assert res is not None
    api.standin.wait("outstanding", 0)
    assert api.lib.taos_stmt2_result(stmt) == res
    (block,) = api.blocks(res)
    assert struct.unpack_from("<i", block, 8) == (7,)
    api.lib.taos_free_result(res)  # it is the statement's
    assert api.lib.taos_stmt2_close(stmt) == 0
    api.standin.wait("outstanding", 0)
    assert api.standin.misuse() == {"double_frees": 1}
    assert api.standin.left() == {"connections": 1}


def test_errors_of_statements(api: Taos, taos: int) -> None:
    stmt = prepared(api, taos)
    assert code(api.lib.taos_stmt2_prepare(stmt, b"show tables", 0)) == 0x2600
    assert api.lib.taos_stmt2_error(stmt) == b"neither an INSERT nor a SELECT"
    api.standin.rule("taos_stmt2_prepare", code=0x2603, message="Table does not exist")
    assert code(api.lib.taos_stmt2_prepare(stmt, INSERT.encode(), 0)) == 0x2603
    assert api.lib.taos_stmt2_error(stmt) == b"Table does not exist"
    sql = INSERT + ' /* error=0x0732:"full" */'
    assert api.lib.taos_stmt2_prepare(stmt, sql.encode(), 0) == 0
    tag, columns = values()
    table, _kept = bind_table("t1", [tag], columns)
    assert api.lib.taos_stmt2_bind_param(stmt, byref(table), -1) == 0
    assert code(api.lib.taos_stmt2_exec(stmt, None)) == 0x0732
    assert api.lib.taos_stmt2_error(stmt) == b"full"
    assert api.lib.taos_stmt2_close(stmt) == 0
    assert api.lib.taos_stmt2_close(stmt) != 0
    assert api.standin.misuse() == {"double_closes": 1}


def test_first_generation(api: Taos, taos: int) -> None:
    stmt = api.lib.taos_stmt_init(taos)
    assert api.lib.taos_stmt_prepare(stmt, INSERT.encode(), len(INSERT)) == 0
    number, fields = c_int(), c_void_p()
    assert api.lib.taos_stmt_get_col_fields(stmt, byref(number), byref(fields)) == 0
    assert number.value == 2
    api.lib.taos_stmt_reclaim_fields(stmt, fields)
    tag, columns = values(stride=12)
    bound_tags = (MultiBind * 1)(tag.first())
    bound = (MultiBind * 2)(*(each.first() for each in columns))
    assert api.lib.taos_stmt_set_tbname_tags(stmt, b"t1", bound_tags) == 0
    assert api.lib.taos_stmt_bind_param_batch(stmt, bound) == 0
    assert code(api.lib.taos_stmt_execute(stmt)) == 0x022A  # not added to the batch
    assert api.lib.taos_stmt_add_batch(stmt) == 0
    assert api.lib.taos_stmt_execute(stmt) == 0
    assert api.lib.taos_stmt_affected_rows(stmt) == 3
    (event,) = api.standin.log("execute")
    assert event["binds"] == [LOGGED]  # a value has its own length, not that of its cell
    assert event["api"] == "stmt"
    assert api.lib.taos_stmt_close(stmt) == 0
    assert api.standin.left() == {"connections": 1}


def test_schemaless(api: Taos, taos: int) -> None:
    lines = (c_char_p * 2)(b'm,t="a\\b" v=1 1', 'm v="é" 2'.encode())
    res = api.lib.taos_schemaless_insert(taos, lines, 2, 1, 4)
    assert api.lib.taos_affected_rows(res) == 2
    api.lib.taos_free_result(res)
    total = c_int32()
    raw = b"one\n\ntwo"
    res = api.lib.taos_schemaless_insert_raw_ttl_with_reqid_tbname_key(
        taos, raw, len(raw), byref(total), 2, 6, 30, 2**41, b"key"
    )
    assert total.value == 2
    api.lib.taos_free_result(res)
    first, second = api.standin.log("schemaless")
    assert first["lines"] == ['m,t="a\\b" v=1 1', 'm v="é" 2']
    assert second == {
        "kind": "schemaless",
        "protocol": 2,
        "precision": 6,
        "ttl": 30,
        "reqid": 2**41,
        "table_key": "key",
        "raw": True,
        "lines": ["one", "two"],
    }
    api.standin.rule("taos_schemaless_insert", code=0x3002, message="Invalid data")
    res = api.lib.taos_schemaless_insert(taos, lines, 2, 1, 4)
    assert api.error(res) == (0x3002, "Invalid data")


def test_two_threads_in_a_statement(api: Taos, taos: int) -> None:
    stmt = prepared(api, taos, "select 1 /* hold=gate */")
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(api.lib.taos_stmt2_exec(stmt, None)))
    thread.start()
    api.standin.wait("held", 1)
    assert code(api.lib.taos_stmt2_exec(stmt, None)) == 0x022A
    assert api.standin.release("gate") == 1
    thread.join(10)
    assert found == [0]
    assert api.standin.misuse() == {"concurrent_uses": 1}
