from __future__ import annotations

import math
import struct
import sys
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiotaos.errors import DataError, ProtocolError
from aiotaos.protocol import frames, messages
from aiotaos.protocol.block import parse_block
from aiotaos.protocol.rows import RowDecoder
from aiotaos.types import Field, Precision, TypeCode

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MIB = 1 << 20


def same(value: object, expected: object) -> bool:
    """Equal in value and type, NaN and the sign of zero included."""
    return type(value) is type(expected) and repr(value) == repr(expected)


# Recordings: what the official client decoded from the same bytes


def replay(recording, expected):
    """Yield (statement, reply, blocks) for each query of a recording."""
    replies = iter(recording.frames("s>c"))
    for statement in expected:
        if "sql" not in statement or statement["sql"] == "":
            continue
        for frame in replies:
            if isinstance(frame, str):
                reply = messages.parse(frame, messages.QueryReply)
                if (
                    reply.action == "binary_query"
                    and reply.message != "message length is too short"
                ):
                    break
        blocks = []
        while not reply.code and not reply.is_update:
            fetched = frames.parse_reply(next(frame for frame in replies if type(frame) is bytes))
            if fetched.block is None:
                break
            assert fetched.result_id == reply.id
            blocks.append(
                parse_block(fetched.block, fields=reply.fields(), precision=reply.precision)
            )
        yield statement, reply, blocks


RECORDED_NAMES = {"VARCHAR": "BINARY"}


@pytest.mark.parametrize(
    ("name", "queries"),
    [
        ("connect", 3),
        ("types_ms", 4),
        ("types_us", 4),
        ("types_ns", 4),
        ("decimals_blobs", 3),
        ("tags_json", 4),
        ("errors", 1),
    ],
)
def test_recorded_rows(name, queries, recording, expected_rows):
    seen = 0
    session = recording(name)
    for statement, reply, blocks in replay(session, session.expected):
        if statement.get("error"):
            assert f"[0x{reply.code:04X}]" in statement["error"]
            assert f"`{reply.message}`" in statement["error"]
            continue
        if "rows" not in statement:
            assert reply.is_update
            assert reply.affected_rows == (statement.get("affected") or 0)
            continue
        seen += 1
        assert [
            [field.name, RECORDED_NAMES.get(field.type.sql_name, field.type.sql_name), field.length]
            for field in reply.fields()
        ] == statement["fields"]
        decoder = RowDecoder(reply.fields(), Precision(reply.precision))
        rows = [row for block in blocks for row in decoder.rows(block)]
        expected = expected_rows(statement, reply.precision)
        assert len(rows) == len(expected)
        for row, values in zip(rows, expected, strict=True):
            assert all(map(same, row, values)), (row, values)
    assert seen == queries


def test_recorded_blocks(recording):
    session = recording("many_blocks")
    [statement] = [found for found in session.expected if "rows_count" in found]
    received = session.frames("s>c")
    reply = messages.parse(
        next(frame for frame in received if isinstance(frame, str) and '"s"' in frame),
        messages.QueryReply,
    )
    fetched = [frames.parse_reply(frame).block for frame in received if isinstance(frame, bytes)]
    assert fetched.pop() is None
    blocks = [parse_block(raw, fields=reply.fields(), precision=reply.precision) for raw in fetched]
    decoder = RowDecoder(reply.fields(), Precision(reply.precision))
    rows = [row for block in blocks for row in decoder.rows(block)]
    assert [len(block) for block in blocks] == [4096, 4096, 1808]
    assert len(rows) == statement["rows_count"] == 10_000
    assert sum(row[1] for row in rows) == statement["sum_v"]
    assert sum(row[2] or 0 for row in rows) == statement["sum_n"]
    assert sum(row[2] is None for row in rows) == statement["nulls_n"]
    start = datetime(2024, 3, 1, tzinfo=UTC)
    assert [row[0] for row in rows] == [start + timedelta(milliseconds=n) for n in range(10_000)]
    assert [row[1] for row in rows] == [n / 4 for n in range(10_000)]
    assert rows[-1] == (start + timedelta(seconds=9.999), 2499.75, None, "s2")


