"""The stand-in for libtaos itself: consumers, and the subscriptions of 2.x."""

from __future__ import annotations

import ctypes
import struct
import threading
from collections.abc import Callable
from ctypes import POINTER, byref, c_int, c_int32, c_void_p
from typing import Any

import pytest

from aiotaos import Field, TypeCode
from aiotaos.protocol.encode import encode_block
from tests.native.calls import COMMITTED, CONSUMED, Assignment, Taos, code, raw_at
from tests.native.standin import Block, Standin

V = [Field("v", TypeCode.BIGINT, 8)]
NAME = [Field("name", TypeCode.VARCHAR, 8), *V]
NONE = 0x4011


def numbers(*values: int, table: str | None = None) -> Block:
    return Block(V, encode_block(V, [list(values)], version=2), table)


@pytest.fixture
def api(standin: Standin) -> Taos:
    standin.topic("q", "db", 2)
    return Taos(standin)


class Consumer:
    """A consumer of the topic ``q``; what it polls is freed at once."""

    def __init__(
        self, api: Taos, group: str = "g", *, auto_commit: Any = None, **settings: str
    ) -> None:
        self.api = api
        lib = self.lib = api.lib
        conf = lib.tmq_conf_new()
        keys = {"group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": "false"}
        for key, value in (keys | settings).items():
            assert lib.tmq_conf_set(conf, key.replace("_", ".").encode(), value.encode()) == 0
        if auto_commit is not None:
            lib.tmq_conf_set_auto_commit_cb(conf, auto_commit, 3)
        self.tmq = lib.tmq_consumer_new(conf, None, 0)
        lib.tmq_conf_destroy(conf)
        assert self.tmq

    def subscribe(self, *topics: str) -> int:
        names = self.lib.tmq_list_new()
        for topic in topics or ("q",):
            assert self.lib.tmq_list_append(names, topic.encode()) == 0
        found = self.lib.tmq_subscribe(self.tmq, names)
        self.lib.tmq_list_destroy(names)
        return code(found)

    def poll(self, timeout: int = 0) -> tuple[int, int] | None:
        """Vgroup and offset of the next message."""
        res = self.lib.tmq_consumer_poll(self.tmq, timeout)
        if res is None:
            return None
        found = (self.lib.tmq_get_vgroup_id(res), self.lib.tmq_get_vgroup_offset(res))
        self.lib.taos_free_result(res)
        return found

    def assignment(self) -> list[tuple[int, int, int, int]]:
        found, number = POINTER(Assignment)(), c_int32()
        result = self.lib.tmq_get_topic_assignment(self.tmq, b"q", byref(found), byref(number))
        assert result == 0
        each = [found[k] for k in range(number.value)]
        told = [(one.id, one.current, one.begin, one.end) for one in each]
        self.lib.tmq_free_assignment(found)
        return told

    def close(self) -> None:
        assert self.lib.tmq_consumer_close(self.tmq) == 0


@pytest.fixture
def consumer(api: Taos) -> Consumer:
    made = Consumer(api)
    assert made.subscribe() == 0
    return made


def test_settings(api: Taos) -> None:
    conf = api.lib.tmq_conf_new()
    for key, value, told in [
        ("group.id", "g", 0),
        ("group.id", "", -1),
        ("no.such.key", "1", -2),
        ("auto.offset.reset", "never", -1),
        ("auto.commit.interval.ms", "soon", -1),
        ("td.connect.pass", "wrong", 0),
    ]:
        assert api.lib.tmq_conf_set(conf, key.encode(), value.encode()) == told
    text = ctypes.create_string_buffer(100)
    assert api.lib.tmq_consumer_new(conf, text, 100) is None
    assert (api.error()[0], text.value) == (0x0357, b"Authentication failure")
    api.lib.tmq_conf_destroy(conf)
    assert api.standin.left() == {}


