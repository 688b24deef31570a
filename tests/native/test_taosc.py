"""libtaos by its C names: layouts, prototypes, and calls into a small library made here."""

import ctypes
import itertools
import os
import shutil
import subprocess
import threading
from ctypes import POINTER, Structure, c_int, c_int32, sizeof

import pytest

from aiotaos.errors import InterfaceError, NotSupportedError, ProtocolError, server_error
from aiotaos.transport.native import structs
from aiotaos.transport.native.prototypes import Declaration, declarations
from aiotaos.transport.native.taosc import Taosc, plain_code
from aiotaos.types import Field, TypeCode

COMPILER = shutil.which("cc")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="there is no C compiler (cc) here")
is_64_bit = pytest.mark.skipif(sizeof(ctypes.c_void_p) != 8, reason="layouts of 64-bit machines")

SOURCE = r"""
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

typedef void (*async_fn)(void *param, void *res, int code);
typedef void (*sub_fn)(void *sub, void *res, void *param, int code);
typedef struct { void *raw; uint32_t raw_len; uint16_t raw_type; } raw_data;
typedef struct { int code; char message[1024]; } set_result;

static char text[256];
static int code;
static char block[64];

const char *taos_get_client_info(void) { return VERSION; }
int taos_errno(void *res) { return res ? code : (int)0x80000200; }
const char *taos_errstr(void *res) { return res ? text : "the thread's own"; }
int taos_num_fields(void *res) { return (int)(intptr_t)res; }

void *taos_connect(const char *ip, const char *user, const char *pass, const char *db,
                   uint16_t port) {
  snprintf(text, sizeof text, "%s|%s|%s|%s|%u", ip ? ip : "NULL", user, pass, db ? db : "NULL",
           (unsigned)port);
  return text;
}

void *taos_query_with_reqid(void *taos, const char *sql, int64_t reqid) {
  snprintf(text, sizeof text, "%s", sql);
  return (void *)(intptr_t)reqid;
}

void taos_query_a_with_reqid(void *taos, const char *sql, async_fn fp, void *param,
                             int64_t reqid) {
  fp(param, taos, (int)0x80002600);
  fp(param, NULL, (int)(reqid >> 32));
}

int taos_stmt_prepare(void *stmt, const char *sql, unsigned long length) {
  return strncmp(sql, "insert", length) == 0 ? (int)length : -1;
}

int taos_get_current_db(void *taos, char *database, int len, int *required) {
  *required = 7;
  if (len < 7) return -1;
  strcpy(database, "sensor");
  return 0;
}

bool taos_is_null(void *res, int32_t row, int32_t col) { return row == 2 && col == -3; }
int64_t taos_affected_rows64(void *res) { return 1LL << 40; }

int32_t tmq_write_raw(void *taos, raw_data raw) {
  return raw.raw == taos && raw.raw_len == 4000000000u && raw.raw_type == 65535 ? 0 : -1;
}

set_result taos_set_config(const char *config) {
  set_result result = {-5, ""};
  snprintf(result.message, sizeof result.message, "given %s", config);
  return result;
}

void *taos_schemaless_insert(void *taos, char *lines[], int count, int protocol, int precision) {
  snprintf(text, sizeof text, "%d:%s,%s:%d:%d", count, lines[0], lines[1], protocol, precision);
  return text;
}

int tmq_get_topic_assignment(void *tmq, const char *topic, void **assignment, int32_t *count) {
  static struct { int32_t vg; int64_t current, begin, end; } all[2] = {{2, 5, 0, 9}, {3, 1, 1, 1}};
  *assignment = all;
  *count = 2;
  return 0;
}

/* Tells that it runs, and then waits for an answer: the two halves of taos are pipes. */
int taos_validate_sql(void *taos, const char *sql) {
  char byte = 1;
  if (write((int)((intptr_t)taos >> 32), &byte, 1) != 1) return -1;
  if (read((int)((intptr_t)taos & 0xffffffff), &byte, 1) != 1) return -1;
  return byte;
}

void set_error(int number, const char *message) {
  code = number;
  snprintf(text, sizeof text, "%s", message);
}

#ifdef OLD
typedef struct { char name[65]; uint8_t type; int16_t bytes; } field;
static field columns[] = {{"ts", 9, 8}, {"v", 8, 20}};
field *taos_fetch_fields(void *res) { return columns; }

void *taos_subscribe(void *taos, int restart, const char *topic, const char *sql, sub_fn fp,
                     void *param, int interval) {
  snprintf(text, sizeof text, "%d|%s|%s|%s|%d", restart, topic, sql, fp ? "called" : "asked",
           interval);
  if (fp) fp(text, block, param, 0);
  return text;
}
void *taos_consume(void *sub) { return sub == text ? block : NULL; }
void taos_unsubscribe(void *sub, int keep) { snprintf(text, sizeof text, "kept %d", keep); }
int taos_fetch_block(void *res, void **rows) { *rows = text; return 3; }
#else
typedef struct { char name[65]; int8_t type; int32_t bytes; } field;
static field columns[] = {{"ts", 9, 8}, {"v", 8, 70000}};
field *taos_fetch_fields(void *res) { return columns; }
#endif

#ifdef NEW
typedef struct { char name[65]; int8_t type; uint8_t precision, scale; int32_t bytes; } field_e;
static field_e wide[] = {{"d", 17, 20, 3, 16}, {"n\xc3\xa4me", 10, 0, 0, 12}, {"x", 99, 0, 0, 1}};
field_e *taos_fetch_fields_e(void *res) { return wide; }

const void *taos_get_raw_block(void *res) {
  int32_t length = (int32_t)(intptr_t)res;
  if (length == 0) return NULL;
  for (int i = 0; i < 64; i++) block[i] = (char)i;
  memcpy(block + 4, &length, 4);
  return block;
}
#endif
"""