def test_recorded_old_block(recording):
    """The JSON actions give the same rows as the binary ones."""
    frames_received = recording("json_ws").frames("s>c")
    [block] = [
        frames.parse_reply(frame).block
        for frame in frames_received
        if isinstance(frame, bytes) and frame[:8] != b"\xff" * 8
    ]
    reply = next(
        messages.parse(frame, messages.QueryReply)
        for frame in frames_received
        if isinstance(frame, str) and '"action":"query"' in frame
    )
    decoded = parse_block(block, fields=reply.fields(), precision=reply.precision)
    rows = RowDecoder(decoded.fields, Precision(reply.precision)).rows(decoded)
    assert [row[1:3] for row in rows] == [(True, -128), (False, 127), (None, None)]
    assert rows[1][12:15] == ("ASCII ~!@#", "涛思数据 🚀 naïve", b"\0\xff\x10")


# Numbers

NUMBERS = [
    (TypeCode.TINYINT, "b", [-128, -1, 0, 1, 127]),
    (TypeCode.SMALLINT, "h", [-(2**15), -1, 0, 1, 2**15 - 1]),
    (TypeCode.INT, "i", [-(2**31), -1, 0, 1, 2**31 - 1]),
    (TypeCode.BIGINT, "q", [-(2**63), -1, 0, 1, 2**63 - 1]),
    (TypeCode.UTINYINT, "B", [0, 1, 127, 128, 255]),
    (TypeCode.USMALLINT, "H", [0, 1, 2**15, 2**16 - 1]),
    (TypeCode.UINT, "I", [0, 1, 2**31, 2**32 - 1]),
    (TypeCode.UBIGINT, "Q", [0, 1, 2**63, 2**64 - 1]),
    (TypeCode.FLOAT, "f", [-0.0, 1.5, 2.0**-149, (2 - 2.0**-23) * 2.0**127, math.inf, math.nan]),
    (
        TypeCode.DOUBLE,
        "d",
        [-0.0, 0.1, 5e-324, sys.float_info.max, -sys.float_info.max, -math.inf, math.nan],
    ),
]


@pytest.mark.parametrize("nulls", ["none", "first", "last", "between", "all"])
@pytest.mark.parametrize(("type", "code", "values"), NUMBERS)
def test_numbers(type, code, values, nulls, fixed, value_column):
    with_nulls = {
        "none": values,
        "first": [None, *values],
        "last": [*values, None],
        "between": [value for pair in values for value in (pair, None)],
        "all": [None] * len(values),
    }[nulls]
    decoded = value_column(fixed(type, code, with_nulls), len(with_nulls))
    assert all(map(same, decoded, with_nulls)), decoded


@pytest.mark.parametrize("garbage", [0x00, 0x55, 0x7F, 0x80, 0xFF])
@pytest.mark.parametrize(
    ("type", "code", "value"),
    [
        (1, "B", 1),
        (2, "b", 3),
        (5, "q", 3),
        (6, "f", 0.5),
        (7, "d", 0.5),
        (9, "q", 1700000000000),
        (14, "Q", 3),
        (17, "16s", b"\1" + bytes(15)),
        (21, "q", 3),
    ],
)
def test_slots_of_nulls_hold_garbage(type, code, value, garbage, fixed, value_column):
    values = [None, value, None, *[value] * 100]
    decoded = value_column(fixed(type, code, values, garbage=garbage), len(values))
    assert [value is None for value in decoded] == [True, False, True] + [False] * 100


def test_few_and_many_nulls_among_many_rows(fixed, value_column):
    for step in (2, 3, 19, 21, 500):
        values = [None if row % step == 1 else row for row in range(1000)]
        assert value_column(fixed(4, "i", values), 1000) == values


def test_booleans(fixed, value_column):
    values = [0, 1, 2, 255, None, 0]
    decoded = value_column(fixed(1, "B", values), 6)
    assert decoded == [False, True, True, True, None, False]
    assert all(value is None or type(value) is bool for value in decoded)


def test_sentinels_of_older_servers_are_ordinary_values(fixed, value_column):
    assert value_column(fixed(2, "b", [-128]), 1) == [-128]
    assert value_column(fixed(5, "q", [-(2**63)]), 1) == [-(2**63)]
    assert value_column(fixed(11, "B", [255]), 1) == [255]