def test_messages(api: Taos, consumer: Consumer) -> None:
    lib = api.lib
    named = Block(NAME, encode_block(NAME, [["a"], [3]], version=2), "t2")
    assert api.standin.message("q", numbers(1, 2, table="t1"), named, precision=2) == 0
    res = lib.tmq_consumer_poll(consumer.tmq, 0)
    assert lib.tmq_get_res_type(res) == 1
    assert (lib.tmq_get_topic_name(res), lib.tmq_get_db_name(res)) == (b"q", b"db")
    assert (lib.tmq_get_vgroup_id(res), lib.tmq_get_vgroup_offset(res)) == (2, 0)
    assert lib.taos_result_precision(res) == 2
    assert consumer.poll() is None
    assert api.error()[0] == 0
    found = []
    rows, data = c_int(), c_void_p()
    while lib.taos_fetch_raw_block(res, byref(rows), byref(data)) == 0 and rows.value:
        assert data.value is not None
        table = lib.tmq_get_table_name(res)
        found.append((table, api.field_names(res), raw_at(data.value)))
    assert [entry[:2] for entry in found] == [(b"t1", ["v"]), (b"t2", ["name", "v"])]
    assert found[1][2] == named.data
    assert lib.tmq_committed(consumer.tmq, b"q", 2) & 0xFFFF == NONE
    assert lib.tmq_commit_sync(consumer.tmq, res) == 0
    lib.taos_free_result(res)
    assert lib.tmq_committed(consumer.tmq, b"q", 2) == 1
    consumer.close()
    assert (api.standin.left(), api.standin.misuse()) == ({}, {})


def test_meta(api: Taos, consumer: Consumer) -> None:
    api.standin.message("q", type=2, json='{"type":"create"}')
    res = api.lib.tmq_consumer_poll(consumer.tmq, 0)
    assert api.lib.tmq_get_res_type(res) == 2
    text = api.lib.tmq_get_json_meta(res)
    assert ctypes.string_at(text) == b'{"type":"create"}'
    assert api.standin.left()["texts"] == 1
    api.lib.tmq_free_json_meta(text)
    api.lib.taos_free_result(res)


def test_poll_waits(api: Taos, consumer: Consumer) -> None:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(consumer.poll(10_000)))
    thread.start()
    api.standin.wait("polls", 1)
    api.standin.message("q", numbers(1), vgroup=3, offset=50)
    thread.join(10)
    assert found == [(3, 50)]
    assert consumer.poll() is None
    assert api.standin.misuse() == {"poll_threads": 1}


def test_closing_ends_a_poll(api: Taos, consumer: Consumer) -> None:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.extend([consumer.poll(-1), api.error()[0]]))
    thread.start()
    api.standin.wait("polls", 1)
    consumer.close()
    thread.join(10)
    assert found == [None, 0x4002]
    assert api.standin.misuse() == {"concurrent_uses": 1}


def test_offsets(api: Taos, consumer: Consumer) -> None:
    for offset in (10, 11, 14):
        api.standin.message("q", numbers(offset), offset=offset)
    assert consumer.assignment() == [(2, 10, 10, 15), (3, 0, 0, 0)]
    assert [consumer.poll() for _ in range(4)] == [(2, 10), (2, 11), (2, 14), None]
    assert api.lib.tmq_position(consumer.tmq, b"q", 2) == 15
    assert api.lib.tmq_offset_seek(consumer.tmq, b"q", 2, 11) == 0
    assert consumer.poll() == (2, 11)
    assert code(api.lib.tmq_offset_seek(consumer.tmq, b"q", 2, 9)) == 0x4007
    assert code(api.lib.tmq_offset_seek(consumer.tmq, b"q", 9, 9)) == 0x4008
    assert code(api.lib.tmq_offset_seek(consumer.tmq, b"z", 2, 9)) == 0x4009
    assert api.lib.tmq_commit_offset_sync(consumer.tmq, b"q", 2, 14) == 0
    consumer.close()
    other = Consumer(api)
    assert other.subscribe() == 0
    assert other.poll() == (2, 14)
    assert Consumer(api, "late", auto_offset_reset="latest").poll() is None
    assert api.error()[0] == 0x4017  # not subscribed
    assert other.subscribe("nothing") == 0x4009
    late = Consumer(api, "late", auto_offset_reset="latest")
    late.subscribe()
    assert late.poll() is None
    assert api.standin.message("q", numbers(1)) == 15
    assert late.poll() == (2, 15)


def test_a_group_shares_vgroups(api: Taos, consumer: Consumer) -> None:
    assert [each[0] for each in consumer.assignment()] == [2, 3]
    other = Consumer(api)
    other.subscribe()
    assert [each[0] for each in consumer.assignment()] == [2]
    assert [each[0] for each in other.assignment()] == [3]
    api.standin.message("q", numbers(1), vgroup=3)
    assert consumer.poll() is None
    assert other.poll() == (3, 0)
    other.close()
    assert consumer.poll() == (3, 0)  # nothing was committed


