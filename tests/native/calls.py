"""The functions of libtaos with their types, and what tests of the stand-in call them with."""

from __future__ import annotations

import ctypes
import struct
import threading
from ctypes import CFUNCTYPE, POINTER, c_bool, c_char_p, c_int, c_int32, c_int64, c_void_p
from typing import Any

from tests.native.standin import Flavour, Standin

DONE = CFUNCTYPE(None, c_void_p, c_void_p, c_int)
COMMITTED = CFUNCTYPE(None, c_void_p, c_int32, c_void_p)
NOTIFIED = CFUNCTYPE(None, c_void_p, c_void_p, c_int)
CONSUMED = CFUNCTYPE(None, c_void_p, c_void_p, c_void_p, c_int)
NO_CALL = DONE()


class MultiBind(ctypes.Structure):
    _fields_ = (
        ("buffer_type", c_int),
        ("buffer", c_void_p),
        ("buffer_length", ctypes.c_size_t),
        ("length", c_void_p),
        ("is_null", c_void_p),
        ("num", c_int),
    )


class Bind2(ctypes.Structure):
    _fields_ = (
        ("buffer_type", c_int),
        ("buffer", c_void_p),
        ("length", c_void_p),
        ("is_null", c_void_p),
        ("num", c_int),
    )


class BindV(ctypes.Structure):
    _fields_ = (
        ("count", c_int),
        ("tbnames", POINTER(c_char_p)),
        ("tags", POINTER(POINTER(Bind2))),
        ("bind_cols", POINTER(POINTER(Bind2))),
    )


class Option2(ctypes.Structure):
    _fields_ = (
        ("reqid", c_int64),
        ("one_table", c_bool),
        ("bind_once", c_bool),
        ("fn", DONE),
        ("userdata", c_void_p),
    )


class Assignment(ctypes.Structure):
    _fields_ = (("id", c_int32), ("current", c_int64), ("begin", c_int64), ("end", c_int64))