@pytest.mark.parametrize("rows", [0, 1, 8, 9])
def test_type_null(rows, raw_column, value_column):
    column = raw_column(0, 0, bytes((rows + 7) // 8), b"")
    assert value_column(column, rows) == [None] * rows


@pytest.mark.parametrize("type", list(TypeCode))
def test_no_rows(type, raw_column, value_column):
    assert value_column(raw_column(type, 0, b"", b""), 0) == []


# Decimals

DIGITS38 = int("9" * 38)


@pytest.mark.parametrize("scale", [0, 1, 4, 18, 37, 38])
def test_decimals_of_128_bits(scale, fixed, value_column):
    unscaled = [0, 1, -1, DIGITS38, -DIGITS38, 2**127 - 1, -(2**127), 2**64, -(2**64), None]
    raw = [
        None if value is None else value.to_bytes(16, "little", signed=True) for value in unscaled
    ]
    column = fixed(17, "16s", raw, declared=16 << 24 | 38 << 8 | scale)
    expected = [
        None
        if value is None
        else Decimal((int(value < 0), tuple(map(int, str(abs(value)))), -scale))
        for value in unscaled
    ]
    assert all(map(same, value_column(column, len(raw)), expected))


@pytest.mark.parametrize("scale", [0, 2, 18])
def test_decimals_of_64_bits(scale, fixed, value_column):
    unscaled = [0, 7, -7, 10**18 - 1, -(10**18 - 1), 2**63 - 1, -(2**63), None]
    column = fixed(21, "q", unscaled, declared=8 << 24 | 18 << 8 | scale)
    expected = [
        None
        if value is None
        else Decimal((int(value < 0), tuple(map(int, str(abs(value)))), -scale))
        for value in unscaled
    ]
    assert all(map(same, value_column(column, len(unscaled)), expected))


def test_decimals_of_the_reference(raw_column, value_column):
    data = bytes.fromhex("4e61bc00") + bytes(12) + b"\xff" * 16
    column = raw_column(17, int.from_bytes(bytes.fromhex("04140010"), "little"), b"\0", data)
    assert value_column(column, 2) == [Decimal("1234.5678"), Decimal("-0.0001")]


# Text

TEXTS = [
    "",
    "a",
    "naïve",
    "涛思数据",
    "🚀",
    "\U0010ffff",
    "with\nline\tand\x01control",
    "\x00",
    "\x00start",
    "end\x00",
    "dou\x00\x00ble",
    "\x00\x00",
    "x" * 65535,
]
NUL_FREE = [text for text in TEXTS if "\0" not in text and len(text) < 1000]


@pytest.mark.parametrize("text", TEXTS)
def test_varchar_alone(text, variable, value_column):
    assert value_column(variable(8, [text.encode()]), 1) == [text]


@pytest.mark.parametrize("first", TEXTS)
@pytest.mark.parametrize("second", TEXTS)
def test_varchar_beside_others(first, second, variable, value_column):
    texts = [first, second, "", first]
    assert value_column(variable(8, [text.encode() for text in texts]), 4) == texts


@pytest.mark.parametrize("first", TEXTS[:-1])
@pytest.mark.parametrize("second", TEXTS[:-1])
def test_nchar_beside_others(first, second, variable, value_column):
    texts = [first, second, "", first]
    assert value_column(variable(10, [text.encode("utf-32-le") for text in texts]), 4) == texts
    assert value_column(variable(10, [first.encode("utf-32-le")]), 1) == [first]


@pytest.mark.parametrize("type", [8, 10])
@pytest.mark.parametrize("texts", [TEXTS[:-1], NUL_FREE])
def test_text_with_nulls_everywhere(type, texts, variable, value_column):
    encoding = "utf-8" if type == 8 else "utf-32-le"
    for values in (
        [None, *texts],
        [*texts, None],
        [value for text in texts for value in (None, text, None)],
        [None] * 9,
        [None] * 8 + ["only"],
        ["", None, ""],
    ):
        encoded = [None if value is None else value.encode(encoding) for value in values]
        assert value_column(variable(type, encoded), len(values)) == values


INVALID = [b"\xff", b"\xc3", b"\xe6\xb6", b"\xf0\x9f\x9a", b"\x80", b"\xed\xa0\x80", b"a\xffb"]


@pytest.mark.parametrize("first", INVALID)
@pytest.mark.parametrize("second", [*INVALID, b"", b"\x9b", b"\0", b"ok"])
def test_varchar_that_is_not_utf8(first, second, variable, value_column):
    """TDengine stores any bytes; the text gives them back. Neighbours do not run together."""
    raw = [first, second, first]
    texts = value_column(variable(8, raw), 3)
    assert [text.encode("utf-8", "surrogateescape") for text in texts] == raw
    assert texts == [value.decode("utf-8", "surrogateescape") for value in raw]


@settings(max_examples=300, deadline=None)
@given(values=st.lists(st.none() | st.binary(max_size=6) | st.just(b""), max_size=12))
def test_any_bytes_in_varchar(values, variable, value_column):
    texts = value_column(variable(8, values), len(values))
    expected = [
        None if value is None else value.decode("utf-8", "surrogateescape") for value in values
    ]
    assert texts == expected


@pytest.mark.parametrize("type", [8, 10, 15, 16, 20])
@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ([0, 1, 2], "abc"),
        ([2, 1, 0], "cba"),
        ([0, 0, 0], "aaa"),
        ([1, 1, 2], "bbc"),
        ([0, 2, 1], "acb"),
        ([2, 2, 2], "ccc"),
        ([0, 2], "ac"),
    ],
)
@pytest.mark.parametrize("gap", [b"", b"?", b"\xff\xff\xff"])
def test_shared_and_unordered_offsets(type, order, expected, gap, raw_column, value_column):
    """Several rows may point at one value; between values anything may stand."""
    encoding = "utf-32-le" if type == 10 else "ascii"
    data, places = gap, []
    for letter in "abc":
        places.append(len(data))
        raw = letter.encode(encoding)
        data += struct.pack("<H", len(raw)) + raw + gap
    head = struct.pack(f"<{len(order)}i", *(places[index] for index in order))
    decoded = value_column(raw_column(type, 0, head, data), len(order))
    values = list(expected) if type in (8, 10, 15) else [letter.encode() for letter in expected]
    assert decoded == values