def committing() -> tuple[Any, Callable[[], tuple[Any, ...]]]:
    seen: list[tuple[Any, ...]] = []
    done = threading.Event()

    def note(*arguments: Any) -> None:
        seen.append((*arguments, threading.get_ident()))
        done.set()

    def wait() -> tuple[Any, ...]:
        assert done.wait(10)
        done.clear()
        return seen.pop()

    return COMMITTED(note), wait


def test_asynchronous_commits(api: Taos, consumer: Consumer) -> None:
    callback, wait = committing()
    api.lib.tmq_commit_async(consumer.tmq, None, callback, 8)
    assert wait() == (consumer.tmq, 0, 8, threading.get_ident())  # nothing to commit
    api.standin.message("q", numbers(1))
    assert consumer.poll() == (2, 0)
    api.lib.tmq_commit_async(consumer.tmq, None, callback, 9)
    tmq, told, param, thread = wait()
    assert (tmq, told, param) == (consumer.tmq, 0, 9)
    assert thread != threading.get_ident()
    assert api.lib.tmq_committed(consumer.tmq, b"q", 2) == 1
    api.standin.message("q", numbers(1))
    consumer.poll()
    api.standin.rule("tmq_commit_async", code=0x000B, hold=True)
    api.lib.tmq_commit_async(consumer.tmq, None, callback, 10)
    consumer.close()
    api.standin.wait("held", 1)
    api.standin.release("tmq_commit_async")
    tmq, told, *_ = wait()
    assert (tmq, code(told)) == (None, 0x000B)


def test_automatic_commits(api: Taos) -> None:
    callback, wait = committing()
    settings = {"enable.auto.commit": "true", "auto.commit.interval.ms": "1"}
    consumer = Consumer(api, auto_commit=callback, **settings)
    consumer.subscribe()
    api.standin.message("q", numbers(1))
    assert consumer.poll() == (2, 0)
    consumer.poll(20)
    consumer.poll(20)  # a poll commits what is due
    assert wait()[:3] == (consumer.tmq, 0, 3)
    api.standin.message("q", numbers(1))
    assert consumer.poll() == (2, 1)
    consumer.close()
    assert api.standin.log("commit")[-1]["offset"] == 2


def test_errors_of_consumers(api: Taos, consumer: Consumer) -> None:
    api.standin.rule("tmq_consumer_poll", code=0x4019, message="split")
    assert consumer.poll() is None
    assert api.error() == (0x4019, "split")
    assert consumer.poll() is None
    assert api.error()[0] == 0
    api.standin.rule("tmq_subscribe", code=0x000B)
    assert consumer.subscribe() == 0x000B
    assert api.lib.tmq_err2str(0) == b"success"
    api.lib.taos_close(api.lib.tmq_get_connect(consumer.tmq))
    assert api.standin.misuse() == {"double_closes": 1}
    names = c_void_p()
    assert api.lib.tmq_subscription(consumer.tmq, byref(names)) == 0
    assert api.lib.tmq_list_to_c_array(names)[0] == b"q"
    api.lib.tmq_list_destroy(names)


def test_lists(api: Taos) -> None:
    names = api.lib.tmq_list_new()
    assert api.lib.tmq_list_append(names, b"") != 0
    assert api.lib.tmq_list_get_size(names) == 0
    assert not api.lib.tmq_list_to_c_array(names)
    api.lib.tmq_list_destroy(names)


# 2.x


@pytest.fixture
def api_2x(standin_2x: Standin) -> Taos:
    return Taos(standin_2x)


def ticks(row: list[bytes | None] | None) -> int:
    assert row is not None
    assert row[0] is not None
    return int(struct.unpack("<q", row[0])[0])


