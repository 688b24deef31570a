"""The stand-in for libtaos itself: connections, queries, results."""

from __future__ import annotations

import ctypes
import struct
import threading
from ctypes import POINTER, byref, c_int, c_void_p
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from aiotaos import Field, TypeCode
from aiotaos.protocol.encode import encode_block
from tests.native.calls import NOTIFIED, Call, Taos, code, raw_at
from tests.native.standin import Flavour, Standin, generated

KILLED = 0x022D
V = [Field("v", TypeCode.BIGINT, 8)]


@pytest.fixture
def api(standin: Standin) -> Taos:
    return Taos(standin)


@pytest.fixture
def taos(api: Taos) -> int:
    return api.connect()


def integers(*values: int | None) -> bytes:
    return encode_block(V, [list(values)])


def row_values(block: bytes) -> list[int]:
    """The values of a block of one BIGINT column without NULLs."""
    rows, cols = struct.unpack_from("<ii", block, 8)
    assert cols == 1
    return list(struct.unpack_from(f"<{rows}q", block, 28 + 9 + (rows + 7) // 8))


def test_asynchronous_query(api: Taos, taos: int) -> None:
    call = api.query_a(taos, "select 42", param=99).wait()
    assert (call.code, call.param) == (0, 99)
    assert call.thread != threading.get_ident()
    assert call.res is not None
    assert api.field_names(call.res) == ["42"]
    assert row_values(*api.blocks(call.res)) == [42]
    api.lib.taos_free_result(call.res)
    api.lib.taos_close(taos)
    api.standin.wait("outstanding", 0)
    counts = api.standin.counts()
    assert (counts["results"], counts["connections"], counts["threads"]) == (0, 0, 3)
    assert counts["delivered"] == 3  # the query, its block, its end
    assert api.standin.misuse() == api.standin.left() == {}


def test_registered_blocks(api: Taos, taos: int) -> None:
    blocks = [integers(1, 2), integers(3)]
    fields = [Field("d", TypeCode.DECIMAL, 16, precision=20, scale=4)]
    api.standin.answer("select v from t", V, blocks, precision=2)
    api.standin.answer("select d from t", fields, [])
    res = api.result(taos, "select v from t /* delay=1ms */")
    assert api.blocks(res) == blocks
    assert api.lib.taos_result_precision(res) == 2
    assert not api.lib.taos_is_update_query(res)
    described = ctypes.string_at(
        api.lib.taos_fetch_fields_e(api.result(taos, "select d from t")), 72
    )
    assert struct.unpack("<65sbBBi", described) == (b"d".ljust(65, b"\0"), 17, 20, 4, 16)


def test_inline(api: Taos, taos: int) -> None:
    call = api.query_a(taos, "select 1 /* inline fetch_inline */")
    assert call.done.is_set()
    assert call.thread == threading.get_ident()
    assert call.res is not None
    assert api.fetch(call.res).code == 1


def test_errors(api: Taos, taos: int) -> None:
    api.standin.refuse("select x", 0x2602, "Invalid column name: x")
    call = api.query_a(taos, "select x").wait()
    assert call.code == 0x2602 - 2**31
    assert call.res is not None
    assert api.error(call.res) == (0x2602, "Invalid column name: x")
    call = api.query_a(taos, 'select 1 /* inline error=0x2662:"a b" */')
    assert (code(call.code), call.done.is_set()) == (0x2662, True)
    assert api.error(call.res) == (0x2662, "a b")
    assert code(api.query_a(taos, "selec 1").wait().code) == 0x2600
    assert "no directive 'dely'" in api.error(api.query(taos, "select 1 /* dely=1s */"))[1]
    assert code(api.query_a(taos, "select 1 /*+ not ours */").wait().code) == 0x2600


def test_errors_without_a_result(api: Taos, taos: int) -> None:
    call = api.query_a(taos, "select 1 /* null error=0x2603 */").wait()
    assert (code(call.code), call.res) == (0x2603, None)
    assert api.query(taos, "select 1 /* null */") is None
    assert api.error() == (0x000B, "Unable to establish connection")
    for sql in [None, b"x" * 1048577]:
        call = Call()
        api.lib.taos_query_a(taos, sql, call.c, None)
        assert call.done.is_set()
        assert call.res is None
        assert code(call.code) == (0x0118 if sql is None else 0x0219)
    api.lib.taos_close(taos)
    call = api.query_a(taos, "select 1")
    assert (code(call.code), call.res) == (0x0213, None)
    assert api.standin.misuse() == {"use_after_free": 1}


def test_delay_does_not_hold_others_up(api: Taos, taos: int) -> None:
    late = api.query_a(taos, "select 1 /* delay=80ms */")
    held = api.query_a(taos, "select 2 /* hold=gate */")
    assert api.query_a(taos, "select 3").wait().code == 0
    assert not held.done.is_set()
    assert api.standin.count("held") == 1
    assert api.standin.release("gate") == 1
    assert held.wait().code == late.wait().code == 0


def test_directives_without_a_comment(api: Taos, taos: int) -> None:
    api.standin.script("select server_version()", "hold=gate")
    call = api.query_a(taos, "select server_version()")
    assert api.query_a(taos, "select 1").wait().code == 0
    assert not call.done.is_set()
    api.standin.release("gate")
    assert call.wait().code == 0
    api.standin.script("select server_version()", "error=0x2603:gone inline")
    assert code(api.query_a(taos, "select server_version()").code) == 0x2603
    api.standin.script("select server_version()", "")
    assert api.query_a(taos, "select server_version()").wait().code == 0


def test_killing(api: Taos, taos: int) -> None:
    other = api.connect()
    calls = [api.query_a(taos, "select 1 /* never */") for _ in range(3)]
    alone = api.query_a(other, "select 1 /* never */")
    api.standin.wait("held", 4)
    api.lib.taos_kill_query(taos)
    assert {code(call.wait().code) for call in calls} == {KILLED}
    assert api.error(calls[0].res)[1] == "Query killed"
    assert not alone.done.is_set()
    assert api.query_a(taos, "select 1").wait().code == 0
    api.lib.taos_close(other)
    assert code(alone.wait().code) == 0x0213


def test_synchronous_query_is_killed(api: Taos, taos: int) -> None:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(api.query(taos, "select 1 /* never */")))
    thread.start()
    api.standin.wait("held", 1)
    api.lib.taos_kill_query(taos)
    thread.join(10)
    assert api.error(found[0])[0] == KILLED


def test_stopping_a_fetch(api: Taos, taos: int) -> None:
    res = api.result(taos, "select * from t /* rows=30 block=10 fetch_never fetch_after=1 */")
    assert api.fetch(res).wait().code == 10
    call = api.fetch(res)
    api.lib.taos_stop_query(res)
    assert code(call.wait().code) == KILLED
    assert api.error(res)[0] == KILLED


def test_fetches_that_fail(api: Taos, taos: int) -> None:
    failing = "rows=30 block=10 fetch_after=2 fetch_error=0x0B:gone"
    res = api.result(taos, f"select * from t /* {failing} */")
    assert [api.fetch(res).wait().code for _ in range(3)] == [10, 10, 0xB - 2**31]
    assert api.error(res) == (0xB, "gone")
    res = api.result(taos, f"select * from t /* {failing} fetch_quiet */")
    assert [api.fetch(res).wait().code for _ in range(3)] == [10, 10, 0]
    assert api.error(res) == (0xB, "gone")


def test_a_block_ends_with_the_next_fetch(api: Taos, taos: int) -> None:
    res = api.result(taos, "select * from t /* rows=2000 fetch_hold=second fetch_after=1 */")
    assert api.fetch(res).wait().code == 1000
    address = api.lib.taos_get_raw_block(res)
    length = len(raw_at(address))
    call = api.fetch(res)
    assert ctypes.string_at(address, length) == b"\xdd" * length
    assert api.lib.taos_get_raw_block(res) is None
    api.standin.release("second")
    assert call.wait().code == 1000
    address = api.lib.taos_get_raw_block(res)
    api.lib.taos_free_result(res)
    assert ctypes.string_at(address, length) == b"\xdd" * length


def test_fetch_within_the_callback(api: Taos, taos: int) -> None:
    fetched: list[Call] = []
    seen: list[bytes] = []

    def start(call: Call) -> None:
        assert call.res is not None
        fetched.append(api.fetch(call.res, then=copy))

    def copy(call: Call) -> None:
        if call.code:
            assert call.res is not None
            seen.append(api.block(call.res))
            start(call)
        else:
            api.lib.taos_free_result(call.res)
            finished.set()

    finished = threading.Event()
    api.query_a(taos, "select * from t /* rows=2500 cols=5 */", then=start)
    assert finished.wait(10)
    api.standin.wait("outstanding", 0)
    assert [struct.unpack_from("<i", block, 8) for block in seen] == [(1000,), (1000,), (500,)]
    assert api.standin.misuse() == {}


def test_misuse_is_counted(api: Taos, taos: int) -> None:
    res = api.result(taos, "select * from t /* rows=5 fetch_hold=gate */")
    held = api.fetch(res)
    assert code(api.fetch(res).wait().code) == 0x0200
    api.lib.taos_free_result(res)
    assert code(held.wait().code) == KILLED
    api.lib.taos_free_result(res)
    api.lib.taos_free_result(res)
    assert code(api.lib.taos_errno(res)) == 0x0118
    assert code(api.lib.taos_errno(taos)) == 0x0118
    api.lib.taos_close(taos)
    api.lib.taos_close(taos)
    assert api.standin.misuse() == {
        "overlapping_fetches": 1,
        "freed_while_fetching": 1,
        "double_frees": 2,
        "use_after_free": 1,
        "wrong_handles": 1,
        "double_closes": 1,
    }
    assert api.standin.count("results") == 0


def test_sql_must_live_until_the_callback(api: Taos, taos: int) -> None:
    call = Call()
    sql = ctypes.create_string_buffer(b"select 1 /* hold=gate */")
    api.lib.taos_query_a(taos, ctypes.addressof(sql), call.c, None)
    sql.value = b"overwritten"
    api.standin.release("gate")
    assert call.wait().code == 0
    assert api.standin.misuse() == {"sql_changed": 1}


def test_blocking_within_a_callback(api: Taos, taos: int) -> None:
    api.query_a(taos, "select 1", then=lambda call: api.query(taos, "select 2")).wait()
    assert api.standin.misuse() == {"blocking_in_callback": 1}


def test_rows_before_the_callback_returned(api: Taos, taos: int) -> None:
    api.query_a(taos, "select 1", then=lambda call: api.lib.taos_fetch_row(call.res)).wait()
    assert api.standin.misuse() == {"rows_refused": 1}


def everything() -> tuple[list[Field], list[list[Any]], list[list[bytes | None]]]:
    """Columns of many types: fields, values, and what row functions show."""
    columns: list[tuple[Field, Any, bytes]] = [
        (Field("i1", TypeCode.TINYINT, 1), -3, b"\xfd"),
        (Field("f8", TypeCode.DOUBLE, 8), 1.5, struct.pack("<d", 1.5)),
        (Field("s", TypeCode.VARCHAR, 20), "naïve", "naïve".encode()),
        (Field("n", TypeCode.NCHAR, 20), "涛é\U0001f600x", "涛é\U0001f600x".encode()),
        (Field("vb", TypeCode.VARBINARY, 20), b"\0\xff", b"\0\xff"),
        (Field("x", TypeCode.BLOB, 4194304), b"b" * 70_000, b"b" * 70_000),
        (
            Field("d", TypeCode.DECIMAL64, 8, precision=10, scale=2),
            Decimal("-0.07"),
            b"-0.07",
        ),
        (
            Field("dd", TypeCode.DECIMAL, 16, precision=38, scale=10),
            Decimal("12345678901234567890.5"),
            b"12345678901234567890.5000000000",
        ),
        (Field("e", TypeCode.VARCHAR, 4), "", b""),
    ]
    return (
        [field for field, _, _ in columns],
        [[value, None] for _, value, _ in columns],
        [[shown for _, _, shown in columns], [None] * len(columns)],
    )


def test_rows(api: Taos, taos: int) -> None:
    fields, values, shown = everything()
    api.standin.rows("select * from t", fields, values, [column[:1] for column in values])
    res = api.query(taos, "select * from t")
    assert res is not None
    expected = [*shown, shown[0]]
    assert [api.row(res) for _ in expected] == expected
    assert api.row(res) is None
    res = api.result(taos, "select * from t")
    for rows in shown, shown[:1], []:
        assert api.fetch(res, raw=False).wait().code == len(rows)
        assert [api.row(res) for _ in rows] == rows
    assert api.standin.misuse() == {}


def test_columns(api: Taos, taos: int) -> None:
    fields, values, _ = everything()
    api.standin.rows("select * from t", fields, values)
    res = api.query(taos, "select * from t")
    assert res is not None
    columns = POINTER(c_void_p)()
    assert api.lib.taos_fetch_block(res, byref(columns)) == 2
    offsets = api.lib.taos_get_column_data_offset(res, 3)
    assert (offsets[0], offsets[1]) == (0, -1)
    text = "涛é\U0001f600x".encode()
    assert ctypes.string_at(columns[3], 2 + len(text)) == struct.pack("<H", len(text)) + text
    assert ctypes.string_at(columns[6]) == b"-0.07"
    assert [api.lib.taos_is_null(res, row, 0) for row in (0, 1)] == [False, True]
    nulls, number = (ctypes.c_bool * 2)(), c_int(2)
    assert api.lib.taos_is_null_by_column(res, 5, nulls, byref(number)) == 0
    assert list(nulls) == [False, True]
    assert not api.lib.taos_get_column_data_offset(res, 0)
    assert api.lib.taos_fetch_block(res, byref(columns)) == 0


def test_generated_rows(api: Taos, taos: int) -> None:
    res = api.query(taos, "select * from t /* rows=12 cols=5 block=5 precision=us */")
    assert res is not None
    assert api.lib.taos_result_precision(res) == 1
    assert api.field_names(res) == ["ts", "c1", "c2", "c3", "c4"]
    found = []
    while (row := api.row(res)) is not None:
        ts, whole, half, text, wide = row
        assert ts is not None
        assert whole is not None
        assert wide is not None
        found.append(
            (
                *(int.from_bytes(value, "little") for value in (ts, whole)),
                None if half is None else struct.unpack("<d", half)[0],
                None if text is None else text.decode(),
                wide.decode(),
            )
        )
    assert found == generated(12, 5)
    assert datetime.fromtimestamp(found[0][0] / 1000, UTC).year == 2023


def test_statements_that_are_known(api: Taos, taos: int) -> None:
    def value(sql: str) -> bytes | None:
        res = api.result(taos, sql)
        while api.fetch(res, raw=False).wait().code == 0:
            raise AssertionError
        row = api.row(res)
        assert row is not None
        return row[0]

    assert value("select server_version()") == b"3.3.7.0" == api.lib.taos_get_client_info()
    assert value("select database()") is None
    for sql in ["create database a", "use a", "create table t (ts timestamp)"]:
        assert api.lib.taos_affected_rows64(api.result(taos, sql)) == 0
    assert value("select database();") == b"a"
    buffer, needed = ctypes.create_string_buffer(1), c_int()
    assert code(api.lib.taos_get_current_db(taos, buffer, 1, byref(needed))) == 0x0118
    assert needed.value == 2
    assert code(api.lib.taos_select_db(taos, b"nothing")) == 0x0388
    assert api.lib.taos_select_db(taos, b"test") == 0
    assert value("select database()") == b"test"
    api.result(taos, "drop database a")
    assert code(api.query_a(taos, "use a").wait().code) == 0x0388
    assert len(api.blocks(api.result(taos, "select * from generated"))) == 1
    assert api.lib.taos_validate_sql(taos, b"select 1") == 0
    assert code(api.lib.taos_validate_sql(taos, b"selec 1")) == 0x2600


def test_inserts_are_kept(api: Taos, taos: int) -> None:
    sql = "insert into t values (1, '\"é\\n')"
    assert api.lib.taos_affected_rows(api.result(taos, sql)) == 1
    many = "insert into t values (2) /* affected=3000000000 */"
    assert api.lib.taos_affected_rows64(api.result(taos, many)) == 3_000_000_000
    call = Call()
    data = ctypes.create_string_buffer(b"select 1")
    api.lib.taos_query_a_with_reqid(taos, ctypes.addressof(data), call.c, None, 2**40)
    call.wait()
    assert api.standin.written() == [sql, many]
    assert api.standin.log("query") == [
        {"kind": "query", "sql": "select 1", "reqid": 2**40, "async": True}
    ]


def test_connecting(api: Taos) -> None:
    assert api.lib.taos_connect(b"h", b"root", b"wrong", None, 0) is None
    assert api.error() == (0x0357, "Authentication failure")
    assert api.lib.taos_connect(b"h", None, None, b"nothing", 6030) is None
    assert api.error()[0] == 0x0388
    api.standin.rule("taos_connect", code=0x000B, message="no route", times=2)
    for _ in range(2):
        assert api.lib.taos_connect(b"h", None, None, None, 0) is None
        assert api.error() == (0x000B, "no route")
    taos = api.connect("test")
    assert api.lib.taos_get_server_info(taos) == b"3.3.7.0"
    assert api.lib.taos_options_connection(taos, 1, b"UTC") == 0
    assert api.standin.log("connection_option")[0]["value"] == "UTC"
    assert api.standin.log("connect")[1] == {
        "kind": "connect",
        "host": "h",
        "port": 6030,
        "user": None,
        "database": "nothing",
    }


def test_a_call_that_is_held(api: Taos) -> None:
    api.standin.rule("taos_connect", hold=True)
    done = threading.Event()

    def connect() -> None:
        api.connect()
        done.set()

    thread = threading.Thread(target=connect)
    thread.start()
    api.standin.wait("held", 1)
    assert not done.is_set()
    assert api.standin.release("taos_connect") == 1
    thread.join(10)
    assert done.is_set()
    assert api.standin.count("held") == 0


def test_notifications(api: Taos, taos: int) -> None:
    seen: list[tuple[Any, ...]] = []
    told = threading.Event()

    def note(param: int, extra: int | None, type: int) -> None:
        value = extra and ctypes.c_int32.from_address(extra).value
        seen.append((param, value, type, threading.get_ident()))
        told.set()

    callback = NOTIFIED(note)
    assert not api.standin.notify(taos, 0)
    assert api.lib.taos_set_notify_cb(taos, callback, 5, 0) == 0
    assert api.lib.taos_set_notify_cb(taos, callback, 6, 2) == 0
    assert api.standin.notify(taos, 0, 17)
    assert told.wait(10)
    api.standin.wait("outstanding", 0)
    assert api.standin.notify(taos, 2)
    api.standin.wait("delivered", 2)
    assert [entry[:3] for entry in seen] == [(5, 17, 0), (6, None, 2)]
    assert threading.get_ident() not in {entry[3] for entry in seen}


def test_many_at_once(api: Taos, taos: int) -> None:
    api.standin.stop_logging()
    calls = [api.query_a(taos, f"select {n}") for n in range(1000)]
    for n, call in enumerate(calls):
        assert call.wait().res is not None
        assert api.lib.taos_num_fields(call.res) == 1, n
        api.lib.taos_free_result(call.res)
    assert len({call.thread for call in calls}) > 1
    assert {call.calls for call in calls} == {1}
    api.standin.wait("outstanding", 0)
    assert api.standin.left() == {"connections": 1}
    assert api.standin.count("logged") == 1  # the connection


def test_reset_and_cleanup(api: Taos, taos: int) -> None:
    held = api.query_a(taos, "select 1 /* never */")
    api.standin.reset()
    assert api.standin.left() == {}
    api.lib.taos_close(taos)  # of before
    assert api.standin.misuse() == {"double_closes": 1}
    taos = api.connect()
    api.query_a(taos, "select 1 /* never */")
    api.lib.taos_cleanup()
    assert (api.standin.count("threads"), api.standin.count("dropped")) == (0, 1)
    assert not held.done.is_set()


def test_flavours(standin: Standin, old_standin: Standin, standin_2x: Standin) -> None:
    versions = [Taos(each).lib.taos_get_client_info() for each in (standin, old_standin)]
    assert versions == [b"3.3.7.0", b"3.0.4.2"]
    only_latest = ["taos_stmt2_init", "taos_query_a_with_reqid", "taos_fetch_fields_e"]
    only_latest += ["taos_options_connection", "tmq_position", "tmq_commit_offset_sync"]
    since_3 = ["taos_fetch_raw_block_a", "taos_get_raw_block", "tmq_consumer_new"]
    for name in only_latest:
        assert [each.has(name) for each in (standin, old_standin, standin_2x)] == [
            True,
            False,
            False,
        ]
    for name in since_3:
        assert [each.has(name) for each in (standin, old_standin, standin_2x)] == [
            True,
            True,
            False,
        ]
    assert not standin.has("taos_subscribe")
    assert standin_2x.has("taos_subscribe")
    assert not standin.has("handle_new")  # what is not the interface, is not seen
    assert {each.flavour for each in (standin, old_standin, standin_2x)} == set(Flavour)


def test_libraries_do_not_share(standin: Standin, old_standin: Standin) -> None:
    taos = Taos(old_standin).connect()
    assert (standin.count("connections"), old_standin.count("connections")) == (0, 1)
    Taos(standin).lib.taos_close(taos)
    assert standin.misuse() == {"wrong_handles": 1}