def utf32(*points: int) -> bytes:
    return struct.pack(f"<{len(points)}I", *points)


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([0xD800], "\ud800"),
        ([0x41, 0xDFFF, 0x42], "A\udfffB"),
        ([0xD83D, 0xDE00], "\ud83d\ude00"),
        ([0x110000], "\ufffd"),
        ([0xFFFFFFFF, 0x41], "\ufffdA"),
        ([0x10FFFF, 0x110000, 0xD800], "\U0010ffff\ufffd\ud800"),
        ([0, 0], "\0\0"),
        ([0xFEFF, 0x41], "\ufeffA"),
    ],
)
def test_nchar_with_strange_code_points(points, expected, variable, value_column):
    raw = utf32(*points)
    assert value_column(variable(10, [raw]), 1) == [expected]
    assert value_column(variable(10, [b"", raw, utf32(0x42), None, raw]), 5) == [
        "",
        expected,
        "B",
        None,
        expected,
    ]


@pytest.mark.parametrize("length", [1, 2, 3, 5, 6])
def test_nchar_of_broken_length(length, variable, value_column):
    with pytest.raises(ProtocolError, match="NCHAR value is not a multiple of 4"):
        value_column(variable(10, [utf32(0x41), bytes(length)]), 2)


def test_json(variable, value_column):
    texts = ['{"n":null}', "null", '"null"', "1.000000000", "true", "", None, "[]"]
    raw = [None if text is None else text.encode() for text in texts]
    expected = ['{"n":null}', None, '"null"', "1.000000000", "true", "", None, "[]"]
    assert value_column(variable(15, raw), len(raw)) == expected


# Bytes


@pytest.mark.parametrize("type", [16, 20])
def test_bytes(type, variable, value_column):
    values = [b"", b"\0", bytes(range(256)), None, b"\xff" * 65535, b"\0\0"]
    assert value_column(variable(type, values), len(values)) == values