KINDS = {
    "2.6": ['-DVERSION="2.6.0.34"', "-DOLD"],
    "3.0": ['-DVERSION="3.0.7.1"'],
    "3.3": ['-DVERSION="3.3.7.5"', "-DNEW"],
}


@pytest.fixture(scope="module")
def libraries(tmp_path_factory):
    if COMPILER is None:
        pytest.skip("there is no C compiler (cc) here")
    folder = tmp_path_factory.mktemp("taosc")
    source = folder / "source.c"
    source.write_text(SOURCE)
    made = {}
    for kind, flags in KINDS.items():
        made[kind] = str(folder / f"libtaos-{kind}.so")
        subprocess.run(
            [COMPILER, "-shared", "-fPIC", *flags, "-o", made[kind], str(source)], check=True
        )
    return made


@pytest.fixture
def open_library(libraries):
    return lambda kind: Taosc(ctypes.CDLL(libraries[kind]), libraries[kind])


@pytest.fixture
def taosc(open_library):
    return open_library("3.3")


def set_error(taosc, code, text):
    function = taosc._library.set_error
    function.argtypes = [c_int, ctypes.c_char_p]
    function(code, text)


# Layouts: sizes and offsets as gcc has them for TDengine 3.3.7.5's taos.h, 64 bit.