P, S, I32, I64 = c_void_p, c_char_p, c_int32, c_int64
SIGNATURES: dict[str, tuple[Any, ...]] = {
    "taos_init": (c_int,),
    "taos_cleanup": (None,),
    "taos_options": (c_int, c_int, S),
    "taos_get_client_info": (S,),
    "taos_connect": (P, S, S, S, S, ctypes.c_uint16),
    "taos_connect_auth": (P, S, S, S, S, ctypes.c_uint16),
    "taos_close": (None, P),
    "taos_options_connection": (c_int, P, c_int, S),
    "taos_select_db": (c_int, P, S),
    "taos_get_current_db": (c_int, P, P, c_int, POINTER(c_int)),
    "taos_get_server_info": (S, P),
    "taos_set_notify_cb": (c_int, P, NOTIFIED, P, c_int),
    "taos_query": (P, P, P),
    "taos_query_with_reqid": (P, P, P, I64),
    "taos_query_a": (None, P, P, DONE, P),
    "taos_query_a_with_reqid": (None, P, P, DONE, P, I64),
    "taos_validate_sql": (c_int, P, S),
    "taos_errno": (c_int, P),
    "taos_errstr": (S, P),
    "taos_num_fields": (c_int, P),
    "taos_fetch_fields": (P, P),
    "taos_fetch_fields_e": (P, P),
    "taos_affected_rows": (c_int, P),
    "taos_affected_rows64": (I64, P),
    "taos_is_update_query": (c_bool, P),
    "taos_result_precision": (c_int, P),
    "taos_fetch_row": (POINTER(P), P),
    "taos_fetch_lengths": (POINTER(c_int), P),
    "taos_fetch_block": (c_int, P, POINTER(POINTER(P))),
    "taos_get_column_data_offset": (POINTER(c_int), P, c_int),
    "taos_is_null": (c_bool, P, I32, I32),
    "taos_is_null_by_column": (c_int, P, c_int, P, POINTER(c_int)),
    "taos_fetch_rows_a": (None, P, DONE, P),
    "taos_fetch_raw_block_a": (None, P, DONE, P),
    "taos_get_raw_block": (P, P),
    "taos_fetch_raw_block": (c_int, P, POINTER(c_int), POINTER(P)),
    "taos_print_row": (c_int, P, P, P, c_int),
    "taos_free_result": (None, P),
    "taos_stop_query": (None, P),
    "taos_kill_query": (None, P),
    "taos_get_table_vgId": (c_int, P, S, S, POINTER(c_int)),
    "taos_schemaless_insert": (P, P, POINTER(S), c_int, c_int, c_int),
    "taos_schemaless_insert_raw_ttl_with_reqid_tbname_key": (
        *(P, P, S, c_int, POINTER(I32), c_int, c_int, I32, I64, S),
    ),
    "taos_stmt_init": (P, P),
    "taos_stmt_prepare": (c_int, P, S, ctypes.c_ulong),
    "taos_stmt_set_tbname_tags": (c_int, P, S, P),
    "taos_stmt_bind_param": (c_int, P, P),
    "taos_stmt_bind_param_batch": (c_int, P, P),
    "taos_stmt_add_batch": (c_int, P),
    "taos_stmt_execute": (c_int, P),
    "taos_stmt_affected_rows": (c_int, P),
    "taos_stmt_get_col_fields": (c_int, P, POINTER(c_int), POINTER(P)),
    "taos_stmt_reclaim_fields": (None, P, P),
    "taos_stmt_errstr": (S, P),
    "taos_stmt_close": (c_int, P),
    "taos_stmt2_init": (P, P, POINTER(Option2)),
    "taos_stmt2_prepare": (c_int, P, S, ctypes.c_ulong),
    "taos_stmt2_get_fields": (c_int, P, POINTER(c_int), POINTER(P)),
    "taos_stmt2_free_fields": (None, P, P),
    "taos_stmt2_bind_param": (c_int, P, POINTER(BindV), I32),
    "taos_stmt2_bind_param_a": (c_int, P, POINTER(BindV), I32, DONE, P),
    "taos_stmt2_exec": (c_int, P, POINTER(c_int)),
    "taos_stmt2_result": (P, P),
    "taos_stmt2_error": (S, P),
    "taos_stmt2_close": (c_int, P),
    "tmq_conf_new": (P,),
    "tmq_conf_set": (c_int, P, S, S),
    "tmq_conf_set_auto_commit_cb": (None, P, COMMITTED, P),
    "tmq_conf_destroy": (None, P),
    "tmq_list_new": (P,),
    "tmq_list_append": (I32, P, S),
    "tmq_list_get_size": (I32, P),
    "tmq_list_to_c_array": (POINTER(S), P),
    "tmq_list_destroy": (None, P),
    "tmq_consumer_new": (P, P, P, I32),
    "tmq_subscribe": (I32, P, P),
    "tmq_unsubscribe": (I32, P),
    "tmq_subscription": (I32, P, POINTER(P)),
    "tmq_consumer_poll": (P, P, I64),
    "tmq_consumer_close": (I32, P),
    "tmq_commit_sync": (I32, P, P),
    "tmq_commit_async": (None, P, P, COMMITTED, P),
    "tmq_commit_offset_sync": (I32, P, S, I32, I64),
    "tmq_get_topic_assignment": (I32, P, S, POINTER(POINTER(Assignment)), POINTER(I32)),
    "tmq_free_assignment": (None, POINTER(Assignment)),
    "tmq_offset_seek": (I32, P, S, I32, I64),
    "tmq_position": (I64, P, S, I32),
    "tmq_committed": (I64, P, S, I32),
    "tmq_get_connect": (P, P),
    "tmq_get_table_name": (S, P),
    "tmq_get_res_type": (c_int, P),
    "tmq_get_topic_name": (S, P),
    "tmq_get_db_name": (S, P),
    "tmq_get_vgroup_id": (I32, P),
    "tmq_get_vgroup_offset": (I64, P),
    "tmq_get_json_meta": (P, P),
    "tmq_free_json_meta": (None, P),
    "tmq_err2str": (S, I32),
    "taos_subscribe": (P, P, c_int, S, S, CONSUMED, P, c_int),
    "taos_consume": (P, P),
    "taos_unsubscribe": (None, P, c_int),
}