@pytest.mark.parametrize("type", [18, 19])
def test_blobs_beyond_64_kib(type, variable, value_column):
    values = [bytes(range(256)) * 257, None, b"", b"\1" * (4 * MIB), b"x"]
    assert value_column(variable(type, values, prefix="<I"), len(values)) == values


# Timestamps


@pytest.mark.parametrize(
    ("precision", "ticks", "expected"),
    [
        (0, 1709251200001, datetime(2024, 3, 1, 0, 0, 0, 1000, tzinfo=UTC)),
        (1, 1709251200000001, datetime(2024, 3, 1, 0, 0, 0, 1, tzinfo=UTC)),
        (0, -1, datetime(1969, 12, 31, 23, 59, 59, 999000, tzinfo=UTC)),
        (1, -1, datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)),
        (0, 0, EPOCH),
        (0, -2208988800000, datetime(1900, 1, 1, tzinfo=UTC)),
        (2, 1709251200000000001, 1709251200000000001),
        (2, -(2**63), -(2**63)),
    ],
)
def test_timestamps(precision, ticks, expected, fixed, value_column):
    [value] = value_column(fixed(9, "q", [ticks]), 1, precision=precision)
    assert same(value, expected)
    assert getattr(value, "tzinfo", UTC) is UTC


@pytest.mark.parametrize("precision", [0, 1, 2])
def test_timestamps_as_ticks(precision, fixed, value_column):
    values = [2**63 - 1, None, -(2**63), 0]
    column = fixed(9, "q", values)
    assert value_column(column, 4, precision=precision, timestamp="int") == values


@pytest.mark.parametrize(("precision", "unit"), [(0, "ms"), (1, "us"), (2, "ns")])
@pytest.mark.parametrize("rows", [4, 100])
def test_timestamps_as_datetime64(precision, unit, rows, fixed, value_column):
    ticks = [1709251200001, None, -1, *[0] * (rows - 3)]
    values = value_column(fixed(9, "q", ticks), rows, precision=precision, timestamp="datetime64")
    expected = [None if tick is None else np.datetime64(tick, unit) for tick in ticks]
    assert all(map(same, values, expected))
    assert values[0].dtype == f"M8[{unit}]"


ZONES = [
    "America/New_York",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    "Pacific/Apia",
    "Europe/Dublin",
    "UTC",
]


def identical(value: datetime, expected: datetime) -> bool:
    """Equal wall clock, offset and fold (== alone compares instants)."""
    return (
        value.replace(tzinfo=None) == expected.replace(tzinfo=None)
        and value.utcoffset() == expected.utcoffset()
        and value.fold == expected.fold
        and value.tzinfo is expected.tzinfo
    )