LAYOUTS = {
    "TAOS_FIELD": (72, {"name": 0, "type": 65, "bytes": 68}),
    "TAOS_FIELD_2X": (68, {"name": 0, "type": 65, "bytes": 66}),
    "TAOS_FIELD_E": (72, {"name": 0, "type": 65, "precision": 66, "scale": 67, "bytes": 68}),
    "TAOS_FIELD_ALL": (
        76,
        {"name": 0, "type": 65, "precision": 66, "scale": 67, "bytes": 68, "field_type": 72},
    ),
    "TAOS_BIND": (
        72,
        {
            "buffer_type": 0,
            "buffer": 8,
            "buffer_length": 16,
            "length": 24,
            "is_null": 32,
            "is_unsigned": 40,
            "error": 48,
            "u": 56,
            "allocated": 64,
        },
    ),
    "TAOS_MULTI_BIND": (
        48,
        {
            "buffer_type": 0,
            "buffer": 8,
            "buffer_length": 16,
            "length": 24,
            "is_null": 32,
            "num": 40,
        },
    ),
    "TAOS_STMT_OPTIONS": (16, {"reqId": 0, "singleStbInsert": 8, "singleTableBindOnce": 9}),
    "TAOS_STMT2_OPTION": (
        32,
        {
            "reqid": 0,
            "singleStbInsert": 8,
            "singleTableBindOnce": 9,
            "asyncExecFn": 16,
            "userdata": 24,
        },
    ),
    "TAOS_STMT2_BIND": (
        40,
        {"buffer_type": 0, "buffer": 8, "length": 16, "is_null": 24, "num": 32},
    ),
    "TAOS_STMT2_BINDV": (32, {"count": 0, "tbnames": 8, "tags": 16, "bind_cols": 24}),
    "TAOS_STMT2_COLUMN_BIND": (32, {"buffer_type": 0, "buffer": 8, "length": 16, "is_null": 24}),
    "TAOS_STMT2_COLUMN_BINDV": (
        24,
        {"num_columns": 0, "num_rows": 4, "num_tables": 8, "columns": 16},
    ),
    "TAOS_VGROUP_HASH_INFO": (12, {"vgId": 0, "hashBegin": 4, "hashEnd": 8}),
    "TAOS_DB_ROUTE_INFO": (
        24,
        {
            "routeVersion": 0,
            "hashPrefix": 4,
            "hashSuffix": 6,
            "hashMethod": 8,
            "vgNum": 12,
            "vgHash": 16,
        },
    ),
    "tmq_topic_assignment": (32, {"vgId": 0, "currentOffset": 8, "begin": 16, "end": 24}),
    "tmq_raw_data": (16, {"raw": 0, "raw_len": 8, "raw_type": 12}),
    "setConfRet": (1028, {"retCode": 0, "retMsg": 4}),
    "OPTIONS": (4104, {"keys": 0, "values": 2048, "count": 4096}),
}


@is_64_bit
@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(name):
    structure = getattr(structs, name)
    size, offsets = LAYOUTS[name]
    assert sizeof(structure) == size
    assert {field[0]: getattr(structure, field[0]).offset for field in structure._fields_} == (
        offsets
    )


def test_no_structure_is_left_out_of_the_layouts():
    all = {
        name
        for name, value in vars(structs).items()
        if isinstance(value, type) and issubclass(value, Structure) and value is not Structure
    }
    assert all == {*LAYOUTS}


# Declarations.


def test_every_declaration_has_a_prototype_and_says_what_it_does():
    all = declarations(Taosc)
    assert len(all) > 160
    for name, declaration in all.items():
        result, parameters = declaration.prototype()
        for type in [result, *parameters]:
            assert type is None or sizeof(type) > 0 or issubclass(type, ctypes.c_void_p), name
        assert declaration.__doc__, name


def test_a_declaration_is_had_from_the_class():
    assert isinstance(Taosc.taos_query, Declaration)
    result, parameters = Taosc.taos_query_with_reqid.prototype()
    assert result is ctypes.c_void_p
    assert parameters == [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int64]


def test_the_names_of_the_old_manual_are_the_functions_that_it_means():
    assert Taosc.taos_num_files is Taosc.taos_num_fields
    assert Taosc.taos_fetch_rows is Taosc.taos_fetch_row
    assert Taosc.taos_fetch_blocks is Taosc.taos_fetch_block


# Calls.


def test_version_and_path(taosc, libraries):
    assert taosc.version == (3, 3, 7, 5)
    assert taosc.version_text == "3.3.7.5"
    assert taosc.path == libraries["3.3"]


def test_strings_and_ports(taosc):
    address = taosc.taos_connect(None, b"root", b"p\xc3\xa4ss", None, 60030)
    assert ctypes.string_at(address) == "NULL|root|päss|NULL|60030".encode()


def test_handles_and_ids_have_64_bits(taosc):
    assert taosc.taos_query_with_reqid(None, b"", 2**62 + 1) == 2**62 + 1
    assert taosc.taos_query_with_reqid(None, b"", 0) is None
    assert taosc.taos_affected_rows64(None) == 2**40


def test_an_id_that_does_not_fit_is_not_a_string(taosc):
    with pytest.raises(ctypes.ArgumentError):
        taosc.taos_query_with_reqid(None, b"", b"7")


def test_callbacks(taosc):
    calls = []
    callback = structs.TAOS_ASYNC_FN(lambda *arguments: calls.append(arguments))
    taosc.taos_query_a_with_reqid(2**40, b"select 1", callback, 2**33 + 5, 6 << 32)
    failed = 0x80002600 - 2**32
    assert calls == [(2**33 + 5, 2**40, failed), (2**33 + 5, None, 6)]
    assert plain_code(failed) == 0x2600