class Call:
    """A callback, and what it was called with.

    Attributes:
        done: Set when it has been called.
        code: The third argument.
        res: The result, or None.
        thread: Which thread called.
    """

    def __init__(self, then: Any = None) -> None:
        self.done = threading.Event()
        self.calls = 0
        self.code = 0
        self.param: int | None = None
        self.res: int | None = None
        self.thread = 0
        self.then = then
        self.c = DONE(self._run)

    def _run(self, param: int | None, res: int | None, code: int) -> None:
        self.calls += 1
        self.param, self.res, self.code = param, res, code
        self.thread = threading.get_ident()
        if self.then is not None:
            self.then(self)
        self.done.set()

    def wait(self, timeout: float = 10) -> Call:
        assert self.done.wait(timeout)
        return self


class Taos:
    """The library with types, and a few steps that many tests take."""

    def __init__(self, standin: Standin) -> None:
        self.standin = standin
        self.lib: Any = standin.lib
        for name, (result, *arguments) in SIGNATURES.items():
            if standin.has(name):
                function = getattr(standin.lib, name)
                function.restype, function.argtypes = result, arguments
        self._kept: list[Any] = []

    def connect(self, database: str | None = None) -> int:
        taos = self.lib.taos_connect(
            b"localhost", b"root", b"taosdata", database.encode() if database else None, 0
        )
        assert taos
        return int(taos)

    def query_a(self, taos: int | None, sql: str, *, then: Any = None, param: int = 7) -> Call:
        """Start a query; its SQL lives as long as this object."""
        call = Call(then)
        data = ctypes.create_string_buffer(sql.encode())
        self._kept.append((call, data))
        self.lib.taos_query_a(taos, ctypes.addressof(data), call.c, param)
        return call

    def query(self, taos: int, sql: str) -> int | None:
        data = ctypes.create_string_buffer(sql.encode())
        found: int | None = self.lib.taos_query(taos, ctypes.addressof(data))
        return found

    def result(self, taos: int, sql: str) -> int:
        """The result of an asynchronous query without an error; its callback has returned.

        Before that the library refuses to give rows.
        """
        before = self.standin.count("delivered")
        call = self.query_a(taos, sql).wait()
        self.standin.wait("delivered", before + 1, at_least=True)
        assert call.code == 0
        assert call.res is not None
        return call.res

    def fetch(self, res: int, *, raw: bool = True, then: Any = None) -> Call:
        """Start a fetch."""
        call = Call(then)
        self._kept.append(call)
        (self.lib.taos_fetch_raw_block_a if raw else self.lib.taos_fetch_rows_a)(res, call.c, None)
        return call

    def block(self, res: int) -> bytes:
        """A copy of the current raw block."""
        return raw_at(self.lib.taos_get_raw_block(res))

    def blocks(self, res: int) -> list[bytes]:
        """All raw blocks of a result, one after the other."""
        found = []
        while (call := self.fetch(res).wait()).code:
            assert call.code > 0
            found.append(self.block(res))
        return found

    def row(self, res: int) -> list[bytes | None] | None:
        """The next row, each value as bytes."""
        row = self.lib.taos_fetch_row(res)
        if not row:
            return None
        lengths = self.lib.taos_fetch_lengths(res)
        number = self.lib.taos_num_fields(res)
        return [ctypes.string_at(row[i], lengths[i]) if row[i] else None for i in range(number)]

    def field_names(self, res: int) -> list[str]:
        size = 68 if self.standin.flavour is Flavour.TWO else 72
        number = self.lib.taos_num_fields(res)
        data = ctypes.string_at(self.lib.taos_fetch_fields(res), number * size)
        return [
            data[start : start + 65].split(b"\0")[0].decode() for start in range(0, len(data), size)
        ]

    def error(self, res: int | None = None) -> tuple[int, str]:
        return code(self.lib.taos_errno(res)), self.lib.taos_errstr(res).decode()


def code(value: int) -> int:
    """An error as documented: 0x2600 for -2147473920."""
    return value & 0xFFFF


def raw_at(address: int) -> bytes:
    """The raw block at an address."""
    (length,) = struct.unpack("<i", ctypes.string_at(address + 4, 4))
    return ctypes.string_at(address, length)