@pytest.mark.parametrize(
    "zone", [*map(ZoneInfo, ZONES), timezone(timedelta(hours=-3, minutes=-30))]
)
def test_timestamps_in_a_zone(zone, fixed, value_column):
    ticks = [*range(-(2**41), 2**42, 2**41 // 300), None]
    values = value_column(fixed(9, "q", ticks), len(ticks), tz=zone)
    assert values.pop() is None
    for tick, value in zip(ticks, values, strict=False):
        assert identical(value, (EPOCH + timedelta(milliseconds=tick)).astimezone(zone))


def test_the_second_pass_of_an_hour(fixed, value_column):
    """2024-11-03, 01:30 in New York came twice."""
    first = 1730611800000
    values = value_column(
        fixed(9, "q", [first, first + 3_600_000, None]), 3, tz=ZoneInfo("America/New_York")
    )
    assert [value and (value.hour, value.minute, value.fold) for value in values] == [
        (1, 30, 0),
        (1, 30, 1),
        None,
    ]
    assert [value.utcoffset() // timedelta(hours=1) for value in values[:2]] == [-4, -5]


FIRST = -62_135_596_800_000_000
LAST = 253_402_300_799_999_999


def test_first_and_last_timestamp(fixed, value_column):
    """9999-12-31 23:59:59 stands for "for ever" in many tables."""
    values = value_column(fixed(9, "q", [FIRST, LAST]), 2, precision=1)
    assert values == [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)]
    values = value_column(fixed(9, "q", [FIRST // 1000, LAST // 1000]), 2)
    assert values[1] == datetime(9999, 12, 31, 23, 59, 59, 999000, tzinfo=UTC)


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kolkata", "Etc/GMT-14", "Etc/GMT+12"])
@pytest.mark.parametrize("hours", range(-30, 31, 5))
def test_timestamps_near_the_ends(zone, hours, fixed, value_column):
    zone = ZoneInfo(zone)
    for end, nearest in ((FIRST, datetime(1, 1, 3)), (LAST + 1, datetime(9999, 12, 29))):
        offset = nearest.replace(tzinfo=zone).utcoffset()
        tick = end + hours * 3_600_000_000
        column = fixed(9, "q", [0, tick, None])
        try:
            wall = datetime(1970, 1, 1) + (timedelta(microseconds=tick) + offset)
        except OverflowError:
            with pytest.raises(DataError, match=f"TIMESTAMP {tick} us of column"):
                value_column(column, 3, precision=1, tz=zone)
        else:
            value = value_column(column, 3, precision=1, tz=zone)[1]
            assert value.replace(tzinfo=None) == wall
            assert value.utcoffset() == offset


@pytest.mark.parametrize("zone", [UTC, ZoneInfo("Asia/Kolkata")])
@pytest.mark.parametrize(
    ("precision", "ticks"),
    [(0, 2**63 - 1), (0, -(2**63)), (1, 2**63 - 1), (1, -(2**63)), (0, LAST // 1000 + 1)],
)
def test_timestamp_out_of_range(precision, ticks, zone, raw_block, fixed):
    data = raw_block([fixed(9, "q", [0, None, ticks])], 3)
    block = parse_block(data, fields=[Field("when", TypeCode.TIMESTAMP, 8)], precision=precision)
    decoder = RowDecoder(block.fields, block.precision, zone)
    unit = ("ms", "us")[precision]
    with pytest.raises(DataError, match=f"TIMESTAMP {ticks} {unit} of column 'when' is outside"):
        decoder.rows(block)


@pytest.mark.parametrize("zone", [UTC, ZoneInfo("America/New_York")])
@pytest.mark.parametrize("garbage", [0x00, 0x7F, 0x80, 0xFF])
def test_timestamps_that_are_all_null(zone, garbage, fixed, value_column):
    assert value_column(fixed(9, "q", [None] * 9, garbage=garbage), 9, tz=zone) == [None] * 9


def test_columns_keep_their_order(raw_block, fixed, variable):
    data = raw_block([fixed(4, "i", [1, 2]), variable(8, [b"a", b"b"]), fixed(1, "B", [0, 1])], 2)
    block = parse_block(data)
    decoder = RowDecoder(block.fields, block.precision)
    assert decoder.columns(block) == [[1, 2], ["a", "b"], [False, True]]
    assert decoder.rows(block) == [(1, "a", False), (2, "b", True)]


# Texts that repeat


def encode(type, text):
    if text is None or type == 16:
        return text
    return text.encode("utf-32-le" if type == 10 else "utf-8", "surrogateescape")


def naive(type, raw):
    """One value as it is, without a look at its neighbours."""
    if raw is None or type == 16:
        return raw
    if type == 8:
        return raw.decode("utf-8", "surrogateescape")
    return "".join(map(chr, struct.unpack(f"<{len(raw) // 4}I", raw)))


REPEATED = {
    "all alike": ["meters"] * 500,
    "all empty": [""] * 500,
    "long runs": [f"device {row // 100}" for row in range(1000)],
    "runs of other lengths": ["x" * (row // 50 % 7) for row in range(1000)],
    "one that differs": ["a"] * 499 + ["b"] + ["a"] * 500,
    "the last differs": ["a"] * 999 + ["b"],
    "the first differs": ["b"] + ["a"] * 999,
    "runs of one": [f"{row:04}" for row in range(1000)],
    "runs of one, other lengths": [str(row) for row in range(1000)],
    "runs of two": [f"{row // 2:04}" for row in range(1000)],
    "runs of seven": [f"{row // 7:04}" for row in range(1000)],
    "runs of nine": [f"{row // 9:04}" for row in range(1000)],
    "alike where it is looked at": [
        "a" if row % 62 in (0, 1) else str(row % 10) for row in range(1000)
    ],
    "alike there, of other lengths": [
        "a" if row % 62 in (0, 1) else "b" * (row % 9) for row in range(1000)
    ],
    "alike there, then runs of two": ["ab"[row // 5 % 2] for row in range(1000)],
    "runs, then none": ["a"] * 900 + [f"{row:04}" for row in range(100)],
    "NULLs between": [None if row % 3 else f"device {row // 300}" for row in range(3000)],
    "runs of NULLs": [(None, "a", "bb")[row // 100 % 3] for row in range(1000)],
    "NUL": ["\0"] * 100 + ["\0\0"] * 100 + ["a\0"] * 100,
    "not ASCII": ["涛思🚀"] * 300 + ["naïve"] * 300,
    "few": ["a"] * 7,
    "two": ["a", "a"],
    "eight": ["a"] * 8,
    "sixteen": ["a"] * 15 + ["b"],
}


@pytest.mark.parametrize("texts", REPEATED.values(), ids=REPEATED)
@pytest.mark.parametrize("type", [8, 10, 15, 16])
def test_texts_that_repeat(type, texts, variable, value_column):
    raw = [None if text is None else encode(8 if type == 16 else type, text) for text in texts]
    expected = raw if type == 16 else texts
    assert value_column(variable(type, raw), len(raw)) == expected


@pytest.mark.parametrize("type", [8, 10])
def test_texts_that_repeat_are_one_object(type, variable, value_column):
    """That is what makes them cheap."""
    texts = ["a device of some name"] * 1000 + ["another device"] * 1000
    values = value_column(variable(type, [encode(type, text) for text in texts]), 2000)
    assert values == texts
    assert len(set(map(id, values))) == 2


@pytest.mark.parametrize("type", [8, 10])
def test_texts_that_repeat_and_are_no_texts(type, variable, value_column):
    raw = {8: b"\xff\xfe", 10: struct.pack("<I", 0xD800)}[type]
    [value, *others] = value_column(variable(type, [raw] * 50), 50)
    assert value == {8: "\udcff\udcfe", 10: "\ud800"}[type]
    assert others == [value] * 49


def test_a_json_null_that_repeats(variable, value_column):
    documents = [b"null"] * 50 + [b"{}"] * 50
    assert value_column(variable(15, documents), 100) == [None] * 50 + ["{}"] * 50


@st.composite
def repeating(draw, type):
    """Runs of values and NULLs, long ones and short ones; of few different values or many."""
    if type == 16:
        value = st.binary(max_size=6)
    elif type == 10:
        value = st.text(st.sampled_from("ab\0é涛🚀"), max_size=4).map(lambda t: encode(10, t))
    else:
        value = st.one_of(
            st.text(st.sampled_from("ab\0é涛🚀"), max_size=6).map(str.encode),
            st.sampled_from([b"\xff", b"\xc3", b"\xa9", b"\x80"]),
        )
    pool = draw(st.lists(st.none() | value, min_size=1, max_size=6))
    length = draw(st.sampled_from([1, 2, 8, 40, 200]))
    run = st.tuples(st.sampled_from(pool), st.integers(1, length))
    return [value for value, count in draw(st.lists(run, max_size=12)) for _ in range(count)]


@pytest.mark.parametrize("type", [8, 10, 16])
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_random_columns_that_repeat(type, variable, value_column, data):
    values = data.draw(repeating(type))
    assert value_column(variable(type, values), len(values)) == [naive(type, raw) for raw in values]


@pytest.mark.parametrize("type", [8, 10, 16])
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_random_offsets(type, variable, raw_column, value_column, data):
    """Values that rows share, and that do not stand in the order of the rows."""
    values = [raw for raw in data.draw(repeating(type)) if raw is not None][:50] or [b""]
    column = variable(type, values)
    places = data.draw(st.lists(st.integers(-1, len(values) - 1), max_size=60))
    at = [*struct.unpack(f"<{len(values)}i", column.head), -1]
    head = struct.pack(f"<{len(places)}i", *(at[place] for place in places))
    expected = [naive(type, [*values, None][place]) for place in places]
    assert value_column(raw_column(type, 0, head, column.data), len(places)) == expected