def test_unsigned_long(taosc):
    assert taosc.taos_stmt_prepare(None, b"insert into", 6) == 6


def test_what_c_fills(taosc):
    required = c_int()
    small, large = ctypes.create_string_buffer(3), ctypes.create_string_buffer(7)
    assert taosc.taos_get_current_db(None, small, 3, required) == -1
    assert required.value == 7
    assert taosc.taos_get_current_db(None, large, 7, required) == 0
    assert large.value == b"sensor"


def test_bools_and_negative_numbers(taosc):
    assert taosc.taos_is_null(None, 2, -3) is True
    assert taosc.taos_is_null(None, 2, 3) is False


def test_structures_by_value(taosc):
    raw = structs.tmq_raw_data(2**41, 4_000_000_000, 65535)
    assert taosc.tmq_write_raw(2**41, raw) == 0
    answer = taosc.taos_set_config(b"{}")
    assert answer.retCode == structs.SetConfigCode.ERR_ONLY_ONCE
    assert answer.retMsg == b"given {}"


def test_arrays_of_strings(taosc):
    lines = (ctypes.c_char_p * 2)(b"one", b"two")
    assert ctypes.string_at(taosc.taos_schemaless_insert(None, lines, 2, 1, 6)) == b"2:one,two:1:6"


def test_pointers_that_c_gives(taosc):
    assignment = POINTER(structs.tmq_topic_assignment)()
    count = c_int32()
    assert taosc.tmq_get_topic_assignment(None, b"t", assignment, count) == 0
    assert [(one.vgId, one.currentOffset, one.begin, one.end) for one in assignment[:2]] == [
        (2, 5, 0, 9),
        (3, 1, 1, 1),
    ]
    assert count.value == 2


def test_other_threads_run_while_a_function_waits(taosc):
    running, told_running = os.pipe()
    answer, give_answer = os.pipe()

    def reply():
        os.read(running, 1)
        os.write(give_answer, b"\x2a")

    thread = threading.Thread(target=reply)
    thread.start()
    try:
        assert taosc.taos_validate_sql(told_running << 32 | answer, b"") == 42
    finally:
        thread.join()
        for number in (running, told_running, answer, give_answer):
            os.close(number)


# What is missing.


def test_has(open_library):
    old, new = open_library("2.6"), open_library("3.3")
    assert (old.has("taos_subscribe"), new.has("taos_subscribe")) == (True, False)
    assert (old.has("taos_fetch_fields_e"), new.has("taos_fetch_fields_e")) == (False, True)
    assert old.has("taos_fetch_blocks")  # by another name
    assert not new.has("taos_nothing")


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        (
            "3.3",
            "taos_subscribe",
            "libtaos 3.3.7.5 ({}) does not have it, 2.6 was the last; use a Consumer (TMQ)",
        ),
        (
            "2.6",
            "taos_stmt2_init",
            "libtaos 2.6.0.34 ({}) does not have it, it came with 3.3.5; use taos_stmt_init",
        ),
        ("2.6", "tmq_consumer_new", "libtaos 2.6.0.34 ({}) does not have it, it came with 3.0"),
        ("3.3", "taos_close", "libtaos 3.3.7.5 ({}) does not have it"),
    ],
)
def test_missing(open_library, libraries, kind, name, message):
    with pytest.raises(NotSupportedError) as caught:
        getattr(open_library(kind), name)
    assert str(caught.value) == f"{name}: {message.format(libraries[kind])}"


def test_an_unknown_name_is_no_attribute(taosc):
    with pytest.raises(AttributeError):
        taosc.taos_nothing  # noqa: B018


@needs_compiler
def test_another_library(tmp_path):
    source, library = tmp_path / "other.c", tmp_path / "other.so"
    source.write_text("int other(void) { return 0; }")
    subprocess.run([COMPILER, "-shared", "-fPIC", "-o", library, source], check=True)
    with pytest.raises(NotSupportedError, match="is not libtaos: it has no taos_get_client_info"):
        Taosc(ctypes.CDLL(str(library)), "other")


def test_after_a_fork_nothing_can_be_called(taosc):
    assert taosc.taos_errno(None)
    taosc.abandon()
    for call in (lambda: taosc.taos_errno, lambda: taosc.taos_query, lambda: taosc.has("x")):
        with pytest.raises(InterfaceError, match=r"does not survive a fork.*spawn"):
            call()