def test_rows_of_2x(api_2x: Taos) -> None:
    assert api_2x.lib.taos_get_client_info() == b"2.6.0.34"
    taos = api_2x.connect()
    res = api_2x.result(taos, "select * from t /* rows=15 cols=5 block=10 */")
    assert api_2x.field_names(res) == ["ts", "c1", "c2", "c3", "c4"]
    described = ctypes.string_at(api_2x.lib.taos_fetch_fields(res), 68 * 5)
    assert struct.unpack_from("<65sBh", described, 68 * 4)[1:] == (TypeCode.NCHAR, 16)
    seen = 0
    while (number := api_2x.fetch(res, raw=False).wait().code) > 0:
        for _ in range(number):
            row = api_2x.row(res)
            assert row is not None
            assert row[4] == f"é😀{seen}".encode()
            assert row[3] == (None if seen % 3 == 2 else f"s{seen}".encode())
            seen += 1
    assert seen == 15
    api_2x.lib.taos_free_result(res)
    assert api_2x.standin.misuse() == {}


def test_subscriptions_of_2x(api_2x: Taos) -> None:
    taos = api_2x.connect()
    blocks = [encode_block(V, [[1]]), encode_block(V, [[2]])]
    api_2x.standin.answer("select * from t", V, blocks)
    lib, sql = api_2x.lib, b"select * from t"
    none = CONSUMED()
    sub = lib.taos_subscribe(taos, 0, b"topic", sql, none, None, 1)
    first = lib.taos_consume(sub)
    assert ticks(api_2x.row(first)) == 1
    assert api_2x.row(first) is None
    lib.taos_unsubscribe(sub, 1)
    sub = lib.taos_subscribe(taos, 0, b"topic", sql, none, None, 1)
    assert ticks(api_2x.row(lib.taos_consume(sub))) == 2
    assert api_2x.row(lib.taos_consume(sub)) is None
    lib.taos_unsubscribe(sub, 1)
    sub = lib.taos_subscribe(taos, 1, b"topic", sql, none, None, 1)
    res = lib.taos_consume(sub)
    assert ticks(api_2x.row(res)) == 1
    lib.taos_free_result(res)  # it is the subscription's
    lib.taos_unsubscribe(sub, 0)
    assert api_2x.standin.misuse() == {"double_frees": 1}
    assert api_2x.standin.left() == {"connections": 1}


def test_subscription_with_a_callback(api_2x: Taos) -> None:
    taos = api_2x.connect()
    seen: list[int] = []
    enough = threading.Event()

    def take(sub: int, res: int, param: int, told: int) -> None:
        assert (param, told) == (4, 0)
        row = api_2x.lib.taos_fetch_row(res)
        if row:
            seen.append(ctypes.c_int64.from_address(row[1]).value)
        else:
            enough.set()

    callback = CONSUMED(take)
    sql = b"select * from t /* rows=4 block=2 */"
    sub = api_2x.lib.taos_subscribe(taos, 0, b"topic", sql, callback, 4, 1)
    assert enough.wait(10)
    api_2x.lib.taos_unsubscribe(sub, 0)
    api_2x.standin.wait("outstanding", 0)
    assert seen == [0, 2]
    assert api_2x.standin.left() == {"connections": 1}


def test_statement_of_2x(api_2x: Taos) -> None:
    class Bind(ctypes.Structure):
        _fields_ = (
            ("buffer_type", c_int),
            ("buffer", c_void_p),
            ("buffer_length", ctypes.c_size_t),
            ("length", c_void_p),
            ("is_null", c_void_p),
            ("is_unsigned", c_int),
            ("error", c_void_p),
            ("u", ctypes.c_int64),
            ("allocated", ctypes.c_uint),
        )

    lib = api_2x.lib
    stmt = lib.taos_stmt_init(api_2x.connect())
    assert lib.taos_stmt_prepare(stmt, b"insert into t values (?, ?)", 0) == 0
    text, length, null = ctypes.create_string_buffer(b"abcdef"), ctypes.c_size_t(3), c_int(1)
    where = ctypes.addressof
    values = (Bind * 2)(
        Bind(8, where(text), 6, where(length), None),
        Bind(4, where(text), 4, None, where(null)),
    )
    assert lib.taos_stmt_bind_param(stmt, values) == 0
    assert lib.taos_stmt_add_batch(stmt) == 0
    assert lib.taos_stmt_execute(stmt) == 0
    (event,) = api_2x.standin.log("execute")
    assert event["binds"][0]["columns"] == [
        {"type": 8, "values": ["616263"]},
        {"type": 4, "values": [None]},
    ]
    assert lib.taos_stmt_close(stmt) == 0