def test_what_is_used_is_noted(taosc):
    calls = itertools.count()
    taosc.first_use = lambda: next(calls)
    assert taosc.taos_get_client_info() == b"3.3.7.5"
    assert (taosc.touched, taosc.started, next(calls)) == (False, False, 0)
    taosc.taos_errno(None)
    taosc.taos_errstr(None)
    assert (taosc.touched, taosc.started, next(calls)) == (True, False, 2)
    taosc.taos_connect(None, None, None, None, 0)
    assert (taosc.touched, taosc.started, next(calls)) == (True, True, 3)


def test_a_first_use_that_fails_is_tried_again(taosc):
    def fail():
        raise InterfaceError("no driver")

    taosc.first_use = fail
    for _ in range(2):
        with pytest.raises(InterfaceError, match="no driver"):
            taosc.taos_errno(None)


# Errors, fields, blocks.


def test_errors(taosc):
    set_error(taosc, 0x80002603 - 2**32, "Table does not exist: tä".encode())
    assert taosc.error(1) == (0x2603, "Table does not exist: tä")
    assert taosc.error() == (0x0200, "the thread's own")
    set_error(taosc, 0, b"success")
    assert taosc.error(1) == (0, "success")


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        (0, 0),
        (0x80002600 - 2**32, 0x2600),
        (0x80002600, 0x2600),
        (0x80FF0016 - 2**32, 0x0016),
        (0x80FF0000 - 2**32, 0xFFFF),
        (-1, 0xFFFF),
    ],
)
def test_plain_codes(given, plain):
    assert plain_code(given) == plain
    if plain:
        assert server_error(plain, "").code == plain


def test_fields(taosc):
    assert taosc.fields(2) == (
        Field("d", TypeCode.DECIMAL, 16, 20, 3),
        Field("näme", TypeCode.NCHAR, 12),
    )
    assert taosc.fields(0) == ()
    with pytest.raises(NotSupportedError, match="column 'x' has the unknown type 99"):
        taosc.fields(3)


def test_fields_of_older_libraries(open_library):
    plain = (Field("ts", TypeCode.TIMESTAMP, 8), Field("v", TypeCode.VARCHAR, 70000))
    assert open_library("3.0").fields(2) == plain
    assert open_library("2.6").fields(2) == (plain[0], Field("v", TypeCode.VARCHAR, 20))


def test_blocks_are_copies(taosc):
    block = taosc.block(40)
    assert block == bytes([0, 1, 2, 3, 40, 0, 0, 0, *range(8, 40)])
    taosc.block(64)
    assert len(block) == 40
    assert block[4] == 40


def test_no_block_and_a_broken_one(taosc):
    assert taosc.block(0) is None
    with pytest.raises(ProtocolError, match="announces 27 bytes"):
        taosc.block(27)


# The subscription of 2.x.


def test_subscription_that_is_asked(open_library):
    taosc = open_library("2.6")
    null = structs.TAOS_SUBSCRIBE_CALLBACK()
    sub = taosc.taos_subscribe(1, 0, b"mine", b"select * from t", null, None, 1000)
    assert ctypes.string_at(sub) == b"0|mine|select * from t|asked|1000"
    assert taosc.taos_consume(sub)
    assert taosc.taos_consume(None) is None
    taosc.taos_unsubscribe(sub, 1)
    assert ctypes.string_at(sub) == b"kept 1"


def test_subscription_that_calls(open_library):
    taosc = open_library("2.6")
    calls = []
    callback = structs.TAOS_SUBSCRIBE_CALLBACK(lambda *arguments: calls.append(arguments))
    sub = taosc.taos_subscribe(1, 1, b"mine", b"select * from t", callback, 77, 500)
    assert ctypes.string_at(sub) == b"1|mine|select * from t|called|500"
    [(given, result, param, code)] = calls
    assert (given, param, code) == (sub, 77, 0)
    assert result == taosc.taos_consume(sub)


def test_fetch_block_of_2x(open_library):
    taosc = open_library("2.6")
    rows = POINTER(ctypes.c_void_p)()
    assert taosc.taos_fetch_blocks(None, rows) == 3
    assert rows
